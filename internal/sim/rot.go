package sim

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition/state"
	"edged.dev/edged/replica"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// Rot is a way in which a disk, or a bug, changes a copy without a change.
type Rot int

// What may happen to the records of a key.
const (
	RotValueLost      Rot = iota // the versions are gone, the directory stays
	RotObjectLost                // all is gone
	RotDirectoryLost             // the versions stay
	RotValueFlipped              // a bit of each version
	RotRaised                    // a version that was overwritten is there again
	RotStale                     // all is as it was when all copies were level before
	RotDirectoryStale            // the directory is, and the versions are not
)

// Spoil lets the records of a key rot in a node's store, behind the copy's back. It
// is false where there is nothing that could.
func (w *World) Spoil(n *Node, key int, how Rot) bool {
	var b cache.Batch
	switch how {
	case RotRaised:
		return w.raise(n, key)
	case RotStale, RotDirectoryStale:
		w.stale(n, key, how, &b)
	default:
		w.spoilRecords(n, key, how, &b)
	}
	if b.Len() == 0 {
		return false
	}
	if how != RotValueLost && how != RotValueFlipped {
		w.forgetRotten(n, key, how)
	}
	w.log("n%d: k%d rots (%d)", n.index, key, how)
	w.must(n.store.Commit(&b, true))
	return true
}

// forgetRotten notes what goes with the records of a key: a lost tombstone counts as
// collected, and what no other copy has is lost as with a disk. One that a stale directory
// brings back shows nothing.
func (w *World) forgetRotten(n *Node, key int, how Rot) {
	back := how == RotStale || how == RotDirectoryStale
	for _, op := range w.ops {
		if op.Key != key || !n.copies[w.partOf(key)].present.has(op.Index) && (!back || !op.Deleted) {
			continue
		}
		if alone := w.alone(n, op); alone || op.Deleted {
			op.collected, op.forgotten = true, true
			if alone {
				op.cover.each(func(i int) { w.ops[i].forgotten = true })
			}
		}
	}
}

func (w *World) spoilRecords(n *Node, key int, how Rot, b *cache.Batch) {
	p := w.partOf(key)
	for _, kind := range []byte{'d', 'e'} {
		lower, upper := cache.Range(kind, p, 0)
		w.must(n.store.Scan(lower, upper, func(rec, value []byte) (bool, error) {
			about, _, _ := cache.KeyOf(rec)
			if kind == 'd' {
				about, _, _ = cache.ParseVersion(value)
			}
			switch {
			case !bytes.Equal(about, w.keys[key]):
			case kind == 'd' && how == RotValueFlipped:
				flipped := bytes.Clone(value)
				flipped[len(flipped)-1] ^= 1
				b.Set(rec, flipped)
			case kind == 'd' && how != RotDirectoryLost, kind == 'e' && (how == RotObjectLost || how == RotDirectoryLost):
				b.Delete(rec)
			}
			return true, nil
		}))
	}
}

// stale puts the directory of a key back as it was when all copies were level before, and
// its versions, as a block of a table that was replaced. What it brings back every owner
// has seen: a version that is whole, and of which nothing tells that another followed it
// here alone, is as good as any.
func (w *World) stale(n *Node, key int, how Rot, b *cache.Batch) {
	if n.was == nil {
		return
	}
	before := Store{durable: n.was.pairs}
	kinds := []byte{'e', 'd'}
	if how == RotDirectoryStale {
		kinds = kinds[:1]
	}
	for _, kind := range kinds {
		old := w.recordsOf(&before, kind, key)
		now := w.recordsOf(n.store, kind, key)
		for rec := range now {
			if _, there := old[rec]; !there {
				b.Delete([]byte(rec))
			}
		}
		for rec, value := range old {
			if now[rec] != value {
				b.Set([]byte(rec), []byte(value))
			}
		}
	}
}

// recordsOf returns the records of a key that are directories ('e') or versions ('d').
func (w *World) recordsOf(s *Store, kind byte, key int) map[string]string {
	out := map[string]string{}
	lower, upper := cache.Range(kind, w.partOf(key), 0)
	w.must(s.Scan(lower, upper, func(rec, value []byte) (bool, error) {
		about, _, _ := cache.KeyOf(rec)
		if kind == 'd' {
			about, _, _ = cache.ParseVersion(value)
		}
		if bytes.Equal(about, w.keys[key]) {
			out[string(rec)] = string(value)
		}
		return true, nil
	}))
	return out
}

// raise puts a value that the copy has seen, and that was dead everywhere when all were
// level, back into it: given with what superseded it, it would be as good as any.
func (w *World) raise(n *Node, key int) bool {
	p := w.partOf(key)
	cs := n.copies[p]
	at := slices.IndexFunc(w.ops, func(op *Op) bool {
		return op.Key == key && !op.Deleted && cs.clock.Has(op.Dot) && w.dead.has(op.Index)
	})
	if at < 0 {
		return false
	}
	op := w.ops[at]
	ids := w.actorIDs(n)
	if !slices.Contains(ids.list, op.Dot.Actor) {
		return false // it learnt of the actor by a seal alone, and has no number for it
	}
	entryKey := cache.AppendEntryKey(nil, p, kv.OrderOf(kv.Hash(w.keys[key]), 1), w.keys[key])
	rec, found, err := n.store.Get(nil, entryKey)
	w.must(err)
	e := cache.Entry{}
	if found {
		var checks []cache.Check
		e, checks, err = cache.ParseEntry(rec, ids)
		w.must(err)
		for i := range checks {
			e.Object.Versions[i].Value = make([]byte, checks[i].Bytes) // of the right length
		}
	}
	v := kv.Version{Dot: op.Dot, HLC: 1, ExpiresMS: op.expires, Value: op.value}
	e.Object.Versions = append(e.Object.Versions, v)
	slices.SortFunc(e.Object.Versions, func(v, w kv.Version) int { return v.Dot.Compare(w.Dot) })
	var b cache.Batch
	b.Set(entryKey, cache.AppendEntry(nil, ids, e, false))
	b.Set(cache.AppendVersionKey(nil, p, ids.ID(op.Dot.Actor), op.Dot.Seq), cache.AppendVersion(nil, w.keys[key], v))
	w.log("n%d: op%d of k%d is there again", n.index, op.Index, key)
	w.must(n.store.Commit(&b, true))
	return true
}

// shortIDs are the short ids that a store gave to actors.
type shortIDs struct{ list []kv.Actor }

func (w *World) actorIDs(n *Node) *shortIDs {
	out := &shortIDs{}
	lower, upper := cache.PrefixRange('a')
	w.must(n.store.Scan(lower, upper, func(_, value []byte) (bool, error) {
		out.list = append(out.list, kv.ActorFrom(value))
		return true, nil
	}))
	return out
}

// ID implements cache.ActorIDs.
func (s *shortIDs) ID(a kv.Actor) uint32 { return uint32(slices.Index(s.list, a)) }

// Actor implements cache.ActorIDs.
func (s *shortIDs) Actor(id uint32) (kv.Actor, bool) {
	if int(id) >= len(s.list) {
		return kv.Actor{}, false
	}
	return s.list[id], true
}

// randomRot lets one copy of a healed cluster rot, or two, and mends them.
func (w *World) randomRot() {
	p := w.parts[w.rng.IntN(len(w.parts))]
	for _, n := range w.owners() {
		if !n.copies[p].status.Comparable() || !n.copies[p].status.Clock.Equal(w.nodes[0].copies[p].status.Clock) {
			return
		}
	}
	var keys []int
	for k := range w.keys {
		if w.partOf(k) == p {
			keys = append(keys, k)
		}
	}
	w.dead = opset{}
	for _, op := range w.ops {
		if w.partOf(op.Key) == p && !w.nodes[0].copies[p].present.has(op.Index) {
			w.dead.add(op.Index)
		}
	}
	if w.chance(w.mix.ApartPM) {
		w.keepLevel()
		w.randomApart(p, keys)
		return
	}
	first := w.rng.IntN(Nodes)
	rotten := []*Node{w.nodes[first]}
	if w.chance(400) {
		rotten = append(rotten, w.nodes[(first+1)%Nodes])
	}
	var spoilt []int
	for _, n := range rotten {
		for range 1 + w.rng.IntN(2) {
			if k := keys[w.rng.IntN(len(keys))]; w.Spoil(n, k, Rot(w.rng.IntN(int(RotStale)))) {
				spoilt = append(spoilt, k)
			}
		}
	}
	if len(spoilt) == 0 {
		return
	}
	free := slices.DeleteFunc(keys, func(k int) bool { return slices.Contains(spoilt, k) })
	if len(free) > 1 && w.mix.WrittenPM > 0 && w.chance(w.mix.WrittenPM) {
		w.MendWritten(p, rotten, free)
	}
	w.Mend(p)
}

// mendRounds is how often every node tries: one that is damaged needs the others to
// agree with themselves, and may be first.
const mendRounds = 3

// Mend has every node look at its copy, and heal what is damaged with the others
// (L4): by the very code that runs in production.
func (w *World) Mend(p kv.Partition) {
	if w.bug == BugHealByJoin {
		w.healByJoin(p)
		return
	}
	for _, n := range w.owners() {
		look, err := n.shard(p).Look(nil)
		w.must(err)
		n.shard(p).SetUnfit(!look.Fit())
	}
	for range mendRounds {
		for _, n := range w.owners() {
			if n.shard(p).Unfit() {
				w.healOne(n, p)
			}
		}
	}
	for _, n := range w.owners() {
		if n.shard(p).Unfit() {
			w.fail("L4", "n%d: partition %d is still damaged", n.index, p)
		}
		w.check(n)
	}
}

func (w *World) healOne(n *Node, p kv.Partition) { w.heal(w.healer(n, p), n, p) }

func (w *World) healer(n *Node, p kv.Partition) *replica.Healer {
	return &replica.Healer{
		Self: nodeName(n), Node: n.id, Partition: p, Shard: n.shard(p), Salt: w.rng.Uint64(), Ask: w.ask,
		Wait: func(context.Context, <-chan struct{}) error {
			_, err := n.set.Committer().CommitGroup()
			w.must(n.set.Committer().SyncApplied())
			return err
		},
	}
}

func (w *World) heal(h *replica.Healer, n *Node, p kv.Partition) {
	var others []string
	for _, m := range w.owners() {
		if m != n {
			others = append(others, nodeName(m))
		}
	}
	w.attempt(h, n, core.Heal{Partition: p, Owners: others, All: true, Every: true, Sole: true})
}

func (w *World) attempt(h *replica.Healer, n *Node, e core.Heal) {
	out := h.Heal(context.Background(), e)
	w.log("n%d heals %+v: %+v", n.index, e, out)
	if !out.Failed && out.Text != "" {
		w.stats.L4++
	}
}

func nodeName(n *Node) string { return fmt.Sprintf("n%d", n.index) }

func (w *World) named(name string) *Node {
	return w.nodes[slices.IndexFunc(w.nodes, func(n *Node) bool { return nodeName(n) == name })]
}

// ask brings a question to a node and returns its answer, at once.
func (w *World) ask(ctx context.Context, name string, request []byte) ([]byte, error) {
	w.hash(request)
	m := w.named(name)
	if !m.up {
		return nil, errAway
	}
	t, err := wire.TypeOf(request)
	if err != nil {
		return nil, err
	}
	switch t {
	case wire.TypeTree:
		return replica.AnswerTree(ctx, m.set, request)
	case wire.TypeHeld:
		return replica.AnswerHeld(ctx, m.set, request)
	}
	q, err := wire.ParseRead(request)
	if err != nil {
		return nil, err
	}
	o, base, err := m.shard(q.Partition).Read(q.Key)
	if err != nil {
		return nil, err
	}
	return wire.Object{State: kv.Live, Actor: m.shard(q.Partition).Actor(), Object: o.Filled(base)}.Append(nil), nil
}

// healByJoin is what a broken run does instead: the owners send each other the
// objects that differ, as replication does.
func (w *World) healByJoin(p kv.Partition) {
	for _, from := range w.owners() {
		for k, key := range w.keys {
			o, base, err := from.shard(p).Read(key)
			if w.partOf(k) != p || err != nil {
				continue
			}
			for _, to := range w.owners() {
				if to == from {
					continue
				}
				w.must(to.shard(p).Apply(state.Received{Key: key, Object: o.Filled(base), From: from.id}, nil))
				to.Commit()
			}
		}
	}
	for _, n := range w.owners() {
		w.check(n)
	}
	for _, n := range w.nodes {
		if look, err := n.shard(p).Look(nil); err != nil || !look.Fit() {
			w.fail("L4", "n%d: partition %d is still damaged", n.index, p)
		}
	}
}
