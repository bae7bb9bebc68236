package wire

import (
	"bytes"

	"edged.dev/edged/internal/kv"
)

// Append appends the frame.
func (q Read) Append(dst []byte) []byte {
	e := newEncoder(dst, TypeRead)
	e.uvarint(uint64(q.Partition))
	e.bytes(q.Key)
	return e.b
}

// ParseRead reads a READ.
func ParseRead(frame []byte) (Read, error) {
	r := newReader(frame, TypeRead)
	q := Read{Partition: r.partition(), Key: bytes.Clone(r.key())}
	return q, r.end("read")
}

// Append appends the frame.
func (o Object) Append(dst []byte) []byte {
	e := newEncoder(dst, TypeObject)
	e.byte(byte(o.State))
	e.actor(o.Actor)
	e.object(o.Object)
	e.vv(o.Floor)
	return e.finish()
}

// ParseObject reads an OBJECT. Values are parts of frame, which therefore goes
// over to whoever keeps them and must not be used again.
func ParseObject(frame []byte) (Object, error) {
	r := newDictReader(frame, TypeObject)
	o := Object{State: r.state(), Actor: r.actor(), Object: r.object(), Floor: r.vv()}
	return o, r.end("object")
}

func (r *reader) state() kv.State {
	s := kv.State(r.byte())
	if s > kv.Degraded {
		r.fail("state %d is unknown", s)
	}
	return s
}
