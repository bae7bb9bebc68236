package state

import (
	"encoding/binary"
	"slices"

	"github.com/zeebo/xxh3"

	"edged.dev/edged/internal/kv"
)

// Former is what a copy has seen of a node's former processes. Two copies whose sums
// are equal have seen the same.
type Former struct {
	None   bool // nothing at all
	Sealed bool // all of it, by a seal
	Sum    uint64
}

// FormerOf returns what a clock has of the actors that a seal covers.
func FormerOf(c *kv.Clock, seal kv.Dot) Former {
	spans := c.Former(seal)
	f := Former{None: len(spans) == 0, Sealed: c.Has(seal)}
	var b []byte
	for _, s := range spans {
		b = s.Actor.Append(b)
		b = binary.AppendUvarint(b, s.Base)
		b = binary.AppendUvarint(b, uint64(len(s.Runs)))
		for _, r := range s.Runs {
			b = binary.AppendUvarint(binary.AppendUvarint(b, r.From), r.To)
		}
	}
	f.Sum = xxh3.Hash(b)
	return f
}

// PlanFence plans the promise that of the actors that a seal covers nothing more is
// taken that comes late: objects of which this copy has not seen the version, by
// another way than a session. What sessions bring, owners have, and tell of when
// they are asked for the same promise. nil means that it was given already, or that
// the actors are sealed.
func (c *Copy) PlanFence(seal kv.Dot) *Change {
	if c.clock.Has(seal) || c.fence.Has(seal) {
		return nil
	}
	c.fence = c.fence.With(seal)
	return &Change{Fence: kv.VV{seal}, Base: c.base, Below: c.floor, Alters: true}
}

// Fenced reports whether the promise was planned.
func (c *Copy) Fenced(seal kv.Dot) bool { return c.fence.Has(seal) || c.clock.Has(seal) }

// PlanSeal plans that all dots of the actors that a seal covers count as seen, so
// that one entry stands for them. Nothing of what is held changes: the caller knows
// that every owner has seen the same of them, and that they are gone.
func (c *Copy) PlanSeal(seal kv.Dot) *Change {
	var clock kv.Clock
	clock.Seal(seal)
	ch := &Change{Clock: &clock, Alters: true}
	c.clock.Join(clock)
	c.base = c.clock.Base()
	c.underSeals()
	c.dropCovered(ch)
	ch.Base, ch.Below = c.base, c.floor
	return ch
}

// underSeals forgets what a seal of the planned clock says already.
func (c *Copy) underSeals() {
	if seals := c.clock.Seals(); len(seals) > 0 {
		c.floor, c.fence = c.floor.Beyond(seals), c.fence.Beyond(seals)
	}
}

// Late reports whether a received object comes too late to be joined: it has a
// version that this copy does not hold, of an actor that is fenced and not seen, or
// that is sealed here and not where it comes from. What such a version supersedes
// would go for one that nobody is to have. held is the planned object.
func (c *Copy) Late(r Received, held kv.Object) bool {
	if r.In != nil {
		return false
	}
	return slices.ContainsFunc(r.Object.Versions, func(v kv.Version) bool {
		switch sealed := c.base.Sealed(v.Dot.Actor); {
		case sealed && r.Object.Ctx.Sealed(v.Dot.Actor):
			return false
		case !sealed && (!c.fence.Has(v.Dot) || c.clock.Has(v.Dot)):
			return false
		}
		_, here := held.Find(v.Dot)
		return !here
	})
}
