package wire

// Append appends the frame.
func (c Clocks) Append(dst []byte) []byte {
	e := newEncoder(dst, TypeClocks)
	e.partitions(c.Partitions)
	return e.b
}

// ParseClocks reads a CLOCKS.
func ParseClocks(frame []byte) (Clocks, error) {
	r := newReader(frame, TypeClocks)
	c := Clocks{Partitions: r.partitions()}
	return c, r.end("clocks")
}

// Append appends the frame.
func (c ClocksAck) Append(dst []byte) []byte {
	e := newEncoder(dst, TypeClocksAck)
	e.table(c.Copies, nil)
	return e.finish()
}

// ParseClocksAck reads a CLOCKS_ACK.
func ParseClocksAck(frame []byte) (ClocksAck, error) {
	r := newDictReader(frame, TypeClocksAck)
	c := ClocksAck{Copies: r.table(nil)}
	return c, r.end("clocks ack")
}
