package core

import (
	"slices"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/transport/wire"
)

// process returns a peer if the process that said something is the one connected: what
// a former one held, its next may have lost, and it comes late.
func (m *Machine) process(name string, boot uint32) *peer {
	if p := m.peers[name]; p != nil && p.up && p.boot == boot {
		return p
	}
	return nil
}

func (m *Machine) clocksAnswered(e ClocksAnswered) {
	p := m.process(e.Name, e.Boot)
	if p == nil {
		return
	}
	for _, c := range e.Copies {
		m.report(p, c, e.AskAt) // what it has more is fetched, or the lead would wait for a tick
		x := m.parts[c.Partition]
		if x != nil && x.first != 0 && e.AskAt >= x.first && c.State == kv.Live {
			x.leadClock[e.Name] = c.Clock
		}
	}
}

func (m *Machine) tickAnswered(e TickAnswered) {
	p := m.process(e.Name, e.Boot)
	if p == nil || e.Failed {
		return
	}
	if e.Ack.Code == wire.HelloEqual {
		m.level(p, e.Mine)
		for _, id := range m.order {
			x := m.parts[id]
			if !x.Self || !slices.Contains(x.others, e.Name) {
				continue
			}
			if _, compared := x.equal[e.Name]; compared {
				x.equal[e.Name] = true
			}
			x.Verified = x.Verified || x.State == kv.Live
		}
		return
	}
	var tell []kv.Partition // the digest is asked for, or the peer lacks something
	for _, c := range e.Ack.Copies {
		if x := m.parts[c.Partition]; x == nil || !x.Self {
			continue
		}
		m.report(p, c, e.AskAt)
		if mine := m.cfg.Copies.Copy(c.Partition); mine.Clock.Equal(c.Clock) || !c.Clock.Covers(mine.Clock) {
			tell = append(tell, c.Partition)
		}
	}
	if len(tell) > 0 {
		m.emit(Compare{e.Name, tell})
	}
}
