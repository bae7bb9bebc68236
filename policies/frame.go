package policies

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The frames of ABI v1, little endian. wasm-examples/edged.h says the same in C.
const (
	requestMagic  = 0x314D4445 // "EDM1"
	responseMagic = 0x31524445 // "EDR1"

	requestHeader  = 32
	conflictRecord = 24
	siblingRecord  = 48
	responseHeader = 16
	verdictRecord  = 16

	flagHasTTL   = 2
	flagWithheld = 4
)

// Needs says what of a conflict a policy asks to see. Without values a merge
// costs the same whatever their size.
type Needs struct{ Key, Values bool }

// Conflict is one object with two or more siblings, newest first.
type Conflict struct {
	Key      []byte
	Siblings []Sibling
}

func align(n int) int { return (n + 7) &^ 7 }

// RequestSize returns the length of the frame that AppendRequest would write.
func RequestSize(conflicts []Conflict, needs Needs, params []byte) int {
	n := requestHeader + align(len(params))
	for i := range conflicts {
		n += conflictSize(&conflicts[i], needs)
	}
	return n
}

func conflictSize(c *Conflict, needs Needs) int {
	n := conflictRecord
	if needs.Key {
		n += align(len(c.Key))
	}
	for i := range c.Siblings {
		n += siblingSize(&c.Siblings[i], needs)
	}
	return n
}

func siblingSize(s *Sibling, needs Needs) int {
	if !needs.Values {
		return siblingRecord
	}
	return siblingRecord + align(len(s.Value))
}

// AppendRequest appends a merge request to dst. The frame must begin at a
// multiple of 8 in the guest's memory; its offsets count from its beginning.
func AppendRequest(dst []byte, conflicts []Conflict, needs Needs, params []byte) []byte {
	siblings := 0
	for i := range conflicts {
		siblings += len(conflicts[i].Siblings)
	}
	le, start := binary.LittleEndian, len(dst)
	fixed := requestHeader + conflictRecord*len(conflicts) + siblingRecord*siblings
	total := RequestSize(conflicts, needs, params)
	dst = append(dst, make([]byte, fixed)...)
	blob := func(b []byte) uint32 {
		off := len(dst) - start
		dst = append(dst, b...)
		for len(dst)-start < align(off+len(b)) {
			dst = append(dst, 0)
		}
		return uint32(off)
	}
	record := func(off, n int) []byte { return dst[start+off : start+off+n] }

	h := record(0, requestHeader)
	le.PutUint32(h[0:], requestMagic)
	le.PutUint32(h[4:], uint32(total))
	le.PutUint32(h[8:], uint32(len(conflicts)))
	le.PutUint32(h[12:], requestHeader)
	if len(params) > 0 {
		le.PutUint32(h[20:], uint32(len(params)))
		off := blob(params)
		le.PutUint32(record(16, 4), off)
	}
	next := requestHeader + conflictRecord*len(conflicts)
	for i := range conflicts {
		c := &conflicts[i]
		keyOff := uint32(0)
		if needs.Key {
			keyOff = blob(c.Key)
		}
		r := record(requestHeader+conflictRecord*i, conflictRecord)
		le.PutUint32(r[0:], keyOff)
		le.PutUint32(r[4:], uint32(len(c.Key)))
		le.PutUint32(r[8:], uint32(next))
		le.PutUint16(r[12:], uint16(len(c.Siblings)))
		le.PutUint32(r[16:], MaxValueBytes)
		for j := range c.Siblings {
			s := &c.Siblings[j]
			valueOff, flags := uint32(0), uint16(flagWithheld)
			if needs.Values {
				valueOff, flags = blob(s.Value), 0
			}
			putSibling(record(next, siblingRecord), s, valueOff, flags)
			next += siblingRecord
		}
	}
	return dst
}

func putSibling(r []byte, s *Sibling, valueOff uint32, flags uint16) {
	le := binary.LittleEndian
	if s.ExpiresMS != 0 {
		flags |= flagHasTTL
	}
	le.PutUint32(r[0:], valueOff)
	le.PutUint32(r[4:], uint32(len(s.Value)))
	le.PutUint64(r[8:], s.HLC)
	le.PutUint64(r[16:], s.Actor)
	le.PutUint64(r[24:], s.Counter)
	le.PutUint16(r[38:], flags)
	le.PutUint64(r[40:], s.ExpiresMS)
}

// VerdictKind is what a policy decided on one conflict.
type VerdictKind uint8

// The kinds of a verdict, with their numbers in the frame.
const (
	// VerdictPick shows the sibling Index.
	VerdictPick VerdictKind = iota
	// VerdictValue shows a new value.
	VerdictValue
	// VerdictAbsent shows the object as not found.
	VerdictAbsent
	// VerdictKeep decides nothing.
	VerdictKeep
	// VerdictError is the policy's own failure with the code Index.
	VerdictError
)

// ExpiryRule says how a new value expires.
type ExpiryRule uint8

// The expiry rules of VerdictValue.
const (
	// ExpireNever: the value has no expiry.
	ExpireNever ExpiryRule = iota
	// ExpireEarliest: the earliest expiry that any sibling has.
	ExpireEarliest
	// ExpireLatest: the latest expiry, none if any sibling has none.
	ExpireLatest
)

// Verdict is one checked entry of a response.
type Verdict struct {
	Kind  VerdictKind
	Index uint16
	// Value aliases the response; set for VerdictValue.
	Value  []byte
	Expiry ExpiryRule
	// Err says what is wrong with this entry alone; the rest is then zero.
	Err error
}

// errMalformed is wrapped by every complaint about a response.
var errMalformed = errors.New("malformed response")

// ParseResponse checks a response frame against the request's conflicts, given by
// their numbers of siblings. An error means that the frame as a whole is bad, and
// so is no verdict; a verdict with Err is bad by itself. It never panics and
// allocates by the request's count only.
func ParseResponse(b []byte, siblingCounts []int) ([]Verdict, error) {
	le, n := binary.LittleEndian, len(siblingCounts)
	first := responseHeader + verdictRecord*n
	if len(b) < first {
		return nil, fmt.Errorf("%w: %d bytes, %d verdicts need %d", errMalformed, len(b), n, first)
	}
	if m := le.Uint32(b); m != responseMagic {
		return nil, fmt.Errorf("%w: begins with %#x, not %#x", errMalformed, m, uint32(responseMagic))
	}
	if t := le.Uint32(b[4:]); uint64(t) != uint64(len(b)) {
		return nil, fmt.Errorf("%w: total_len %d in %d bytes", errMalformed, t, len(b))
	}
	if c := le.Uint32(b[8:]); uint64(c) != uint64(n) {
		return nil, fmt.Errorf("%w: %d verdicts for %d conflicts", errMalformed, c, n)
	}
	if z := le.Uint32(b[12:]); z != 0 {
		return nil, fmt.Errorf("%w: reserved word is %#x", errMalformed, z)
	}
	verdicts := make([]Verdict, n)
	for i := range verdicts {
		v, err := parseVerdict(b, responseHeader+verdictRecord*i, first, siblingCounts[i])
		if err != nil {
			v = Verdict{Err: fmt.Errorf("%w: verdict %d: %w", errMalformed, i, err)}
		}
		verdicts[i] = v
	}
	return verdicts, nil
}

// parseVerdict reads the entry at off. Fields without a meaning for its kind must
// be zero, so that they can get one later.
func parseVerdict(b []byte, off, first, siblings int) (Verdict, error) {
	le := binary.LittleEndian
	e := b[off : off+verdictRecord]
	kind, flags, index := VerdictKind(e[0]), e[1], le.Uint16(e[2:])
	valueOff, valueLen, aux := le.Uint32(e[4:]), le.Uint32(e[8:]), le.Uint32(e[12:])
	v := Verdict{Kind: kind, Index: index}
	if flags != 0 {
		return v, fmt.Errorf("flags are %#x", flags)
	}
	if kind > VerdictError {
		return v, fmt.Errorf("unknown kind %d", kind)
	}
	if kind != VerdictValue && (valueOff != 0 || valueLen != 0 || aux != 0) {
		return v, fmt.Errorf("kind %d with off %d, len %d, aux %d", kind, valueOff, valueLen, aux)
	}
	switch kind {
	case VerdictPick:
		if int(index) >= siblings {
			return v, fmt.Errorf("sibling %d of %d", index, siblings)
		}
		return v, nil
	case VerdictError:
		return v, nil
	case VerdictAbsent, VerdictKeep, VerdictValue:
		if index != 0 {
			return v, fmt.Errorf("kind %d with index %d", kind, index)
		}
	}
	if kind != VerdictValue {
		return v, nil
	}
	if valueLen > MaxValueBytes {
		return v, fmt.Errorf("value of %d bytes, the limit is %d", valueLen, MaxValueBytes)
	}
	if uint64(valueOff) < uint64(first) || uint64(valueOff)+uint64(valueLen) > uint64(len(b)) {
		return v, fmt.Errorf("value of %d bytes at %d, outside of %d to %d", valueLen, valueOff, first, len(b))
	}
	if aux > uint32(ExpireLatest) {
		return v, fmt.Errorf("expiry rule %#x", aux)
	}
	v.Value, v.Expiry = b[valueOff:valueOff+valueLen], ExpiryRule(aux)
	return v, nil
}
