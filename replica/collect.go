package replica

import (
	"context"
	"slices"
	"time"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
)

const (
	// collectEvery spaces the rounds of collection, and collectLimit is how many
	// tombstones a partition has looked at in one: some milliseconds of a core.
	collectEvery = time.Second
	collectLimit = 512
	// collectAgain is when tombstones that wait are looked at again though no owner
	// has told of more.
	collectAgain = 30 * time.Second
	// Tombstones of more than one in spareShare of a copy's values are not waited
	// for, once there are minSpare: an owner that is away must not cost the others
	// more disk than that.
	spareShare = 20
	minSpare   = 1024
)

// collector is what one partition's collection remembers.
type collector struct {
	stable  kv.VV // of the pass under way
	waiting int   // in it so far
	excess  int   // of the last full pass
	next    int64 // boot-time clock: the next pass, unless more is stable
	begun   bool
}

// collect gives up tombstones that every owner has, or that are past the horizon,
// until ctx ends.
func (r *Replica) collect(ctx context.Context) {
	tick := time.NewTicker(collectEvery)
	defer tick.Stop()
	kept := map[kv.Partition]*collector{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for p := range r.Parts() {
			if ctx.Err() == nil && p.Self && p.State == kv.Live {
				if kept[p.Partition] == nil {
					kept[p.Partition] = &collector{}
				}
				r.collectPart(p.Partition, kept[p.Partition])
			}
		}
	}
}

func (r *Replica) collectPart(p kv.Partition, c *collector) {
	sh := r.cfg.Set.Shard(p)
	if sh == nil || !sh.Tombstoned() {
		return
	}
	now := r.cfg.Boottime()
	if !c.begun {
		r.mu.Lock()
		stable := r.machine.Stable(p)
		r.mu.Unlock()
		if now < c.next && slices.Equal(stable, c.stable) {
			return
		}
		c.stable, c.waiting, c.begun = stable, 0, true
	}
	got, err := sh.Collect(partition.Collection{
		Stable: c.stable, Horizon: r.horizon(), Excess: c.excess, Limit: collectLimit,
	})
	if err != nil {
		return // a store that cannot be read is told of by those who need it now
	}
	r.stats.Collected.Add(int64(got.Stable + got.Forced))
	r.stats.CollectedForced.Add(int64(got.Forced))
	c.excess = max(0, c.excess-got.Forced)
	c.waiting += got.Waiting
	if got.Wrapped {
		c.excess = max(0, c.waiting-max(minSpare, int(sh.Count())/spareShare))
		c.begun, c.next = false, now+int64(collectAgain)
		if c.excess > 0 {
			c.next = now
		}
	}
}

// horizon is the time before which tombstones are not waited for.
func (r *Replica) horizon() kv.HLC {
	if r.cfg.Horizon <= 0 {
		return 0
	}
	return kv.HLCAt(max(0, r.NowMS()-r.cfg.Horizon.Milliseconds()))
}
