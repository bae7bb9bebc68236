package state

import (
	"slices"

	"edged.dev/edged/internal/kv"
)

// Incoming is the receiving side of one session for one partition.
type Incoming struct {
	ID    uint64 // names the session record; never used again
	Peer  kv.NodeID
	BaseS kv.VV    // the base this copy reported when it asked
	Sent  kv.Clock // dots the donor sent or said KEEP for

	live      *live
	buried    int       // versions that its end dropped and that L1 would have left
	both      bool      // the donor was told what is held, whatever the clock
	unclaimed kv.Clock  // that, and what it claims
	held      []kv.Span // dots above BaseS that were planned when it began
	noted     []noted   // dots that came by other ways since
	passed    kv.Clock  // those of them that are in the store, and no more in noted
	unpassed  int       // how many were left in noted then
	recorded  bool
	cancelled bool
}

type noted struct {
	dot       kv.Dot
	key       string
	published *bool // its change is; nil: it was planned before the session began
}

// maxNoted is how many dots that came by other ways a receiving side keeps with their
// keys before it lets go of those that the store's dot index has: a session of much
// data lasts for minutes, in which millions may be written.
const maxNoted = 1024

// live is what the donor said of dots up to BaseS: of those that were in clock it
// held just the dots.
type live struct{ clock, dots kv.Clock }

// Begin opens the receiving side of a session; the base that goes into HELLO is
// its BaseS, of the synced clock.
func (c *Copy) Begin(id uint64, peer kv.NodeID) *Incoming {
	base := c.synced.Base()
	spans := make([]kv.Span, 0, len(base))
	for _, d := range base {
		spans = append(spans, kv.Span{Actor: d.Actor, Base: d.Seq})
	}
	in := &Incoming{ID: id, Peer: peer, BaseS: base, held: c.above(kv.ClockOf(spans...))}
	c.incomings = append(c.incomings, in)
	return in
}

// above returns what is planned or on stable storage above a base. A seal that is
// planned and not durable yet says of no dot that it is held: those that it covers
// are in the durable clock.
func (c *Copy) above(base kv.Clock) []kv.Span {
	var out []kv.Span
	for _, clock := range []*kv.Clock{&c.clock, &c.synced} {
		for _, s := range clock.Minus(base) {
			if !s.Actor.IsSeal() {
				out = append(out, s)
			}
		}
	}
	return out
}

// Cancel closes the receiving side without an end: what was applied stays. Its
// owner does so when the donor's process has ended, before a session is opened
// to the next one, which may have lost what this one sent.
func (c *Copy) Cancel(in *Incoming) {
	in.cancelled = true
	c.leave(in)
}

func (c *Copy) leave(in *Incoming) {
	c.incomings = slices.DeleteFunc(c.incomings, func(x *Incoming) bool { return x == in })
}

// Note remembers a dot that was planned before the session began.
func (in *Incoming) Note(d kv.Dot, key []byte) { in.note(d, key, nil) }

func (in *Incoming) note(d kv.Dot, key []byte, published *bool) {
	if !in.BaseS.Has(d) {
		in.noted = append(in.noted, noted{d, string(key), published})
	}
}

// settle lets go of the keys of what is published, if there are too many.
func (in *Incoming) settle() {
	if len(in.noted) <= maxNoted+2*in.unpassed {
		return
	}
	var spans []kv.Span
	in.noted = slices.DeleteFunc(in.noted, func(n noted) bool {
		if n.published == nil || !*n.published {
			return false
		}
		spans = append(spans, kv.Span{Actor: n.dot.Actor, Runs: []kv.Run{{From: n.dot.Seq, To: n.dot.Seq}}})
		return true
	})
	in.passed.Join(kv.ClockOf(spans...))
	in.unpassed = len(in.noted)
}

// Keep takes the donor's word that it holds the dots and will not send them.
func (in *Incoming) Keep(dots kv.Clock) { in.Sent.Join(dots) }

// Live takes the donor's word which dots up to BaseS it holds, as of the moment
// when its clock was the given one. A later word takes the place of an earlier one.
func (in *Incoming) Live(clock, dots kv.Clock) { in.live = &live{clock.UpTo(in.BaseS), dots} }

// WentBelow reports whether the donor told of dots up to BaseS (the step L2).
func (in *Incoming) WentBelow() bool { return in.live != nil }

// Dropped returns how many versions the end dropped that nothing but Live, or Hold,
// told to be dead: without it they would have come back.
func (in *Incoming) Dropped() int { return in.buried }

// Buried returns the dots up to BaseS that the donor has seen and does not hold:
// versions of them that this copy holds are dead. sealed names the actors that a
// seal covers and this copy may hold versions of.
func (in *Incoming) Buried(sealed func(seal kv.Actor) []kv.Actor) kv.Clock {
	if in.live == nil {
		return kv.Clock{}
	}
	var spans []kv.Span
	for _, s := range in.live.clock.Spans() {
		if !s.Actor.IsSeal() {
			spans = append(spans, s)
			continue
		}
		for _, a := range sealed(s.Actor) {
			spans = append(spans, kv.Span{Actor: a, Base: kv.AllSeqs})
		}
	}
	seen := kv.ClockOf(spans...)
	return kv.ClockOf(seen.Minus(in.live.dots)...)
}

// dead returns what a session's end proves dead: what the donor has seen since
// BaseS, or said so of before, and neither sent nor kept.
func (in *Incoming) dead(end *kv.Clock) func(kv.Dot) bool {
	return func(d kv.Dot) bool {
		switch {
		case in.Sent.Has(d):
			return false
		case !in.BaseS.Has(d):
			return end.Has(d)
		}
		return in.live != nil && in.live.clock.Has(d) && !in.live.dots.Has(d)
	}
}

// Suspects returns where versions may lie that the donor's end proves dead: the
// keys that are known, and runs of dots whose keys the dot index knows. A dot is
// dead if the donor has seen it since BaseS and neither sent nor kept it.
func (in *Incoming) Suspects(end kv.Clock) (keys []string, dots []kv.Span) {
	for _, n := range in.noted {
		if end.Has(n.dot) && !in.Sent.Has(n.dot) {
			keys = append(keys, n.key)
		}
	}
	slices.Sort(keys)
	held := kv.ClockOf(in.held...)
	held.Join(in.passed)
	unsent := kv.ClockOf(held.Minus(in.Sent)...)
	beyond := kv.ClockOf(unsent.Minus(end)...)
	dots = unsent.Minus(beyond)
	return slices.Compact(keys), dots
}

// KeyEntry is a key and its planned entry.
type KeyEntry struct {
	Key   []byte
	Entry Entry
}

// PlanEnd plans the end of a session: the donor's floor is joined, suspects that
// it proves dead are dropped, and only now the clock grows by the donor's (R2).
// suspects are the planned entries that Suspects pointed at.
func (c *Copy) PlanEnd(in *Incoming, clock kv.Clock, floor kv.VV, suspects []KeyEntry) *Change {
	ch := &Change{Clock: &clock, Alters: true, In: in}
	c.joinFloor(ch, floor)
	donorBase := clock.Base()
	dead := in.dead(&clock)
	type drop struct {
		at    KeyEntry
		whole kv.Object
	}
	var drops []drop
	for _, s := range suspects {
		held := c.Load(s.Entry)
		if whole, changed := kv.Without(held, &c.clock, donorBase, dead); changed {
			for _, v := range held.Versions {
				if (in.BaseS.Has(v.Dot) || in.unclaimed.Has(v.Dot)) && dead(v.Dot) {
					in.buried++
				}
			}
			drops = append(drops, drop{s, whole})
		}
	}
	c.clock.Join(clock)
	c.base = c.clock.Base()
	c.underSeals()
	c.dropCovered(ch)
	ch.Base = c.base
	for _, d := range drops {
		c.keyChange(ch, d.at.Key, d.at.Entry, d.whole, kv.Object{})
	}
	c.leave(in)
	return ch
}
