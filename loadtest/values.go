package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
)

// The mixes of values, which differ in how well they compress.
const (
	mixJSON     = "json"     // records with random fields, about 3:1
	mixBase62   = "base62"   // random text, about 1.3:1
	mixConstant = "constant" // the same bytes each time
)

const (
	// minValueBytes holds the number of the write, by which a value is told from
	// every other, and the text around it.
	minValueBytes = 20
	// firstTraffic is the first number of a background write. Its value is tiny:
	// what clients write beside a rejoin shall weigh nothing against what the
	// returning node lacks.
	firstTraffic = 1 << 31

	// words are what texts in records are made of, each of wordBytes letters.
	words = "northsouthgreenamberearlyopensclosecloudriverstonegrassplantglassmetalpapertable" +
		"chairhouseroadstraintruckplaneshipscargofreshfrostsunnyrainywindyfoggyalphabravo" +
		"deltagammasigmaomegafirstthirdninthlowerupperinneroutermidstlemonmangoolivepearl" +
		"ivorykhakimauvelilaccoralbeigeochreslateumberazureblush"
	wordBytes = 5

	base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// values makes the value of each write of a run. It is a pure function of the
// seed, the mix, the size and the write's number, so that nothing has to be kept
// of what was written but numbers. It is safe for concurrent use.
type values struct {
	seed  uint64
	mix   string
	bytes int // length of each value
}

func (v values) validate() error {
	return errors.Join(oneOf("mix", v.mix, mixJSON, mixBase62, mixConstant), inRange("value-bytes", v.bytes, minValueBytes, maxValueBytes))
}

// of returns the value of write number n.
func (v values) of(n uint32) []byte { return v.append(nil, n) }

// append appends the value of write number n to dst.
func (v values) append(dst []byte, n uint32) []byte {
	if n >= firstTraffic {
		return append(strconv.AppendUint(dst, uint64(n), 10), ".traffic"...)
	}
	from := len(dst)
	r := rand.New(rand.NewPCG(v.seed, uint64(n)))
	switch v.mix {
	case mixJSON:
		return v.appendJSON(dst, r, n)
	case mixBase62:
		dst = append(strconv.AppendUint(dst, uint64(n), 10), '.')
		for len(dst)-from < v.bytes {
			dst = append(dst, base62[r.IntN(len(base62))])
		}
	default:
		dst = append(strconv.AppendUint(dst, uint64(n), 10), '.')
		for len(dst)-from < v.bytes {
			dst = append(dst, 'x')
		}
	}
	return dst
}

// appendJSON appends a record of a user. Its note is filled with words up to
// the length asked for; a shorter one is cut.
func (v values) appendJSON(dst []byte, r *rand.Rand, n uint32) []byte {
	from := len(dst)
	word := func() string {
		at := r.IntN(len(words)/wordBytes) * wordBytes
		return words[at : at+wordBytes]
	}
	dst = fmt.Appendf(dst, `{"w":%d,"user":"u%07x","email":"%08x@mail.example","score":%.3f,"tags":["%s","%s"],"active":%t,"updated":"2026-03-%02dT%02d:%02d:%02dZ","note":"%016x`,
		n, r.Uint32N(1<<28), r.Uint32(), r.Float64()*1000, word(), word(), r.IntN(2) == 0,
		1+r.IntN(28), r.IntN(24), r.IntN(60), r.IntN(60), r.Uint64())
	for len(dst)-from < v.bytes-2 {
		dst = append(append(dst, ' '), word()...)
	}
	dst = dst[:from+v.bytes-2]
	return append(dst, `"}`...)
}

// writeOf returns the number of the write that a value is of. It reads what
// any mix made.
func writeOf(value []byte) (uint32, bool) {
	end := byte('.')
	if rest, ok := bytes.CutPrefix(value, []byte(`{"w":`)); ok {
		value, end = rest, ','
	}
	i := bytes.IndexByte(value, end)
	if i < 1 || i > 10 {
		return 0, false
	}
	n, err := strconv.ParseUint(string(value[:i]), 10, 32)
	return uint32(n), err == nil
}
