package wire

// Append appends the frame.
func (c Count) Append(dst []byte) []byte {
	e := newEncoder(dst, TypeCount)
	e.partitions(c.Partitions)
	return e.b
}

// ParseCount reads a COUNT.
func ParseCount(frame []byte) (Count, error) {
	r := newReader(frame, TypeCount)
	c := Count{Partitions: r.partitions()}
	return c, r.end("count")
}

// Append appends the frame.
func (c CountAck) Append(dst []byte) []byte {
	e := newEncoder(dst, TypeCountAck)
	e.uvarint(uint64(len(c.Keys)))
	for _, n := range c.Keys {
		e.zigzag(n)
	}
	return e.b
}

// ParseCountAck reads a COUNT_ACK.
func ParseCountAck(frame []byte) (CountAck, error) {
	r := newReader(frame, TypeCountAck)
	var c CountAck
	for range r.count("counts", MaxCopies, 1) {
		c.Keys = append(c.Keys, r.zigzag())
	}
	return c, r.end("count ack")
}
