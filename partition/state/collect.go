package state

import "edged.dev/edged/internal/kv"

// Collectable reports whether a tombstone of this copy may leave it as far as the
// copy itself is concerned: it is durable here, with no hole below it, and no
// session streams to a receiver that has not seen it. Whether all other owners
// have it, or it is too old to wait for them, is the caller's to know.
func (c *Copy) Collectable(d kv.Dot) bool {
	if c.synced.BaseOf(d.Actor) < d.Seq {
		return false
	}
	for _, x := range c.donors {
		if !x.BaseS.Has(d) {
			return false
		}
	}
	return true
}

// PlanCollect plans the removal of tombstones of a key, with the floor raised over
// them (R7). Dots that are not held as tombstones or not Collectable are left, all
// of them where the object's context goes beyond the clock; nil means that nothing
// was left to do.
func (c *Copy) PlanCollect(key []byte, cur Entry, dots []kv.Dot) *Change {
	held := c.Load(cur)
	if len(held.Ctx) > 0 {
		return nil
	}
	var floor kv.VV
	kept := kv.Object{}
	left := false
	for _, v := range held.Versions {
		if v.Tombstone() && listed(dots, v.Dot) && c.Collectable(v.Dot) {
			left = true
			if !c.base.Sealed(v.Dot.Actor) { // whoever has the seal has seen it, and others are below the floor by that
				floor = floor.With(v.Dot)
			}
			continue
		}
		kept.Versions = append(kept.Versions, v)
	}
	if !left {
		return nil
	}
	ch := &Change{Base: c.base, Alters: true}
	c.floor = c.floor.Join(floor)
	ch.Floor = floor
	c.keyChange(ch, key, cur, kept, kv.Object{})
	return ch
}
