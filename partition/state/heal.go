package state

import (
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/merkle"
)

// Settled reports whether a clock and a digest are the published ones and nothing
// that is planned goes beyond them.
func (c *Copy) Settled(clock kv.Clock, digest merkle.Digest) bool {
	return c.clock.Equal(clock) && c.now.Clock.Equal(clock) && c.now.Digest == digest
}

// Cure is what a heal makes of one key.
type Cure struct {
	Key    []byte
	Before Entry         // as its directory has it
	Found  merkle.Digest // of the values that are really there
	After  Entry         // its versions all at hand
}

// PlanHeal plans what a vote of the owners decided (L4): exact versions in and
// out, by no join rule, which at equal clocks would take a version that one copy
// has lost from all the others. The clock does not move. found is the digest of
// what the whole copy really holds and recorded the one it has on record: they
// differ where something was lost without a change.
func (c *Copy) PlanHeal(cures []Cure, found, recorded merkle.Digest) *Change {
	ch := &Change{Base: c.base, Below: c.floor, Alters: true, Heals: true, Digest: Delta{Add: found, Sub: recorded}}
	for _, k := range cures {
		ch.Digest.Sub = ch.Digest.Sub.Add(k.Found)
		for _, v := range k.After.Object.Versions {
			if !v.Tombstone() {
				ch.Digest.Add = ch.Digest.Add.Add(c.item(k.Key, v))
			}
			c.note(ch, v.Dot, k.Key)
		}
		ch.Keys = append(ch.Keys, KeyChange{Key: k.Key, Before: k.Before, After: k.After, Whole: c.Load(k.After)})
	}
	return ch
}

// PlanLoss adds to a change that the copy has lost records without a change. Which
// tombstones were among them nobody knows, so that all the copy has seen counts as
// collected: a receiver that is below it is told which dots live, and does not take
// a tombstone's absence for nothing to say.
func (c *Copy) PlanLoss(ch *Change) {
	var seen kv.VV
	for _, s := range c.clock.Spans() {
		seen = append(seen, kv.Dot{Actor: s.Actor, Seq: s.Max()})
	}
	c.joinFloor(ch, seen)
}
