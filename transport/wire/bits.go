package wire

import (
	"math"
)

// Columns of numbers are told in Rice codes: of each its lowest k bits, and the
// rest by so many ones and a zero. With k chosen for the column this is near the
// least for what tables hold: gaps between rows, and how far clocks have moved.

const (
	// maxUnary is how many ones say that a number comes whole instead, in 64 bits.
	maxUnary = 24
	// maxRice bounds k; a column of larger numbers comes whole.
	maxRice = 40
	// fewNumbers is how many numbers are worth a column with a k of its own; fewer are
	// told as they are anywhere.
	fewNumbers = 3
)

// numbers appends a column; the reader knows its length.
func (e *encoder) numbers(vs []uint64) {
	if len(vs) < fewNumbers {
		for _, v := range vs {
			e.uvarint(v)
		}
		return
	}
	k, best := 0, math.MaxInt
	for try := range maxRice + 1 {
		if n := riceBits(vs, try, best); n < best {
			k, best = try, n
		}
	}
	e.byte(byte(k))
	w := bitWriter{b: e.b}
	for _, v := range vs {
		if q := v >> k; q < maxUnary {
			w.put(1<<q-1, int(q)+1)
			w.put(v, k)
		} else {
			w.put(1<<maxUnary-1, maxUnary)
			w.put(v, 32)
			w.put(v>>32, 32)
		}
	}
	e.b = w.done()
}

// riceBits is the length of a column's codes, or more than limit.
func riceBits(vs []uint64, k, limit int) int {
	n := 0
	for _, v := range vs {
		if q := v >> k; q < maxUnary {
			n += int(q) + 1 + k
		} else {
			n += maxUnary + 64
		}
		if n > limit {
			break
		}
	}
	return n
}

// numbers reads a column of n numbers.
func (r *reader) numbers(n int) []uint64 {
	if n == 0 || r.err != nil {
		return nil
	}
	if n < fewNumbers {
		out := make([]uint64, n)
		for i := range out {
			out[i] = r.uvarint()
		}
		return out
	}
	k := int(r.byte())
	if k > maxRice {
		r.fail("a column has codes of the unknown kind %d", k)
	}
	if n > 8*len(r.b)/(k+1) {
		r.fail("it ends within a column")
	}
	if r.err != nil {
		return nil
	}
	in := bitReader{b: r.b}
	out := make([]uint64, n)
	for i := range out {
		if q := in.ones(); q < maxUnary {
			out[i] = uint64(q)<<k | in.take(k)
		} else {
			out[i] = in.take(32)
			out[i] |= in.take(32) << 32
		}
	}
	if r.b = in.rest(); in.short {
		r.fail("it ends within a column")
		return nil
	}
	return out
}

// bitWriter appends bits, the lowest first.
type bitWriter struct {
	b   []byte
	acc uint64
	n   int // bits in acc, fewer than 8
}

// put appends the n lowest bits of v, 56 at most.
func (w *bitWriter) put(v uint64, n int) {
	w.acc |= v & (1<<n - 1) << w.n
	for w.n += n; w.n >= 8; w.n -= 8 {
		w.b = append(w.b, byte(w.acc))
		w.acc >>= 8
	}
}

// done fills the last byte with zeros.
func (w *bitWriter) done() []byte {
	if w.n > 0 {
		w.b = append(w.b, byte(w.acc))
	}
	return w.b
}

type bitReader struct {
	b     []byte
	at    int  // in bits
	short bool // more was asked for than there is
}

// take reads n bits, 56 at most.
func (r *bitReader) take(n int) uint64 {
	var v uint64
	for got := 0; got < n; {
		if r.at/8 >= len(r.b) {
			r.short = true
			return 0
		}
		step := min(n-got, 8-r.at%8)
		v |= uint64(r.b[r.at/8]>>(r.at%8)) & (1<<step - 1) << got
		got += step
		r.at += step
	}
	return v
}

// ones reads ones up to a zero, which it skips, or to maxUnary of them.
func (r *bitReader) ones() int {
	n := 0
	for n < maxUnary && r.take(1) == 1 {
		n++
	}
	return n
}

// rest is what follows the byte of the last bit; what is left of that must be
// zeros, so that a column has one form.
func (r *bitReader) rest() []byte {
	if used := r.at % 8; used != 0 && r.b[r.at/8]>>used != 0 {
		r.short = true
	}
	return r.b[(r.at+7)/8:]
}

// subset appends which of n things are meant: positions, ascending, or, where these
// are most of them, the others.
func (e *encoder) subset(at []int, n int) {
	most := 2*len(at) > n
	if most {
		at = others(at, n)
	}
	e.uvarint(uint64(len(at))<<1 | uint64(b2u(most)))
	gaps := make([]uint64, len(at))
	next := 0
	for i, p := range at {
		gaps[i] = uint64(p - next)
		next = p + 1
	}
	e.numbers(gaps)
}

// others are the positions below n that are not in at.
func others(at []int, n int) []int {
	out := make([]int, 0, n-len(at))
	for i := range n {
		if len(at) > 0 && at[0] == i {
			at = at[1:]
		} else {
			out = append(out, i)
		}
	}
	return out
}

// subset reads which of n things are meant.
func (r *reader) subset(n int) []int {
	head := r.upTo("a count of rows", uint64(n)<<1|1)
	count := int(head >> 1)
	var out []int
	next := uint64(0)
	for _, gap := range r.numbers(count) {
		if next += gap; gap >= uint64(n) || next >= uint64(n) {
			r.fail("a row is not in its table")
			return nil
		}
		out = append(out, int(next))
		next++
	}
	switch {
	case r.err != nil:
		return nil
	case head&1 == 1:
		return others(out, n)
	}
	return out
}

// repeated appends n numbers of which neighbours are equal, each with how often
// it comes.
func (e *encoder) repeated(n int, at func(i int) uint64) {
	for i := 0; i < n; {
		from := i
		for i++; i < n && at(i) == at(from); i++ {
		}
		e.uvarint(at(from))
		e.uvarint(uint64(i - from - 1))
	}
}

// repeated reads n numbers up to a limit.
func (r *reader) repeated(what string, n int, limit uint64, set func(i int, v uint64)) {
	for i := 0; i < n && r.err == nil; {
		v := r.upTo(what, limit)
		for more := r.upTo("how often it comes", uint64(n-i-1)) + 1; more > 0; more-- {
			set(i, v)
			i++
		}
	}
}

// zigzagOf folds a sign into a number, as binary.AppendVarint does.
func zigzagOf(v int64) uint64 { return uint64(v)<<1 ^ uint64(v>>63) }

func ofZigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }
