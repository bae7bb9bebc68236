package wire

import "fmt"

// Append appends the frame. told is what its table leans on: the Copies of the
// HELLO_ACK of its session, or, of no session, a checkpoint that the receiver is
// thought to have too; nil makes a longer frame that needs none.
func (d Done) Append(dst []byte, c *Codec, told []CopyClock) []byte {
	e := newEncoder(dst, TypeDone)
	e.u64(d.Session)
	body := len(e.b)
	var ref *reference
	if d.Session == 0 && len(told) > 0 {
		e.byte(leansOnCheckpoint)
		e.u64(CheckpointID(told))
		ref = refer(&e.dict, told)
		e.known, e.head = len(e.dict.actors), len(e.b)
	} else {
		ref = e.lean(told)
	}
	e.answer(d.Copies, nil, ref)
	e.uvarint(uint64(len(d.Digests)))
	prev := noPartition
	for _, g := range d.Digests {
		e.partitionAfter(&prev, g.Partition)
	}
	var count uint64
	for _, g := range d.Digests {
		e.zigzag(int64(g.Count - count))
		count = g.Count
	}
	for _, g := range d.Digests {
		e.raw(g.Sum[:])
	}
	return c.pack(e.finish(), body)
}

// DoneSession reads the session of a DONE, which says what its table leans on.
func DoneSession(frame []byte) (uint64, error) {
	r := newReader(frame, TypeDone)
	session := r.u64()
	return session, r.end("done")
}

// leansOnCheckpoint stands where other frames say whether they lean on a table.
const leansOnCheckpoint = 2

// ParseDone reads a DONE; answered is the Copies of the HELLO_ACK of its session, and
// checkpoint returns the table of an id, nil if it is not here, which is
// ErrNeedClocks.
func ParseDone(frame []byte, c *Codec, answered []CopyClock, checkpoint func(id uint64) []CopyClock) (Done, error) {
	r := newReader(frame, TypeDone)
	d := Done{Session: r.u64()}
	c.unpack(r)
	var ref *reference
	if len(r.b) > 0 && r.b[0] == leansOnCheckpoint {
		r.byte()
		id := r.u64()
		var table []CopyClock
		if checkpoint != nil {
			table = checkpoint(id)
		}
		if r.err == nil && len(table) == 0 {
			return Done{}, fmt.Errorf("parse done: checkpoint %016x: %w", id, ErrNeedClocks)
		}
		ref = refer(r.dict, table)
		r.dictionary()
	} else {
		ref = r.lean(answered)
	}
	d.Copies, _ = r.answer(ref)
	if n := r.count("digests", MaxCopies, 18); n > 0 {
		d.Digests = make([]Digest, n)
	}
	prev := noPartition
	for i := range d.Digests {
		d.Digests[i].Partition = r.partitionAfter(&prev)
	}
	var count uint64
	for i := range d.Digests {
		count += uint64(r.zigzag())
		d.Digests[i].Count = count
	}
	for i := range d.Digests {
		d.Digests[i].Sum = r.root()
	}
	return d, r.end("done")
}

// Append appends the frame.
func (d DoneAck) Append(dst []byte) []byte {
	e := newEncoder(dst, TypeDoneAck)
	e.partitions(d.Compared)
	e.partitions(d.Bad)
	e.byte(b2u(d.NeedClocks))
	return e.b
}

// ParseDoneAck reads a DONE_ACK.
func ParseDoneAck(frame []byte) (DoneAck, error) {
	r := newReader(frame, TypeDoneAck)
	d := DoneAck{Compared: r.partitions(), Bad: r.partitions(), NeedClocks: r.upTo("a mark", 1) == 1}
	return d, r.end("done ack")
}
