package wire

import "edged.dev/edged/internal/kv"

// Append appends the frame: two bits a partition.
func (s State) Append(dst []byte) []byte {
	e := newEncoder(dst, TypeState)
	e.u64(s.Version)
	e.u64(s.View)
	e.byte(byte(s.System))
	e.uvarint(uint64(len(s.Parts)))
	for i := 0; i < len(s.Parts); i += 4 {
		var b byte
		for j, p := range s.Parts[i:min(i+4, len(s.Parts))] {
			b |= byte(p) & 3 << (2 * j)
		}
		e.byte(b)
	}
	return e.b
}

// ParseState reads a STATE.
func ParseState(frame []byte) (State, error) {
	r := newReader(frame, TypeState)
	s := State{Version: r.u64(), View: r.u64(), System: Serving(r.byte() & 3)}
	n := int(r.upTo("the count of partitions", kv.MaxPartitions))
	if (n+3)/4 > len(r.b) {
		r.fail("it ends before its %d partitions", n)
		n = 0
	}
	if n > 0 {
		s.Parts = make([]Serving, n)
	}
	packed := r.take((n + 3) / 4)
	for i := range s.Parts {
		s.Parts[i] = Serving(packed[i/4] >> (2 * (i % 4)) & 3)
	}
	return s, r.end("state")
}
