package core

import (
	"cmp"
	"slices"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/transport/wire"
)

// Known is what a peer's copy of a partition said is on stable storage there, by
// one of its incarnations, and whether that copy was rolled back and does not say
// so yet (R8). The two are one record, so that what was known is never replaced
// without the word that it was lost.
type Known struct {
	Partition kv.Partition
	Peer      string
	Actor     kv.Actor
	Clock     kv.Clock
	Lost      bool
}

// known is the same in the machine, whose own the clock is.
type known struct {
	actor  kv.Actor
	clock  kv.Clock
	lost   bool
	dirty  bool // not handed out since it changed
	urgent bool // lost changed since then
}

func (k *known) setLost(lost bool) {
	k.urgent = k.urgent || k.lost != lost
	k.lost = lost
}

// know remembers what a peer said is durable there, for R8. A process that only answers
// HELLOs says none itself: what it holds beyond that of an earlier one would be
// remembered of neither.
func (m *Machine) know(name string, copies []wire.CopyClock) {
	of := m.knownOf(name)
	for _, c := range copies {
		k := of[c.Partition]
		switch {
		case m.noSuch(c.Partition):
		case k == nil:
			of[c.Partition] = &known{actor: c.Actor, clock: c.Clock.Clone(), dirty: true}
		case k.actor == c.Actor:
			k.clock.Join(c.Clock)
			k.dirty = true
		case !k.lost && m.runs(name, c.Actor) && c.Clock.Covers(k.clock): // that it holds less, only a HELLO may tell
			k.actor, k.clock, k.dirty = c.Actor, c.Clock.Clone(), true
		}
	}
}

// noSuch reports whether a partition is none of the cluster's: a peer may name as many
// of those as it likes.
func (m *Machine) noSuch(p kv.Partition) bool { return m.layout != nil && m.parts[p] == nil }

func (m *Machine) knownOf(name string) map[kv.Partition]*known {
	k := m.known[name]
	if k == nil {
		k = map[kv.Partition]*known{}
		m.known[name] = k
	}
	return k
}

// Greet takes the clock that a peer's HELLO reports of its copy, which replaces
// what was known of it, and returns whether the copy was rolled back (R8). It is
// told so until it reports that it is not whole.
//
// Only another incarnation can hold less: a running one's durable clock grows,
// and a HELLO may be overtaken by an ACK that was sent behind it.
func (m *Machine) Greet(name string, c wire.CopyClock) (lost bool) {
	if m.noSuch(c.Partition) {
		return false
	}
	of := m.knownOf(name)
	k := of[c.Partition]
	switch {
	case k == nil:
		k = &known{actor: c.Actor, clock: c.Clock.Clone()}
		of[c.Partition] = k
	case k.actor == c.Actor:
		k.clock.Join(c.Clock)
	case k.actor.Node == c.Actor.Node && k.actor.Boot > c.Actor.Boot && !m.runs(name, c.Actor):
		return k.lost // late, of a process that is gone
	default:
		k.setLost(k.lost || !c.Clock.Covers(k.clock))
		k.actor, k.clock = c.Actor, c.Clock.Clone()
	}
	k.dirty = true
	if c.Trust != kv.Whole {
		k.setLost(false)
	}
	return k.lost
}

// runs reports whether an actor is of the process that is connected under a name:
// a directory that was rolled back, on a machine whose clock was too, begins with
// a boot number below the one that is known.
func (m *Machine) runs(name string, a kv.Actor) bool {
	p := m.peers[name]
	return p != nil && p.up && p.node == a.Node && p.boot == a.Boot
}

// wholeAt reports whether a peer's copy counts as WHOLE: it says so, and this node
// does not remember more of it than it reports, so that it was rolled back (R8).
func (m *Machine) wholeAt(name string, c wire.CopyClock) bool {
	k := m.known[name][c.Partition]
	switch {
	case c.Trust != kv.Whole || c.Damaged:
		return false
	case k == nil:
		return true
	}
	return !k.lost && (k.actor == c.Actor || c.Clock.Covers(k.clock))
}

// knownAt names one record.
type knownAt struct {
	name string
	p    kv.Partition
}

func (a knownAt) compare(b knownAt) int {
	return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.p, b.p))
}

// TakeKnown hands out, once, what changed of what is known of the peers and is to
// be made durable in time: most records at most, and the next call goes on behind
// them, so that none waits for ever.
func (m *Machine) TakeKnown(most int) []Known {
	var due []knownAt
	for name, of := range m.known {
		for p, k := range of {
			if k.dirty {
				due = append(due, knownAt{name, p})
			}
		}
	}
	slices.SortFunc(due, knownAt.compare)
	if len(due) > most {
		i, _ := slices.BinarySearchFunc(due, m.taken, knownAt.compare)
		due = slices.Concat(due[i:], due[:i])[:most]
		last := due[most-1]
		m.taken = knownAt{last.name, last.p + 1}
	}
	return m.hand(due)
}

// TakeLost hands out what is to be durable before a peer's HELLO is answered:
// where it was just found to be rolled back, or has just said that it knows.
func (m *Machine) TakeLost(name string) []Known {
	var due []knownAt
	for p, k := range m.known[name] {
		if k.urgent {
			due = append(due, knownAt{name, p})
		}
	}
	slices.SortFunc(due, knownAt.compare)
	return m.hand(due)
}

func (m *Machine) hand(due []knownAt) []Known {
	out := make([]Known, 0, len(due))
	for _, at := range due {
		k := m.known[at.name][at.p]
		k.dirty, k.urgent = false, false
		out = append(out, Known{Partition: at.p, Peer: at.name, Actor: k.actor, Clock: k.clock.Clone(), Lost: k.lost})
	}
	return out
}

// fence takes a copy of a process that has lost its place out of service.
func (m *Machine) fence(x *part) {
	if x.State.Serves() {
		x.State, x.Reason, x.Verified = kv.CatchingUp, "this process is fenced", false
		m.emit(Note{Kind: "partition.state", Partition: x.Partition, Text: x.State.String() + ": " + x.Reason})
	}
}
