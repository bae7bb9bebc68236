package replica

import (
	"sync"
	"time"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
	"edged.dev/edged/replica/core"
)

const (
	// keepEvery is how far what is on disk of the peers' clocks may be behind what
	// they told. A rollback of a peer that loses no more than it told within that
	// time, before a kill of this node, is for the other owners to notice.
	keepEvery = time.Second
	// maxKept bounds what one round writes: at some hundred bytes a record it is
	// far below what the writes themselves cost that made them change.
	maxKept = 1024
)

// recall returns what earlier processes knew of the peers.
func recall(cfg *Config) ([]core.Known, error) {
	kept, err := cfg.Set.Known()
	if err != nil {
		return nil, err
	}
	out := make([]core.Known, len(kept))
	for i, k := range kept {
		out[i] = core.Known(k)
	}
	return out, nil
}

// keepKnown plans to make durable what peers told since the last round.
func (r *Replica) keepKnown() {
	r.mu.Lock()
	due := r.machine.TakeKnown(maxKept)
	r.mu.Unlock()
	r.keep(due, nil)
}

// keepLost makes durable what a HELLO has shown to be lost, before it is answered:
// it replaces what was known before, by which alone it could be found lost again.
func (r *Replica) keepLost(due []core.Known) error {
	if len(due) == 0 {
		return nil
	}
	var open sync.WaitGroup
	r.keep(due, &open)
	open.Wait()
	if r.cfg.Relaxed {
		return r.cfg.Set.Committer().SyncApplied()
	}
	return nil
}

// keep plans records, those of one partition together; open, if there is one, is
// done with when all are published. What is of partitions that this node does not
// hold is not kept: a copy that it makes later begins with nothing known.
func (r *Replica) keep(due []core.Known, open *sync.WaitGroup) {
	of := map[kv.Partition][]partition.Known{}
	for _, k := range due {
		of[k.Partition] = append(of[k.Partition], partition.Known(k))
	}
	for p, list := range of {
		sh := r.cfg.Set.Shard(p)
		switch {
		case sh == nil:
		case open == nil:
			sh.KeepKnown(list, nil)
		default:
			open.Add(1)
			sh.KeepKnown(list, open.Done)
		}
	}
}
