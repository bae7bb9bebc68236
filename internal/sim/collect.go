package sim

import (
	"math"
	"slices"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
	"edged.dev/edged/partition/state"
)

// peerCopy names a peer's copy.
type peerCopy struct {
	peer int
	part kv.Partition
}

// said is the base that a peer's process told durable of its copy.
type said struct {
	life int
	base kv.VV
}

// hear takes a durable clock that a peer told. Its HELLO replaces what was heard
// before (R8); anything else adds to what its present process told.
func (n *Node) hear(peer, life int, p kv.Partition, c kv.Clock, hello bool) {
	at := peerCopy{peer, p}
	h := n.said[at]
	switch {
	case hello:
		h = said{life, c.Base()}
	case h.life == life:
		h.base = h.base.Join(c.Base())
	}
	n.said[at] = h
}

// stable is what all owners are known to hold of a partition.
func (n *Node) stable(p kv.Partition) kv.VV {
	out := n.shard(p).Clock()
	vv := out.Base()
	for i := range Nodes {
		if i == n.index {
			continue
		}
		var least kv.VV
		h := n.said[peerCopy{i, p}]
		for _, d := range vv {
			if seq := min(d.Seq, h.base.Get(d.Actor)); seq > 0 {
				least = least.With(kv.Dot{Actor: d.Actor, Seq: seq})
			}
		}
		vv = least
	}
	return vv
}

func (w *World) randomCollect() {
	if n := w.someNode(); n != nil {
		w.Collect(n, w.parts[w.rng.IntN(len(w.parts))], w.chance(w.mix.ForcePM))
	}
}

// Collect lets a node give up tombstones: those that all owners are known to hold,
// with force all that are durable with it.
func (w *World) Collect(n *Node, p kv.Partition, force bool) {
	c := partition.Collection{Stable: n.stable(p), Limit: maxOps}
	if force {
		c.Horizon = math.MaxUint64
	}
	for _, op := range w.ops { // before, for the change may be looked at at once
		if op.Deleted && w.partOf(op.Key) == p && (force || c.Stable.Has(op.Dot)) {
			op.collected = op.collected || n.copies[p].present.has(op.Index)
		}
	}
	got, err := n.shard(p).Collect(c)
	w.must(err)
	w.stats.Collected += got.Stable + got.Forced
	w.log("n%d collects %d and %d of p%d", n.index, got.Stable, got.Forced, p)
	switch w.bug {
	case BugStub:
		w.giveUpBytes(n, p)
	case BugNotPinned:
		w.collectPinned(n, p, force, c.Stable)
	}
}

// collectPinned takes, in a broken run, the tombstones that sessions pin: by the join of
// what an owner sends that has collected them.
func (w *World) collectPinned(n *Node, p kv.Partition, force bool, stable kv.VV) {
	for k, key := range w.keys {
		if w.partOf(k) != p {
			continue
		}
		o, base, err := n.shard(p).Read(key)
		w.must(err)
		var left kv.Object
		var floor kv.VV
		for _, v := range o.Versions {
			if v.Tombstone() && (force || stable.Has(v.Dot)) {
				floor = floor.With(v.Dot)
			} else {
				left.Versions = append(left.Versions, v)
			}
		}
		if len(floor) == 0 || len(o.Ctx) > 0 {
			continue
		}
		w.stats.Collected += len(o.Versions) - len(left.Versions)
		w.log("n%d collects up to %v of k%d, pinned or not", n.index, floor, k)
		w.must(n.shard(p).Apply(state.Received{Key: key, Object: left.Filled(base), Floor: floor, From: n.id}, nil))
	}
}

// giveUpBytes takes from a copy, in a broken run, the bytes of all values of a key that
// some other owner has too, and leaves what says that it has them.
func (w *World) giveUpBytes(n *Node, p kv.Partition) {
	for k := range w.keys {
		mine := n.copies[p].objects[k]
		if w.partOf(k) != p || slices.ContainsFunc(mine.Versions, kv.Version.Tombstone) {
			continue
		}
		another := slices.ContainsFunc(w.owners(), func(m *Node) bool {
			return m != n && m.up && mine.SameDots(m.copies[p].objects[k])
		})
		if another {
			w.Spoil(n, k, RotValueLost)
		}
	}
}
