package sim

import (
	"context"
	"errors"
	"slices"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/replica"
	"edged.dev/edged/replica/core"
)

const (
	// apartWrites is how much is written at most before a copy rots while members are away,
	// and apartSteps how much happens then: more than the attempts that wait for all owners.
	apartWrites = 8
	apartSteps  = 16
)

var errAway = errors.New("the node is away")

// apart is a time in which members come and go while a copy rots and is healed, so that
// what it lost others have that are away, owners and stand-ins.
type apart struct {
	w      *World
	p      kv.Partition
	rotten *Node
	free   []int // keys that did not rot
	tries  int   // attempts to heal that came to nothing
	back   bool  // nobody goes any more
}

// randomApart lets one copy of a cluster that is level rot and be healed while others are
// away, and ends with all of them back and level.
func (w *World) randomApart(p kv.Partition, keys []int) {
	a := &apart{w: w, p: p, rotten: w.nodes[w.rng.IntN(Nodes)]}
	for range 2 + w.rng.IntN(apartWrites-1) {
		a.comeAndGo(300, 300)
		w.randomWrite()
		a.commit()
		a.arriveSome()
	}
	w.net = nil
	a.comeAndGo(500, 0)
	var spoilt []int
	for range 1 + w.rng.IntN(2) {
		if k := keys[w.rng.IntN(len(keys))]; !slices.Contains(spoilt, k) && w.spoilKnown(a.rotten, k) {
			spoilt = append(spoilt, k)
		}
	}
	a.free = slices.DeleteFunc(keys, func(k int) bool { return slices.Contains(spoilt, k) })
	if a.Find() {
		for range apartSteps {
			a.comeAndGo(100, 150)
			a.step()
		}
	}
	a.Return()
}

// MendAway has a damaged copy make the attempts that its machine would make, with those that
// are up, until all are back, and then all be level.
func (w *World) MendAway(n *Node) {
	a := &apart{w: w, rotten: n, back: true}
	a.Find()
	for range apartSteps {
		a.Attempt()
	}
	a.Return()
}

// KeepLevel keeps what copies hold, as what a stale record is of.
func (w *World) KeepLevel() {
	for _, n := range w.owners() {
		was := n.store.Backup()
		n.was = &was
	}
}

// spoilKnown lets a key rot of which another has what is lost: a copy that loses a part of
// what it alone has seen stays damaged (docs/STATUS.md). Versions that were overwritten are
// not put back: they are as good as any while what superseded them is not everywhere.
func (w *World) spoilKnown(n *Node, key int) bool {
	how := Rot(w.rng.IntN(int(RotRaised)))
	for i, op := range w.ops {
		if op.Key == key && n.copies[w.partOf(key)].present.has(i) && w.alone(n, op) {
			return false
		}
	}
	return w.Spoil(n, key, how)
}

// alone reports whether no other copy has a write durably, or had it.
func (w *World) alone(n *Node, op *Op) bool {
	return !slices.ContainsFunc(w.nodes, func(m *Node) bool { return m != n && m.durable[op.Key].has(op.Index) })
}

// comeAndGo has members crash that are up, and boot that are down, the one that rots left out.
func (a *apart) comeAndGo(goPM, comePM int) {
	for _, n := range a.w.nodes {
		switch {
		case n == a.rotten:
		case n.up && a.w.chance(goPM):
			a.w.Crash(n, len(n.tail))
		case !n.up && a.w.chance(comePM):
			a.w.Boot(n)
		}
	}
}

// commit has all that are up publish what they planned.
func (a *apart) commit() {
	for _, n := range a.w.nodes {
		if n.up {
			n.Commit()
		}
	}
}

// arriveSome lets arrive or be lost what is on its way, and what answers it.
func (a *apart) arriveSome() {
	w := a.w
	for len(w.net) > 0 {
		i := w.rng.IntN(len(w.net))
		if w.chance(500) {
			w.arriveOne(i)
		} else {
			w.net = slices.Delete(w.net, i, i+1)
		}
	}
}

// Find has the copy looked at, and reports whether it was found damaged.
func (a *apart) Find() bool {
	look, err := a.rotten.shard(a.p).Look(nil)
	a.w.must(err)
	a.rotten.rotten = !look.Fit()
	a.rotten.shard(a.p).SetUnfit(!look.Fit())
	return a.rotten.rotten
}

// step is what happens between two attempts, and the next of them.
func (a *apart) step() {
	if a.w.chance(400) {
		a.write()
	}
	if a.w.chance(400) {
		a.w.stream(a.p)
	}
	a.Attempt()
}

// write has somebody write what is not damaged.
func (a *apart) write() {
	w := a.w
	n := w.someNode()
	if len(a.free) == 0 {
		return
	}
	w.Write(n, Put{Key: a.free[w.rng.IntN(len(a.free))], Held: w.chance(800), Delete: w.chance(w.mix.DeletePM)})
	n.Commit()
	a.arriveSome()
}

// Attempt makes the attempt that the node's machine would make now.
func (a *apart) Attempt() {
	w, n := a.w, a.rotten
	if !n.rotten {
		return
	}
	e, ok := a.reach().Attempt(a.p, a.tries)
	if len(e.Owners) > 0 {
		a.tries++
	}
	if !ok {
		return
	}
	switch w.bug {
	case BugAwayForgotten:
		e.Sole = true
	case BugStandInForgotten:
		e.Sole = e.Every
	}
	h := w.healer(n, a.p)
	a.ask(h)
	w.apartFrom(h, n, a.p)
	w.attempt(h, n, e)
	if n.rotten = n.shard(a.p).Unfit(); !n.rotten {
		if slices.ContainsFunc(w.owners(), func(m *Node) bool { return !m.up }) {
			w.stats.Apart++
		}
		w.check(n)
	}
}

// reach is whom the node can ask, by the rules of the machine that would.
func (a *apart) reach() core.Reach {
	r := core.Reach{
		Answers: func(name string) bool { return a.w.named(name).up },
		Holds:   func(name string) bool { return a.w.named(name).holds(a.p) },
	}
	for _, m := range a.w.nodes {
		if m == a.rotten {
			continue
		}
		r.Members = append(r.Members, nodeName(m))
		if m.owner() {
			r.Owners = append(r.Owners, nodeName(m))
		}
	}
	return r
}

// apartFrom lets a copy be healed whose clock the others' do not meet.
func (w *World) apartFrom(h *replica.Healer, n *Node, p kv.Partition) {
	h.Give = func(name string, key []byte, o kv.Object) { w.give(n, w.named(name), p, key, o) }
	h.Pause = func(context.Context) error {
		if w.bug == BugGivePart {
			w.giveParts(n, p)
		}
		w.arriveAll()
		if w.mix.ApartPM == 0 || w.chance(500) { // not each falls between two looks
			w.stream(p)
		}
		return nil
	}
}

// giveParts gives, in a broken run, what verifies of keys of which a part may be lost.
func (w *World) giveParts(n *Node, p kv.Partition) {
	for k, key := range w.keys {
		o, base, err := n.shard(p).Read(key)
		if w.partOf(k) != p || err != nil {
			continue
		}
		for _, m := range w.owners() {
			if m != n && m.up && !m.shard(p).Covers(dotsOf(o)) {
				w.give(n, m, p, key, o.Filled(base))
			}
		}
	}
}

// Return has all that are away come back, one after the other, and all be level again.
func (a *apart) Return() {
	w := a.w
	a.back = true
	for _, i := range w.rng.Perm(len(w.nodes)) {
		if m := w.nodes[i]; !m.up {
			w.Boot(m)
			if w.chance(500) {
				w.stream(a.p)
			}
			a.Attempt()
		}
	}
	for range apartSteps {
		if !a.rotten.rotten {
			break
		}
		w.arriveAll()
		w.stream(a.p)
		w.dropHeld() // while another has a copy, what is lost may be there
		a.Attempt()
	}
	if a.rotten.rotten {
		w.fail("L4", "n%d: partition %d is still damaged", a.rotten.index, a.p)
	}
	if len(w.violations) == 0 {
		w.level()
	}
	if len(w.violations) == 0 {
		w.Final()
	}
}

func dotsOf(o kv.Object) (c kv.Clock) {
	for _, v := range o.Versions {
		c.Add(v.Dot)
	}
	return c
}
