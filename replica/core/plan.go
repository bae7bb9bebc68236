package core

import (
	"math"
	"slices"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/transport/wire"
)

// Planned repair: where an operator's policy orders it, the machine asks the
// shell for a plan before it asks a peer to stream, and keeps to it. It holds
// plans to bounds of its own, so that one that makes no sense, or never comes,
// delays repair and never ends it. Without a policy nothing here has any effect.
const (
	// MaxDelay is how long a plan may keep a partition from being asked for, from
	// when it was found to lack something.
	MaxDelay = 600_000 * ms
	// PlanWait is how long a partition waits for a plan that names it.
	PlanWait = 1000 * ms
	// PlanEvery is for how long a plan stands while anything is left of it.
	PlanEvery = 5000 * ms
	// planFirst is for how long the first one does: a node that has just started
	// does not know yet what is read of it.
	planFirst = 1000 * ms
	// planAgain spaces the questions for a plan.
	planAgain = 500 * ms
	// planGather is how long the first plan waits for the clocks and load of every other
	// member, so that it can choose among them: those that come up, too, connect
	// within it.
	planGather = 250 * ms
	// waveWait is how long a wave may hold up the next without a partition ending:
	// as long as a donor may stall.
	waveWait = 5000 * ms
)

// Order is what a plan says of one partition.
type Order struct {
	Partition kv.Partition
	// Wave is the group it is asked for in: when those of lower waves are level.
	Wave int
	// Peers are whom to ask first, the preferred before the others; of them, and
	// only while they can be asked and are no worse than others.
	Peers []string
	// Delay counts from when the plan was taken.
	Delay int64
}

type (
	// Planning says whether a policy orders repair. Off, what was planned is
	// forgotten.
	Planning struct{ On bool }
	// Planned brings a plan, which replaces the one before.
	Planned struct{ Orders []Order }
	// WantPlan asks the shell for a plan over the Gaps of now.
	WantPlan struct{}
)

func (Planning) event()  {}
func (Planned) event()   {}
func (WantPlan) effect() {}

// planning is the machine's part of it.
type planning struct {
	on     bool
	orders map[kv.Partition]Order
	at     int64 // when they came, 0: none yet
	rounds int   // plans that came since anything was open
	asked  int64
	since  int64 // since when something has waited for the first plan
	wave   int   // asked for now, and those below
	moved  int64 // when the wave last made progress
}

// planPart is a partition's part of it.
type planPart struct {
	lacking  int64           // since when something is known to be missing, 0: nothing
	stopped  bool            // it has had its bytes until the next plan
	strayed  bool            // a preferred peer failed: any will do until the next plan
	failures map[string]uint // sessions that broke off while it lacks something
}

func (m *Machine) setPlanning(on bool) {
	if m.plan.on == on {
		return
	}
	m.plan = planning{on: on}
	for _, x := range m.parts {
		x.plan = planPart{}
	}
}

func (m *Machine) planned(e Planned) {
	if !m.plan.on {
		return // the policy went meanwhile
	}
	m.plan.orders = make(map[kv.Partition]Order, len(e.Orders))
	for _, o := range e.Orders {
		m.plan.orders[o.Partition] = o
	}
	m.plan.at, m.plan.moved, m.plan.wave = m.now, m.now, 0
	m.plan.rounds++
	for _, x := range m.parts {
		x.plan.strayed, x.plan.stopped = false, false
	}
}

// planEnded notes how a session's partition ended.
func (m *Machine) planEnded(x *part, e PartEnded) {
	switch {
	case !m.plan.on:
	case e.Failed:
		x.plan.strayed = true
		if x.plan.failures == nil {
			x.plan.failures = map[string]uint{}
		}
		x.plan.failures[e.Name]++
	default:
		x.plan.stopped = e.Stopped
		m.plan.moved = m.now
	}
}

// settlePlan finds what is open and which wave it is the turn of, and asks for a
// plan where that takes one.
func (m *Machine) settlePlan() {
	if !m.plan.on {
		return
	}
	open, unplanned, wave := false, false, math.MaxInt
	for _, id := range m.order {
		x := m.parts[id]
		if id == kv.System || !m.open(x) {
			continue
		}
		open = true
		o, ok := m.plan.orders[id]
		unplanned = unplanned || !ok
		if ok && !x.plan.stopped && m.now >= m.plan.at+o.Delay {
			wave = min(wave, o.Wave)
		}
	}
	if !open {
		m.plan.since, m.plan.at, m.plan.rounds, m.plan.orders = 0, 0, 0, nil
		return
	}
	m.turnWave(wave)
	if m.plan.since == 0 {
		m.plan.since = max(m.now, 1)
	}
	stands := PlanEvery
	if m.plan.rounds == 1 {
		stands = planFirst
	}
	due := m.plan.at == 0 && (m.allAnswered() || m.now >= m.plan.since+planGather) ||
		m.plan.at != 0 && (unplanned || m.now >= m.plan.at+stands)
	if due && (m.plan.asked == 0 || m.now >= m.plan.asked+planAgain) {
		m.plan.asked = m.now
		m.emit(WantPlan{})
	}
}

// turnWave goes on to the lowest wave that has anything open and due; one that
// made no progress for too long lets the next begin beside it.
func (m *Machine) turnWave(lowest int) {
	switch {
	case lowest == math.MaxInt:
	case lowest > m.plan.wave:
		m.plan.wave, m.plan.moved = lowest, m.now
	case m.now >= m.plan.moved+waveWait:
		m.plan.wave, m.plan.moved = m.plan.wave+1, m.now
	}
}

// allAnswered reports whether every other member has told its clocks and its load,
// which come by different streams.
func (m *Machine) allAnswered() bool {
	for _, name := range m.parts[kv.System].others {
		if p := m.peers[name]; p == nil || !p.up || !p.answered || !p.loadTold {
			return false
		}
	}
	return true
}

// open reports whether a partition is being streamed, or lacks something that a
// connected peer has told of. It keeps count of since when.
func (m *Machine) open(x *part) bool {
	if x.pull != "" {
		return true
	}
	open, level := false, len(x.reports) > 0
	for name, r := range x.reports {
		if m.cfg.Copies.Covers(x.Partition, r.copy.Clock) {
			continue
		}
		level = false
		open = open || m.connected(name) && x.Self && m.lacks(x, m.peers[name])
	}
	if level {
		x.plan = planPart{}
	}
	if open && x.plan.lacking == 0 {
		x.plan.lacking = max(m.now, 1)
	}
	return open
}

// mayAsk reports whether the plan lets a partition be streamed from a peer now.
func (m *Machine) mayAsk(x *part, p *peer) bool {
	if !m.plan.on || x.Partition == kv.System {
		return true
	}
	if x.plan.lacking == 0 {
		return false // clocks first: what is missing is not known yet
	}
	waited := m.now - x.plan.lacking
	if waited >= MaxDelay || waited >= PlanWait && !m.ownerLive(x) {
		return true // no plan keeps it away for longer, nor while nobody else serves it
	}
	if x.plan.stopped {
		return false
	}
	o, ok := m.plan.orders[x.Partition]
	if !ok {
		return waited >= PlanWait
	}
	return m.now >= m.plan.at+o.Delay && o.Wave <= m.plan.wave && m.preferred(x, o, p)
}

// preferred reports whether no peer that the plan would rather ask can be asked
// and is as good a donor.
func (m *Machine) preferred(x *part, o Order, p *peer) bool {
	if x.plan.strayed {
		return true
	}
	for _, name := range o.Peers {
		q := m.peers[name]
		if q == p {
			return true
		}
		if q == nil || !q.up || m.now < q.busyTill || !reported(x, q) || !m.lacks(x, q) {
			continue
		}
		if q.serving(x.Partition) == wire.ServingLive || p.serving(x.Partition) != wire.ServingLive {
			return false
		}
	}
	return true
}

// Gap is what a copy of this node lacks and a connected peer has.
type Gap struct {
	Partition kv.Partition
	Peer      string
	Node      kv.NodeID
	// Dots is how many versions the peer's clock names and this copy's does not.
	Dots uint64
	// Age is since when something is known to be missing.
	Age int64
	// Serves is set where the copy serves all the same.
	Serves bool
	// Failures counts the sessions with the peer that broke off meanwhile.
	Failures uint
}

// Gaps returns what this node's copies lack, by partition and peer, the system
// partition's aside. Streams under way count as not arrived.
func (m *Machine) Gaps() []Gap {
	var out []Gap
	for _, id := range m.order {
		x := m.parts[id]
		if id == kv.System || !x.Self {
			continue
		}
		var mine kv.Clock
		for _, name := range m.names {
			r, ok := x.reports[name]
			if !ok || !m.connected(name) || m.cfg.Copies.Covers(id, r.copy.Clock) {
				continue
			}
			if mine.Len() == 0 {
				mine = m.cfg.Copies.Copy(id).Clock
			}
			since := r.at
			if x.plan.lacking != 0 {
				since = min(since, x.plan.lacking)
			}
			out = append(out, Gap{
				Partition: id, Peer: name, Node: r.node, Dots: missing(mine, r.copy.Clock), Age: max(0, m.now-since),
				Serves: x.State.Serves(), Failures: x.plan.failures[name],
			})
		}
	}
	return slices.Clip(out)
}

// missing counts the dots of a clock that another has not seen; of those of a seal
// nobody knows how many they are.
func missing(mine, theirs kv.Clock) (n uint64) {
	n, _ = kv.Dots(theirs.Minus(mine))
	return n
}
