package wire

// Append appends the frame.
func (t Tick) Append(dst []byte) []byte {
	e := newEncoder(dst, TypeTick)
	e.u64(t.View)
	e.raw(t.Root[:])
	e.u64(t.Pending)
	return e.b
}

// ParseTick reads a TICK.
func ParseTick(frame []byte) (Tick, error) {
	r := newReader(frame, TypeTick)
	t := Tick{View: r.u64(), Root: r.root(), Pending: r.u64()}
	return t, r.end("tick")
}

// Append appends the frame.
func (t TickAck) Append(dst []byte, c *Codec) []byte {
	e := newEncoder(dst, TypeTickAck)
	e.byte(byte(t.Code))
	e.table(t.Copies, nil)
	return c.pack(e.finish(), len(dst)+1)
}

// ParseTickAck reads a TICK_ACK.
func ParseTickAck(frame []byte, c *Codec) (TickAck, error) {
	r := newReader(frame, TypeTickAck)
	c.unpack(r)
	r.dictionary()
	t := TickAck{Code: r.helloCode(), Copies: r.table(nil)}
	return t, r.end("tick ack")
}
