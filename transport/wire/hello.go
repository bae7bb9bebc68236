package wire

// Append appends the frame.
func (h Hello) Append(dst []byte, c *Codec) []byte {
	e := newEncoder(dst, TypeHello)
	e.u64(h.Session)
	e.u64(h.View)
	e.raw(h.Root[:])
	e.u64(h.Pending)
	e.table(h.Copies, nil)
	e.partitions(h.Wants)
	return c.pack(e.finish(), len(dst)+1)
}

// ParseHello reads a HELLO.
func ParseHello(frame []byte, c *Codec) (Hello, error) {
	r := newReader(frame, TypeHello)
	c.unpack(r)
	r.dictionary()
	h := Hello{Session: r.u64(), View: r.u64(), Root: r.root(), Pending: r.u64()}
	h.Copies = r.table(nil)
	h.Wants = r.partitions()
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
	e.table(h.Copies, ref)
	e.table(h.Equal, nil)
	return c.pack(e.finish(), len(dst)+1)
}

// ParseHelloAck reads a HELLO_ACK; asked is the Copies of the HELLO it answers.
func ParseHelloAck(frame []byte, c *Codec, asked []CopyClock) (HelloAck, error) {
	r := newReader(frame, TypeHelloAck)
	c.unpack(r)
	ref := r.lean(asked)
	h := HelloAck{Code: r.helloCode(), View: r.u64()}
	h.Copies = r.table(ref)
	h.Equal = r.table(nil)
	return h, r.end("hello ack")
}

func (r *reader) helloCode() HelloCode {
	c := HelloCode(r.byte())
	if c > HelloNeedClocks {
		r.fail("code %d is unknown", c)
	}
	return c
}
