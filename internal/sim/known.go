package sim

import (
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// told is what a node heard of the peers' copies: all of it, and what R8 has of it,
// told by the plain rule and without a machine.
type told struct {
	clock [clusterNodes]kv.Clock
	known [clusterNodes]heard
}

// heard is what one incarnation of a copy said, and whether the one before had
// said more and this one does not know it.
type heard struct {
	actor kv.Actor
	clock kv.Clock
	lost  bool
}

// hear takes what a peer says of its copy, other than by HELLO.
func (t *told) hear(peer int, copies []wire.CopyClock) {
	for _, c := range copies {
		if c.Partition != 0 {
			continue
		}
		t.clock[peer].Join(c.Clock)
		if h := &t.known[peer]; h.actor == c.Actor || h.actor == (kv.Actor{}) {
			h.actor = c.Actor
			h.clock.Join(c.Clock)
		}
	}
}

// greet takes a HELLO, and returns whether the copy is to be told that it was
// rolled back.
func (t *told) greet(peer int, copies []wire.CopyClock) bool {
	h := &t.known[peer]
	for _, c := range copies {
		if c.Partition != 0 {
			continue
		}
		if h.actor != c.Actor {
			h.lost = h.lost || !c.Clock.Covers(h.clock)
			h.actor, h.clock = c.Actor, c.Clock.Clone()
		}
		h.lost = h.lost && c.Trust == kv.Whole
	}
	t.hear(peer, copies)
	return h.lost
}

func (t *told) clone() (out told) {
	for i := range t.clock {
		out.clock[i] = t.clock[i].Clone()
		out.known[i] = t.known[i]
		out.known[i].clock = out.known[i].clock.Clone()
	}
	return out
}

// recall returns what earlier lives kept of the peers, which a broken run forgets.
func (m *member) recall() []core.Known {
	m.told = m.kept.clone()
	if m.c.lie == LieForgets {
		return nil
	}
	kept, err := m.set.Known()
	m.c.must(err)
	out := make([]core.Known, len(kept))
	for i, k := range kept {
		out[i] = core.Known(k)
	}
	return out
}

// keepKnown makes durable, in time, what peers told.
func (m *member) keepKnown() {
	now := m.told.clone()
	m.keep(m.machine.TakeKnown(2)) // in two parts, as where there is more than a round takes
	m.keep(m.machine.TakeKnown(clusterNodes * 2))
	if m.shard() == nil {
		return
	}
	m.shard().KeepKnown(nil, func() { m.kept = now }) // behind them
	m.commitSoon()
}

// keepLost makes durable what a HELLO has shown to be lost, before it is answered.
// What a peer is to be told by what is durable here, it must be told.
func (m *member) keepLost(from *member, asked []wire.CopyClock, told bool) {
	if want := m.told.greet(from.index, asked); want && !told && m.index < Nodes && from.index < Nodes {
		m.c.fail("R8", "%s does not tell %s that it was rolled back", m.name(), from.name())
	}
	if due := m.machine.TakeLost(from.name()); len(due) > 0 {
		m.keep(due)
		m.commit()
		now := m.told.clone()
		m.kept.clock[from.index], m.kept.known[from.index] = now.clock[from.index], now.known[from.index]
	}
}

func (m *member) keep(due []core.Known) {
	for _, k := range due {
		if sh := m.set.Shard(k.Partition); sh != nil {
			sh.KeepKnown([]partition.Known{partition.Known(k)}, nil)
		}
	}
}
