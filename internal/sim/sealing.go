package sim

import (
	"errors"
	"slices"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// What package replica does for the seals of a machine.

// askSeal asks a member, or this node itself, about former processes of a node.
func (m *member) askSeal(e core.SendSeal) {
	o, frame := m.peer(e.Name), e.Seal.Append(nil)
	answered := func(ack wire.SealAck) {
		m.sealing = slices.DeleteFunc(m.sealing, func(x core.SendSeal) bool { return x.Name == e.Name && x.Round == e.Round })
		m.step(core.SealAnswered{Name: e.Name, Round: e.Round, Ack: ack})
	}
	switch {
	case o == m:
		m.answerSeal(frame, answered)
	case m.c.epoch[m.index][o.index] == 0:
		m.step(core.SealAnswered{Name: e.Name, Round: e.Round, Failed: true})
	default:
		m.sealing = append(m.sealing, e)
		m.c.send(m, o, func() {
			o.answerSeal(frame, func(ack wire.SealAck) {
				frame := ack.Append(nil)
				o.c.send(o, m, func() {
					ack, err := wire.ParseSealAck(frame)
					m.c.must(err)
					answered(ack)
				})
			})
		})
	}
}

// failSeals says that no answer of a peer comes any more.
func (m *member) failSeals(o *member) {
	for _, e := range slices.Clone(m.sealing) {
		if e.Name == o.name() {
			m.step(core.SealAnswered{Name: e.Name, Round: e.Round, Failed: true})
		}
	}
	m.sealing = slices.DeleteFunc(m.sealing, func(e core.SendSeal) bool { return e.Name == o.name() })
}

// answerSeal promises, or closes, and answers once that is durable.
func (m *member) answerSeal(frame []byte, answer func(wire.SealAck)) {
	q, err := wire.ParseSeal(frame)
	m.c.must(err)
	over := kv.SealOf(q.Node, q.Boot)
	ack := wire.SealAck{Parts: make([]wire.SealState, len(q.Parts))}
	planned := make([]bool, len(q.Parts))
	left := 1 // beside those planned, this call itself
	done := func() {
		if left--; left > 0 {
			return
		}
		for i := range ack.Parts {
			if planned[i] {
				m.sealState(over, &ack.Parts[i], q.Close)
			}
			if ack.Parts[i].Promise == wire.SealRefused {
				m.c.stats.Refused++
			}
		}
		answer(ack)
	}
	may := m.machine.MaySeal(q)
	for i, p := range q.Parts {
		ack.Parts[i].Partition = p.Partition
		sh := m.set.Shard(p.Partition)
		switch {
		case !may:
		case sh == nil:
			ack.Parts[i].Promise = wire.SealNoCopy
		default:
			if planned[i] = m.plansSeal(sh, over, q.Close, p, done); planned[i] {
				left++
			}
		}
	}
	m.commitSoon()
	done()
}

// plansSeal plans one copy's promise or close, and reports whether it did.
func (m *member) plansSeal(sh *partition.Shard, over kv.Dot, closing bool, p wire.SealPart, done func()) bool {
	if !closing {
		err := sh.Fence(over, done)
		if err != nil && !errors.Is(err, partition.ErrSealsLiving) {
			m.c.must(err)
		}
		return err == nil
	}
	err := sh.Seal(over, p.Found, done)
	switch {
	case err == nil:
		m.judgeSeal(sh, over)
	case !errors.Is(err, partition.ErrUnlike): // a promise may have gone with a disk
		m.c.must(err)
	}
	return err == nil
}

// sealState says what a copy holds now that its promise is durable.
func (m *member) sealState(over kv.Dot, s *wire.SealState, closing bool) {
	sh := m.set.Shard(s.Partition)
	if sh == nil { // dropped meanwhile, and with it the promise
		return
	}
	*s = core.SealState(s.Partition, sh.Former(over), sh.Trust())
	if closing && s.Promise == wire.SealClosed {
		m.c.stats.Sealed++
		m.c.log("%s seals up to %v of p%d", m.name(), over.Actor, s.Partition)
	}
}

// judgeSeal looks at what a copy is about to take as seen: no process of it lives, and
// what was acknowledged of it is seen indeed.
func (m *member) judgeSeal(sh *partition.Shard, over kv.Dot) {
	seals := kv.VV{over}
	for _, o := range m.c.members {
		if o.up && seals.Sealed(kv.Actor{Node: o.id, Boot: o.bootNo}) {
			m.c.fail("seal", "%s seals the process of %s, which lives", m.name(), o.name())
		}
	}
	clock := sh.Clock() // without the seal, which is not durable yet
	for _, op := range m.c.ops {
		if sh == m.shard() && op.ackedAt != 0 && seals.Sealed(op.dot.Actor) && !clock.Has(op.dot) {
			m.c.fail("I1", "%s seals op%d away, which was acknowledged", m.name(), op.index)
		}
	}
}
