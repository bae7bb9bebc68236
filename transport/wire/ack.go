package wire

// Append appends the frame.
func (a Ack) Append(dst []byte) []byte {
	e := newEncoder(dst, TypeAck)
	e.uvarint(a.Seq)
	e.table(a.Copies, nil)
	return e.finish()
}

// ParseAck reads an ACK.
func ParseAck(frame []byte) (Ack, error) {
	r := newDictReader(frame, TypeAck)
	a := Ack{Seq: r.uvarint(), Copies: r.table(nil)}
	return a, r.end("ack")
}
