package core

import (
	"fmt"
	"slices"

	"edged.dev/edged/internal/kv"
)

// Loss is what an operator gives up who has a partition served of which every copy
// in reach is NEW: its answers will be "not found" for whatever its earlier copies
// held, unless one of those comes back.
type Loss struct {
	Partition kv.Partition
	Copies    []LossCopy // the owners' in order, then those of other members that hold it
	Refused   string     // why nothing is to be accepted, "" where it may be
}

// LossCopy is one copy of such a partition.
type LossCopy struct {
	Name    string
	Reached bool     // its node is connected, and has reported the copy
	Trust   kv.Trust // as reported
	Damaged bool     // as reported: what it holds stays with it, and comes to no owner
	Known   uint64   // writes that the copy was last known to have seen; 0: nothing is known
}

// Losses returns the partitions that this node owns and that do not serve here
// since the copy is NEW, and no owner is LIVE.
func (m *Machine) Losses() []Loss {
	var out []Loss
	for _, id := range m.order {
		x := m.parts[id]
		if id != kv.System && x.Self && !x.State.Serves() && x.Trust == kv.New && !m.ownerLive(x) {
			out = append(out, m.loss(x))
		}
	}
	return out
}

// Loss returns what is given up if a partition is to be served by this node's NEW
// copy, or why that is refused.
func (m *Machine) Loss(p kv.Partition) Loss {
	x := m.parts[p]
	switch {
	case x == nil || p == kv.System:
		return Loss{Partition: p, Refused: "there is no such partition"}
	case !x.Self:
		return Loss{Partition: p, Refused: fmt.Sprintf("this node does not own it; ask one of %v", x.Owners)}
	}
	return m.loss(x)
}

func (m *Machine) loss(x *part) Loss {
	l := Loss{Partition: x.Partition}
	names := slices.Clone(x.others)
	for _, name := range m.names {
		if _, holds := x.reports[name]; holds && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	refuse := func(format string, args ...any) {
		if l.Refused == "" {
			l.Refused = fmt.Sprintf(format, args...)
		}
	}
	switch {
	case x.State.Serves():
		refuse("this node's copy serves")
	case x.Trust != kv.New:
		refuse("this node's copy is %v: it is not lost", x.Trust)
	case m.ownerLive(x):
		refuse("an owner is live")
	}
	for _, name := range names {
		r, reported := x.reports[name]
		c := LossCopy{Name: name, Reached: reported && m.connected(name)}
		if c.Reached {
			c.Trust, c.Damaged = r.copy.Trust, r.copy.Damaged
		}
		if k := m.known[name][x.Partition]; k != nil {
			c.Known, _ = kv.Dots(k.clock.Spans())
		}
		l.Copies = append(l.Copies, c)
		switch {
		case c.Reached && c.Damaged: // it gives nothing, and so is no reason to wait
			if m.peers[name].serves(x.Partition) {
				refuse("%s serves what it has, marked", name)
			}
		case c.Reached && c.Trust != kv.New:
			refuse("%s has a copy that is %v: nothing is lost that it holds", name, c.Trust)
		case !c.Reached && m.connected(name):
			refuse("%s is there, and has not reported its copy yet", name)
		}
	}
	if !m.holdersAnswered(x) {
		refuse("not every connected member has answered yet")
	}
	return l
}

// decreed takes that this node's NEW copy was made WHOLE by an operator's word:
// every other owner learns of it by a HELLO, and follows by the rules.
func (m *Machine) decreed(p kv.Partition) {
	if m.parts[p] == nil {
		return
	}
	m.askAgain()
	m.emit(Note{Kind: "accept-loss", Partition: p, Text: "an operator has accepted the loss of every earlier copy; this node's is whole by that word"})
}
