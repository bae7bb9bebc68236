package replica

import (
	"context"
	"sync/atomic"
	"time"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
	"edged.dev/edged/partition/state"
	"edged.dev/edged/replica/core"
)

const (
	// reapEvery is how often what has expired is looked for: what is removed is
	// hidden already, so a second of delay costs its space alone, and half of it
	// leaves the other half for the removal.
	reapEvery = 500 * time.Millisecond
	// reapAnew is how often the walk through the index begins at its beginning: for
	// what expired at another owner that is gone, or was brought by a session. In
	// between only what is new is looked at, not what is left to others each time.
	reapAnew = 10 * time.Second
	// reapRest is how much longer than such a walk it is to the next one, up to
	// reapAnewMost: a node cut off for long may have much that it must leave alone.
	reapRest     = 20
	reapAnewMost = time.Minute
	// reapBatch is how many versions are under way at once: a commit group of some
	// 30 KB, so that a client's write behind it waits for one short fsync.
	reapBatch = 256
	// reapWait bounds the wait for the copies of a batch. It is pace alone: what
	// was not acknowledged is found by the tick.
	reapWait = 2 * time.Second
)

// reaper is the walk of one node through what has expired. It belongs to one
// goroutine.
type reaper struct {
	r      *Replica
	place  partition.ExpiryPlace
	anewAt int64 // boot-time clock
}

// reap removes expired versions until ctx ends. Each partition's first serving
// owner does it alone, as an operation that all copies get, so that none changes
// by its own clock.
func (r *Replica) reap(ctx context.Context) {
	w := &reaper{r: r}
	tick := time.NewTicker(reapEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			w.walk(ctx)
		}
	}
}

// walk removes what has expired since the last one.
func (w *reaper) walk(ctx context.Context) {
	r := w.r
	if began := r.cfg.Boottime(); began >= w.anewAt {
		w.place = partition.ExpiryPlace{}
		defer func() {
			end := r.cfg.Boottime()
			rest := min(max(time.Duration(end-began)*reapRest, reapAnew), reapAnewMost)
			w.anewAt = end + int64(rest)
		}()
	}
	for done := false; !done && ctx.Err() == nil; {
		now, ok := r.reapMS()
		if !ok {
			return
		}
		var due []partition.Due
		var err error
		due, w.place, done, err = r.cfg.Set.Expired(w.place, now, reapBatch)
		if err != nil {
			r.stats.ReapErrors.Add(1) // the next walk begins where this one did
			return
		}
		w.batch(ctx, due, now)
	}
}

// batch removes what has expired of some keys.
func (w *reaper) batch(ctx context.Context, due []partition.Due, now int64) {
	going := make([]removal, 0, len(due))
	for _, d := range due {
		going = append(going, removal{d.Partition, d.Key, expired(now), &w.r.stats.Reaped})
	}
	w.r.removeAll(ctx, going)
}

// removal is what is to go of one key.
type removal struct {
	part   kv.Partition
	key    []byte
	choose func(held kv.Object) []kv.Dot
	count  *atomic.Int64 // of the values that went
}

// removeAll removes those of its list whose partition this node is first in, and
// waits until the copies have it: that must not fill the queues in which clients'
// writes wait.
func (r *Replica) removeAll(ctx context.Context, list []removal) {
	settled, under := make(chan struct{}, len(list)), 0
	for _, x := range list {
		sh := r.cfg.Set.Shard(x.part)
		if sh != nil && r.reaps(r.part(x.part)) {
			under++
			r.remove(sh, x, func() { settled <- struct{}{} })
		}
	}
	for ; under > 0; under-- { // each ends within reapWait of its commit
		select {
		case <-settled:
		case <-ctx.Done():
			return
		}
	}
}

// reaps reports whether this node is the one that removes what has expired.
func (r *Replica) reaps(part *core.Part) bool {
	return part != nil && part.First == r.cfg.Self && part.State == kv.Live && r.leased(part) && !r.leaving.Load()
}

// expired chooses the values that have expired at a time.
func expired(now int64) func(kv.Object) []kv.Dot {
	return func(held kv.Object) (dots []kv.Dot) {
		for _, v := range held.Versions {
			if !v.Tombstone() && v.Expired(now) {
				dots = append(dots, v.Dot)
			}
		}
		return dots
	}
}

// remove removes what is to go of a key. settled is called when the other owners
// have it, or need not be waited for; it must not block.
func (r *Replica) remove(sh *partition.Shard, x removal, settled func()) {
	sh.Reap(x.key, func(held kv.Object) ([]kv.Dot, kv.HLC) {
		dots := x.choose(held)
		if len(dots) == 0 || !r.reaps(r.part(x.part)) {
			return nil, 0
		}
		return dots, r.nextHLC(held)
	}, func(ch *state.Change, err error) {
		if err != nil {
			r.stats.ReapErrors.Add(1)
		}
		part := r.part(x.part)
		if ch == nil || part == nil {
			settled()
			return
		}
		x.count.Add(removed(ch))
		r.spread(part, ch, settled)
	})
}

// removed counts the values that a change removes.
func removed(ch *state.Change) (n int64) {
	k := &ch.Keys[0]
	for _, v := range k.Before.Object.Versions {
		if _, kept := k.After.Object.Find(v.Dot); !kept && !v.Tombstone() {
			n++
		}
	}
	return n
}

// spread sends a change to the other owners and calls done when those that give a
// sign of life have it.
func (r *Replica) spread(part *core.Part, ch *state.Change, done func()) {
	wait := &waiting{
		dot:    ch.Dots[0],
		quorum: core.NewQuorum(len(part.Owners), r.cfg.Self, part.Owners),
		settle: func(core.Quorum, bool) { done() },
	}
	for _, name := range part.Owners {
		switch p := r.remote(name); {
		case name == r.cfg.Self:
			wait.ack(name, name)
		case p == nil:
			wait.fail(name)
		case !r.fresh(p):
			wait.fail(name)
			r.sendChange(p, part.Partition, ch, nil)
		default:
			r.sendChange(p, part.Partition, ch, wait)
		}
	}
	wait.begin(reapWait)
}

// reapMS is the time by which versions are removed, and whether it is known: a
// removal cannot be taken back, so it is never by one clock that another
// contradicts. With three clocks or more it is cluster time, the median; of two
// the earlier one counts; and while a peer has not told its clock yet, none does.
func (r *Replica) reapMS() (now int64, known bool) {
	now = r.NowMS()
	r.peersMu.RLock()
	defer r.peersMu.RUnlock()
	for _, p := range r.peers {
		if !p.clockKnown.Load() {
			return 0, false
		}
		if len(r.peers) == 1 {
			now = min(now, r.cfg.Boottime()/1e6+p.offsetMS.Load())
		}
	}
	return now, true
}
