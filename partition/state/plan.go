package state

import (
	"edged.dev/edged/internal/kv"
)

// Covers says which versions a write supersedes: with Held all that the copy
// holds, besides what Ctx covers.
type Covers struct {
	Held bool
	Ctx  kv.VV
}

// PlanWrite plans a write of this copy's own: v gets the next dot of the actor.
// cur is the planned entry of the key.
func (c *Copy) PlanWrite(key []byte, cur Entry, covers Covers, v kv.Version) (*Change, kv.Dot) {
	held := c.Load(cur)
	ctx := covers.Ctx
	if covers.Held {
		for _, w := range held.Versions {
			ctx = ctx.With(w.Dot)
		}
	}
	c.seq++
	v.Dot = kv.Dot{Actor: c.actor, Seq: c.seq}
	if !v.Tombstone() {
		v.Value = append([]byte{}, v.Value...) // never nil, and the caller keeps its own
		v.Sum = v.ValueSum()
	}
	whole := kv.Write(held, ctx, v)
	ch := &Change{Alters: true}
	ch.Dots = append(ch.oneDot[:0], v.Dot)
	c.see(ch)
	c.keyChange(ch, key, cur, whole, kv.Object{})
	c.note(ch, v.Dot, key)
	return ch, v.Dot
}

// PlanReap plans the removal of exactly the listed dots of a key, as a tombstone
// of this copy's own (an expiry or an eviction). Dots that are not held, or that
// have a live dot of the same actor below them that is not listed, are left out;
// nil means that nothing was left to do. Tombstones of the same actor below a dot
// that goes are covered with it, as by any write that covers them.
func (c *Copy) PlanReap(key []byte, cur Entry, dots []kv.Dot, hlc kv.HLC) *Change {
	held := c.Load(cur)
	var ctx kv.VV
	for _, v := range held.Versions { // ascending by dot: the lowest of an actor first
		if v.Tombstone() || !listed(dots, v.Dot) {
			continue
		}
		if lowerKept(held, ctx, v.Dot) {
			continue
		}
		ctx = ctx.With(v.Dot)
	}
	if len(ctx) == 0 {
		return nil
	}
	ch, _ := c.PlanWrite(key, cur, Covers{Ctx: ctx}, kv.Version{HLC: hlc, Flags: kv.Tombstone | kv.Reap})
	return ch
}

func listed(dots []kv.Dot, d kv.Dot) bool {
	for _, x := range dots {
		if x == d {
			return true
		}
	}
	return false
}

// lowerKept reports whether a value with a lower dot of d's actor stays: a context
// is a vector, so covering d would cover that one too.
func lowerKept(o kv.Object, ctx kv.VV, d kv.Dot) bool {
	for _, v := range o.Versions {
		if v.Dot.Actor == d.Actor && v.Dot.Seq < d.Seq && !v.Tombstone() && !ctx.Has(v.Dot) {
			return true
		}
	}
	return false
}

// Received is an object from a peer.
type Received struct {
	Key    []byte
	Object kv.Object // filled
	Floor  kv.VV     // the sender's
	From   kv.NodeID
	In     *Incoming // the session it belongs to, nil for replication
	Base   kv.VV     // In's batch base
}

// PlanApply plans the join of a received object. cur is the planned entry.
func (c *Copy) PlanApply(r Received, cur Entry) *Change {
	ch := &Change{In: r.In}
	ch.Dots = ch.oneDot[:0]
	c.joinFloor(ch, r.Floor)
	session := cur.Session
	if r.In != nil {
		session = c.record(ch, r.In, r.Base)
		for _, v := range r.Object.Versions {
			r.In.Sent.Add(v.Dot)
		}
	}
	held := c.Load(cur)
	whole := kv.Merge(held, &c.clock, r.Object)
	for _, v := range r.Object.Versions {
		if !c.clock.Has(v.Dot) {
			ch.Dots = append(ch.Dots, v.Dot)
		}
		c.note(ch, v.Dot, r.Key)
	}
	c.see(ch)
	e := cur
	e.Session = session
	c.keyChange(ch, r.Key, e, whole, r.Object)
	ch.Keys[0].Before = cur
	return ch
}

// record makes sure that a session's record exists, and returns its id. It holds
// the first batch's base, is never changed and its id never used again.
func (c *Copy) record(ch *Change, in *Incoming, base kv.VV) uint64 {
	if in.recorded || c.base.Covers(base) {
		return in.ID
	}
	in.recorded = true
	c.sessions[in.ID] = base
	ch.AddSession, ch.SessionBase, ch.Alters = in.ID, base, true
	return in.ID
}

// PlanTrust plans a change of trust.
func (c *Copy) PlanTrust(t kv.Trust) *Change {
	return &Change{Trust: &t, Base: c.base, Alters: true}
}

// PlanFloor plans the join of a peer's floor.
func (c *Copy) PlanFloor(floor kv.VV) *Change {
	ch := &Change{}
	c.joinFloor(ch, floor)
	ch.Base = c.base
	return ch
}

// Noop plans nothing: it is published behind everything planned before it.
func (c *Copy) Noop() *Change { return &Change{Base: c.base} }

func (c *Copy) joinFloor(ch *Change, floor kv.VV) {
	if c.floor.Covers(floor) {
		return
	}
	if seals := c.clock.Seals(); len(seals) > 0 {
		if floor = floor.Beyond(seals); c.floor.Covers(floor) {
			return
		}
	}
	c.floor = c.floor.Join(floor)
	ch.Floor, ch.Alters = floor, true
}

// see moves the planned clock by the change's dots and fixes the change's base.
func (c *Copy) see(ch *Change) {
	for _, d := range ch.Dots {
		ch.Alters = true
		if !c.clock.Add(d) {
			continue
		}
		if base := c.clock.BaseOf(d.Actor); base != c.base.Get(d.Actor) {
			c.base = c.base.With(kv.Dot{Actor: d.Actor, Seq: base})
		}
	}
	c.dropCovered(ch)
	ch.Base, ch.Below = c.base, c.floor
}

func (c *Copy) dropCovered(ch *Change) {
	for id, r := range c.sessions {
		if c.base.Covers(r) {
			ch.DropSession = append(ch.DropSession, id)
			ch.Alters = true
			delete(c.sessions, id)
		}
	}
}

func (c *Copy) keyChange(ch *Change, key []byte, cur Entry, whole, sent kv.Object) {
	whole = c.strip(whole)
	k := KeyChange{Key: key, Before: cur, After: c.store(whole, cur.Session), Whole: whole, Sent: sent}
	d := c.digestDelta(key, cur.Object, k.After.Object)
	ch.Digest.Add = ch.Digest.Add.Add(d.Add)
	ch.Digest.Sub = ch.Digest.Sub.Add(d.Sub)
	if !d.Add.IsZero() || !d.Sub.IsZero() {
		ch.Alters = true
	}
	if ch.Keys == nil {
		ch.Keys = ch.oneKey[:0]
	}
	ch.Keys = append(ch.Keys, k)
}
