package wire

import (
	"errors"
	"fmt"

	"github.com/zeebo/xxh3"
)

// ErrNeedClocks reports a HELLO whose table leans on a checkpoint that the
// receiver has not got: it is answered with HelloNeedClocks.
var ErrNeedClocks = errors.New("the checkpoint that it leans on is not here")

// CheckpointID names a table of clocks: both sides of a pair have one of the same
// id only if they have the same table.
func CheckpointID(table []CopyClock) uint64 {
	e := newEncoder(nil, 0)
	e.table(table, nil)
	return xxh3.Hash(e.finish())
}

// Append appends the frame. checkpoint is a table that the receiver is thought to
// have too, and which this one is told relative to; nil makes a longer frame that
// leans on nothing.
func (h Hello) Append(dst []byte, c *Codec, checkpoint []CopyClock) []byte {
	e := newEncoder(dst, TypeHello)
	e.byte(b2u(len(checkpoint) > 0))
	var ref reference
	if len(checkpoint) > 0 {
		e.u64(CheckpointID(checkpoint))
		ref = refer(&e.dict, checkpoint)
		e.known = len(e.dict.actors)
	}
	e.head = len(e.b)
	e.u64(h.Session)
	e.u64(h.View)
	e.raw(h.Root[:])
	e.u64(h.Pending)
	e.table(h.Copies, ref)
	e.partitions(h.Wants)
	e.orders(h.Orders, h.Planned)
	return c.pack(e.finish(), len(dst)+1)
}

// ParseHello reads a HELLO. checkpoint returns the table of an id, nil if it is
// not here (a nil function has none), which is ErrNeedClocks.
func ParseHello(frame []byte, c *Codec, checkpoint func(id uint64) []CopyClock) (Hello, error) {
	r := newReader(frame, TypeHello)
	c.unpack(r)
	var ref reference
	if leans := r.upTo("a mark", 1); leans == 1 {
		id := r.u64()
		var table []CopyClock
		if checkpoint != nil {
			table = checkpoint(id)
		}
		if r.err == nil && len(table) == 0 {
			return Hello{}, fmt.Errorf("parse hello: checkpoint %016x: %w", id, ErrNeedClocks)
		}
		ref = refer(r.dict, table)
	}
	r.dictionary()
	h := Hello{Session: r.u64(), View: r.u64(), Root: r.root(), Pending: r.u64()}
	h.Copies = r.table(ref)
	h.Wants = r.partitions()
	h.Orders, h.Planned = r.orders()
	return h, r.end("hello")
}

func (r *reader) root() (root [16]byte) {
	copy(root[:], r.take(len(root)))
	return root
}

// Append appends the frame. asked is the Copies of the HELLO it answers, which
// the table leans on; nil makes a longer frame that needs none.
func (h HelloAck) Append(dst []byte, c *Codec, asked []CopyClock) []byte {
	e := newEncoder(dst, TypeHelloAck)
	ref := e.lean(asked)
	e.byte(byte(h.Code))
	e.u64(h.View)
	e.answer(h.Copies, h.Equal, asked, ref)
	return c.pack(e.finish(), len(dst)+1)
}

// ParseHelloAck reads a HELLO_ACK; asked is the Copies of the HELLO it answers.
func ParseHelloAck(frame []byte, c *Codec, asked []CopyClock) (HelloAck, error) {
	r := newReader(frame, TypeHelloAck)
	c.unpack(r)
	ref := r.lean(asked)
	h := HelloAck{Code: r.helloCode(), View: r.u64()}
	h.Copies, h.Equal = r.answer(asked, ref)
	return h, r.end("hello ack")
}

func (r *reader) helloCode() HelloCode {
	c := HelloCode(r.byte())
	if c > HelloNeedClocks {
		r.fail("code %d is unknown", c)
	}
	return c
}
