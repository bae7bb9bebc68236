package state

import "edged.dev/edged/internal/kv"

// A copy that has lost its clock holds versions that the clock does not claim. Each
// of them is a version that was written, and whatever its context covered is gone
// from its object; but most of a context is left to the clock, and went with it. So
// the copy must not say that it has seen these dots, though it holds them: whoever
// else has one of them may know more of what it superseded. It claims a dot when a
// donor that has seen it has told what lives, or when it was level with every other
// owner and none of them has the dot.

// Hold says which versions a copy that has lost its clock holds, claimed or not. The
// donor is told of them, and of no clock; it says KEEP for those that live, and at its
// end those that it has seen and did not keep are dead (the step L3). What the clock has
// come to claim since is told as held, too: a version that is kept has superseded at
// the donor what may have come from another since, and nothing else would say so.
func (in *Incoming) Hold(held kv.Clock) {
	in.both, in.unclaimed, in.BaseS = true, held, nil
	in.held = append(in.held, held.Spans()...)
}

// HoldApart says which versions the copy holds beside what its clock claims, once the
// clock is level with a donor's. The next donor is not told of them, and sends those
// that it has with all that they have superseded.
func (in *Incoming) HoldApart(unclaimed kv.Clock) {
	in.held = append(in.held, unclaimed.Spans()...)
}

// WentBoth reports whether the donor was told which dots the receiver holds (the step
// L3).
func (in *Incoming) WentBoth() bool { return in.both }

// Told returns the versions that the donor was told of beside the clock: those of a
// copy that has lost it.
func (in *Incoming) Told() kv.Clock {
	if !in.both {
		return kv.Clock{}
	}
	return kv.ClockOf(in.held...)
}

// Holds says which versions the receiver holds beside what its clock has. They are
// kept, and not sent.
func (d *Donor) Holds(unclaimed kv.Clock) { d.Held = unclaimed }

// Has reports whether the receiver holds a version, claimed or not, or has seen it.
func (d *Donor) Has(dot kv.Dot) bool { return d.Have.Has(dot) || d.Held.Has(dot) }

// PlanAdopt plans that the clock claims versions that the copy holds and that no
// other owner has seen: what is left of their contexts is all there is of them.
func (c *Copy) PlanAdopt(unclaimed kv.Clock) *Change {
	ch := &Change{Clock: &unclaimed, Alters: true}
	c.clock.Join(unclaimed)
	c.base = c.clock.Base()
	c.dropCovered(ch)
	ch.Base = c.base
	return ch
}
