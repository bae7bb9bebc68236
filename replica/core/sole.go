package core

import (
	"slices"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/transport/wire"
)

// A partition with one owner has nobody to be level with, and yet is not complete by
// itself: where there are more members, one of them owned it before, and has it.

// complete reports whether a copy has whatever there is: no other member has ever been in
// the layout, or, of the system partition, none is left. A newcomer cannot tell so by a
// layout: it may have been read from a part of the system partition, with more to come.
func (m *Machine) complete(x *part) bool {
	switch {
	case len(x.others) > 0:
		return false
	case x.Partition == kv.System:
		return !m.newcomer || x.Trust != kv.New
	}
	return len(m.zones) == 1 && !m.newcomer
}

// comesNew reports, of the first layout, whether this process began with less than a
// whole system partition that others wrote. A founder wrote its own, and has it.
func (m *Machine) comesNew(members []string) bool {
	if m.cfg.Copies.Trust(kv.System) != kv.New || m.damaged[kv.System] {
		return false
	}
	mine := m.cfg.Copies.Copy(kv.System).Clock
	return !slices.Contains(members, m.cfg.Self) ||
		slices.ContainsFunc(mine.Spans(), func(s kv.Span) bool { return s.Actor.Node != m.cfg.Node })
}

// soleLive is rule (a) of a sole owner among several members. Every connected member has
// answered, without a limit of time, since whoever held the partition before may be any;
// none of those that hold it serves it any more, so that what it acknowledges is in the
// clock that it told; all of that is covered; and some copy is not NEW.
func (m *Machine) soleLive(x *part) bool {
	old := x.Trust != kv.New
	for _, p := range m.peers {
		if !p.up {
			continue
		}
		r, holds := x.reports[p.name]
		if !p.hello || !p.answered || holds && m.stillServes(x, p, r) {
			return false
		}
		old = old || holds && r.copy.Trust != kv.New
	}
	if !old {
		m.askHolders(x)
		return false
	}
	return m.covers(x, m.connected) && (x.Trust != kv.New || !m.newerAway(x)) && m.now >= x.doneBy
}

// stillServes reports whether a former owner served when it was last asked: it does not
// know yet that it is none. Once its STATE says that it has ceased to, it is asked again.
func (m *Machine) stillServes(x *part, p *peer, r report) bool {
	if !r.copy.State.Serves() {
		return false
	}
	if !p.serves(x.Partition) {
		p.hello = false
	}
	return true
}

func (p *peer) serves(id kv.Partition) bool {
	s := p.serving(id)
	return s == wire.ServingLive || s == wire.ServingMarked
}

// askHolders asks those members again that say that they hold the partition and have
// told of no copy that is not NEW: a founder's becomes WHOLE a moment after it is LIVE.
func (m *Machine) askHolders(x *part) {
	for _, p := range m.peers {
		if p.up && p.answered && p.serving(x.Partition) == wire.StandIn && m.now >= p.askedAt+AnswerWait {
			p.hello = false
		}
	}
}

// newerAway reports whether a member is away that may have owned the partition after
// those that have told of a copy: members that join take over from whoever is next in
// the order of placement, so that of two copies the one further ahead is the newer.
func (m *Machine) newerAway(x *part) bool {
	members := m.parts[kv.System].others
	for name, r := range x.reports {
		if m.connected(name) && r.copy.Trust != kv.New && !slices.Contains(members, name) {
			return false // it owned the partition until it left
		}
	}
	for _, name := range m.behind(x) {
		if !m.connected(name) {
			return true
		}
		if r, holds := x.reports[name]; holds && r.copy.Trust != kv.New {
			return false
		}
	}
	return false
}

// behind is the order of placement behind the owners.
func (m *Machine) behind(x *part) []string {
	if x.next == nil {
		x.next = slices.DeleteFunc(m.layout.Order(uint32(x.Partition)), func(n string) bool { return slices.Contains(x.Owners, n) })
	}
	return x.next
}

// settleSole decides whether a sole owner's copy that is not LIVE serves marked: a
// damaged one at once, for nobody else can, and one that was kept from LIVE as long as
// one among several owners. A NEW one does not.
func (m *Machine) settleSole(x *part) {
	if x.Trust == kv.New || x.pull != "" || !m.coversGiven(x) {
		return
	}
	for _, p := range m.peers {
		if p.up && p.serves(x.Partition) {
			return
		}
	}
	switch {
	case x.sick():
		m.enter(x, kv.Degraded, damagedAlone)
	case m.now < x.began+DegradedAfter:
	case !m.covers(x, func(string) bool { return true }):
		m.enter(x, kv.Degraded, "a former owner's damaged copy has more, and gives nothing")
	default:
		m.enter(x, kv.Degraded, "too few members answered")
	}
}

const damagedAlone = "it is damaged, and there is no other copy"
