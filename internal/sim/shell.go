package sim

import (
	"slices"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// What package replica does around a machine, over messages in virtual time.

// pull is a session in which a member receives.
type pull struct {
	name  string
	in    map[kv.Partition]*partition.Incoming
	ended []kv.Partition
}

func (m *member) peerUp(o *member) {
	m.run(func() {
		m.cutPulls(o.name())
		m.failWaits(o)
		m.failSeals(o)
		m.toldOf[o.index] = 0
		m.step(core.PeerUp{Name: o.name(), Node: o.id, Boot: o.bootNo})
		st := m.machine.State()
		m.c.send(m, o, func() { o.step(core.Stated{Name: m.name(), State: st}) })
	})
}

// peerDown is noticed a while after the connection broke.
func (m *member) peerDown(o *member) {
	life, boot := m.life, o.bootNo
	m.c.after(m.c.between(0, 50), func() {
		if m.life != life || !m.up {
			return
		}
		m.run(func() {
			if m.c.epoch[m.index][o.index] != 0 {
				return // there is another already, and it said so
			}
			m.cutPulls(o.name())
			m.failWaits(o)
			m.failSeals(o)
			m.step(core.PeerDown{Name: o.name(), Boot: boot})
			m.step(core.StreamBroke{Name: o.name()})
		})
	})
}

// cutPulls ends the sessions that a peer streams.
func (m *member) cutPulls(name string) {
	var ids []uint64
	for id, p := range m.pulls {
		if p.name == name {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	for _, id := range ids {
		m.drop(id, m.pulls[id])
	}
}

func (m *member) drop(id uint64, p *pull) {
	delete(m.pulls, id)
	var parts []kv.Partition
	for part := range p.in {
		parts = append(parts, part)
	}
	slices.Sort(parts)
	for _, part := range parts {
		p.in[part].Cancel()
		m.step(core.PartEnded{Name: p.name, Session: id, Partition: part, Failed: true})
	}
	m.step(core.SessionEnded{Name: p.name, Session: id, Parts: p.ended})
}

// cutLane ends a session at its receiver, in disorder.
func (m *member) cutLane(to *member, session uint64) {
	m.c.send(m, to, func() {
		if pl := to.pulls[session]; pl != nil {
			to.drop(session, pl)
		}
	})
}

// copyClocks tells of all copies that this node has.
func (m *member) copyClocks() (out []wire.CopyClock) {
	for _, p := range []kv.Partition{0, kv.System} {
		if m.set.Shard(p) != nil {
			out = append(out, m.copyClock(p))
		}
	}
	return out
}

// shared tells of the copies that this node and another own.
func (m *member) shared(o *member) (out []wire.CopyClock) {
	if m.index < Nodes && o.index < Nodes {
		out = append(out, m.copyClock(0))
	}
	return append(out, m.copyClock(kv.System))
}

func (m *member) peer(name string) *member {
	for _, o := range m.c.members {
		if o.name() == name {
			return o
		}
	}
	return nil
}

func (m *member) ping() {
	for _, o := range m.c.members {
		if o == m {
			continue
		}
		stamp := m.c.now
		m.c.send(m, o, func() {
			o.c.send(o, m, func() { m.step(core.Ponged{Name: o.name(), Stamp: stamp}) })
		})
	}
}

func (m *member) tell(st wire.State) {
	for _, o := range m.c.members {
		if o != m {
			m.c.send(m, o, func() { o.step(core.Stated{Name: m.name(), State: st}) })
		}
	}
}

// hello asks a peer for its clocks and for what is wanted.
func (m *member) hello(e core.SendHello) {
	o, at := m.peer(e.Name), m.c.now
	pl := &pull{name: e.Name, in: map[kv.Partition]*partition.Incoming{}}
	copies := m.copyClocks()
	for i := range copies {
		if p := copies[i].Partition; slices.Contains(e.Wants, p) {
			pl.in[p], copies[i].Clock = m.set.Shard(p).Begin(e.Session, o.id)
		}
	}
	m.pulls[e.Session] = pl
	m.c.log("%s says hello to %s and wants %v", m.name(), e.Name, e.Wants)
	m.c.send(m, o, func() { o.answerHello(m, e, copies, at) })
}

func (m *member) answerHello(from *member, e core.SendHello, asked []wire.CopyClock, at int64) {
	ack := wire.HelloAck{}
	var stream []wire.CopyClock
	told := false
	for _, a := range asked {
		lost := m.c.lie != LieTrust && m.machine.Greet(from.name(), a) && m.c.lie != LieNotLost
		if m.set.Shard(a.Partition) == nil {
			continue
		}
		c := m.copyClock(a.Partition)
		c.Lost = lost
		told = told || lost && a.Partition == 0
		st := m.set.Shard(a.Partition).Status()
		if !lost && c.Clock.Equal(a.Clock) && st.Comparable() {
			ack.Equal = append(ack.Equal, c)
			continue
		}
		ack.Copies = append(ack.Copies, c)
		if slices.Contains(e.Wants, a.Partition) {
			stream = append(stream, a)
		}
	}
	m.keepLost(from, asked, told)
	m.step(core.HelloAsked{Name: from.name(), Node: from.id, Copies: asked})
	m.c.send(m, from, func() { from.helloAnswered(e, ack, at) })
	m.donate(from, e.Session, stream)
}

func (m *member) helloAnswered(e core.SendHello, ack wire.HelloAck, at int64) {
	pl := m.pulls[e.Session]
	if pl == nil {
		return
	}
	for p, in := range pl.in {
		if !slices.ContainsFunc(ack.Copies, func(c wire.CopyClock) bool { return c.Partition == p }) {
			in.Cancel()
			delete(pl.in, p)
		}
	}
	if len(pl.in) == 0 {
		delete(m.pulls, e.Session)
	}
	if m.c.lie == LieAnyWhole {
		for _, copies := range [][]wire.CopyClock{ack.Copies, ack.Equal} {
			for i := range copies {
				copies[i].Trust = kv.Whole
			}
		}
	}
	if m.c.lie == LieEarlyReport {
		at = m.c.now + 10*second
	}
	m.step(core.HelloAnswered{Name: e.Name, Session: e.Session, Ack: ack, Wants: e.Wants, AskAt: at})
}

// donate streams partitions one behind the other.
func (m *member) donate(to *member, session uint64, parts []wire.CopyClock) {
	if len(parts) == 0 {
		return
	}
	p := parts[0].Partition
	sh := m.set.Shard(p)
	if sh == nil { // dropped meanwhile
		m.cutLane(to, session)
		return
	}
	out, err := sh.Open(to.id, parts[0].Clock)
	m.c.must(err)
	m.look2(out)
	s := &stream{actor: sh.Actor(), m: m, to: to, session: session, part: p, out: out, rest: parts[1:], life: m.life, epoch: m.c.epoch[m.index][to.index]}
	s.soon()
}

// look2 gives a stream a snapshot of this moment.
func (m *member) look2(out *partition.Outgoing) {
	snap, err := m.store.Snapshot()
	m.c.must(err)
	m.c.must(out.Use(snap))
}

// stream is the donor's side of one partition in a session.
type stream struct {
	m, to   *member
	actor   kv.Actor
	session uint64
	part    kv.Partition
	out     *partition.Outgoing
	rest    []wire.CopyClock
	life    int
	epoch   int
	scanned bool
}

func (s *stream) soon() {
	s.m.c.after(s.m.c.between(0, 30), func() {
		if s.m.life == s.life {
			s.m.run(s.step)
		}
	})
}

func (s *stream) step() {
	m := s.m
	if m.c.epoch[m.index][s.to.index] != s.epoch {
		s.out.Close()
		return
	}
	if m.set.Shard(s.part) == nil || m.set.Shard(s.part).Actor() != s.actor { // it was dropped
		s.out.Close()
		m.cutLane(s.to, s.session)
		return
	}
	if !s.scanned {
		chunk, more, err := s.out.Next(40)
		m.c.must(err)
		s.scanned = !more
		s.send(chunk)
		s.soon()
		return
	}
	keys, err := s.out.Dirty(3)
	m.c.must(err)
	if len(keys) > 0 {
		m.look2(s.out)
		chunk, err := s.out.Tail(keys)
		m.c.must(err)
		s.send(chunk)
		s.soon()
		return
	}
	s.keep()
	if s.out.NeedsLive() {
		m.look2(s.out)
		s.live()
		s.soon()
		return
	}
	clock, floor, _, ended := s.out.End()
	if !ended {
		s.soon()
		return
	}
	last := len(s.rest) == 0
	if m.index >= Nodes && s.part == 0 {
		m.c.stats.HandedOff++
	}
	m.c.send(m, s.to, func() { s.to.end(s, clock, floor, last) })
	m.donate(s.to, s.session, s.rest)
}

func (s *stream) live() {
	clock, dots, err := s.out.LiveDots()
	s.m.c.must(err)
	s.m.c.stats.Below++
	s.m.c.send(s.m, s.to, func() {
		if pl := s.to.pulls[s.session]; pl != nil && pl.in[s.part] != nil {
			s.to.c.must(pl.in[s.part].Live(clock, dots, false))
		}
	})
}

func (s *stream) keep() {
	if dots := s.out.TakeKeep(); dots.Len() > 0 {
		s.m.c.send(s.m, s.to, func() {
			if pl := s.to.pulls[s.session]; pl != nil && pl.in[s.part] != nil {
				pl.in[s.part].Keep(dots)
			}
		})
	}
}

func (s *stream) send(c partition.Chunk) {
	if len(c.Objects) > 0 {
		s.m.c.send(s.m, s.to, func() {
			pl := s.to.pulls[s.session]
			if pl == nil || pl.in[s.part] == nil {
				return
			}
			for _, o := range c.Objects {
				s.to.c.must(pl.in[s.part].Apply(o.Key, o.Object.Filled(c.Base), partition.Batch{Base: c.Base, Floor: c.Floor}, nil))
			}
			s.to.commitSoon()
		})
	}
	s.keep()
}

// end takes a partition's end at the receiver.
func (m *member) end(s *stream, clock kv.Clock, floor kv.VV, last bool) {
	pl := m.pulls[s.session]
	if pl == nil || pl.in[s.part] == nil {
		return
	}
	in := pl.in[s.part]
	delete(pl.in, s.part)
	m.c.must(in.End(clock, floor, func() {
		m.c.must(m.set.Committer().SyncApplied())
		pl.ended = append(pl.ended, s.part)
		if m.pulls[s.session] == nil {
			return
		}
		m.step(core.PartEnded{Name: pl.name, Session: s.session, Partition: s.part, Below: in.WentBelow(), Buried: in.Dropped()})
		if last {
			delete(m.pulls, s.session)
			m.step(core.SessionEnded{Name: pl.name, Session: s.session, Parts: pl.ended})
		}
	}))
	m.commitSoon()
}

// done tells a peer this node's clocks, and has the digests compared of what is
// equal.
func (m *member) done(name string) {
	o := m.peer(name)
	copies := m.copyClocks()
	mine := map[kv.Partition]partition.Status{}
	var parts []kv.Partition
	for _, c := range copies {
		parts = append(parts, c.Partition)
		mine[c.Partition] = m.set.Shard(c.Partition).Status()
	}
	m.c.send(m, o, func() {
		o.told.hear(m.index, copies)
		o.step(core.DoneAsked{Name: m.name(), Node: m.id, Copies: copies})
		ack := wire.DoneAck{}
		var equal []kv.Partition
		for _, p := range parts {
			sh := o.set.Shard(p)
			if sh == nil {
				continue
			}
			a, b := mine[p], sh.Status()
			if !a.Comparable() || !b.Comparable() || !a.Clock.Equal(b.Clock) {
				continue
			}
			ack.Compared = append(ack.Compared, p)
			if a.Digest != b.Digest {
				ack.Bad = append(ack.Bad, p)
				m.c.fail("I4", "%s and %s differ at the clock %v", m.name(), name, a.Clock)
			} else {
				equal = append(equal, p)
			}
		}
		o.step(core.PeerEqual{Name: m.name(), Parts: equal})
		o.c.send(o, m, func() { m.step(core.DoneAnswered{Name: name, Parts: parts, Ack: ack}) })
	})
}

func (m *member) askClocks(e core.SendClocks) {
	o, at := m.peer(e.Name), m.c.now
	m.c.send(m, o, func() {
		if slices.Contains(e.Parts, 0) {
			o.toldOf[m.index] = o.c.now
		}
		var copies []wire.CopyClock
		for _, p := range e.Parts {
			if o.set.Shard(p) != nil {
				copies = append(copies, o.copyClock(p))
			}
		}
		o.c.send(o, m, func() { m.step(core.ClocksAnswered{Name: e.Name, Boot: o.bootNo, Copies: copies, AskAt: at}) })
	})
}

func (m *member) tick(name string) {
	m.c.log("%s ticks at %s", m.name(), name)
	o, at := m.peer(name), m.c.now
	mine := m.shared(o)
	m.c.send(m, o, func() {
		ack := wire.TickAck{Code: wire.HelloEqual}
		for _, c := range mine {
			his := o.copyClock(c.Partition)
			if !his.Clock.Equal(c.Clock) {
				ack.Code = wire.HelloOK
			}
			ack.Copies = append(ack.Copies, his)
		}
		o.c.send(o, m, func() { m.step(core.TickAnswered{Name: name, Boot: o.bootNo, Ack: ack, AskAt: at}) })
	})
}

var _ core.Copies = (*member)(nil)
