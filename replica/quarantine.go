package replica

import (
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// begin opens the receiving side of a partition. Of a quarantined copy the HELLO says
// what it holds.
func (r *Replica) begin(sh *partition.Shard, session uint64, donor kv.NodeID, h *wire.Hello) (*partition.Incoming, kv.Clock, error) {
	if !sh.Quarantined() {
		in, clock := sh.Begin(session, donor)
		return in, clock, nil
	}
	in, clock, held, err := sh.BeginHolding(session, donor)
	if err == nil && held.Len() > 0 {
		held = wire.FirstRuns(held, wire.MaxHeldDotRuns)
		h.Held = append(h.Held, wire.HeldDots{Partition: sh.ID(), Dots: held})
	}
	return in, clock, err
}

// toldHeld returns what a HELLO tells of quarantined copies.
func toldHeld(h *wire.Hello) map[kv.Partition]kv.Clock {
	out := map[kv.Partition]kv.Clock{}
	for _, held := range h.Held {
		out[held.Partition] = held.Dots
	}
	return out
}

// adopt lets the clock of a quarantined copy claim what it holds, and tells the machine
// and done once that is on stable storage, or why it is not to be.
func (r *Replica) adopt(p kv.Partition, done func(error)) {
	err := partition.ErrDropped
	if sh := r.cfg.Set.Shard(p); sh != nil {
		err = sh.Adopt(func(versions uint64) {
			r.whenSynced(func() {
				r.stats.Requalified.Add(1)
				r.stats.Adopted.Add(int64(versions))
				r.step(core.Adopted{Partition: p, Versions: versions})
				done(nil)
			})
		})
	}
	if err != nil { // tried again
		r.step(core.Adopted{Partition: p, Failed: true})
		done(err)
	}
}
