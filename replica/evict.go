package replica

import (
	"context"
	"math/bits"
	"slices"
	"time"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
)

const (
	// evictEvery is how often a node with a limit weighs its copies, and evictRest
	// how much longer than the last weighing it waits at least: the weighing reads
	// every directory, and may take a twentieth of a core.
	evictEvery = 30 * time.Second
	evictRest  = 20
	// evictChunk is how many objects are looked at at a time, a millisecond of
	// reading, and evictBreath the rest between two chunks.
	evictChunk  = 512
	evictBreath = time.Millisecond
	// evictRoom is the part of the limit that eviction makes free beyond it, so
	// that it runs now and then and not all the time.
	evictRoom = 16
)

// evictor keeps the values in this node's copies below a limit. It belongs to one
// goroutine.
type evictor struct {
	r     *Replica
	limit int64
}

// evict removes the coldest values while the store is over its limit, until ctx
// ends. As with what expires, each partition's first serving owner does it alone,
// by an operation that all copies get: no copy forgets a value by itself, and
// nothing is repaired back.
func (r *Replica) evict(ctx context.Context) {
	e := &evictor{r, r.cfg.StoreLimit}
	wait := time.NewTimer(evictEvery)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-wait.C:
		}
		began := r.cfg.Boottime()
		if err := e.pass(ctx); err != nil && ctx.Err() == nil {
			r.stats.ReapErrors.Add(1) // the next pass weighs anew
		}
		wait.Reset(max(evictEvery, time.Duration(r.cfg.Boottime()-began)*evictRest))
	}
}

// pass weighs all copies here. What is too much is taken from the partitions in
// which this node is first, as much of each as it weighs of the whole; the other
// owners do the same with theirs.
func (e *evictor) pass(ctx context.Context) error {
	parts := e.r.cfg.Set.Partitions()
	slices.Sort(parts)
	weights, total := map[kv.Partition]int64{}, int64(0)
	for _, p := range parts {
		if p == kv.System {
			continue
		}
		if err := e.weigh(ctx, p, func(w partition.Weight) { weights[p] += w.Bytes }, nil); err != nil {
			return err
		}
		total += weights[p]
	}
	e.r.stats.StoreBytes.Store(total)
	over := total - e.limit
	if over <= 0 {
		return nil
	}
	over = min(over+e.limit/evictRoom, total)
	for _, p := range parts {
		if weights[p] == 0 || !e.r.reaps(e.r.part(p)) {
			continue
		}
		share := float64(over) * float64(weights[p]) / float64(total)
		if err := e.shrink(ctx, p, int64(share)); err != nil {
			return err
		}
	}
	return nil
}

// weigh calls fn for the keys of a partition, and between, if it is not nil, after
// each chunk of them.
func (e *evictor) weigh(ctx context.Context, p kv.Partition, fn func(partition.Weight), between func()) error {
	sh := e.r.cfg.Set.Shard(p)
	breath := time.NewTimer(0)
	defer breath.Stop()
	for from, done := uint64(0), false; !done; {
		select {
		case <-breath.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		var err error
		if from, done, err = sh.Weigh(from, evictChunk, fn); err != nil {
			return err
		}
		if between != nil {
			between()
		}
		breath.Reset(evictBreath)
	}
	return nil
}

// shrink removes so many bytes of a partition, the coldest first: what is in no
// memory tier and was written longest ago.
func (e *evictor) shrink(ctx context.Context, p kv.Partition, share int64) error {
	now := e.r.NowMS()
	var byAge ages
	err := e.weigh(ctx, p, func(w partition.Weight) { byAge[ageOf(w, now)] += w.Bytes }, nil)
	if err != nil {
		return err
	}
	age, some := byAge.cut(share)
	var going []removal // of one chunk
	return e.weigh(ctx, p, func(w partition.Weight) {
		a := ageOf(w, now)
		if a < age || a == age && some <= 0 {
			return
		}
		if a == age {
			some -= w.Bytes
		}
		going = append(going, removal{p, slices.Clone(w.Key), untouched(w.Newest), &e.r.stats.Evicted})
	}, func() {
		e.r.removeAll(ctx, going)
		going = going[:0]
	})
}

// untouched chooses all values of a key if none is newer than what was weighed.
func untouched(newest kv.HLC) func(kv.Object) []kv.Dot {
	return func(held kv.Object) (dots []kv.Dot) {
		for _, v := range held.Versions {
			if v.Tombstone() {
				continue
			}
			if v.HLC > newest {
				return nil
			}
			dots = append(dots, v.Dot)
		}
		return dots
	}
}

// ages has the bytes of a partition by how long ago they were written, in steps of
// a sixteenth of a power of two, which 64 bits have fewer than 1024 of. What the
// memory tier holds counts as of this moment.
type ages [1024]int64

const ageBits = 4

func ageOf(w partition.Weight, nowMS int64) int {
	ms := uint64(max(0, nowMS-w.Newest.MS()))
	if w.Warm {
		ms = 0
	}
	if ms>>ageBits == 0 {
		return int(ms)
	}
	shift := bits.Len64(ms) - 1 - ageBits
	return (shift+1)<<ageBits | int(ms>>shift)&(1<<ageBits-1)
}

// cut returns the age from which on all bytes together are as many as asked for,
// and how many of those of just that age are needed.
func (a *ages) cut(bytes int64) (age int, some int64) {
	for age = len(a) - 1; age > 0 && a[age] < bytes; age-- {
		bytes -= a[age]
	}
	return age, bytes
}
