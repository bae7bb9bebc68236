package sim

import (
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
	"edged.dev/edged/partition/state"
)

// clockMS is the node's own wall clock.
func (n *Node) clockMS() int64 { return n.w.now + n.skew }

// drawSkew sets a node's clock wrong, until it jumps.
func (w *World) drawSkew(n *Node) {
	if m := w.mix.SkewMS; m > 0 {
		n.skew = w.rng.Int64N(2*m+1) - m
	}
}

func (w *World) randomReap() {
	if n := w.someNode(); n != nil {
		w.Reap(n, w.rng.IntN(len(w.keys)))
	}
}

func (w *World) randomEvict() {
	if n := w.someNode(); n != nil {
		w.Evict(n, w.rng.IntN(len(w.keys)))
	}
}

// Reap lets a node remove what has expired of a key by its clock. Any node may:
// nodes can differ over who is first. It returns nil if there was nothing.
func (w *World) Reap(n *Node, key int) *Op {
	if w.bug == BugOwnClock {
		w.forgetExpired(n, key)
		return nil
	}
	op := w.remove(n, key, n.expired)
	if op != nil {
		w.stats.Reaps++
	}
	return op
}

// Evict lets a node remove all values of a key. What a client wrote at another
// node meanwhile stays.
func (w *World) Evict(n *Node, key int) *Op {
	op := w.remove(n, key, func(o kv.Object) (dots []kv.Dot) {
		for _, v := range o.Versions {
			if !v.Tombstone() {
				dots = append(dots, v.Dot)
			}
		}
		return dots
	})
	if op != nil {
		w.stats.Evictions++
	}
	return op
}

func (w *World) remove(n *Node, key int, choose func(kv.Object) []kv.Dot) *Op {
	if len(w.ops) == maxOps {
		return nil
	}
	part := w.partOf(key)
	sh := n.shard(part)
	var op *Op
	var reflected opset
	hlc := kv.HLCAt(w.now).Next(w.now)
	published := func(ch *state.Change, err error) {
		w.must(err)
		if ch == nil && op != nil {
			w.fail("reap", "n%d: op%d removes nothing", n.index, op.Index)
		}
		if ch != nil {
			w.published(op, ch, reflected)
		}
	}
	begin := func(held kv.Object, cover opset) {
		n.seq[part]++
		op = &Op{
			Index: len(w.ops), Key: key, Dot: kv.Dot{Actor: sh.Actor(), Seq: n.seq[part]},
			Deleted: true, cover: cover, coord: n, life: n.life,
		}
		w.register(op)
		n.planned[key].add(op.Index)
		reflected = n.planned[key]
		w.log("n%d reaps op%d k%d %v of %v", n.index, op.Index, key, op.Dot, held.Versions)
	}
	if w.bug == BugReapRaw {
		w.reapRaw(n, key, begin, published)
		return op
	}
	sh.Reap(w.keys[key], func(held kv.Object) ([]kv.Dot, kv.HLC) {
		dots := choose(held)
		if goes := covered(held, removable(held, dots)); len(goes) > 0 {
			begin(held, w.opsOf(part, goes))
		}
		return dots, hlc
	}, published)
	return op
}

// expired lists the values of an object that have expired by the node's clock.
func (n *Node) expired(o kv.Object) (dots []kv.Dot) {
	for _, v := range o.Versions {
		if !v.Tombstone() && v.Expired(n.clockMS()) {
			dots = append(dots, v.Dot)
		}
	}
	return dots
}

// removable says, apart from the code under test, which of the listed dots may
// go: those that leave no value of their actor below them.
func removable(o kv.Object, dots []kv.Dot) (out []kv.Dot) {
	stays := map[kv.Actor]uint64{} // lowest that is not listed
	for _, v := range o.Versions {
		if has(dots, v.Dot) || v.Tombstone() {
			continue
		}
		if low, ok := stays[v.Dot.Actor]; !ok || v.Dot.Seq < low {
			stays[v.Dot.Actor] = v.Dot.Seq
		}
	}
	for _, d := range dots {
		if low, ok := stays[d.Actor]; !ok || d.Seq < low {
			out = append(out, d)
		}
	}
	return out
}

// covered adds the tombstones below what goes, which a context covers too.
func covered(o kv.Object, dots []kv.Dot) []kv.Dot {
	out := dots
	for _, v := range o.Versions {
		for _, d := range dots {
			if v.Tombstone() && v.Dot.Actor == d.Actor && v.Dot.Seq < d.Seq {
				out = append(out, v.Dot)
				break
			}
		}
	}
	return out
}

func has(dots []kv.Dot, d kv.Dot) bool {
	for _, x := range dots {
		if x == d {
			return true
		}
	}
	return false
}

func (w *World) opsOf(p kv.Partition, dots []kv.Dot) (s opset) {
	for _, d := range dots {
		if op := w.byDot[identity{p, d}]; op != nil {
			s.add(op.Index)
		}
	}
	return s
}

// reapRaw takes the listed dots for a context as they are, whatever of their
// actors lies below them, and means to remove those alone.
func (w *World) reapRaw(n *Node, key int, begin func(kv.Object, opset), done func(*state.Change, error)) {
	part := w.partOf(key)
	n.shard(part).Write(w.keys[key], func(held kv.Object) (*partition.Mutation, error) {
		dots := n.expired(held)
		if len(dots) == 0 {
			return nil, nil
		}
		begin(held, w.opsOf(part, dots))
		var ctx kv.VV
		for _, d := range dots {
			ctx = ctx.With(d)
		}
		return &partition.Mutation{
			Version: kv.Version{HLC: kv.HLCAt(w.now).Next(w.now), Flags: kv.Tombstone | kv.Reap},
			Covers:  state.Covers{Ctx: ctx},
		}, nil
	}, done)
}

// forgetExpired takes what has expired out of one copy without an operation.
func (w *World) forgetExpired(n *Node, key int) {
	sh := n.shard(w.partOf(key))
	o, base, err := sh.Read(w.keys[key])
	w.must(err)
	dots := n.expired(o)
	if len(dots) == 0 {
		return
	}
	left := kv.Object{Ctx: o.Ctx}
	for _, v := range o.Versions {
		if has(dots, v.Dot) {
			left.Ctx = left.Ctx.With(v.Dot)
		} else {
			left.Versions = append(left.Versions, v)
		}
	}
	w.log("n%d forgets %v of k%d", n.index, dots, key)
	w.must(sh.Apply(state.Received{Key: w.keys[key], Object: left.Filled(base), From: n.id}, nil))
}

// sweep removes at one node of a healed cluster all that has expired by its clock,
// and syncs: then no copy has it.
func (w *World) sweep() {
	if w.mix.Reap == 0 || w.bug != NoBug || len(w.violations) > 0 {
		return
	}
	n := w.nodes[w.rng.IntN(Nodes)]
	for key := range w.keys {
		w.Reap(n, key)
	}
	w.settle()
	w.net = nil
	for range healRounds {
		for _, p := range w.parts {
			w.syncAll(p)
		}
		w.net = nil
	}
	for _, m := range w.owners() {
		for key := range w.keys {
			o, _, err := m.shard(w.partOf(key)).Read(w.keys[key])
			w.must(err)
			if left := removable(o, n.expired(o)); len(left) > 0 && len(w.ops) < maxOps {
				w.fail("I4", "n%d: k%d holds %v, which n%d removed", m.index, key, left, n.index)
			}
		}
	}
}
