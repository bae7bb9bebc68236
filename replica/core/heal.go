package core

import (
	"slices"
	"strings"

	"edged.dev/edged/internal/kv"
)

const (
	// patience is how many attempts to heal wait for every owner's vote. After that
	// those decide that answer: an owner that is gone must not keep a copy damaged.
	patience = 5
	// healDoublings is how often the wait between two attempts, or between two
	// comparisons of what differs, is doubled at most: comparisons come to the pace of
	// the tick, attempts, each of which reads a whole copy, to one a minute.
	healDoublings = 9
	healEvery     = 6 * TickEvery
)

// Healing is how far the healing of a copy (L4) has come.
type healing struct {
	running bool
	unfit   bool   // a look found that the copy does not hold what its record says
	at      int64  // the next attempt
	tries   int    // attempts since the last that succeeded
	bad     int    // comparisons that found a difference, since the last that did not
	next    int64  // the next comparison of a copy that differs
	found   string // by what it was noticed
}

// Events and effects of healing.
type (
	// Looked says that a look read a whole copy. Damaged is how many keys' records do
	// not fit each other, or do not fit the copy's own record.
	Looked struct {
		Partition kv.Partition
		Fit       bool
		Damaged   int
		Text      string // what was found
	}
	// Heal compares a copy with those of the owners named, has all of them vote on
	// what differs, and makes this node's copy what they decided. All: nothing is
	// decided while one of them does not answer. Every: they are all owners. Sole: so they
	// are, and no other member has a copy, so that what none of them has is lost.
	Heal struct {
		Partition kv.Partition
		Owners    []string // this node left out

		All, Every, Sole bool
	}
	// Healed brings what came of it.
	Healed struct {
		Partition kv.Partition
		Failed    bool // clocks were apart, or somebody did not answer; asked again
		Fit       bool // the copy holds what its record says, now
		Changed   int  // dots that were put in or taken out here
		More      bool // not all that differs fitted into one round
		Text      string
		Keys      []string // some of the keys and dots, for people
		LeftOut   []string // owners that held the vote up, as if they were away
	}
)

func (Looked) event() {}
func (Healed) event() {}
func (Heal) effect()  {}

func backOff(n int, most int64) int64 { return min(compareEvery<<min(n, healDoublings), most) }

// sick reports whether a copy is to be healed, as far as is known.
func (x *part) sick() bool { return x.heal.unfit || x.corrupt() }

// looked takes what a look found. A copy that does not hold what its record says
// stops serving, if there is another to serve: what it lost it would show as
// deleted.
func (m *Machine) looked(e Looked) {
	x := m.parts[e.Partition]
	if x == nil || !x.Self {
		return
	}
	if e.Fit {
		x.heal.unfit = x.heal.unfit && x.heal.running // the attempt under way says when it is over
		return
	}
	if !x.heal.unfit {
		m.emit(Note{Kind: "alarm", Partition: e.Partition, Text: "corruption: " + e.Text})
	}
	m.spoil(x, e.Text)
}

func (m *Machine) spoil(x *part, found string) {
	x.heal.unfit, x.heal.found = true, found
	if len(x.others) == 0 { // nobody to heal it from, nobody else to serve it
		if x.State == kv.Live && !m.complete(x) {
			m.enter(x, kv.Degraded, damagedAlone) // what it lost it shows as deleted: its answers are marked
		}
		return
	}
	if m.cfg.Copies.Trust(x.Partition) != kv.New {
		m.record(x, kv.Suspect)
	}
	if x.State == kv.Live && x.Partition != kv.System {
		m.catchUp(x, "a look found it damaged")
	}
}

// heals begins the attempts that are due, one a partition at a time.
func (m *Machine) heals() {
	for _, id := range m.order {
		x := m.parts[id]
		if !x.Self || !x.sick() || x.heal.running || m.now < x.heal.at {
			continue
		}
		h, ok := m.reach(x).Attempt(id, x.heal.tries)
		if !ok {
			x.heal.at = m.now + backOff(x.heal.tries, healEvery)
			if len(h.Owners) > 0 {
				x.heal.tries++
			}
			continue
		}
		x.heal.running = true
		m.emit(h)
	}
}

func (m *Machine) reach(x *part) Reach {
	return Reach{
		Owners: x.others, Members: m.parts[kv.System].others,
		Answers: func(name string) bool {
			p := m.peers[name]
			return p != nil && p.up && p.answered
		},
		Holds: func(name string) bool { return reported(x, m.peers[name]) },
	}
}

// Reach is whom a copy that is to be healed can ask, this node left out.
type Reach struct {
	Owners  []string // of the partition
	Members []string // all of them
	Answers func(name string) bool
	Holds   func(name string) bool // one that answers has told that it has a copy
}

// Attempt returns what the next attempt asks, behind so many that came to nothing; false:
// it waits for the owners that do not answer.
func (r Reach) Attempt(p kv.Partition, tries int) (h Heal, ok bool) {
	h.Partition = p
	for _, name := range r.Owners {
		if r.Answers(name) {
			h.Owners = append(h.Owners, name)
		}
	}
	h.All = tries < patience
	h.Every = len(h.Owners) == len(r.Owners)
	h.Sole = r.sole()
	return h, len(h.Owners) > 0 && (!h.All || h.Every)
}

// sole reports whether every other member has told what it holds, and none but owners
// has a copy.
func (r Reach) sole() bool {
	for _, name := range r.Members {
		if !r.Answers(name) || r.Holds(name) && !slices.Contains(r.Owners, name) {
			return false
		}
	}
	return true
}

func (m *Machine) healed(e Healed) {
	x := m.parts[e.Partition]
	if x == nil {
		return
	}
	for _, name := range e.LeftOut {
		m.emit(Note{Kind: "heal.left-out", Peer: name, Partition: e.Partition, Text: "it held up the vote on a damaged copy, which went on without it"})
	}
	h := &x.heal
	h.running = false
	if e.Failed {
		h.tries++
		h.at = m.now + backOff(h.tries, healEvery)
		return
	}
	h.tries++ // until a comparison says that it helped
	if e.More && e.Changed > 0 {
		h.tries = 0
	}
	h.at = m.now + backOff(h.tries, healEvery)
	h.unfit = !e.Fit
	if e.Changed == 0 && e.Text == "" {
		return // the odd one is another, who heals itself
	}
	m.took(x, "L4", "", "healed by the owners' vote: "+e.Text)
	m.emit(Note{Kind: "corruption", Partition: e.Partition, Text: strings.Join(append([]string{e.Text}, e.Keys...), "; ")})
	clear(x.equal)
	h.bad, h.next = 0, 0
	x.Verified = false
	x.doneBy = m.now + DoneWait
	for _, name := range x.others {
		if p := m.peers[name]; p != nil && p.up {
			m.emit(Compare{name, []kv.Partition{e.Partition}})
		}
	}
}

// agreed and disagreed note a comparison at equal clocks, and space the next ones
// of what differs.
func (x *part) agreed() {
	x.heal.bad, x.heal.next = 0, 0
	if !x.sick() {
		x.heal.tries = 0
	}
}

func (m *Machine) disagreed(x *part) {
	x.heal.bad++
	x.heal.next = m.now + backOff(x.heal.bad, TickEvery)
}
