package sim

import (
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/merkle"
	"edged.dev/edged/partition"
	"edged.dev/edged/partition/state"

	"github.com/zeebo/xxh3"
)

// copyState is what the last look found in a copy.
type copyState struct {
	status  partition.Status
	clock   kv.Clock           // as recorded
	live    opset              // values held
	present opset              // tombstones too
	objects [maxKeys]kv.Object // what lies side by side, without its bytes
}

// check looks at all copies of a node, as published, and holds them against the
// oracle and against each other.
func (w *World) check(n *Node) {
	if n.rotten {
		return
	}
	for _, p := range w.parts {
		if !n.holds(p) {
			continue
		}
		cs := w.dump(n, p)
		n.copies[p] = cs
		w.judge(n, p, cs)
		for _, m := range w.nodes {
			if m != n && m.up && m.copies[p] != nil {
				w.compare(n, m, p)
			}
		}
	}
}

// dump reads a copy and holds its digest against its content.
func (w *World) dump(n *Node, p kv.Partition) *copyState {
	cs := &copyState{status: n.shard(p).Status()}
	var d merkle.Digest
	rec, err := n.shard(p).Dump(func(v partition.DumpedVersion) error {
		k := w.keyOf(v.Key)
		op := w.byDot[identity{p, v.Dot}]
		if op == nil || op.Key != k {
			w.fail("I5", "n%d: key %q holds %v, which is not its own", n.index, v.Key, v.Dot)
			return nil
		}
		cs.present.add(op.Index)
		cs.objects[k].Versions = append(cs.objects[k].Versions, v.Version)
		if v.Tombstone() != op.Deleted || !op.Deleted && v.Sum != xxh3.Hash(op.value) ||
			v.Bytes != len(op.value) || v.ExpiresMS != op.expires {
			w.fail("I5", "n%d: op%d is not what was written", n.index, op.Index)
		}
		if !v.Tombstone() {
			cs.live.add(op.Index)
			d = d.Add(state.Item(w.digestKey, v.Key, v.Version))
		}
		return nil
	})
	w.must(err)
	cs.clock = rec.Clock
	if want := merkle.DigestOf(rec.Count, rec.Sum); want != d || cs.status.Digest != d {
		w.fail("I4", "n%d: digest %v is recorded and %v published of content %v", n.index, want, cs.status.Digest, d)
	}
	return cs
}

// knows returns the writes whose effect a copy claims, by its clock or by what
// it was told of a key.
func (w *World) knows(n *Node, p kv.Partition, cs *copyState) (known, covered opset) {
	for _, op := range w.ops {
		if w.partOf(op.Key) == p && (n.published[op.Key].has(op.Index) || cs.clock.Has(op.Dot) && !op.buried) {
			known.add(op.Index)
			covered.join(&op.cover)
		} else if w.partOf(op.Key) == p && n.unclaimed.has(op.Index) {
			known.add(op.Index) // whatever it superseded
		}
	}
	covered.join(&n.kept)
	return known, covered
}

// judge holds what a copy claims against what it holds: a write that it knows is
// there unless one that it knows covers it, and then it is not.
func (w *World) judge(n *Node, p kv.Partition, cs *copyState) {
	known, covered := w.knows(n, p, cs)
	base := cs.clock.Base()
	for _, op := range w.ops {
		if op.buried && cs.present.has(op.Index) && base.Sealed(op.Dot.Actor) {
			w.fail("I3", "n%d: op%d is back, which nobody had when its process was sealed", n.index, op.Index)
		}
	}
	known.each(func(i int) {
		op := w.ops[i]
		switch there := cs.present.has(i); {
		case there && covered.has(i) && !op.forgotten:
			w.fail("I3", "n%d: op%d of k%d is there and was covered", n.index, i, op.Key)
		case !there && !covered.has(i) && !op.collected:
			w.fail("I7", "n%d: op%d of k%d is known, not covered and not there", n.index, i, op.Key)
		}
	})
	if w.bug == BugFold {
		w.judgeFolds(n, cs, known)
	}
}

// compare holds two copies whose clocks are equal against each other.
func (w *World) compare(a, b *Node, p kv.Partition) {
	x, y := a.copies[p], b.copies[p]
	if !x.status.Comparable() || !y.status.Comparable() || !x.status.Clock.Equal(y.status.Clock) {
		return
	}
	if x.live != y.live || x.status.Digest != y.status.Digest {
		w.fail("I4", "n%d and n%d have the clock %v of partition %d and differ", a.index, b.index, x.status.Clock, p)
	}
	for k := range w.keys {
		if w.partOf(k) != p {
			continue
		}
		if v, u := w.view(x, k), w.view(y, k); v != u {
			w.fail("I9", "n%d shows %v of k%d, and n%d %v, at the clock %v", a.index, v, k, b.index, u, x.status.Clock)
		}
	}
}

// saw checks what a frame carries.
func (w *World) saw(key []byte, o kv.Object) {
	k := w.keyOf(key)
	for _, v := range o.Versions {
		op := w.byDot[identity{w.partOf(k), v.Dot}]
		switch {
		case op == nil || op.Key != k:
			w.fail("I5", "a frame has %v for key %q", v.Dot, key)
		case v.Tombstone() != op.Deleted || string(v.Value) != string(op.value) || v.ExpiresMS != op.expires:
			w.fail("I5", "a frame has another value for op%d", op.Index)
		}
	}
}

// Final checks what must hold of a healed cluster. Contexts may stay beyond the
// clocks: of writes that were read and then lost, unacknowledged, with a disk.
func (w *World) Final() {
	for _, p := range w.parts {
		first := w.nodes[0].copies[p]
		for _, n := range w.owners() {
			cs := n.copies[p]
			if !cs.status.Clock.Equal(first.status.Clock) {
				w.fail("I4", "n%d: partition %d has clock %v, n0 %v", n.index, p, cs.status.Clock, first.status.Clock)
			}
			if cs.live != first.live || cs.status.Digest != first.status.Digest {
				w.fail("I4", "n%d and n0 hold different versions of partition %d", n.index, p)
			}
			for _, op := range w.ops {
				if op.Acked && w.partOf(op.Key) == p && !cs.status.Clock.Has(op.Dot) {
					w.fail("I1", "n%d: op%d was acknowledged and is not known", n.index, op.Index)
				}
			}
		}
	}
}
