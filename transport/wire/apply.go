package wire

import "edged.dev/edged/internal/kv"

// Append appends the frame.
func (a Apply) Append(dst []byte) []byte {
	e := newEncoder(dst, TypeApply)
	e.u64(a.View)
	e.uvarint(uint64(len(a.Writes)))
	var prev uint64
	for i := range a.Writes {
		w := &a.Writes[i]
		e.uvarint(w.Seq - prev)
		prev = w.Seq
		e.uvarint(uint64(w.Partition))
		e.bytes(w.Key)
		e.object(w.Object)
		e.vv(w.Floor)
	}
	return e.finish()
}

// ParseApply reads an APPLY. Keys and values are parts of frame, which therefore
// goes over to whoever keeps them and must not be used again.
func ParseApply(frame []byte) (Apply, error) {
	r := newDictReader(frame, TypeApply)
	a := Apply{View: r.u64()}
	var prev uint64
	for range r.count("writes", MaxWrites, 7) {
		w := Write{Seq: prev + r.uvarint(), Partition: r.partition()}
		w.Key = r.key()
		w.Object = r.object()
		w.Floor = r.vv()
		if r.err != nil {
			return Apply{}, r.end("apply")
		}
		if w.Seq < prev {
			r.fail("its writes do not ascend")
		}
		prev = w.Seq
		a.Writes = append(a.Writes, w)
	}
	return a, r.end("apply")
}

// WriteBytes bounds what w adds to an APPLY, so that a sender can stop before
// MaxFrameBytes. Every frame has room for one write of kv.MaxRecordBytes.
func WriteBytes(w *Write) int {
	const fixed = 40 // numbers at their longest
	n := fixed + len(w.Key) + objectBytes(w.Object) + len(w.Floor)*dotBytes
	return n
}

const (
	// dotBytes is the longest an entry of a vector gets, its actor's share of the
	// dictionary included.
	dotBytes = kv.ActorBytes + 3 + 10
	// versionBytes is the longest a version gets without its value.
	versionBytes = 1 + dotBytes + 8 + 10 + 4
)

func objectBytes(o kv.Object) int {
	return len(o.Versions)*versionBytes + o.Bytes() + len(o.Ctx)*dotBytes
}
