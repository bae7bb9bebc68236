package wasmrt

import "fmt"

// reader walks over a module's bytes. The first failure sticks: every later read
// returns zero, so a loop over entries ends by testing err, and no read panics.
type reader struct {
	b       []byte
	pos     int
	base    int    // offset of b[0] in the module, for messages
	section string // for messages
	err     *AdmissionError
}

func (r *reader) ok() bool { return r.err == nil }

// fail records the first failure, at the current offset.
func (r *reader) fail(rule, advice, format string, args ...any) {
	if r.err != nil {
		return
	}
	r.err = &AdmissionError{
		Rule:   rule,
		Where:  fmt.Sprintf("%s, offset %#x", r.section, r.base+r.pos),
		What:   fmt.Sprintf(format, args...),
		Advice: advice,
	}
}

func (r *reader) malformed(format string, args ...any) {
	r.fail("malformed", "the file is damaged or not WebAssembly 2.0", format, args...)
}

func (r *reader) left() int { return len(r.b) - r.pos }

func (r *reader) byte() byte {
	if r.err != nil {
		return 0
	}
	if r.pos >= len(r.b) {
		r.malformed("module ends too early")
		return 0
	}
	c := r.b[r.pos]
	r.pos++
	return c
}

// u32 reads an unsigned LEB128 number. Like the engine it refuses more than five
// bytes and set bits beyond the 32nd: both must agree where an instruction ends.
func (r *reader) u32() uint32 {
	var v uint32
	for shift := 0; shift < 35; shift += 7 {
		c := r.byte()
		if shift == 28 && c > 0x0f {
			break
		}
		v |= uint32(c&0x7f) << shift
		if c&0x80 == 0 {
			return v
		}
	}
	r.malformed("number of more than 32 bits")
	return 0
}

// signed reads a signed LEB128 number of at most bits bits.
func (r *reader) signed(bits int) int64 {
	var v int64
	for shift := 0; shift < bits; shift += 7 {
		c := r.byte()
		v |= int64(c&0x7f) << shift
		if c&0x80 != 0 {
			continue
		}
		if shift+7 < 64 && c&0x40 != 0 {
			v |= -1 << (shift + 7)
		}
		// The unused bits of a last byte must all equal the sign.
		if unused := shift + 7 - bits; unused > 0 {
			if top := int8(c<<1) >> (7 - unused); top != 0 && top != -1 {
				break
			}
		}
		return v
	}
	r.malformed("number of more than %d bits", bits)
	return 0
}

// bytes returns the next n bytes, aliasing the module.
func (r *reader) bytes(n uint32) []byte {
	if r.err != nil {
		return nil
	}
	if uint64(n) > uint64(r.left()) {
		r.malformed("length %d reaches beyond the end", n)
		return nil
	}
	s := r.b[r.pos : r.pos+int(n)]
	r.pos += int(n)
	return s
}

// count reads the length of a vector whose entries take at least a byte each. A
// count that the rest of the section cannot hold is refused, so nobody behind
// this scanner allocates by a number that no bytes back.
func (r *reader) count(what string, limit int) int {
	n := r.u32()
	if r.err != nil {
		return 0
	}
	if uint64(n) > uint64(limit) {
		r.fail("too-many", "", "%d %s, the limit is %d", n, what, limit)
		return 0
	}
	if int(n) > r.left() {
		r.malformed("%d %s in %d bytes", n, what, r.left())
		return 0
	}
	return int(n)
}

func (r *reader) name() string {
	n := r.u32()
	if r.err == nil && n > maxNameBytes {
		r.fail("name-too-long", "", "name of %d bytes, the limit is %d", n, maxNameBytes)
		return ""
	}
	return string(r.bytes(n))
}

// end checks that a section or body was used up exactly.
func (r *reader) end() {
	if r.err == nil && r.pos != len(r.b) {
		r.malformed("%d bytes too many", len(r.b)-r.pos)
	}
}
