package kv

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Run is a closed interval of sequence numbers, From <= To.
type Run struct{ From, To uint64 }

// Span is what a clock holds of one actor: everything up to Base, and the Runs
// above it, ascending, apart from Base and from each other by at least one gap.
type Span struct {
	Actor Actor
	Base  uint64
	Runs  []Run
}

// Max is the highest sequence in the span.
func (s Span) Max() uint64 {
	if n := len(s.Runs); n > 0 {
		return s.Runs[n-1].To
	}
	return s.Base
}

// Dots counts the dots of spans. How many the processes behind a seal gave out is
// forgotten: seals counts the spans that are one.
func Dots(spans []Span) (dots uint64, seals int) {
	for _, s := range spans {
		if s.Actor.IsSeal() {
			seals++
			continue
		}
		dots += s.Base
		for _, r := range s.Runs {
			dots += r.To - r.From + 1
		}
	}
	return dots, seals
}

func (s Span) has(seq uint64) bool {
	if seq <= s.Base {
		return true
	}
	for _, r := range s.Runs {
		if seq < r.From {
			return false
		}
		if seq <= r.To {
			return true
		}
	}
	return false
}

// Clock is a bitmapped version vector: the set of dots a copy has seen, kept as
// a base and runs an actor. The zero value is empty and ready. A Clock is
// changed by its owner alone; Clone gives a copy that shares nothing that
// changes. A set of dots of any other kind (those a session sent, say) is a
// Clock too.
type Clock struct {
	spans []Span // sorted by actor; Runs slices are never changed in place
}

// ClockOf builds a clock from spans in any order, which are normalised; two
// spans of one actor are joined. It may keep the spans' runs.
func ClockOf(spans ...Span) Clock {
	if len(spans) == 0 {
		return Clock{}
	}
	sorted := slices.Clone(spans)
	byActor := func(s, t Span) int { return s.Actor.Compare(t.Actor) }
	if !slices.IsSortedFunc(sorted, byActor) {
		slices.SortStableFunc(sorted, byActor)
	}
	out := sorted[:0]
	for len(sorted) > 0 {
		s, n := sorted[0], 1
		for ; n < len(sorted) && sorted[n].Actor == s.Actor; n++ {
			s.Base = max(s.Base, sorted[n].Base)
		}
		if n > 1 { // all runs at once: one by one would sort them anew each time
			s.Runs = nil
			for _, t := range sorted[:n] {
				s.Runs = append(s.Runs, t.Runs...)
			}
		}
		sorted = sorted[n:]
		if s = normalise(s); s.Max() > 0 {
			out = append(out, s)
		}
	}
	if len(out) == 0 {
		return Clock{}
	}
	c := Clock{out}
	c.absorb()
	return c
}

func (c *Clock) find(a Actor) (int, bool) {
	if len(c.spans) > 8 { // a partition has a handful of actors; a loop beats the search
		return slices.BinarySearchFunc(c.spans, a, func(s Span, a Actor) int { return s.Actor.Compare(a) })
	}
	for i := range c.spans {
		if o := c.spans[i].Actor.Compare(a); o >= 0 {
			return i, o == 0
		}
	}
	return len(c.spans), false
}

// Len is the count of actors.
func (c *Clock) Len() int { return len(c.spans) }

// Spans returns the spans in actor order. The caller must not change them.
func (c *Clock) Spans() []Span { return c.spans }

// Span returns the span of a, empty if there is none, and up to MaxUint64 for an
// actor that the clock has sealed.
func (c *Clock) Span(a Actor) Span {
	i, ok := c.find(a)
	switch {
	case ok:
		return c.spans[i]
	case c.sealAt(i, a):
		return Span{Actor: a, Base: math.MaxUint64}
	}
	return Span{Actor: a}
}

// Has reports whether d was seen.
func (c *Clock) Has(d Dot) bool {
	i, ok := c.find(d.Actor)
	return ok && c.spans[i].has(d.Seq) || !ok && c.sealAt(i, d.Actor)
}

// Base returns the contiguous part as a vector.
func (c *Clock) Base() VV {
	out := make(VV, 0, len(c.spans))
	for _, s := range c.spans {
		if s.Base > 0 {
			out = append(out, Dot{s.Actor, s.Base})
		}
	}
	return out
}

// BaseOf returns the contiguous part of one actor.
func (c *Clock) BaseOf(a Actor) uint64 { return c.Span(a).Base }

// Add marks d as seen and reports whether it was new.
func (c *Clock) Add(d Dot) bool { return c.AddRun(d.Actor, Run{d.Seq, d.Seq}) }

// AddRun marks a run of one actor as seen and reports whether any of it was new.
func (c *Clock) AddRun(a Actor, r Run) bool {
	if r.To == 0 || r.To < r.From {
		return false
	}
	i, ok := c.find(a)
	if !ok {
		if c.sealAt(i, a) {
			return false
		}
		c.spans = slices.Insert(c.spans, i, Span{Actor: a})
	}
	s := &c.spans[i]
	if len(s.Runs) == 0 && r.From <= s.Base+1 { // the common case: the next dot
		grew := r.To > s.Base
		s.Base = max(s.Base, r.To)
		return grew
	}
	before := spanCount(*s)
	*s = normalise(*s, r)
	return spanCount(*s) != before
}

// Dots counts the dots in the set.
func (c *Clock) Dots() (n uint64) {
	for _, s := range c.spans {
		n += spanCount(s)
	}
	return n
}

func spanCount(s Span) uint64 {
	n := s.Base
	for _, r := range s.Runs {
		n += r.To - r.From + 1
	}
	return n
}

// normalise returns s with extra runs added, in canonical form. Runs that must
// change go into a fresh slice.
func normalise(s Span, extra ...Run) Span {
	if len(extra) == 0 && isNormal(s) {
		return s
	}
	runs := slices.Concat(s.Runs, extra)
	slices.SortFunc(runs, func(x, y Run) int { return cmp.Compare(x.From, y.From) })
	out := Span{Actor: s.Actor, Base: s.Base}
	for _, r := range runs {
		// A run that touches the one before is told by From-1, which cannot pass
		// the end of the numbers as To+1 can; peers may send the last one.
		r.From = max(r.From, 1)
		switch n := len(out.Runs); {
		case r.To < r.From || r.To <= out.Base:
		case n == 0 && r.From-1 <= out.Base:
			out.Base = r.To
		case n > 0 && r.From-1 <= out.Runs[n-1].To:
			out.Runs[n-1].To = max(out.Runs[n-1].To, r.To)
		default:
			out.Runs = append(out.Runs, r)
		}
	}
	return out
}

func isNormal(s Span) bool {
	end := s.Base
	for _, r := range s.Runs {
		if r.From == 0 || r.From-1 <= end || r.To < r.From {
			return false
		}
		end = r.To
	}
	return true
}

func (c *Clock) joinSpan(t Span) {
	i, ok := c.find(t.Actor)
	if !ok {
		if t = normalise(t); t.Max() > 0 && !c.sealAt(i, t.Actor) {
			c.spans = slices.Insert(c.spans, i, t)
		}
		return
	}
	s := c.spans[i]
	s.Base = max(s.Base, t.Base)
	c.spans[i] = normalise(s, t.Runs...)
}

// Join adds every dot of d.
func (c *Clock) Join(d Clock) {
	for _, s := range d.spans {
		if i, ok := c.find(s.Actor); ok && len(s.Runs) == 0 && s.Base <= c.spans[i].Base {
			continue
		}
		c.joinSpan(s)
	}
	if d.Sealed() {
		c.absorb()
	}
}

// Clone returns an independent copy.
func (c *Clock) Clone() Clock { return Clock{slices.Clone(c.spans)} }

// Covers reports whether every dot of d was seen.
func (c *Clock) Covers(d Clock) bool {
	for _, t := range d.spans {
		s := c.Span(t.Actor)
		if !coversRun(s, Run{1, t.Base}) {
			return false
		}
		for _, r := range t.Runs {
			if !coversRun(s, r) {
				return false
			}
		}
	}
	return true
}

func coversRun(s Span, r Run) bool {
	if r.To < r.From || r.To <= s.Base {
		return true
	}
	r.From = max(r.From, s.Base+1)
	for _, x := range s.Runs {
		if x.From <= r.From && r.To <= x.To {
			return true
		}
	}
	return false
}

// CoversVV reports whether every dot of v was seen.
func (c *Clock) CoversVV(v VV) bool {
	for _, d := range v {
		if !coversRun(c.Span(d.Actor), Run{1, d.Seq}) {
			return false
		}
	}
	return true
}

// Equal reports whether both hold the same dots.
func (c *Clock) Equal(d Clock) bool {
	return slices.EqualFunc(c.spans, d.spans, func(s, t Span) bool {
		return s.Actor == t.Actor && s.Base == t.Base && slices.Equal(s.Runs, t.Runs)
	})
}

// UpTo returns the dots of c that v covers.
func (c *Clock) UpTo(v VV) Clock {
	var out Clock
	for _, s := range c.spans {
		top := v.Get(s.Actor)
		if top == 0 {
			continue
		}
		t := Span{Actor: s.Actor, Base: min(s.Base, top)}
		for _, r := range s.Runs {
			if r.From > top {
				break
			}
			t.Runs = append(t.Runs, Run{r.From, min(r.To, top)})
		}
		if t.Max() > 0 {
			out.spans = append(out.spans, t)
		}
	}
	if c.Sealed() {
		out.spans = c.upToSealed(v, out.spans)
		return ClockOf(out.spans...)
	}
	return out
}

// Minus returns the dots of c that are not in d. A seal that d has not is all of
// its run.
func (c *Clock) Minus(d Clock) []Span {
	var out []Span
	for _, s := range c.spans {
		t := d.Span(s.Actor)
		runs := s.Runs
		if s.Base > 0 {
			runs = append([]Run{{1, s.Base}}, s.Runs...)
		}
		var left []Run
		for _, r := range runs {
			left = append(left, subtract(r, t)...)
		}
		if len(left) > 0 {
			out = append(out, Span{Actor: s.Actor, Runs: left})
		}
	}
	return out
}

func subtract(r Run, t Span) []Run {
	if r.To <= t.Base {
		return nil
	}
	var out []Run
	from := max(r.From, t.Base+1)
	for _, x := range t.Runs {
		if x.To < from {
			continue
		}
		if x.From > r.To {
			break
		}
		if x.From > from {
			out = append(out, Run{from, x.From - 1})
		}
		if x.To >= r.To {
			return out // x.To+1 may not be a number
		}
		from = x.To + 1
	}
	return append(out, Run{from, r.To})
}

// String lists the spans, for messages and failing tests.
func (c Clock) String() string {
	var b strings.Builder
	for i, s := range c.spans {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(s.Actor.String() + ":" + strconv.FormatUint(s.Base, 10))
		for _, r := range s.Runs {
			b.WriteString("+" + strconv.FormatUint(r.From, 10) + "-" + strconv.FormatUint(r.To, 10))
		}
	}
	return b.String()
}
