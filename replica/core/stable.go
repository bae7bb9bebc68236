package core

import (
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/transport/wire"
)

// Stable returns what every owner of a partition is known to hold durably without
// a gap: tombstones up to there may be collected. It is empty where an owner has
// told nothing yet, was rolled back, or this copy is not LIVE.
func (m *Machine) Stable(p kv.Partition) kv.VV {
	x := m.parts[p]
	if x == nil || !x.Self || x.State != kv.Live {
		return nil
	}
	mine := m.cfg.Copies.Copy(p).Clock
	stable := mine.Base()
	for _, name := range x.others {
		k := m.known[name][p]
		if k == nil || k.lost {
			return nil
		}
		least := make(kv.VV, 0, len(stable))
		for _, d := range stable {
			if d.Seq = min(d.Seq, k.clock.BaseOf(d.Actor)); d.Seq > 0 {
				least = append(least, d)
			}
		}
		stable = least
	}
	return stable
}

// level takes that the durable clocks of a peer's connected process were found equal to
// these: where what is known is of that process. What is known of a former one is what
// its next HELLO is held against (R8), and this one's clocks are no part of that.
func (m *Machine) level(p *peer, copies []wire.CopyClock) {
	p.ackAt = 0 // no tick is due out of turn
	of := m.known[p.name]
	for _, c := range copies {
		if k := of[c.Partition]; k != nil && k.actor.Node == p.node && k.actor.Boot == p.boot && !k.clock.Covers(c.Clock) {
			k.clock.Join(c.Clock)
			k.dirty = true
		}
	}
}
