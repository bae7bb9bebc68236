package wire

// Append appends the frame. answered is the Copies of the HELLO_ACK of this
// session, which the table leans on; nil makes a longer frame that needs none.
func (d Done) Append(dst []byte, c *Codec, answered []CopyClock) []byte {
	e := newEncoder(dst, TypeDone)
	e.u64(d.Session)
	body := len(e.b)
	ref := e.lean(answered)
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

// ParseDone reads a DONE; answered is the Copies of the HELLO_ACK of its session.
func ParseDone(frame []byte, c *Codec, answered []CopyClock) (Done, error) {
	r := newReader(frame, TypeDone)
	d := Done{Session: r.u64()}
	c.unpack(r)
	ref := r.lean(answered)
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
	return e.b
}

// ParseDoneAck reads a DONE_ACK.
func ParseDoneAck(frame []byte) (DoneAck, error) {
	r := newReader(frame, TypeDoneAck)
	d := DoneAck{Compared: r.partitions(), Bad: r.partitions()}
	return d, r.end("done ack")
}
