package core

import (
	"maps"
	"slices"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/internal/layout"
	"edged.dev/edged/transport/wire"
)

func (m *Machine) handle(ev Event) {
	switch e := ev.(type) {
	case LayoutChanged:
		m.setLayout(e.Layout)
	case PeerUp:
		m.peerUp(e)
	case PeerDown:
		m.peerDown(e)
	case Stated:
		if p := m.peers[e.Name]; p != nil && p.up {
			p.state = e.State
		}
	case Ponged:
		m.ponged(e)
	case HelloAnswered:
		m.helloAnswered(e)
	case HelloAsked:
		m.learn(e.Name, e.Node, e.Copies)
		if p := m.peers[e.Name]; p != nil && p.up && !p.hello && m.content() {
			p.hello, p.answered = true, true // its clocks are here, and this node has nothing to ask
		}
	case PartEnded, PartsEnded:
		m.ended(e)
	case SessionEnded:
		m.sessionEnded(e)
	case DoneAnswered:
		m.doneAnswered(e)
	case DoneAsked:
		m.learn(e.Name, e.Node, e.Copies)
		m.know(e.Name, e.Copies)
	case PeerEqual:
		m.compared(e.Name, wire.DoneAck{Compared: e.Parts})
	case Acked:
		m.know(e.Name, e.Copies)
		if p := m.peers[e.Name]; p != nil {
			p.ackAt = m.now
		}
	case ClocksAnswered:
		m.clocksAnswered(e)
	case TickAnswered:
		m.tickAnswered(e)
	case Doubted:
		m.doubted(e.Partition)
	case Lapsed:
		m.lapsed(e.Partition)
	case Fenced:
		m.fenced = true
	case Decreed:
		m.decreed(e.Partition)
	case Planning:
		m.setPlanning(e.On)
	case Planned:
		m.planned(e)
	case Looked:
		m.looked(e)
	case Healed:
		m.healed(e)
	case Passed:
	default:
		m.handlePeer(ev)
	}
}

// handlePeer takes what concerns one peer and settles little.
func (m *Machine) handlePeer(ev Event) {
	switch e := ev.(type) {
	case TickEqual:
		if p := m.process(e.Name, e.Boot); p != nil {
			m.level(p, e.Copies)
		}
	case Breached:
		m.breached(e)
	case StreamBroke:
		if p := m.peers[e.Name]; p != nil {
			p.tickAt = m.now + settle
		}
	default:
		m.handleHolding(ev)
	}
}

// setLayout takes a layout: partitions that come to this node begin as
// CATCHING_UP, those that go are left alone (their data stays until dropped).
func (m *Machine) setLayout(l *layout.Layout) {
	first := m.layout == nil
	m.layout = l
	m.zones = map[string]string{}
	var names []string
	for _, mem := range l.Members() {
		m.zones[mem.Name] = mem.Zone
		if mem.Status == layout.Active {
			names = append(names, mem.Name)
		}
	}
	if first {
		m.newcomer = m.comesNew(names)
	}
	m.setPart(kv.System, names)
	for p := range uint32(l.Partitions()) {
		m.setPart(kv.Partition(p), l.Owners(p))
	}
	for _, x := range m.parts { // what a former member reported went with it
		for name := range x.reports {
			if p := m.peers[name]; !slices.Contains(names, name) && (p == nil || !p.up) {
				delete(x.reports, name)
			}
		}
	}
}

func (m *Machine) setPart(p kv.Partition, owners []string) {
	x := m.parts[p]
	if x == nil {
		x = &part{
			Part: Part{Partition: p, Until: Forever}, reports: map[string]report{}, equal: map[string]bool{},
			began: m.now, asked: m.now,
		}
		x.claims.quarantined = m.damaged[p]
		m.parts[p] = x
		i, _ := slices.BinarySearchFunc(m.order, p, func(a, b kv.Partition) int { return int(int64(a+1) - int64(b+1)) })
		m.order = slices.Insert(m.order, i, p) // System, the largest number, wraps to the front
	}
	x.next = nil
	if slices.Equal(x.Owners, owners) && x.Owners != nil {
		return
	}
	had := x.Self
	x.Owners = slices.Clone(owners)
	x.Self = slices.Contains(owners, m.cfg.Self)
	x.others = slices.DeleteFunc(slices.Clone(owners), func(n string) bool { return n == m.cfg.Self })
	maps.DeleteFunc(x.equal, func(name string, _ bool) bool { return !slices.Contains(owners, name) })
	if x.Self {
		m.hold(p)
	}
	if x.Self && !had {
		x.State, x.began, x.asked = kv.CatchingUp, m.now, m.now
		x.contact, x.Verified, x.Path = false, false, ""
		clear(x.reports) // of when others owned it: what came since is in none of them
		x.Reason = "not synced yet"
		if x.claims.quarantined {
			x.Reason = quarantineReason
		}
	}
	m.askAgain() // a new owner learns by this node's HELLO what it is to fetch
	if !x.Self && p != kv.System {
		x.State = kv.Cold
	}
	x.first, x.Lead = 0, false
}

func (m *Machine) peerUp(e PeerUp) {
	p := m.peers[e.Name]
	if p == nil {
		p = &peer{name: e.Name}
		m.peers[e.Name] = p
		i, _ := slices.BinarySearch(m.names, e.Name)
		m.names = slices.Insert(m.names, i, e.Name)
	}
	m.dropPulls(p)
	again := p.boot == e.Boot && p.node == e.Node
	if !again {
		m.forget(e.Name)
	}
	busyTill := p.busyTill
	*p = peer{
		name: e.Name, node: e.Node, boot: e.Boot, up: true, upAt: m.now, tickAt: m.nextTick(), pongAt: p.pongAt,
		since: m.sessions, leaveIt: m.now + courtesy, shunTill: p.shunTill,
	}
	if p.shunTill > m.now { // a new connection makes it no more honest
		p.busyTill = busyTill
	}
	for _, x := range m.parts {
		if slices.Contains(x.others, e.Name) {
			m.doubted(x.Partition)
		}
	}
	if again { // nobody returns: what the connection lost is looked for at once
		p.leaveIt = m.now
	}
}

// forget drops what an earlier process of a peer said of its copies: this one may
// hold less.
func (m *Machine) forget(name string) {
	for _, x := range m.parts {
		delete(x.reports, name)
		delete(x.equal, name)
		delete(x.leadClock, name)
	}
}

func (m *Machine) peerDown(e PeerDown) {
	p := m.peers[e.Name]
	if p == nil || p.boot != e.Boot {
		return
	}
	p.up, p.hello, p.answered, p.state = false, false, false, wire.State{}
	m.dropPulls(p)
}

// dropPulls forgets the sessions under way from a peer.
func (m *Machine) dropPulls(p *peer) {
	p.asking = 0
	m.mourn(p.name)
	for _, x := range m.parts {
		if x.pull == p.name {
			x.pull, x.session = "", 0
		}
	}
}

func (m *Machine) nextTick() int64 {
	return m.now + TickEvery*3/4 + int64(m.cfg.Jitter()%uint64(TickEvery/2))
}

func (m *Machine) ponged(e Ponged) {
	if p := m.peers[e.Name]; p != nil {
		p.load, p.loadTold = e.Load, true
		m.heard(p, e.Stamp)
	}
}

// heard takes a peer's answer to what it was asked at a time: a PONG, or the
// answer to a HELLO.
func (m *Machine) heard(p *peer, askedAt int64) {
	p.pongAt = max(p.pongAt, askedAt)
	for _, id := range m.order {
		x := m.parts[id]
		if x.suspect != 0 && askedAt >= x.suspect && slices.Contains(x.others, p.name) {
			m.contactAgain(x)
		}
	}
}

func (m *Machine) helloAnswered(e HelloAnswered) {
	p := m.peers[e.Name]
	if p == nil || !p.up || e.Session <= p.since { // of a connection that took its pulls with it
		return
	}
	p.asking = max(0, p.asking-1)
	if e.Failed || e.Ack.Code == wire.HelloBusy {
		p.busyTill = m.now + 2*retryEvery
		p.hello = p.hello && p.answered && !e.Failed // what was not told is asked again
		m.unpull(e.Session, e.Wants)
		return
	}
	m.heard(p, e.AskAt)
	p.answered = p.answered || e.AskAt >= p.askedAt
	streamed := map[kv.Partition]bool{}
	for _, c := range e.Ack.Copies {
		streamed[c.Partition] = !c.Damaged && !c.Quarantined
		m.report(p, c, e.AskAt)
		if c.Lost {
			m.told(c.Partition)
		}
	}
	for _, c := range e.Ack.Equal {
		m.levelWith(p, c, e.AskAt)
	}
	var not []kv.Partition
	for _, id := range e.Wants {
		if !streamed[id] {
			not = append(not, id)
		}
	}
	m.unpull(e.Session, not)
	if len(not) == len(e.Wants) { // else the lane's end says DONE
		m.emit(SendDone{e.Name, e.Session})
	}
}

// levelWith takes a peer's word that its clock equals the one this copy told, which
// may have grown since.
func (m *Machine) levelWith(p *peer, c wire.CopyClock, askAt int64) {
	x := m.parts[c.Partition]
	if x == nil {
		return
	}
	m.report(p, c, askAt)
	if x.Self || c.Partition == kv.System {
		if x.Path == "" {
			m.took(x, "L0", p.name, "clocks are equal")
		}
		x.doneBy = m.now + DoneWait
	}
}

func (m *Machine) unpull(session uint64, parts []kv.Partition) {
	for _, id := range parts {
		if x := m.parts[id]; x != nil && x.session == session {
			x.pull, x.session = "", 0
		}
	}
}

// report takes what a peer says of its copy, asked for at askAt.
func (m *Machine) report(p *peer, c wire.CopyClock, askAt int64) {
	m.outlived(c)
	m.know(p.name, []wire.CopyClock{c})
	x := m.parts[c.Partition]
	if x == nil || askAt < x.asked {
		return
	}
	x.reports[p.name] = report{c, m.gapSince(x, p.name), p.node}
	x.contact = true
}

// gapSince is since when a peer is known to have more than this copy: a new report
// does not begin the wait anew for what the last one told of.
func (m *Machine) gapSince(x *part, name string) int64 {
	if r, ok := x.reports[name]; ok && !m.cfg.Copies.Covers(x.Partition, r.copy.Clock) {
		return r.at
	}
	return m.now
}

// told takes a peer's word that this copy was rolled back (R8). From this moment
// it is suspect, whatever its record still says, and serves no more until it is
// level with all.
func (m *Machine) told(id kv.Partition) {
	x := m.parts[id]
	if x != nil && m.cfg.Copies.Trust(id) == kv.Whole && !x.lost {
		x.lost = true
		x.Trust = kv.Suspect
		m.record(x, kv.Suspect)
		if x.State.Serves() && x.Self && id != kv.System {
			m.catchUp(x, "it was rolled back")
		}
		m.emit(Note{Kind: "alarm", Partition: id, Text: "a peer remembers more of this copy than it holds: it was rolled back, and is suspect until it is level"})
	}
}

// learn takes clocks that a peer sent unasked: they show what to pull, and are
// no reports for LIVE, which must have been asked for.
func (m *Machine) learn(name string, node kv.NodeID, copies []wire.CopyClock) {
	for _, c := range copies {
		m.outlived(c)
		x := m.parts[c.Partition]
		if x == nil {
			continue
		}
		p := m.peers[name]
		if r, ok := x.reports[name]; ok && r.node == node {
			r.copy, r.at = m.newer(x, p, r.copy, c), m.gapSince(x, name)
			x.reports[name] = r
			continue
		}
		switch {
		case p == nil || !p.up:
		case x.State == kv.Live || x.Partition == kv.System:
			x.reports[name] = report{c, m.now, node}
		case x.Self && p.answered: // it had no such copy when it was asked
			p.hello = false
		}
	}
}

// newer returns what stands as reported of a peer's copy when it tells unasked of that.
// It may have been sent before the answer and come behind it, and LIVE goes by what was
// answered: a running copy's durable clock grows, and what has become whole since is
// asked again.
func (m *Machine) newer(x *part, p *peer, reported, told wire.CopyClock) wire.CopyClock {
	same := reported.Actor == told.Actor || reported.Actor == kv.Actor{}
	switch {
	case told.Actor.Boot < reported.Actor.Boot, same && !told.Clock.Covers(reported.Clock):
		return reported
	case told.Trust > reported.Trust && x.State != kv.Live && x.Partition != kv.System:
		told.Trust = reported.Trust
		if p != nil && p.answered {
			p.hello = false
		}
	}
	return told
}

func (m *Machine) ended(ev Event) {
	if e, one := ev.(PartEnded); one {
		m.partEnded(e)
		return
	}
	for _, e := range ev.(PartsEnded) {
		m.partEnded(e)
	}
}

func (m *Machine) partEnded(e PartEnded) {
	x := m.parts[e.Partition]
	if x == nil {
		return
	}
	m.unpull(e.Session, []kv.Partition{e.Partition})
	m.planEnded(x, e)
	if e.Stopped {
		return
	}
	if e.Failed {
		if p := m.peers[e.Name]; p != nil {
			p.busyTill = m.now + 2*retryEvery // one that is cut at once is not asked in a loop
		}
	} else {
		switch {
		case e.Both || x.claims.quarantined:
			m.wentBoth(x, e)
		case !e.Below:
			m.took(x, "L1", e.Name, "its clock had dots this copy lacked")
		default:
			m.took(x, "L2", e.Name, "this copy was below its collection floor")
			m.bury(e, "had been deleted and forgotten meanwhile")
		}
		x.doneBy = m.now + DoneWait
		m.flushed(x, e.Name)
	}
}

func (m *Machine) sessionEnded(e SessionEnded) {
	m.unpull(e.Session, e.Parts)
	m.mourn(e.Name)
	m.emit(SendDone{e.Name, e.Session})
}

func (m *Machine) doneAnswered(e DoneAnswered) {
	for _, id := range e.Parts {
		if x := m.parts[id]; x != nil {
			x.doneBy = 0
		}
	}
	if !e.Failed {
		m.compared(e.Name, e.Ack)
	}
}

func (m *Machine) compared(name string, ack wire.DoneAck) {
	for _, id := range ack.Compared {
		x := m.parts[id]
		if x == nil {
			continue
		}
		if !slices.Contains(ack.Bad, id) {
			x.equal[name], x.Verified = true, true
			x.agreed()
			continue
		}
		if agrees, told := x.equal[name]; agrees || !told {
			m.emit(Note{Kind: "alarm", Peer: name, Partition: id, Text: "corruption: digests differ at equal clocks"})
		}
		x.equal[name], x.Verified = false, false
		m.disagreed(x)
	}
}

// corrupt reports whether the copy's digest differed from another's at an equal
// clock, and agreed with none: where it agrees with some, the odd one is another.
func (x *part) corrupt() bool {
	differs := false
	for _, agrees := range x.equal {
		if agrees {
			return false
		}
		differs = true
	}
	return differs
}
