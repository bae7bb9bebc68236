package core

import (
	"fmt"

	"edged.dev/edged/transport/wire"
)

// breached takes note of a peer that broke the protocol.
func (m *Machine) breached(e Breached) {
	m.emit(Note{Kind: "alarm", Peer: e.Name, Text: fmt.Sprintf("%s broke the protocol (%s), and was hung up on: %s", e.Name, e.Breach, e.Text)})
	if p := m.peers[e.Name]; p != nil {
		p.shunTill, p.busyTill = m.now+BreachWait, m.now+shunEvery
	}
}

// shunned reports whether a peer is left alone in favour of any other that can give
// what a copy lacks.
func (m *Machine) shunned(x *part, p *peer) bool {
	if m.now >= p.shunTill {
		return false
	}
	for _, name := range m.names {
		q := m.peers[name]
		if q == p || !q.up || m.now < q.shunTill {
			continue
		}
		r, told := x.reports[name]
		switch {
		case told && !r.copy.Damaged && !m.cfg.Copies.Covers(x.Partition, r.copy.Clock):
			return true // it has something to give, and what it lacks of the rest is asked afterwards
		case !told && q.serving(x.Partition) == wire.ServingLive:
			return true
		}
	}
	return false
}

// Asked reports whether a session of that number may have been begun here: by this
// process, or by a former one, whose lanes a donor may still open.
func (m *Machine) Asked(session uint64) bool { return session <= m.sessions }
