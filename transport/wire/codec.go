package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"edged.dev/edged/internal/kv"
)

// ErrMalformed is wrapped by every error about a frame's bytes: the peer is
// broken or speaks something else, and asking it again will not help.
var ErrMalformed = errors.New("malformed frame")

// TypeOf returns the type of a frame.
func TypeOf(frame []byte) (Type, error) {
	if len(frame) == 0 {
		return 0, fmt.Errorf("read frame type: %w: it is empty", ErrMalformed)
	}
	return Type(frame[0]), nil
}

// encoder appends a frame. Actors go into its dictionary; finish puts that at
// the frame's head, or, in a lane, an actor is spelt out where it is first used.
type encoder struct {
	b      []byte
	head   int // offset of the dictionary
	dict   dict
	known  int  // actors at the dictionary's start that the receiver knows already
	inline bool // spell out new actors
	cols   *columns
}

func newEncoder(dst []byte, t Type) *encoder {
	dst = append(dst, byte(t))
	return &encoder{b: dst, head: len(dst)}
}

func (e *encoder) byte(v byte)      { e.b = append(e.b, v) }
func (e *encoder) uvarint(v uint64) { e.b = binary.AppendUvarint(e.b, v) }
func (e *encoder) zigzag(v int64)   { e.b = binary.AppendVarint(e.b, v) }
func (e *encoder) u64(v uint64)     { e.b = binary.LittleEndian.AppendUint64(e.b, v) }
func (e *encoder) raw(v []byte)     { e.b = append(e.b, v...) }

func (e *encoder) bytes(v []byte) {
	e.uvarint(uint64(len(v)))
	e.b = append(e.b, v...)
}

func (e *encoder) string(v string) {
	e.uvarint(uint64(len(v)))
	e.b = append(e.b, v...)
}

func (e *encoder) actor(a kv.Actor) {
	i, fresh := e.dict.add(a)
	e.uvarint(uint64(i))
	if fresh && e.inline {
		e.b = a.Append(e.b)
	}
}

func (e *encoder) vv(v kv.VV) {
	e.uvarint(uint64(len(v)))
	for _, d := range v {
		e.actor(d.Actor)
		e.uvarint(seqOrSeal(d.Actor, d.Seq))
	}
}

func (e *encoder) clock(c kv.Clock) {
	e.uvarint(uint64(c.Len()))
	for _, s := range c.Spans() {
		e.actor(s.Actor)
		e.uvarint(seqOrSeal(s.Actor, s.Base))
		e.runs(s)
	}
}

// seqOrSeal is a sequence as it is told: that of a seal, always the highest there
// is, is told as 0, which no other entry has.
func seqOrSeal(a kv.Actor, seq uint64) uint64 {
	if a.IsSeal() {
		return 0
	}
	return seq
}

// sealed turns what is told of an actor back.
func (r *reader) sealed(a kv.Actor, seq uint64) uint64 {
	switch {
	case !a.IsSeal():
		return seq
	case seq != 0:
		r.fail("a seal has a sequence")
	}
	return math.MaxUint64
}

// runs appends a span's runs; each leaves a gap of at least one behind it.
func (e *encoder) runs(s kv.Span) {
	e.uvarint(uint64(len(s.Runs)))
	end := s.Base
	for _, r := range s.Runs {
		e.uvarint(r.From - end - 2) // the gap less one
		e.uvarint(r.To - r.From)    // the length less one
		end = r.To
	}
}

// partitions appends partitions, runs of successive ones as such.
func (e *encoder) partitions(ps []kv.Partition) {
	e.uvarint(uint64(len(ps)))
	prev := noPartition
	for i := 0; i < len(ps); {
		from := i
		for i++; i < len(ps) && numberOf(ps[i]) == numberOf(ps[i-1])+1; i++ {
		}
		gap := zigzagOf(numberOf(ps[from]) - prev - 1)
		prev = numberOf(ps[i-1])
		e.uvarint(gap<<1 | uint64(b2u(i-from > 1)))
		if i-from > 1 {
			e.uvarint(uint64(i - from - 2))
		}
	}
}

// numberOf is how a partition is told: the system partition, which is the last by
// its own number, goes before the others, so that the way there is short.
func numberOf(p kv.Partition) int64 { return int64(int32(uint32(p) + 1)) }

// noPartition is what the first partition of a list is told relative to.
const noPartition = int64(0)

// partitionAfter appends a partition relative to the one before.
func (e *encoder) partitionAfter(prev *int64, p kv.Partition) {
	e.zigzag(numberOf(p) - *prev - 1)
	*prev = numberOf(p)
}

// reader takes a frame apart. The first error sticks, and everything read after
// it is zero, so that a parser checks once, at its end.
type reader struct {
	b      []byte
	err    error
	dict   *dict
	inline bool
	cols   *columns
}

// newReader checks a frame's type and length.
func newReader(frame []byte, t Type) *reader {
	r := &reader{b: frame, dict: &dict{}}
	switch {
	case len(frame) > MaxFrameBytes:
		r.tooMuch("it has %d bytes, the limit is %d", len(frame), MaxFrameBytes)
	case r.byte() != byte(t) && r.err == nil:
		r.fail("its type is %d, not %d", frame[0], t)
	}
	return r
}

// newDictReader is newReader for a frame that begins with a dictionary.
func newDictReader(frame []byte, t Type) *reader {
	r := newReader(frame, t)
	r.dictionary()
	return r
}

func (r *reader) fail(format string, args ...any) {
	r.refuse(fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...)))
}

// tooMuch refuses what is past a limit.
func (r *reader) tooMuch(format string, args ...any) {
	r.refuse(Breached(BreachOversized, "%w: %s", ErrMalformed, fmt.Sprintf(format, args...)))
}

func (r *reader) refuse(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

// end returns the first error, named after what was parsed. Bytes left over are
// fields of a later version and no error.
func (r *reader) end(what string) error {
	if r.err != nil {
		return fmt.Errorf("parse %s: %w", what, r.err)
	}
	return nil
}

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.fail("it ends early")
		return make([]byte, min(n, kv.ActorBytes))
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail("it ends early")
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail("it has no whole number where one belongs")
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) zigzag() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail("it has no whole number where one belongs")
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) u64() uint64 { return binary.LittleEndian.Uint64(r.take(8)) }

// upTo reads a number and refuses one over its limit.
func (r *reader) upTo(what string, limit uint64) uint64 {
	v := r.uvarint()
	if v > limit {
		r.tooMuch("%s is %d, the limit is %d", what, v, limit)
		return 0
	}
	return v
}

// count reads how many things follow, each of at least size bytes, and refuses
// more than the limit or than the rest of the frame can hold, before anything
// is allocated for them.
func (r *reader) count(what string, limit, size int) int {
	n := r.uvarint()
	switch {
	case r.err != nil:
	case n > uint64(limit):
		r.tooMuch("it has %d %s, the limit is %d", n, what, limit)
	case n > uint64(len(r.b)/size):
		r.fail("it ends before its %d %s", n, what)
	default:
		return int(n)
	}
	return 0
}

// bytes reads a length and that many bytes of the frame, which are not copied.
func (r *reader) bytes(what string, limit int) []byte {
	n := r.uvarint()
	switch {
	case r.err != nil:
	case n > uint64(limit):
		r.tooMuch("%s has %d bytes, the limit is %d", what, n, limit)
	case n > uint64(len(r.b)):
		r.fail("it ends within %s", what)
	default:
		return r.take(int(n))
	}
	return nil
}

// optional is bytes, where none at all means nil.
func (r *reader) optional(what string, limit int) []byte {
	if v := r.bytes(what, limit); len(v) > 0 {
		return v
	}
	return nil
}

func (r *reader) key() []byte {
	k := r.bytes("a key", kv.MaxKeyBytes)
	if len(k) == 0 {
		r.fail("a key is empty")
	}
	return k
}

func (r *reader) partition() kv.Partition {
	v := r.uvarint()
	if v > uint64(kv.System) {
		r.fail("%d is no partition", v)
		return 0
	}
	return kv.Partition(v)
}

func (r *reader) actor() kv.Actor {
	i, n := r.uvarint(), uint64(len(r.dict.actors))
	switch {
	case r.err != nil:
	case i < n:
		return r.dict.actors[i]
	case i == n && r.inline && n < MaxDictActors:
		a := kv.ActorFrom(r.take(kv.ActorBytes))
		r.dict.actors = append(r.dict.actors, a)
		return a
	default:
		r.fail("actor %d is not in its dictionary of %d", i, n)
	}
	return kv.Actor{}
}

func (r *reader) vv() kv.VV {
	n := r.count("vector entries", kv.MaxClockActors, 2)
	if n == 0 {
		return nil
	}
	out := make(kv.VV, 0, n)
	for range n {
		a := r.actor()
		out = append(out, kv.Dot{Actor: a, Seq: r.sealed(a, r.uvarint())})
	}
	return r.normalVV(out)
}

// normalVV puts a vector in order; zeros, repetitions and what stands beside its
// own seal are refused, for a sender never writes them and a VV must not hold them.
func (r *reader) normalVV(v kv.VV) kv.VV {
	byActor := func(d, e kv.Dot) int { return d.Actor.Compare(e.Actor) }
	if !slices.IsSortedFunc(v, byActor) {
		slices.SortFunc(v, byActor)
	}
	if !v.WellFormed() {
		r.fail("a vector has an actor twice, at 0 or beside its seal")
		return nil
	}
	return v
}

func (r *reader) clock() kv.Clock {
	n := r.count("clock entries", kv.MaxClockActors, 3)
	spans := make([]kv.Span, 0, n)
	for range n {
		s := kv.Span{Actor: r.actor(), Base: r.uvarint()}
		s.Base = r.sealed(s.Actor, s.Base)
		s.Runs = r.runs(s.Base)
		spans = append(spans, s)
	}
	if r.err != nil {
		return kv.Clock{}
	}
	return kv.ClockOf(spans...)
}

// issuer reads the actor of a dot, which a seal is none of.
func (r *reader) issuer() kv.Actor {
	a := r.actor()
	if a.IsSeal() {
		r.fail("a seal issues a dot")
	}
	return a
}

func (r *reader) runs(base uint64) []kv.Run {
	n := r.count("runs", MaxRuns, 2)
	if n == 0 {
		return nil
	}
	out := make([]kv.Run, 0, n)
	end := base
	for range n {
		gap, length := r.uvarint(), r.uvarint()
		from := end + 2 + gap
		to := from + length
		if from < end+2 || to < from || end > end+2 {
			r.fail("a run passes the last sequence number")
			return nil
		}
		out = append(out, kv.Run{From: from, To: to})
		end = to
	}
	return out
}

func (r *reader) partitions() []kv.Partition {
	n := int(r.upTo("how many partitions", MaxCopies))
	var out []kv.Partition
	prev := noPartition
	for len(out) < n && r.err == nil {
		head, more := r.uvarint(), uint64(0)
		p := r.partitionAt(&prev, ofZigzag(head>>1))
		if head&1 == 1 {
			more = r.upTo("a run of partitions", uint64(n-len(out)))
			if more += 1; more > uint64(n-len(out)-1) {
				r.fail("it has more partitions than it says")
				return nil
			}
		}
		out = append(out, p)
		for ; more > 0 && r.err == nil; more-- {
			out = append(out, r.partitionAt(&prev, 0))
		}
	}
	if r.err != nil {
		return nil
	}
	return out
}

func (r *reader) partitionAfter(prev *int64) kv.Partition { return r.partitionAt(prev, r.zigzag()) }

// partitionAt is the partition that lies a distance behind the one after prev.
func (r *reader) partitionAt(prev *int64, d int64) kv.Partition {
	n := *prev + 1 + d
	if d > 1<<33 || d < -1<<33 || n < -1<<31 || n >= 1<<31 {
		r.fail("a partition is out of range")
		n = 1
	}
	*prev = n
	return kv.Partition(uint32(int32(n)) - 1)
}
