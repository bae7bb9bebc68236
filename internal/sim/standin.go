package sim

import (
	"runtime"
	"slices"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
)

// promiseMS is how long an owner that said it covers a copy keeps its own, and one
// that was started, which may have said so before. It is above what a drop takes.
const promiseMS = 200

// offer is what a node wants to drop: the owners are asked whether they cover it.
type offer struct {
	clock   kv.Clock
	covered [Nodes]bool
	ready   bool  // all of them do
	until   int64 // it is made anew then: no promise that was made for it is over before
}

// owners are the nodes that own the partitions; those behind them stand in.
func (w *World) owners() []*Node { return w.nodes[:Nodes] }

// Node returns the i-th node: owners first, then those that stand in.
func (w *World) Node(i int) *Node { return w.nodes[i] }

func (n *Node) owner() bool { return n.index < Nodes }

func (n *Node) holds(p kv.Partition) bool { return n.set.Shard(p) != nil }

// Holds reports whether a node is up and has a copy of the first partition.
func (w *World) Holds(n *Node) bool { return n.up && n.holds(0) }

// standIns are the nodes that a coordinator sends a write beside the owners, too few
// of which are up.
func (w *World) standIns() (out []*Node) {
	missing := W
	for _, n := range w.owners() {
		if n.up {
			missing--
		}
	}
	for _, n := range w.nodes[Nodes:] {
		if n.up && len(out) < missing {
			out = append(out, n)
		}
	}
	return out
}

// standIn opens a copy for a write that came to a node which does not own it.
func (n *Node) standIn(p kv.Partition) {
	if n.holds(p) {
		return
	}
	n.set.Add(p)
	n.w.stats.StoodIn++
	n.w.log("n%d stands in for p%d", n.index, p)
}

// Pass lets time pass, in milliseconds.
func (w *World) Pass(ms int64) { w.now += ms }

func (w *World) randomOffer() {
	n := w.nodes[w.rng.IntN(len(w.nodes))]
	if i := slices.IndexFunc(w.nodes, func(n *Node) bool { return n.offer != nil && !w.over(n.offer) }); i >= 0 && w.bug != BugPromiseBroken && w.chance(800) {
		n = w.nodes[i] // what it offered does not last
	}
	if !n.up || !n.holds(0) || n.owner() && !w.mix.OwnersDrop {
		return
	}
	switch {
	case n.offer == nil || w.over(n.offer) || w.chance(100):
		w.Offer(n)
	case n.offer.ready:
		w.Drop(n)
	default:
		for _, o := range w.owners() {
			if !w.chance(150) { // the answer is lost
				w.Cover(n, o)
			}
		}
	}
}

// over reports whether promises made for an offer may be over.
func (w *World) over(o *offer) bool { return w.now >= o.until && w.bug != BugPromiseBroken }

// Offer takes the durable clock of a node's copy: the node would drop it.
func (w *World) Offer(n *Node) {
	clock := n.shard(0).Status().Clock
	n.offer = &offer{clock: clock.Clone(), until: w.now + promiseMS}
	w.log("n%d offers %v", n.index, clock)
}

// Cover asks an owner whether it durably covers what a node offered. One that says so
// keeps its own copy for a while. When all have said so, the copy may be dropped.
func (w *World) Cover(n, o *Node) {
	if n.offer == nil || o == n || !o.up || !o.shard(0).Covers(n.offer.clock) {
		return
	}
	o.promised = w.now + promiseMS
	n.offer.covered[o.index] = true
	n.offer.ready = true
	for _, x := range w.owners() {
		if x != n && !n.offer.covered[x.index] && w.bug != BugDropEarly {
			n.offer.ready = false
		}
	}
	w.log("n%d covers what n%d offered", o.index, n.index)
}

// Drop lets a node drop what it offered and all owners cover, by the code that runs in
// production. An owner's copy comes back at once, empty and under another actor: as
// if the layout had displaced it for a moment. It is false if the copy stays.
func (w *World) Drop(n *Node) bool {
	o := n.offer
	n.offer = nil
	if o == nil || !o.ready || w.over(o) || w.now < n.promised && w.bug != BugPromiseBroken {
		return false
	}
	n.Commit()
	drop := func() (bool, error) { return n.set.DropCovered(0, o.clock) }
	if w.bug == BugCheckThenDrop {
		drop = func() (bool, error) { return true, n.set.Drop(0) }
	}
	was := kv.Dot{Actor: n.shard(0).Actor(), Seq: n.seq[0]}
	if gone, err := stepping(n.set, drop); err != nil || !gone {
		w.must(err)
		w.log("n%d keeps what it offered, for something came", n.index)
		return false
	}
	w.log("n%d drops its copy", n.index)
	w.stats.Dropped++
	for _, s := range w.sessions {
		if s.to == n || s.from == n {
			s.Abort()
		}
	}
	n.forget(0)
	if n.owner() {
		w.stats.CameBack++
		n.comeBack(was)
	}
	return true
}

// stepping runs a step that waits for the committer, which it steps meanwhile. Nothing
// is planned at the node, so that there is one group to commit.
func stepping(set *partition.Set, step func() (bool, error)) (bool, error) {
	type result struct {
		ok  bool
		err error
	}
	done := make(chan result, 1)
	go func() {
		ok, err := step()
		done <- result{ok, err}
	}()
	for {
		select {
		case r := <-done:
			return r.ok, r.err
		default:
			if _, err := set.Committer().CommitGroup(); err != nil {
				return false, err
			}
			runtime.Gosched()
		}
	}
}

// forget takes from the oracle what a dropped copy knew. It is another copy's peer
// from now on: of the next incarnation.
func (n *Node) forget(p kv.Partition) {
	n.life++
	for k := range n.planned {
		if n.w.partOf(k) == p {
			n.planned[k], n.published[k], n.durable[k] = opset{}, opset{}, opset{}
		}
	}
	n.w.must(n.store.Sync()) // as the commits behind which it is gone are
	n.durable, n.tail = n.published, nil
	n.due = slices.DeleteFunc(n.due, func(d due) bool { return d.part == p })
	n.fresh, n.refilled = nil, map[refill]bool{}
	n.seq[p], n.said = 0, map[peerCopy]said{}
	delete(n.copies, p)
	delete(n.shown, p)
}

// comeBack opens an owner's copy anew. was is the last dot of the one before.
func (n *Node) comeBack(was kv.Dot) {
	switch n.w.bug {
	case BugSeqForgotten:
		again := was.Actor.Rand
		n.open(func() uint32 {
			defer func() { again = n.w.rng.Uint32() }()
			return again
		})
		n.offer = nil
	case BugSeqKept:
		n.formerly = n.formerly.With(was)
	}
	n.set.Add(0)
	n.w.check(n)
}

// dropHeld has every stand-in of a healed cluster offer and drop what it holds.
func (w *World) dropHeld() {
	if w.mix.StandIns > 0 {
		w.Pass(promiseMS)
	}
	for _, n := range w.nodes[Nodes:] {
		if !n.holds(0) {
			continue
		}
		w.Offer(n)
		for _, o := range w.owners() {
			w.Cover(n, o)
		}
		if !w.Drop(n) || n.holds(0) {
			w.fail("I10", "n%d still holds a copy that all owners have", n.index)
		}
	}
}
