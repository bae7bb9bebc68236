package core

import "edged.dev/edged/internal/kv"

// trust is the copy's, or what is on its way to its record.
func (m *Machine) trust(x *part) kv.Trust {
	t := m.cfg.Copies.Trust(x.Partition)
	switch {
	case !x.lost:
	case t == kv.Whole:
		return kv.Suspect
	default:
		x.lost = false
		m.askAgain() // who told it is told that it knows, before the copy is whole again
	}
	return t
}

// record has a copy's record say how far it may be trusted, unless it does and nothing
// else is on its way there: what the machine asks for becomes durable in its order, but
// later, and what the record says until then is not what it will say.
func (m *Machine) record(x *part, t kv.Trust) {
	if m.cfg.Copies.Trust(x.Partition) == t && (!x.recorded || x.record == t) {
		return
	}
	x.record, x.recorded = t, true
	m.emit(SetTrust{x.Partition, t})
}
