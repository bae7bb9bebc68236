package sim

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
	"edged.dev/edged/partition/state"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// sealRound is a seal under way in a world: each owner promises and tells what it has
// seen, at its own time; then each that is there closes.
type sealRound struct {
	part  kv.Partition
	over  kv.Dot
	told  map[string]wire.SealState
	seen  []kv.Clock // what those who promised had seen
	lives [Nodes]int // of those who promised
}

// randomSeal begins a seal, or goes on with the one under way.
func (w *World) randomSeal() {
	if w.sealing == nil {
		w.beginSeal()
		return
	}
	var left []*Node
	for _, n := range w.nodes[:Nodes] {
		if _, ok := w.sealing.told[ownerName(n.index)]; !ok {
			left = append(left, n)
		}
	}
	if len(left) == 0 {
		over := w.sealing.over
		if w.chance(500) {
			w.deliverLate(over)
		}
		if w.CloseSeal(); w.chance(300) {
			w.deliverLate(over)
		}
		return
	}
	if n := left[w.rng.IntN(len(left))]; !n.up || !w.Promise(n) || w.bug == BugSealUnlike && w.chance(w.bugPM(300)) {
		w.CloseSeal() // it could not be reached, and that ends the round
	}
}

// deliverLate lets what the processes in question had on its way arrive, between the
// two rounds or behind them.
func (w *World) deliverLate(over kv.Dot) {
	seals := kv.VV{over}
	late := func(m message) bool { return !m.ack && seals.Sealed(m.op.Dot.Actor) }
	for range 3 {
		if i := slices.IndexFunc(w.net, late); i >= 0 {
			w.deliver(i)
		}
	}
}

// beginSeal chooses processes that are gone, mostly such as all have seen alike.
func (w *World) beginSeal() {
	p := w.parts[w.rng.IntN(len(w.parts))]
	var all, alike []kv.Dot
	for _, n := range w.nodes[:Nodes] {
		if !n.up {
			return // not all are there
		}
		boot := n.boot - 1
		if w.bug == BugSealLiving && w.chance(w.bugPM(700)) {
			boot = n.boot
		}
		if boot > 0 {
			all = append(all, kv.SealOf(n.id, boot))
		}
	}
	for _, id := range w.gone {
		all = append(all, kv.SealOf(id, math.MaxUint32))
	}
	for _, over := range all {
		f := w.nodes[0].shard(p).Former(over)
		same := !f.None && !f.Sealed
		for _, n := range w.nodes[1:Nodes] {
			same = same && n.shard(p).Former(over) == f
		}
		if same {
			alike = append(alike, over)
		}
	}
	switch {
	case len(all) == 0 || len(alike) == 0 && w.bug != BugSealUnlike && !w.chance(200):
	case len(alike) == 0 || w.bug == BugSealUnlike:
		w.BeginSeal(p, all[w.rng.IntN(len(all))])
	default:
		w.BeginSeal(p, alike[w.rng.IntN(len(alike))])
	}
}

// BeginSeal begins a seal over processes of a node.
func (w *World) BeginSeal(p kv.Partition, over kv.Dot) {
	w.sealing = &sealRound{part: p, over: over, told: map[string]wire.SealState{}}
	w.log("sealing up to %v of p%d", over.Actor, p)
}

// Sealing is the seal over a node's processes, the present one with it or not.
func (n *Node) Sealing(living bool) kv.Dot {
	if living {
		return kv.SealOf(n.id, n.boot)
	}
	return kv.SealOf(n.id, n.boot-1)
}

// Promise lets an owner promise and tell what it has seen, and reports whether it
// lived to do so.
func (w *World) Promise(n *Node) bool {
	s := w.sealing
	sh := n.shard(s.part)
	if n.quarantined(s.part) {
		if err := sh.Fence(s.over, nil); !errors.Is(err, partition.ErrQuarantined) {
			w.fail("seal", "n%d has lost its clock and promises: %v", n.index, err)
		}
		s.told[ownerName(n.index)] = wire.SealState{Partition: s.part}
		w.stats.Unsealed++
		w.log("n%d refuses: it has lost its clock", n.index)
		return true
	}
	if w.bug != BugNoFence {
		err := sh.Fence(s.over, nil)
		if errors.Is(err, partition.ErrSealsLiving) {
			s.told[ownerName(n.index)] = wire.SealState{}
			return w.bug == BugSealLiving
		}
		w.must(err)
	}
	if n.Commit(); !n.up {
		return false
	}
	n.Sync()
	trust := kv.Whole
	if n.lost {
		trust = kv.New
	}
	s.told[ownerName(n.index)], s.lives[n.index] = core.SealState(s.part, sh.Former(s.over), trust), n.life
	seen := formerIn(sh, s.over)
	s.seen = append(s.seen, seen)
	w.log("n%d promises and has seen %v", n.index, seen)
	return true
}

func formerIn(sh *partition.Shard, over kv.Dot) kv.Clock {
	clock := sh.Clock()
	return kv.ClockOf(clock.Former(over)...)
}

// CloseSeal ends the round: where all have told the same, those that are there close.
func (w *World) CloseSeal() {
	s := w.sealing
	w.sealing = nil
	owners := make([]string, Nodes)
	for i := range owners {
		owners[i] = ownerName(i)
	}
	sum, ok := core.Unanimous(owners, s.told)
	if !ok && w.bug != BugSealUnlike && w.bug != BugSealLiving {
		w.log("not sealed")
		return
	}
	w.bury(s)
	for _, n := range w.nodes[:Nodes] {
		told, asked := s.told[ownerName(n.index)]
		if !n.up || !asked || told.Promise != wire.SealFenced && (ok || told.Promise != wire.SealNothing) {
			continue
		}
		if !ok { // each closes what it has seen itself
			sum = n.shard(s.part).Former(s.over).Sum
		}
		w.close(n, s, sum)
	}
}

func (w *World) close(n *Node, s *sealRound, sum uint64) {
	sh := n.shard(s.part)
	if w.bug == BugNoFence && !n.quarantined(s.part) {
		w.must(sh.Fence(s.over, nil))
	}
	err := sh.Seal(s.over, sum, nil)
	switch {
	case (errors.Is(err, partition.ErrUnlike) || errors.Is(err, partition.ErrQuarantined)) && (n.life != s.lives[n.index] || w.bug != NoBug):
		return // what it told went with its disk, or its record
	case errors.Is(err, partition.ErrSealsLiving) && w.bug != NoBug:
		return
	case err != nil:
		w.fail("seal", "n%d promised and does not close: %v", n.index, err)
		return
	}
	w.stats.Sealed++
	w.log("n%d seals up to %v", n.index, s.over.Actor)
	n.Commit()
}

// bury notes the writes that nobody has seen and that are seen by nobody from now on.
// Their coordinator is gone, and no owner has told it that it has them.
func (w *World) bury(s *sealRound) {
	seals := kv.VV{s.over}
	for _, n := range w.nodes[:Nodes] {
		if n.up {
			s.seen = append(s.seen, formerIn(n.shard(s.part), s.over))
		}
	}
	for _, op := range w.ops {
		if w.partOf(op.Key) != s.part || !seals.Sealed(op.Dot.Actor) || op.buried ||
			slices.ContainsFunc(s.seen, func(c kv.Clock) bool { return c.Has(op.Dot) }) {
			continue
		}
		if w.bug == NoBug && op.coord.up && op.coord.life == op.life {
			w.fail("seal", "op%d of a process that lives is sealed", op.Index)
		}
		if op.buried = true; op.Acked {
			w.fail("I1", "op%d was acknowledged and is sealed away", op.Index)
		}
	}
}

// forgetLate takes from the network what processes that are gone sent to a process
// whose promises went with its disk, or with its record: connections end with either
// process.
func (w *World) forgetLate(to *Node) {
	if w.mix.Seal == 0 {
		return
	}
	w.net = slices.DeleteFunc(w.net, func(m message) bool {
		return m.to == to.index && (m.life != w.nodes[m.from].life || !w.nodes[m.from].up)
	})
}

// late takes that a write was refused, which a broken run joins all the same.
func (w *World) late(n *Node, r state.Received, op *Op, d due) bool {
	w.stats.Late++
	w.log("n%d refuses op%d as late", n.index, op.Index)
	if w.bug != BugLateJoined {
		return false
	}
	w.sessionID++
	in, _ := n.shard(d.part).Begin(w.sessionID, r.From) // what comes by a session is joined
	w.must(in.Apply(r.Key, r.Object, partition.Batch{Floor: r.Floor}, func() { n.due = append(n.due, d) }))
	in.Cancel()
	return true
}

func ownerName(i int) string { return fmt.Sprintf("n%d", i) }
