package sim

import (
	"bytes"
	"context"
	"slices"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition/state"
	"edged.dev/edged/transport/wire"
)

// MendWritten heals copies that rotted while the others write: before every question
// something is written to one of the keys that did not rot, and some of what is on its
// way arrives. A damaged copy has written the first of these keys, and that reaches nobody
// but by what it gives.
func (w *World) MendWritten(p kv.Partition, rotten []*Node, free []int) {
	sound := slices.DeleteFunc(slices.Clone(w.owners()), func(n *Node) bool { return slices.Contains(rotten, n) })
	for _, n := range rotten {
		n.rotten = true // it is not what it should be until it is healed
		look, err := n.shard(p).Look(nil)
		w.must(err)
		n.shard(p).SetUnfit(!look.Fit())
		w.Write(n, Put{Key: free[0], Held: true})
		n.Commit()
		w.net = nil
	}
	write := func() {
		n := sound[w.rng.IntN(len(sound))]
		w.Write(n, Put{Key: free[1+w.rng.IntN(len(free)-1)], Held: true, Delete: w.chance(w.mix.DeletePM)})
		n.Commit()
		if len(w.net) > 0 && w.chance(500) {
			w.arriveOne(w.rng.IntN(len(w.net)))
		}
	}
	for range mendRounds {
		for _, n := range rotten {
			if !n.shard(p).Unfit() {
				continue
			}
			h := w.healer(n, p)
			h.Ask = func(ctx context.Context, name string, request []byte) ([]byte, error) {
				write()
				resp, err := w.ask(ctx, name, request)
				return w.ahead(p, resp), err
			}
			w.apartFrom(h, n, p)
			if w.bug == BugHealOnce {
				h.Give, h.Pause = nil, func(context.Context) error { w.arriveAll(); return nil }
			}
			w.heal(h, n, p)
		}
	}
	w.arriveAll()
	for range healRounds {
		w.stream(p)
	}
	for _, n := range rotten { // one that could not be healed beside so many writes is healed behind them
		if n.rotten = false; !n.shard(p).Unfit() {
			w.stats.Written++
			w.check(n)
		}
	}
}

func (w *World) arriveOne(i int) {
	m := w.net[i]
	w.net = slices.Delete(w.net, i, i+1)
	w.arrive(m)
	if n := w.nodes[m.to]; n.up {
		n.Commit()
	}
}

// arriveAll lets everything arrive that is on its way.
func (w *World) arriveAll() {
	for len(w.net) > 0 {
		w.arriveOne(0)
	}
	for _, n := range w.nodes {
		if n.up {
			n.Commit()
			n.Sync()
		}
	}
}

// stream syncs all owners that are up from those that are not damaged.
func (w *World) stream(p kv.Partition) {
	for _, from := range w.nodes {
		for _, to := range w.owners() {
			if to != from && to.up && from.up && from.holds(p) && !from.shard(p).Unfit() {
				w.Catch(to, from, p)
			}
		}
	}
}

// give brings an object of a damaged copy to another.
func (w *World) give(from, to *Node, p kv.Partition, key []byte, o kv.Object) {
	if !to.up {
		return
	}
	if w.bug == BugGiveDamaged {
		o = flipped(o)
	}
	w.saw(key, o)
	w.log("n%d gives n%d k%d: %v", from.index, to.index, w.keyOf(key), dotsOf(o))
	k := slices.IndexFunc(w.keys, func(x []byte) bool { return bytes.Equal(x, key) })
	w.must(to.shard(p).Apply(state.Received{Key: bytes.Clone(key), Object: o, Floor: from.shard(p).Status().Floor, From: from.id}, nil))
	to.planned[k].join(&from.published[k])
	to.Commit()
	w.stats.Given++
}

// flipped is an object with a byte of a value changed, as of one that does not verify.
func flipped(o kv.Object) kv.Object {
	o.Versions = slices.Clone(o.Versions)
	for i := range o.Versions {
		if v := &o.Versions[i]; len(v.Value) > 0 {
			v.Value, v.Sum = bytes.Clone(v.Value), 0
			v.Value[0] ^= 1
			v.Sum = v.ValueSum()
		}
	}
	return o
}

// ahead is what a broken run makes of an answer: it has seen all that any owner has, so
// that what is on its way counts as lost.
func (w *World) ahead(p kv.Partition, resp []byte) []byte {
	t, err := wire.TypeOf(resp)
	if w.bug != BugHealOnce || err != nil || t != wire.TypeHeldAck {
		return resp
	}
	a, err := wire.ParseHeldAck(resp)
	w.must(err)
	for _, n := range w.owners() {
		a.Clock.Join(n.shard(p).Clock())
	}
	return a.Append(nil)
}
