package wire

import (
	"errors"
	"fmt"

	"github.com/zeebo/xxh3"

	"edged.dev/edged/internal/kv"
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
	var ref *reference
	if len(checkpoint) > 0 {
		e.u64(CheckpointID(checkpoint))
		ref = refer(&e.dict, checkpoint)
		e.known = len(e.dict.actors)
	}
	e.head = len(e.b)
	e.u64(h.Session)
	e.u64(h.View)
	root := h.Root != [16]byte{}
	e.byte(b2u(root))
	if root {
		e.raw(h.Root[:])
	}
	e.uvarint(h.Pending)
	e.table(h.Copies, ref)
	e.wants(h.Wants, h.Copies)
	e.orders(h.Orders, h.Planned)
	if h.Pending > 0 {
		e.heldDots(h.Held)
	}
	if h.AsksHeat { // an earlier version does not read on
		e.byte(1)
	}
	return c.pack(e.finish(), len(dst)+1)
}

// ParseHello reads a HELLO. checkpoint returns the table of an id, nil if it is
// not here (a nil function has none), which is ErrNeedClocks.
func ParseHello(frame []byte, c *Codec, checkpoint func(id uint64) []CopyClock) (Hello, error) {
	r := newReader(frame, TypeHello)
	c.unpack(r)
	var ref *reference
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
	h := Hello{Session: r.u64(), View: r.u64()}
	if r.upTo("a mark", 1) == 1 {
		h.Root = r.root()
	}
	h.Pending = r.uvarint()
	h.Copies = r.table(ref)
	h.Wants = r.wants(h.Copies)
	h.Orders, h.Planned = r.orders()
	if h.Pending > 0 {
		h.Held = r.heldDots()
	}
	if r.err == nil && len(r.b) > 0 {
		h.AsksHeat = r.byte()&1 == 1
	}
	return h, r.end("hello")
}

// wants appends which partitions are asked for, by the rows of the HELLO's own table
// if they are among them.
func (e *encoder) wants(wants []kv.Partition, copies []CopyClock) {
	var at []int
	for i := range copies {
		if len(at) < len(wants) && wants[len(at)] == copies[i].Partition {
			at = append(at, i)
		}
	}
	e.byte(b2u(len(at) == len(wants)))
	if len(at) == len(wants) {
		e.subset(at, len(copies))
	} else {
		e.partitions(wants)
	}
}

func (r *reader) wants(copies []CopyClock) []kv.Partition {
	if r.upTo("a mark", 1) == 0 {
		return r.partitions()
	}
	var out []kv.Partition
	for _, row := range r.subset(len(copies)) {
		out = append(out, copies[row].Partition)
	}
	return out
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
	e.answer(h.Copies, h.Equal, ref)
	e.heat(h.Heat)
	return c.pack(e.finish(), len(dst)+1)
}

// ParseHelloAck reads a HELLO_ACK; asked is the Copies of the HELLO it answers.
func ParseHelloAck(frame []byte, c *Codec, asked []CopyClock) (HelloAck, error) {
	r := newReader(frame, TypeHelloAck)
	c.unpack(r)
	ref := r.lean(asked)
	h := HelloAck{Code: r.helloCode(), View: r.u64()}
	h.Copies, h.Equal = r.answer(ref)
	h.Heat = r.heat()
	return h, r.end("hello ack")
}

func (r *reader) helloCode() HelloCode {
	c := HelloCode(r.byte())
	if c > HelloNeedClocks {
		r.fail("code %d is unknown", c)
	}
	return c
}
