package sim

import (
	"math"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
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
}
