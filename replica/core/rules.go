package core

import (
	"fmt"
	"slices"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/internal/layout"
	"edged.dev/edged/transport/wire"
)

// settleAll brings every partition's state, every question and every session in
// line with what is known now.
func (m *Machine) settleAll() {
	if m.layout == nil && len(m.parts) == 0 {
		return
	}
	for _, id := range m.order {
		m.settle(m.parts[id])
	}
	m.settlePlan()
	for _, name := range m.names {
		m.schedule(m.peers[name])
	}
	m.askLeads()
	m.heals()
	m.settleHolds()
	m.settleSeals()
	m.show()
}

func (m *Machine) settle(x *part) {
	x.Trust = m.trust(x)
	m.claim(x)
	switch {
	case m.fenced:
		m.fence(x)
	case x.Self:
		m.settleState(x)
	}
	x.Until = m.lease(x) // of the state it now has
	m.lead(x)
	x.StandIns = m.standIns(x)
}

func (m *Machine) settleState(x *part) {
	switch x.State {
	case kv.Cold, kv.CatchingUp:
		m.settleBehind(x)
	case kv.Live:
		if x.suspect != 0 && m.now >= x.suspect+SuspectWait {
			x.suspect = 0
			m.enter(x, kv.Isolated, "no other owner answers")
		}
	case kv.Isolated, kv.Degraded:
		if m.isLive(x) {
			m.enter(x, kv.Live, "its clock covers the other owners'")
		} else if x.contact && m.ownerLive(x) {
			m.catchUp(x, "an owner is live again")
		}
	}
}

// settleBehind decides whether a copy that does not serve may begin to.
func (m *Machine) settleBehind(x *part) {
	if m.isLive(x) {
		if m.mayServe(x) {
			m.enter(x, kv.Live, "its clock covers the other owners'")
		}
		return
	}
	if len(x.others) == 0 {
		m.settleSole(x)
		return
	}
	if m.ownerLive(x) || x.sick() && m.now < x.began+DegradedAfter {
		return
	}
	covers := m.coversGiven(x)
	if x.Trust == kv.Whole && !m.reachable(x) && x.contact && covers {
		m.enter(x, kv.Isolated, "no other owner answers any more")
		return
	}
	if m.now < x.began+DegradedAfter || !covers || x.pull != "" {
		return
	}
	if x.Trust == kv.Whole || x.Trust == kv.Suspect && !m.wholeReachable(x) {
		m.enter(x, kv.Degraded, "too few owners answered")
	}
}

func (m *Machine) enter(x *part, s kv.State, reason string) {
	if x.State == s {
		return
	}
	x.State, x.Reason = s, reason
	if s == kv.Live {
		m.arrived(x, reason)
		x.suspect, x.doneBy, x.lost = 0, 0, false
		mine := m.cfg.Copies.Copy(x.Partition)
		if n := mine.Clock.Len(); n >= kv.MaxActors {
			m.emit(Note{
				Kind: "alarm", Partition: x.Partition,
				Text: fmt.Sprintf("its clock has %d actors, and %d are a lot: every restart of an owner adds one, and they are sealed only while every member is there; a member that does not return is to be forgotten", n, kv.MaxActors),
			})
		}
		if !x.claims.quarantined {
			m.record(x, kv.Whole)
		}
	}
	if s == kv.Isolated || s == kv.Degraded {
		x.contact = false
		x.reports = map[string]report{}
		x.asked = m.now
		m.askAgain()
	}
	m.emit(Note{Kind: "partition.state", Partition: x.Partition, Text: s.String() + ": " + reason})
}

// catchUp makes a copy stop serving and ask every owner anew.
func (m *Machine) catchUp(x *part, reason string) {
	x.State, x.Reason = kv.CatchingUp, reason
	x.began, x.asked, x.suspect = m.now, m.now, 0
	x.Verified, x.contact, x.Path = false, false, ""
	x.reports = map[string]report{}
	m.askAgain()
	m.emit(Note{Kind: "partition.state", Partition: x.Partition, Text: kv.CatchingUp.String() + ": " + reason})
}

func (m *Machine) askAgain() {
	for _, p := range m.peers {
		p.hello, p.answered = false, false
	}
}

// lease returns until when the copy may answer: the PONGs of max(1, W-1) other
// owners, by when their PINGs were sent. The system partition is read by its own
// node alone, and needs none.
func (m *Machine) lease(x *part) int64 {
	switch {
	case x.State != kv.Live:
		return Forever // marked answers need none
	case x.suspect != 0:
		return min(x.Until, x.suspect-1) // over, until the copy has been level with an owner again
	}
	return m.liveUntil(x)
}

// liveUntil is the lease that the copy has, or would have as a LIVE one.
func (m *Machine) liveUntil(x *part) int64 {
	if len(x.others) == 0 || x.Partition == kv.System {
		return Forever
	}
	need := max(1, m.w(x)-1)
	var buf [layout.MaxCopies]int64
	pongs := buf[:0]
	for _, name := range x.others {
		if p := m.peers[name]; p != nil && p.pongAt > 0 {
			pongs = append(pongs, p.pongAt)
		}
	}
	slices.Sort(pongs)
	if len(pongs) < need {
		return 0
	}
	return pongs[len(pongs)-need] + Lease
}

func (m *Machine) w(x *part) int { return min(m.cfg.W, len(x.Owners)) }

// noticeLapses looks at the leases before anything else is taken in: an answer
// to what was asked after a pause must not renew a lease that the pause ended.
func (m *Machine) noticeLapses() {
	for _, id := range m.order {
		m.lapsed(id)
	}
}

// stoodStill forgets what was reported to copies that have no lease to lapse: this
// process did nothing for a while (time passes in small steps otherwise), and the
// reports may be of before.
func (m *Machine) stoodStill() {
	for _, x := range m.parts {
		if x.Self && x.State != kv.Live {
			x.asked, x.contact = m.now, false
			clear(x.reports)
			m.askAgain()
		}
	}
}

// lapsed notes that the lease of a LIVE copy is over: the owners are asked, and
// after SuspectWait without an answer it is ISOLATED.
func (m *Machine) lapsed(id kv.Partition) {
	x := m.parts[id]
	if x == nil || x.State != kv.Live || x.suspect != 0 || m.now <= x.Until {
		return
	}
	x.suspect = m.now
	if !m.pinged {
		m.pinged = true
		m.emit(PingAll{})
	}
}

// contactAgain takes the first sign of life after a lapse. What was written
// meanwhile is not known, so the copy stops serving if another owner does.
func (m *Machine) contactAgain(x *part) {
	x.suspect = 0
	if sys := m.parts[kv.System]; sys != nil && sys.State == kv.Live && m.ownerLive(sys) {
		m.catchUp(sys, "a lease had lapsed") // policies may have been bound meanwhile
	}
	if x.State != kv.Live {
		return
	}
	if m.ownerLive(x) {
		m.catchUp(x, "the lease had lapsed")
		return
	}
	m.enter(x, kv.Isolated, "the lease had lapsed and no owner is live")
	x.contact = true
}

// fresh reports whether a peer's STATE is believed.
func (m *Machine) fresh(p *peer) bool {
	return p != nil && p.up && (p.pongAt+Fresh > m.now || p.upAt+Fresh > m.now)
}

func (p *peer) serving(id kv.Partition) wire.Serving {
	if id == kv.System {
		return p.state.System
	}
	if int(id) < len(p.state.Parts) {
		return p.state.Parts[id]
	}
	return wire.NotServing
}

// ownerLive reports whether some other owner is believed LIVE.
func (m *Machine) ownerLive(x *part) bool {
	for _, name := range x.others {
		if p := m.peers[name]; m.fresh(p) && p.serving(x.Partition) == wire.ServingLive {
			return true
		}
	}
	return false
}

func (m *Machine) reachable(x *part) bool {
	for _, name := range x.others {
		if m.fresh(m.peers[name]) {
			return true
		}
	}
	return false
}

// wholeReachable reports whether a whole copy is in reach that has all that this one
// has: one that lacks something would not serve either, and cannot get it from a copy
// that is damaged.
func (m *Machine) wholeReachable(x *part) bool {
	mine := m.cfg.Copies.Copy(x.Partition).Clock
	for name, r := range x.reports {
		if r.copy.Trust == kv.Whole && m.fresh(m.peers[name]) && r.copy.Clock.Covers(mine) {
			return true
		}
	}
	return false
}

// covers reports whether the copy's durable clock covers the reports of those
// peers that count.
func (m *Machine) covers(x *part, counts func(name string) bool) bool {
	for name, r := range x.reports {
		if counts(name) && !m.cfg.Copies.Covers(x.Partition, r.copy.Clock) {
			return false
		}
	}
	return true
}

// coversGiven is what a copy that is to serve marked must cover: all that was reported,
// but for a damaged copy of a member that is no owner. That one is streamed to nobody and
// healed by nobody, so that who waited for what it has more would wait for ever.
func (m *Machine) coversGiven(x *part) bool {
	return m.covers(x, func(name string) bool { return !x.reports[name].copy.Damaged || slices.Contains(x.others, name) })
}

func (m *Machine) connected(name string) bool {
	p := m.peers[name]
	return p != nil && p.up
}

// isLive decides LIVE by rule (a) or (b), after the answer to DONE or its wait.
func (m *Machine) isLive(x *part) bool {
	switch {
	case m.complete(x):
		return true
	case x.sick():
		return false
	case x.Partition == kv.System:
		return m.systemLive(x)
	case len(x.others) == 0:
		return m.soleLive(x)
	}
	if !m.byAll(x) && !m.byWhole(x) || m.now > m.liveUntil(x) { // with no lease it would lapse at once
		return false
	}
	return m.now >= x.doneBy
}

// byAll is rule (a): every other owner and every reachable holder has reported,
// all of it is covered, and not all of these copies are NEW. Where all owners are
// new, a former one that still holds the partition founds them.
func (m *Machine) byAll(x *part) bool {
	for _, name := range x.others {
		if _, ok := x.reports[name]; !ok {
			m.askForReport(name)
			return false
		}
	}
	counts := func(name string) bool { return m.connected(name) || slices.Contains(x.others, name) }
	anyOld := x.Trust != kv.New
	for name, r := range x.reports {
		anyOld = anyOld || counts(name) && r.copy.Trust != kv.New
	}
	if !anyOld {
		m.askWhoIsLive(x)
	}
	return anyOld && m.holdersAnswered(x) && m.covers(x, counts)
}

// askForReport asks an owner again that answered and told of no copy: it answered
// before it knew the layout that makes it an owner, and its own HELLO may have come
// before its answer.
func (m *Machine) askForReport(name string) {
	if p := m.peers[name]; p != nil && p.up && p.answered && m.now >= p.askedAt+AnswerWait {
		p.hello = false
	}
}

// askWhoIsLive asks those owners again that reported NEW copies and say now that
// they are LIVE: a founder's copies become WHOLE a moment after it was asked, and
// nothing else would tell a newcomer so while clocks stay equal.
func (m *Machine) askWhoIsLive(x *part) {
	for _, name := range x.others {
		if p := m.peers[name]; m.fresh(p) && p.answered && p.serving(x.Partition) == wire.ServingLive {
			p.hello = false
		}
	}
}

// byWhole is rule (b): the copy is WHOLE and covers max(1, N-W) other owners
// whose copies are WHOLE, every connected owner having answered or had its time.
func (m *Machine) byWhole(x *part) bool {
	if x.Trust != kv.Whole {
		return false
	}
	whole, answered := 0, true
	for _, name := range x.others {
		r, ok := x.reports[name]
		if ok && m.wholeAt(name, r.copy) && m.cfg.Copies.Covers(x.Partition, r.copy.Clock) && !m.liveSince(x, name, r) {
			whole++
		}
		if p := m.peers[name]; !ok && m.fresh(p) && !m.hadItsTime(x, p) {
			answered = false
		}
	}
	if whole < max(1, len(x.Owners)-m.w(x)) {
		return false
	}
	if !answered {
		return false
	}
	// What an owner that went since had more is not waited for, nor what a damaged copy
	// has, which gives nothing: N-W+1 whole copies meet every set of W acknowledgements.
	return m.holdersAnswered(x) && m.covers(x, func(name string) bool { return m.connected(name) && !x.reports[name].copy.Damaged })
}

// liveSince reports whether an owner has become LIVE since it told of its copy, and has it
// asked again: the copy may have been rolled back, which nobody had told it yet, and got
// back since what it had acknowledged.
func (m *Machine) liveSince(x *part, name string, r report) bool {
	p := m.peers[name]
	if r.copy.State == kv.Live || !m.fresh(p) || p.serving(x.Partition) != wire.ServingLive {
		return false
	}
	if p.answered {
		p.hello = false
	}
	return true
}

// holdersAnswered reports whether every connected member, owner of the partition
// or not, has answered HELLO, or had its time: who holds it has then reported.
func (m *Machine) holdersAnswered(x *part) bool {
	for _, p := range m.peers {
		if p.up && (!p.hello || !p.answered) && !m.hadItsTime(x, p) {
			return false
		}
	}
	return true
}

// hadItsTime reports whether a connected peer was waited for long enough: since
// the question, and since it connected, for it may have come long after that.
func (m *Machine) hadItsTime(x *part, p *peer) bool {
	return m.now >= max(x.asked, p.upAt)+AnswerWait
}

// systemLive is the rule of the system partition: its clock covers one LIVE
// member's; or, with none for 5 s, those of all that answered, if it knows of others: a
// newcomer's part of it may not name them.
func (m *Machine) systemLive(x *part) bool {
	for name, r := range x.reports {
		if !m.cfg.Copies.Covers(kv.System, r.copy.Clock) {
			continue
		}
		if r.copy.State == kv.Live {
			return true
		}
		if p := m.peers[name]; m.fresh(p) && p.answered && p.serving(kv.System) == wire.ServingLive {
			p.hello = false // it became LIVE since it was asked
		}
	}
	if len(x.others) == 0 || m.now < x.began+DegradedAfter || m.ownerLive(x) {
		return false
	}
	return m.covers(x, func(string) bool { return true })
}

// lead decides whether this node may supersede by its own copy alone: it is first
// and LIVE, and since then its durable clock has covered those that N-W other
// LIVE owners reported.
func (m *Machine) lead(x *part) {
	m.servingOrder(x)
	if x.State != kv.Live || x.First != m.cfg.Self {
		x.first, x.Lead, x.leadClock = 0, false, nil
		return
	}
	if x.first == 0 {
		x.first, x.leadClock = max(m.now, 1), map[string]kv.Clock{}
		x.Term++
	}
	covered, lacks := 0, false
	for name, c := range x.leadClock {
		switch {
		case !m.cfg.Copies.Covers(x.Partition, c):
			lacks = true
		case slices.Contains(x.Live, name):
			covered++
		}
	}
	x.Lead = !lacks && (x.Lead || covered >= len(x.Owners)-m.w(x))
}

// doubted ends the lead: if this node is first all the same, it asks for it anew.
// An owner that connects ends it too: others may have held that one to be first while
// it was out of this node's sight, and have acknowledged what this copy lacks.
func (m *Machine) doubted(p kv.Partition) {
	if x := m.parts[p]; x != nil {
		x.first, x.Lead = 0, false
	}
}

// servingOrder notes who serves a partition in this node's view: LIVE owners in
// rendezvous order, then those that serve marked. The lists are made anew where they
// change alone: what was shown keeps them.
func (m *Machine) servingOrder(x *part) {
	serving, live, marked := m.serving[:0], m.live[:0], m.marked[:0]
	for _, name := range x.Owners {
		s := wire.NotServing
		if name == m.cfg.Self {
			s = ServingOf(x.State)
		} else if p := m.peers[name]; m.fresh(p) {
			s = p.serving(x.Partition)
		}
		switch s {
		case wire.ServingLive:
			serving = append(serving, name)
			if name != m.cfg.Self {
				live = append(live, name)
			}
		case wire.ServingMarked:
			marked = append(marked, name)
		}
	}
	serving = append(serving, marked...)
	m.serving, m.live, m.marked = serving, live, marked
	if !slices.Equal(x.Serving, serving) {
		x.Serving = slices.Clone(serving)
	}
	if !slices.Equal(x.Live, live) {
		x.Live = slices.Clone(live)
	}
	x.First = ""
	if len(serving) > 0 {
		x.First = serving[0]
	}
}
