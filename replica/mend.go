package replica

import (
	"context"
	"sync"
	"time"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// heal runs one attempt to heal a copy, as core asks for it.
func (r *Replica) heal(ctx context.Context, e core.Heal) {
	sh := r.cfg.Set.Shard(e.Partition)
	if sh == nil {
		r.step(core.Healed{Partition: e.Partition, Failed: true})
		return
	}
	r.stats.Heals.Add(1)
	h := Healer{
		Self: r.cfg.Self, Node: r.cfg.Node, Partition: e.Partition, Shard: sh, Salt: r.cfg.Jitter(),
		Pace: func(int) error { return ctx.Err() }, Ask: r.call, Lied: r.breach,
		Give: func(name string, key []byte, o kv.Object) {
			if p := r.remote(name); p != nil {
				w := wire.Write{Partition: e.Partition, Copy: wire.Copy{Key: key, Object: o}}
				r.sendWrite(p, w, sh.Status().Floor, nil)
			}
		},
		Each: atOnce, Turn: r.giving.take,
		Pause: func(ctx context.Context) error {
			if !sleep(ctx, twiceApart) {
				return ctx.Err()
			}
			return nil
		},
	}
	out := h.Heal(ctx, e)
	r.stats.HealLies.Add(int64(h.Lies))
	r.stats.HealLeftOut.Add(int64(len(out.LeftOut)))
	if out.Changed > 0 {
		r.stats.Corruptions.Add(int64(out.Changed))
	}
	r.step(out)
}

// atOnce bounds what it waits for owners by that for the slowest, callWait at most.
func atOnce(n int, fn func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { fn(i) })
	}
	all.Wait()
}

// turn is taken by one at a time.
type turn chan struct{}

func (t turn) take(ctx context.Context, fn func() error) error {
	select {
	case t <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-t }()
	return fn()
}

// lookAgain is how long reads that stumble over what is being healed, or cannot be,
// start no other look.
const lookAgain = 10 * time.Second

// Damaged takes the word of a copy that a read found records of it damaged: it is
// looked at whole, at once, and healed. It returns at once.
func (r *Replica) Damaged(p kv.Partition) {
	r.looking.mu.Lock()
	defer r.looking.mu.Unlock()
	if r.looking.parts[p] {
		return
	}
	started := r.tasks.run(func(ctx context.Context) {
		if found, err := r.Scrub(ctx, p); err != nil || !found.Fit { // what cannot be read, the store itself tells of
			sleep(ctx, lookAgain)
		}
		r.looking.mu.Lock()
		defer r.looking.mu.Unlock()
		delete(r.looking.parts, p)
	})
	if started {
		r.looking.parts[p] = true
	}
}

// looking has the partitions that are looked at because a read stumbled.
type looking struct {
	mu    sync.Mutex
	parts map[kv.Partition]bool
}
