package wire

// Append appends the frame.
func (t Taken) Append(dst []byte) []byte {
	e := newEncoder(dst, TypeTaken)
	e.u64(t.Session)
	e.byte(t.Lane)
	e.uvarint(t.Chunks)
	return e.b
}

// ParseTaken reads a TAKEN.
func ParseTaken(frame []byte) (Taken, error) {
	r := newReader(frame, TypeTaken)
	t := Taken{Session: r.u64()}
	if t.Lane = r.byte(); t.Lane >= MaxSessionLanes {
		r.fail("lane %d", t.Lane)
	}
	t.Chunks = r.uvarint()
	return t, r.end("taken")
}
