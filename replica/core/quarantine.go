package core

import (
	"fmt"
	"slices"

	"edged.dev/edged/internal/kv"
)

// A quarantined copy has lost its clock and kept its entries. It rejoins by L3: the
// first donor is told what it holds, says which of that lives, and sends the rest; what
// that donor has seen and does not hold is dead. The others are asked by the clock that
// came of it. What no owner has seen is this copy's alone. It claims that, and lets
// others have it, when it is level with all of them.

const quarantineReason = "its clock was lost: what it holds is compared with the others' copies"

type (
	// Adopt lets a quarantined copy's clock claim what it holds.
	Adopt struct{ Partition kv.Partition }
	// Adopted says that it is durable, or that it Failed. Versions is how many there were.
	Adopted struct {
		Partition kv.Partition
		Versions  uint64
		Failed    bool
	}
)

func (Adopted) event() {}
func (Adopt) effect()  {}

// claims is how far a quarantined copy has come.
type claims struct {
	quarantined bool
	running     bool  // Adopt is under way
	again       int64 // the next attempt, after one that failed
}

// wentBoth notes the end of an L3 session.
func (m *Machine) wentBoth(x *part, e PartEnded) {
	m.took(x, "L3", e.Name, quarantineReason)
	m.bury(e, "had been deleted or overwritten as far as the donor knows")
}

// mayServe reports whether a copy that is level may serve: a quarantined one claims
// first what is left. The system partition does not wait for it, since it is level by
// one member's word, and must not hold up its node while another member is away.
func (m *Machine) mayServe(x *part) bool {
	return !x.claims.quarantined || x.Partition == kv.System
}

// claim lets a quarantined copy claim what it alone holds, once it covers what every
// other owner has reported, and everybody connected that may hold the partition.
func (m *Machine) claim(x *part) {
	if !x.claims.quarantined || x.claims.running || !x.Self || x.pull != "" || m.now < x.claims.again || x.sick() {
		return
	}
	for _, name := range x.others {
		if _, ok := x.reports[name]; !ok {
			return
		}
	}
	if !m.complete(x) && !(m.holdersAnswered(x) && m.covers(x, func(string) bool { return true }) && (m.anyOld(x) || m.soleLeft(x))) {
		return
	}
	x.claims.running = true
	m.emit(Adopt{x.Partition})
}

// anyOld reports whether some other copy is not NEW: to be level with new ones alone
// says nothing.
func (m *Machine) anyOld(x *part) bool {
	for _, r := range x.reports {
		if r.copy.Trust != kv.New {
			return true
		}
	}
	return false
}

// soleLeft reports whether a sole owner's copy is all that is left: every member has
// answered, none of them away, and what it is level with is all that they hold: none of
// their copies has lost its clock too, which then says less than the copy holds.
func (m *Machine) soleLeft(x *part) bool {
	for _, r := range x.reports {
		if r.copy.Quarantined {
			return false
		}
	}
	return len(x.others) == 0 && x.Partition != kv.System &&
		!slices.ContainsFunc(m.parts[kv.System].others, func(name string) bool { return !m.reach(x).Answers(name) })
}

func (m *Machine) adopted(e Adopted) {
	x := m.parts[e.Partition]
	if x == nil {
		return
	}
	asked := x.claims.running // else it is an operator's word, who makes it whole
	x.claims.running = false
	if e.Failed {
		x.claims.again = m.now + retryEvery
		return
	}
	x.claims.quarantined = false
	delete(m.damaged, e.Partition)
	if x.State == kv.Live { // the system partition's copy
		m.record(x, kv.Whole)
	}
	if asked && e.Versions > 0 && !m.anyOld(x) && m.soleLeft(x) {
		m.record(x, kv.Suspect) // not lost, as one that holds nothing may be
	}
	text := "its clock is whole again: nothing was its alone"
	if e.Versions > 0 {
		text = fmt.Sprintf("its clock is whole again: %d versions were its alone, and the others fetch them", e.Versions)
	}
	m.emit(Note{Kind: "partition.requalified", Partition: e.Partition, Text: text})
	for _, name := range x.others {
		if p := m.peers[name]; p != nil && p.up {
			m.emit(Compare{name, []kv.Partition{e.Partition}})
		}
	}
}
