package wire

import "edged.dev/edged/internal/kv"

// What a response says by bits. Append only.
const (
	responseError = 1 << iota
	responseFound
	responseChanged
	responsePartial
)

// Append appends the frame.
func (s Result) Append(dst []byte) []byte {
	e := newEncoder(dst, TypeResult)
	if s.Err != nil {
		e.byte(responseError)
		e.byte(byte(s.Err.Code))
		e.string(s.Err.Text[:min(len(s.Err.Text), MaxTextBytes)])
		return e.finish()
	}
	p := &s.Response
	e.byte(b2u(p.Found)*responseFound | b2u(p.Changed)*responseChanged | b2u(p.Partial)*responsePartial)
	e.bytes(p.Value)
	e.zigzag(p.ExpiresMS)
	e.zigzag(p.Int)
	e.bytes(p.Token)
	e.bytes(p.Fence)
	e.string(p.ETag)
	e.uvarint(uint64(len(p.Siblings)))
	for _, b := range p.Siblings {
		e.actor(b.Dot.Actor)
		e.uvarint(b.Dot.Seq)
		e.u64(uint64(b.HLC))
		e.zigzag(b.ExpiresMS)
		e.bytes(b.Value)
	}
	e.uvarint(uint64(p.Copies))
	e.uvarint(uint64(p.Wanted))
	e.byte(byte(p.State))
	e.string(p.View)
	e.uvarint(uint64(p.StandIns))
	return e.finish()
}

// ParseResult reads a RESULT. Values and tokens are parts of frame, which
// therefore goes over to whoever keeps them and must not be used again.
func ParseResult(frame []byte) (Result, error) {
	r := newDictReader(frame, TypeResult)
	f := r.byte()
	if f&responseError != 0 {
		s := Result{Err: &kv.Error{Code: kv.Code(r.byte()), Text: r.text("an error", MaxTextBytes)}}
		return s, r.end("result")
	}
	var s Result
	p := &s.Response
	p.Found, p.Changed, p.Partial = f&responseFound != 0, f&responseChanged != 0, f&responsePartial != 0
	p.Value = r.bytes("a value", kv.MaxRecordBytes)
	p.ExpiresMS, p.Int = r.zigzag(), r.zigzag()
	p.Token = r.optional("a token", kv.MaxTokenBytes)
	p.Fence = r.optional("a fence", kv.MaxTokenBytes)
	p.ETag = r.text("an entity tag", MaxTagBytes)
	for range r.count("siblings", MaxVersions, 12) {
		p.Siblings = append(p.Siblings, kv.Sibling{
			Dot: kv.Dot{Actor: r.issuer(), Seq: r.seq()},
			HLC: kv.HLC(r.u64()), ExpiresMS: r.zigzag(), Value: r.bytes("a value", kv.MaxRecordBytes),
		})
	}
	p.Copies, p.Wanted = int(r.upTo("copies", MaxQuorum)), int(r.upTo("wanted copies", MaxQuorum))
	p.State = r.state()
	p.View = r.text("a view", MaxTagBytes)
	p.StandIns = int(r.upTo("stand-ins", MaxQuorum))
	return s, r.end("result")
}
