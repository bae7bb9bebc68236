package sim

import (
	"errors"
	"slices"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
	"edged.dev/edged/partition/state"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// The waits of package replica's coordinator.
const (
	contextWait = 200 * millisecond
	requestWait = 2 * second
)

// request is what a client asked for, and when.
type request struct {
	client int
	began  int64
}

// plainWrite is a write without a token at its coordinator: it is to supersede all
// that was promised before its client began.
type plainWrite struct {
	m    *member
	life int
	key  string
	request
	part    core.Part // what the coordinator saw when it began
	byLead  bool
	partial bool
	started bool
	ctx     kv.VV
	op      *clusterOp
	quorum  core.Quorum
	over    bool
}

// route has a client's write run at the first serving owner in this node's view.
func (m *member) route(key string, req request) {
	switch o := m.peer(m.part.First); {
	case o == nil || o == m:
		m.coordinate(key, req)
	default:
		m.c.send(m, o, func() { o.coordinate(key, req) })
	}
	if m.c.lie == LieRetry && len(m.part.Serving) > 1 {
		second := m.peer(m.part.Serving[1])
		m.c.after(m.c.between(0, 500), func() { m.c.send(m, second, func() { second.coordinate(key, req) }) })
	}
}

// serves reports whether the copy may answer now.
func (m *member) serves() bool {
	return m.part.State.Serves() && (m.part.State != kv.Live || m.c.now <= m.part.Until)
}

// coordinate runs a write, unless the copy does not serve.
func (m *member) coordinate(key string, req request) {
	if !m.serves() || len(m.c.ops) >= maxOps {
		return
	}
	w := &plainWrite{m: m, life: m.life, key: key, request: req, part: m.part}
	switch m.c.lie {
	case LieLeadAlways:
		w.byLead = m.part.First == m.name()
	case LieLeadKept:
		w.byLead = m.hadLead
	default:
		w.byLead = m.part.Lead
	}
	if w.byLead || m.c.lie == LieNobodyAsked {
		w.start()
		return
	}
	w.gather(len(m.part.Owners) - W)
}

// gather reads the object at more LIVE owners.
func (w *plainWrite) gather(more int) {
	m := w.m
	if len(w.part.Live) == 0 {
		w.partial = true
		w.start()
		return
	}
	got := 0
	for _, name := range w.part.Live {
		o := m.peer(name)
		m.c.send(m, o, func() {
			object, live := o.readFor(w.key)
			o.c.send(o, m, func() {
				if m.life != w.life || w.started || !live {
					return
				}
				w.ctx = w.ctx.Join(kv.Context(object))
				if got++; got >= more {
					w.start()
				}
			})
		})
	}
	m.c.after(contextWait, func() {
		if m.life == w.life && m.up {
			m.run(func() {
				if !w.started {
					w.partial = true
					w.start()
				}
			})
		}
	})
}

// readFor answers a coordinator's READ, and tells whether the copy is LIVE.
func (m *member) readFor(key string) (kv.Object, bool) {
	o, base, err := m.shard().Read([]byte(key))
	m.c.must(err)
	return o.Filled(base), m.part.State == kv.Live && m.c.now <= m.part.Until
}

func (w *plainWrite) start() {
	w.started = true
	m := w.m
	v := kv.Version{HLC: kv.HLCAt((m.c.now + m.skew) / millisecond), Value: []byte(w.key)}
	if !m.c.directed && m.c.rng.IntN(4) == 0 {
		v.Flags, v.Value = kv.Tombstone, nil
	}
	m.shard().Write([]byte(w.key), func(kv.Object) (*partition.Mutation, error) {
		return &partition.Mutation{Version: v, Covers: state.Covers{Held: true, Ctx: w.ctx}}, nil
	}, func(ch *state.Change, err error) {
		m.c.must(err)
		if ch != nil {
			w.published(ch)
		}
	})
	m.commitSoon()
}

// published remembers the write and sends it to the other owners, and to who stands in
// for them.
func (w *plainWrite) published(ch *state.Change) {
	m, c := w.m, w.m.c
	if len(c.ops) >= maxOps {
		w.over = true
		return
	}
	filled := ch.Filled(0)
	w.op = &clusterOp{index: len(c.ops), client: w.client, key: w.key, dot: ch.Dots[0]}
	c.cover(w.op, kv.Context(filled))
	w.once()
	c.ops = append(c.ops, w.op)
	c.log("%s writes op%d %v %s lead=%v standins=%v", m.name(), w.op.index, w.op.dot, w.key, w.byLead, w.part.StandIns)
	w.quorum = core.NewQuorum(min(W, len(w.part.Owners)), m.name(), w.part.Owners)
	if c.lie == LieStands {
		w.quorum = core.NewQuorum(min(W, len(w.part.Owners)), m.name(), slices.Concat(w.part.Owners, w.part.StandIns))
	} else {
		w.quorum.StandIns(w.part.StandIns)
	}
	m.favours.Note(m.name(), c.now)
	m.waits = append(m.waits, w)
	frame := wire.Write{Seq: 1, Partition: 0, Copy: wire.Copy{Key: []byte(w.key), Object: filled}, Floor: ch.Below}
	for _, name := range slices.Concat(w.part.Owners, w.part.StandIns) {
		o := m.peer(name)
		switch {
		case o == m:
			w.op.holders[m.index] = m.life
			w.quorum.Ack(name, name)
		case c.epoch[m.index][o.index] == 0:
			w.quorum.Fail(name)
		default:
			c.send(m, o, func() { o.apply(m, w, frame) })
		}
	}
	c.after(requestWait, func() {
		if m.life == w.life && !w.over {
			c.stats.Unknown++
			w.end()
		}
	})
	w.settle()
}

// cover notes which earlier writes of its key a write supersedes: those in its context,
// and those that these do.
func (c *Cluster) cover(op *clusterOp, ctx kv.VV) {
	for _, x := range c.ops {
		if x.key == op.key && ctx.Has(x.dot) {
			op.cover.add(x.index)
			op.cover.join(&x.cover)
		}
	}
}

// once looks whether a client's one request undoes what superseded it already.
func (w *plainWrite) once() {
	c := w.m.c
	for _, y := range c.ops {
		if !w.op.cover.has(y.index) || !y.promised {
			continue
		}
		for _, x := range c.ops {
			if x.client == w.client && y.cover.has(x.index) {
				c.fail("retry", "op%d is op%d again, which op%d had superseded", w.op.index, x.index, y.index)
				return
			}
		}
	}
}

// apply takes a replicated write and answers when it is durable.
func (m *member) apply(from *member, w *plainWrite, wr wire.Write) {
	life, fromLife := m.life, w.life
	if m.shard() == nil {
		m.set.Add(0)
		m.c.stats.StoodIn++
		m.c.log("%s stands in", m.name())
		m.step(core.Held{Partition: 0})
	}
	answer := func() {
		first := m.firstFor(from)
		copies := []wire.CopyClock{m.copyClock(0)}
		m.c.send(m, from, func() {
			if from.life != fromLife {
				return
			}
			w.acked(m, life, first, copies[0].Clock.Has(w.op.dot))
			from.told.hear(m.index, copies)
			from.step(core.Acked{Name: m.name(), Copies: copies})
			if first != "" && first != m.name() && first != from.name() {
				m.c.stats.Doubted++
				from.step(core.Doubted{Partition: 0})
			}
		})
	}
	frame := wire.Apply{Writes: []wire.Write{wr}}.Append(nil)
	a, err := wire.ParseApply(frame)
	m.c.must(err)
	err = m.shard().Apply(state.Received{Key: a.Writes[0].Key, Object: a.Writes[0].Object, Floor: a.Writes[0].Floor, From: from.id}, answer)
	if errors.Is(err, partition.ErrSealed) { // the stream ends here
		m.c.send(m, from, func() {
			from.failWaits(m)
			from.step(core.StreamBroke{Name: m.name()})
		})
		return
	}
	m.c.must(err)
	m.commitSoon()
}

// firstFor is whom the acknowledgement of a coordinator's write names, as package replica
// has it.
func (m *member) firstFor(from *member) string {
	first := m.part.First
	if first != "" && first != from.name() && first != m.name() {
		m.favours.Note(first, m.c.now)
		return first
	}
	other := m.favours.Other(from.name(), m.toldOf[from.index])
	m.favours.Note(from.name(), m.c.now)
	if !other || m.c.lie.silent() {
		return first
	}
	m.c.stats.Favours++
	m.toldOf[from.index] = m.c.now
	return core.Mixed
}

// acked counts a durable copy.
func (w *plainWrite) acked(by *member, life int, first string, holds bool) {
	if !holds {
		w.quorum.Fail(by.name())
		w.settle()
		return
	}
	if by.index < Nodes || w.m.c.lie == LieStands {
		w.op.holders[by.index] = life
	}
	if w.m.c.lie == LieAnyAck {
		first = w.m.name()
	}
	w.quorum.Ack(by.name(), first)
	w.settle()
}

// failWaits says that no acknowledgement of a peer comes any more.
func (m *member) failWaits(o *member) {
	for _, w := range slices.Clone(m.waits) {
		w.quorum.Fail(o.name())
		w.settle()
	}
}

func (w *plainWrite) end() {
	w.over = true
	w.m.waits = slices.DeleteFunc(w.m.waits, func(x *plainWrite) bool { return x == w })
}

// settle answers the client when enough copies are durable, or no more will be.
func (w *plainWrite) settle() {
	if w.over || !w.quorum.Settled() {
		return
	}
	w.end()
	m, c := w.m, w.m.c
	if w.quorum.Copies() < w.quorum.Need {
		return // and it says so
	}
	w.op.ackedAt = c.now
	now := &m.part
	if c.lie == LieOldView {
		now = &w.part
	}
	byLead := w.byLead && c.lie != LieLeadAlways && c.lie != LieLeadKept
	partial := w.partial || w.quorum.Partial(&w.part, now, byLead)
	c.log("op%d is acknowledged, partial=%v", w.op.index, partial)
	if partial {
		c.stats.Partial++
		return
	}
	if w.part.State != kv.Live {
		return // marked
	}
	w.op.promised = true
	c.stats.Promised++
	if w.byLead {
		c.stats.ByLead++
	}
	w.judge()
}

// excused reports whether a copy that had a write was rolled back, and became LIVE without
// it while nobody in reach remembered: until the write comes, it goes on without.
func (c *Cluster) excused(op *clusterOp) bool {
	return slices.ContainsFunc(c.members[:], func(h *member) bool {
		return h.rolled && op.holders[h.index] != 0 && op.holders[h.index] < h.life && h.excused[op]
	})
}

// judge looks whether the write supersedes all that was promised before it began: by
// itself, or what it does not was superseded by another acknowledged write. A rollback
// that nobody in reach remembers is outside the promise here too.
func (w *plainWrite) judge() {
	c := w.m.c
	for _, x := range c.ops {
		if x.key != w.key || !x.promised || x.ackedAt >= w.began || w.op.cover.has(x.index) {
			continue
		}
		known := slices.ContainsFunc(c.ops, func(y *clusterOp) bool { return y.ackedAt != 0 && y.cover.has(x.index) })
		if !known && !w.m.exempt(x) && !c.excused(x) {
			c.fail("lead", "op%d of %s, by lead %v, does not supersede op%d, promised %d ms before it began",
				w.op.index, w.key, w.byLead, x.index, (w.began-x.ackedAt)/millisecond)
			return
		}
	}
}

// askCover offers a copy that this node does not own to an owner.
func (m *member) askCover(e core.SendCover) {
	o := m.peer(e.Name)
	frame := wire.Cover{View: e.View, Copies: e.Copies}.Append(nil)
	m.c.send(m, o, func() {
		q, err := wire.ParseCover(frame)
		m.c.must(err)
		covered := o.machine.Cover(m.c.now, q.View, q.Copies)
		o.step(core.DoneAsked{Name: m.name(), Node: m.id, Copies: q.Copies})
		o.c.send(o, m, func() { m.step(core.Covered{Name: e.Name, Offer: e.Offer, Parts: covered}) })
	})
}

// dropHeld drops it, if nothing came since.
func (m *member) dropHeld(e core.Drop) {
	gone, err := stepping(m.set, func() (bool, error) { return m.set.DropCovered(e.Partition, e.Clock) })
	m.c.must(err)
	if gone {
		m.c.stats.Dropped++
		m.c.log("%s drops its copy", m.name())
		m.told, m.kept, m.fromDisk = told{}, told{}, false
	}
	m.step(core.Dropped{Partition: e.Partition, Gone: gone})
}
