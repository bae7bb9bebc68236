package wire

// Append appends the frame.
func (a Ack) Append(dst []byte) []byte {
	e := newEncoder(dst, TypeAck)
	e.uvarint(a.Seq)
	e.table(a.Copies, nil)
	e.uvarint(uint64(len(a.Elsewhere)))
	prev := noPartition
	for _, f := range a.Elsewhere {
		e.partitionAfter(&prev, f.Partition)
		e.string(f.Name)
	}
	return e.finish()
}

// ParseAck reads an ACK.
func ParseAck(frame []byte) (Ack, error) {
	r := newDictReader(frame, TypeAck)
	a := Ack{Seq: r.uvarint(), Copies: r.table(nil)}
	prev := noPartition
	for range r.count("first owners", MaxCopies, 2) {
		a.Elsewhere = append(a.Elsewhere, First{r.partitionAfter(&prev), r.text("a member's name", maxFirstBytes)})
	}
	return a, r.end("ack")
}
