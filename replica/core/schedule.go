package core

import (
	"slices"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/transport/wire"
)

// schedule asks a peer what it is time to ask.
func (m *Machine) schedule(p *peer) {
	if !p.up || m.now < p.busyTill {
		return
	}
	first := !p.hello && (m.now >= p.leaveIt || !m.content())
	if (first || p.asking == 0) && m.now >= p.askedAt+retryEvery {
		if wants := m.wants(p); first || len(wants) > 0 {
			m.hello(p, wants)
		}
	}
	m.verify(p)
	idle := p.ackAt != 0 && m.now >= p.ackAt+idleAfter
	if (idle || m.now >= p.tickAt) && p.answered {
		p.tickAt, p.ackAt = m.nextTick(), 0
		m.emit(SendTick{p.name})
	}
}

// content reports whether every copy of this node is LIVE, so that it has nothing
// to ask of a peer that connects.
func (m *Machine) content() bool {
	for _, x := range m.parts {
		if x.Self && x.State != kv.Live {
			return false
		}
	}
	return m.layout != nil
}

// Calm reports whether nothing is under way that goes by time: every copy of this node
// is LIVE, no lease has lapsed, no partition is streamed, and where this node is first
// it has the lead.
func (m *Machine) Calm() bool {
	for _, x := range m.parts {
		if x.pull != "" || x.suspect != 0 || x.first != 0 && !x.Lead {
			return false
		}
	}
	return m.content()
}

// verify has the digests compared of what is LIVE and could not be compared yet,
// since its clock was moving.
func (m *Machine) verify(p *peer) {
	if !p.answered || m.now < p.compared+compareEvery {
		return
	}
	p.compared = m.now
	var parts []kv.Partition
	for _, id := range m.order {
		x := m.parts[id]
		if x.Self && x.State == kv.Live && !x.Verified && m.now >= x.heal.next && slices.Contains(x.others, p.name) && p.serving(id) == wire.ServingLive {
			parts = append(parts, id)
		}
	}
	if len(parts) > 0 {
		m.emit(Compare{p.name, parts})
	}
}

func (m *Machine) hello(p *peer, wants []kv.Partition) {
	m.mourn(p.name)
	m.sessions++
	if !p.hello {
		p.answered = false
	}
	p.hello, p.askedAt = true, m.now
	p.asking++
	for _, id := range wants {
		m.parts[id].pull, m.parts[id].session = p.name, m.sessions
	}
	m.emit(SendHello{Name: p.name, Session: m.sessions, Wants: wants})
}

// wants returns the partitions to stream from a peer now: before its first
// answer those that it may help to become LIVE, afterwards those that it is
// known to have more of.
func (m *Machine) wants(p *peer) []kv.Partition {
	var out []kv.Partition
	quarantined := 0
	for _, id := range m.order {
		x := m.parts[id]
		if x.pull != "" || !x.Self && id != kv.System || x.claims.quarantined && quarantined == wire.MaxHeldParts {
			continue
		}
		if id != kv.System && !slices.Contains(x.others, p.name) && !reported(x, p) {
			continue
		}
		if m.lacks(x, p) && !m.shunned(x, p) && m.bestDonor(x, p) && m.mayAsk(x, p) {
			out = append(out, id)
			if x.claims.quarantined {
				quarantined++
			}
		}
	}
	return out
}

func reported(x *part, p *peer) bool {
	_, ok := x.reports[p.name]
	return ok
}

// lacks reports whether a peer has, or may have, what this copy lacks. To a LIVE
// copy that may be replication under way, so it waits a moment.
func (m *Machine) lacks(x *part, p *peer) bool {
	r, ok := x.reports[p.name]
	if !ok {
		return !p.hello && x.State != kv.Live
	}
	if r.copy.Damaged || r.copy.Quarantined || m.cfg.Copies.Covers(x.Partition, r.copy.Clock) {
		return false
	}
	return x.State != kv.Live || m.now >= r.at+settle
}

// askLeads asks LIVE owners for their clocks where this node is first and has
// not the lead yet.
func (m *Machine) askLeads() {
	asks := map[string][]kv.Partition{}
	for _, id := range m.order {
		x := m.parts[id]
		if x.first == 0 || x.Lead {
			continue
		}
		for _, name := range x.Live {
			if _, ok := x.leadClock[name]; !ok {
				asks[name] = append(asks[name], id)
			}
		}
	}
	for _, name := range m.names {
		if p := m.peers[name]; len(asks[name]) > 0 && m.now >= p.clocksAt+leadEvery {
			p.clocksAt = m.now
			m.emit(SendClocks{name, asks[name]})
		}
	}
}

// show hands out what changed of the partitions, and tells the peers.
func (m *Machine) show() {
	told := false
	for _, id := range m.order {
		x := m.parts[id]
		same := x.Part.same(&x.shown)
		if same && x.Until == x.shown.Until {
			continue
		}
		told = told || x.State != x.shown.State || x.Held != x.shown.Held
		x.shown = x.Part
		m.emit(SetPart{x.Part, same})
	}
	if told {
		m.stateV++
		m.emit(SendState{m.State()})
	}
}

// same reports whether nothing but the lease changed. It runs for every partition
// at every event.
func (p *Part) same(q *Part) bool {
	return p.State == q.State && p.Verified == q.Verified && p.Lead == q.Lead && (p.Term == q.Term || !p.Lead) &&
		p.First == q.First && p.Trust == q.Trust && p.Self == q.Self && p.Partition == q.Partition &&
		p.Path == q.Path && p.Why == q.Why && p.Reason == q.Reason && p.Held == q.Held && slices.Equal(p.StandIns, q.StandIns) &&
		slices.Equal(p.Owners, q.Owners) && slices.Equal(p.Serving, q.Serving) && slices.Equal(p.Live, q.Live)
}

// State returns what this node tells of itself in STATE.
func (m *Machine) State() wire.State {
	s := wire.State{Version: m.stateV}
	if m.layout == nil {
		return s
	}
	s.View = m.layout.ViewHash8()
	s.Parts = make([]wire.Serving, m.layout.Partitions())
	for id, x := range m.parts {
		if id == kv.System {
			s.System = ServingOf(x.State)
		} else if int(id) < len(s.Parts) {
			s.Parts[id] = ServingOf(x.State)
			if x.Held {
				s.Parts[id] = wire.StandIn
			}
		}
	}
	return s
}

// ServingOf returns what STATE says of a copy's state.
func ServingOf(s kv.State) wire.Serving {
	switch {
	case s == kv.Live:
		return wire.ServingLive
	case s.Serves():
		return wire.ServingMarked
	}
	return wire.NotServing
}

// Parts returns every partition as last shown, the system partition first.
func (m *Machine) Parts() []Part {
	out := make([]Part, 0, len(m.order))
	for _, id := range m.order {
		out = append(out, m.parts[id].Part)
	}
	return out
}

// Behind counts the dots that reports name and this node's copies have not seen,
// a partition's by the report that names most.
func (m *Machine) Behind() uint64 {
	var total uint64
	for _, id := range m.order {
		x := m.parts[id]
		if !x.Self || m.covers(x, func(string) bool { return true }) {
			continue
		}
		mine := m.cfg.Copies.Copy(id).Clock
		var most uint64
		for _, r := range x.reports {
			most = max(most, missing(mine, r.copy.Clock))
		}
		total += most
	}
	return total
}
