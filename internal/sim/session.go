package sim

import (
	"bytes"
	"slices"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
	"edged.dev/edged/transport/wire"
)

// Session is one catch-up of a copy from a peer's, stepped at either side.
type Session struct {
	w        *World
	id       uint64
	part     kv.Partition
	to, from *Node
	toLife   int
	fromLife int

	in    *partition.Incoming
	hello []byte // on its way to the donor, nil when it has arrived
	held  []byte // with it, of a receiver that has lost its clock

	out      *partition.Outgoing
	snap     cache.Snapshot
	snapshot ghost // the oracle's view of snap
	first    kv.VV // base of the first snapshot
	scanned  bool

	lane   *wire.LaneWriter
	pipe   bytes.Buffer
	frames []ghost // one a record in the pipe: what the oracle knows of it
	reader *wire.LaneReader

	sent  bool // the end is in the pipe
	below bool // the receiver was below the floor when it opened
	told  int  // how often the receiver was told what lives
	lives kv.Clock
	done  bool
	sofar kv.Clock // dots that arrived; broken runs use it
}

// Begin opens a session at its receiver, whose HELLO is on its way then.
func (w *World) Begin(to, from *Node, p kv.Partition) *Session {
	w.sessionID++
	s := &Session{
		w: w, id: w.sessionID, part: p, to: to, from: from, toLife: to.life, fromLife: from.life,
	}
	var err error
	s.lane, err = wire.NewLaneWriter(&s.pipe, wire.LanePlain)
	w.must(err)
	s.reader, err = wire.NewLaneReader(&s.pipe)
	w.must(err)
	w.must(s.lane.Head(s.id, nil))
	w.must(s.lane.Begin(wire.Begin{Partition: p, Mode: wire.ModeInterval}))
	s.push(ghost{})
	var clock kv.Clock
	peer := from.id
	if w.bug == BugEcho {
		peer = 0 // so that nobody knows whom it came from
	}
	if to.quarantined(p) {
		s.in, clock = s.beginHolding(peer)
	} else {
		s.in, clock = to.shard(p).Begin(s.record(), peer)
	}
	c := to.copyClock(p)
	c.Clock = clock
	s.hello = wire.Ack{Seq: s.id, Copies: []wire.CopyClock{c}}.Append(nil)
	w.hash(s.hello)
	to.hear(from.index, from.life, p, kv.Clock{}, to.said[peerCopy{from.index, p}].life != from.life)
	w.sessions = append(w.sessions, s)
	w.log("s%d begins n%d<-n%d p%d at %v", s.id, to.index, from.index, p, clock)
	return s
}

// record names the record of the context that is pending while the session runs.
func (s *Session) record() uint64 {
	if s.w.bug == BugOneRecord {
		return 1
	}
	return s.id
}

func (s *Session) receiverLives() bool { return s.to.up && s.to.life == s.toLife }
func (s *Session) donorLives() bool    { return s.from.up && s.from.life == s.fromLife }

// Abort breaks the session: what was applied stays, what is in the pipe is lost.
func (s *Session) Abort() {
	if s.done {
		return
	}
	s.done = true
	if s.sofar.Len() > 0 {
		s.to.broken = true
	}
	s.w.log("s%d breaks", s.id)
	if s.receiverLives() {
		s.in.Cancel()
		if s.w.bug == BugHalfSession {
			s.grow(s.sofar)
		}
	}
	if s.out != nil && s.donorLives() && !s.sent {
		s.out.Close()
	}
	s.close()
}

func (s *Session) close() {
	if s.snap != nil {
		s.w.must(s.snap.Close())
		s.snap = nil
	}
	s.reader.Close()
}

// push ends a record in the pipe.
func (s *Session) push(g ghost) {
	s.w.must(s.lane.Flush())
	s.frames = append(s.frames, g)
}

// Donate makes the donor's next step, and reports whether there was one.
func (s *Session) Donate() bool {
	if s.done || s.sent || !s.donorLives() {
		return false
	}
	switch {
	case s.out == nil:
		s.open()
	case !s.scanned:
		if !s.w.directed && s.w.chance(300) {
			s.Look()
		}
		s.scan()
	default:
		keys, err := s.out.Dirty(1 + s.w.rng.IntN(3))
		s.w.must(err)
		if len(keys) > 0 {
			s.tail(keys)
		} else if s.out.NeedsLive() {
			s.live()
		} else if !s.keep() {
			s.end()
		}
	}
	return true
}

// open takes the HELLO in at the donor.
func (s *Session) open() {
	h, err := wire.ParseAck(bytes.Clone(s.hello))
	s.w.must(err)
	s.from.meet(s.to.index, s.toLife)
	s.from.hear(s.to.index, s.toLife, s.part, h.Copies[0].Clock, true)
	have := h.Copies[0].Clock
	if s.w.bug == BugOldKnowledge {
		have = s.w.remember(s.to.index, s.part, have)
	}
	s.out, err = s.from.shard(s.part).OpenTo(h.Copies[0].Actor.Node, have, s.heldDots())
	s.w.must(err)
	s.hello, s.below = nil, s.out.Below()
	s.Look()
	s.first = s.base()
	s.w.log("s%d opens", s.id)
}

// Look lets the donor read on from a new snapshot.
func (s *Session) Look() {
	if s.snap != nil {
		s.w.must(s.snap.Close())
	}
	var err error
	s.snap, err = s.from.store.Snapshot()
	s.w.must(err)
	s.snapshot = s.from.published
	if s.from.peeked {
		s.snapshot = s.from.group
	}
	s.w.must(s.out.Use(s.snap))
}

// base is the published base of the donor.
func (s *Session) base() kv.VV {
	_, base, err := s.from.shard(s.part).Read(s.w.keys[0])
	s.w.must(err)
	return base
}

func (s *Session) scan() {
	chunk, more, err := s.out.Next(s.w.chunkBytes())
	s.w.must(err)
	s.scanned = !more
	if len(chunk.Objects) > 0 {
		s.batch(chunk, s.lane.Batch)
	}
	s.keep()
}

func (s *Session) tail(keys []string) {
	s.Look()
	chunk, err := s.out.Tail(keys)
	s.w.must(err)
	if s.w.bug == BugSkipTail {
		return
	}
	s.w.stats.Tails++
	s.batch(chunk, s.lane.Tail)
	s.keep()
}

func (s *Session) batch(chunk partition.Chunk, write func(wire.Batch) error) {
	b := wire.Batch{Base: chunk.Base, Floor: chunk.Floor}
	for _, o := range chunk.Objects {
		if s.w.bug == BugContextStripped {
			o.Object.Ctx = nil
		}
		b.Copies = append(b.Copies, wire.Copy{Key: o.Key, Object: o.Object})
	}
	switch s.w.bug {
	case BugFloorForgotten:
		b.Floor = nil
	case BugFirstBase:
		b.Base = s.first
	case BugLateBase:
		b.Base = s.base()
	}
	s.w.must(write(b))
	s.push(s.snapshot)
	s.w.log("s%d sends %d objects", s.id, len(b.Copies))
}

// live tells the receiver which dots it may go on holding.
func (s *Session) live() {
	s.Look()
	clock, dots, err := s.out.LiveDots()
	s.w.must(err)
	switch {
	case s.w.bug == BugNoLiveDots:
		clock, dots = kv.Clock{}, kv.Clock{}
	case s.w.bug == BugLiveOnce && s.told > 0, s.w.bug == BugFloorOnce && !s.below:
		return // its donor holds it to be told
	}
	s.told++
	s.w.must(s.lane.LiveDots(wire.LiveDots{Clock: clock, Dots: dots}))
	s.push(ghost{})
	s.w.stats.Below++
	s.w.log("s%d tells its live dots %v as of %v", s.id, dots, clock)
}

// keep sends what is to be kept, and reports whether anything was.
func (s *Session) keep() bool {
	dots := s.out.TakeKeep()
	if dots.Len() == 0 {
		return false
	}
	if s.w.bug == BugKeepForgotten {
		return true
	}
	s.w.must(s.lane.Keep(wire.Keep{Dots: dots}))
	s.w.stats.Kept++
	s.push(ghost{})
	s.w.log("s%d keeps %v", s.id, dots)
	return true
}

func (s *Session) end() {
	clock, floor, mustSync, ended := s.out.End()
	if !ended && s.from.peeked {
		return
	}
	if !ended {
		s.w.fail("session", "s%d: nothing is left and it does not end", s.id)
		return
	}
	g := s.from.published
	if mustSync && s.w.bug != BugUnsyncedEnd {
		s.from.Sync()
	}
	if s.w.bug == BugLateEnd && !s.from.peeked {
		s.from.Commit()
		if !s.donorLives() {
			return
		}
		clock = s.from.shard(s.part).Clock()
	}
	if s.w.bug == BugFloorForgotten {
		floor = nil
	}
	s.sent = true
	s.from.show(s.part, clock)
	s.w.must(s.lane.End(wire.End{Clock: clock, Floor: floor}))
	s.push(g)
	s.w.hash(s.pipe.Bytes())
	s.w.log("s%d ends at %v", s.id, clock)
}

// Receive takes the next record off the pipe, and reports whether there was one.
func (s *Session) Receive() bool {
	if s.done || len(s.frames) == 0 || !s.receiverLives() {
		return false
	}
	g := s.frames[0]
	s.frames = s.frames[1:]
	rec, err := s.reader.Next()
	s.w.must(err)
	s.to.meet(s.from.index, s.fromLife)
	switch rec.Type {
	case wire.TypeLaneHead:
		_, err := s.reader.Next() // BEGIN left with it
		s.w.must(err)
	case wire.TypeBatch, wire.TypeTail:
		s.apply(rec.Batch, &g)
	case wire.TypeKeep:
		s.fair("keeps dots that the receiver has not seen", s.in.Knows(rec.Keep.Dots))
		s.in.Keep(rec.Keep.Dots)
		s.sofar.Join(rec.Keep.Dots)
	case wire.TypeLiveDots:
		s.fair("has live dots beyond their clock", rec.Live.Clock.Covers(rec.Live.Dots))
		s.w.must(s.in.Live(rec.Live.Clock, rec.Live.Dots, rec.Live.More))
		s.lives = rec.Live.Dots.Clone()
	case wire.TypeEnd:
		s.finish(rec.End, &g)
	default:
		s.w.fail("wire", "s%d: a record of type %d", s.id, rec.Type)
	}
	return true
}

func (s *Session) apply(b wire.Batch, g *ghost) {
	if s.w.bug == BugChunkLost && s.w.chance(s.w.bugPM(100)) {
		return
	}
	if s.w.bug == BugRecordGrows {
		s.growRecord(b)
	}
	for run := range slices.Chunk(b.Copies, partition.MaxRun) {
		objects := make([]partition.KeyObject, len(run))
		for i, c := range run {
			objects[i] = partition.KeyObject{Key: c.Key, Object: c.Object}
			s.w.saw(c.Key, c.Object)
		}
		taken, err := s.in.ApplyRun(objects, partition.Batch{Base: b.Base, Floor: b.Floor}, func(int) {})
		for _, c := range run[:taken] {
			key := s.w.keyOf(c.Key)
			s.to.planned[key].join(&g[key])
			for _, v := range c.Object.Versions {
				s.sofar.Add(v.Dot)
			}
		}
		if s.w.refused(s.to, err) {
			s.Abort()
			return
		}
	}
	s.w.log("s%d arrives: %d objects", s.id, len(b.Copies))
	if s.w.bug == BugClockPerChunk {
		s.grow(s.sofar)
	}
}

// growRecord makes the session's record anew, with the base of a batch. What it does
// so by is not closed: what came by a session that was is sent back.
func (s *Session) growRecord(b wire.Batch) {
	in, _ := s.to.shard(s.part).Begin(s.record(), s.from.id)
	for _, c := range b.Copies {
		s.w.must(in.Apply(c.Key, c.Object, partition.Batch{Base: b.Base, Floor: b.Floor}, nil))
	}
}

// fair fails the run of an honest session that the receiver would hang up on.
func (s *Session) fair(what string, ok bool) {
	if !ok && s.w.bug == NoBug {
		s.w.fail("breach", "s%d %s", s.id, what)
	}
}

func (s *Session) issued() kv.Dot { return s.to.shard(s.part).Issued() }

// grow lets the receiver's clock cover everything up to what was seen, as if a
// session had ended there.
func (s *Session) grow(seen kv.Clock) {
	var spans []kv.Span
	for _, sp := range seen.Spans() {
		spans = append(spans, kv.Span{Actor: sp.Actor, Base: sp.Max()})
	}
	s.w.sessionID++
	in, _ := s.to.shard(s.part).Begin(s.w.sessionID, s.from.id)
	in.Keep(kv.ClockOf(spans...))
	s.w.must(in.End(kv.ClockOf(spans...), nil, nil))
}

func (s *Session) finish(end wire.End, g *ghost) {
	if s.w.bug == BugLiveOnce && s.in.WentBelow() {
		s.w.must(s.in.Live(end.Clock, s.lives, false))
	}
	s.fair("ends below what it sent", s.in.Agrees(end.Clock))
	s.fair("ends beyond its receiver", end.Clock.Entry(s.issued().Actor).Max() <= s.issued().Seq)
	s.to.planned.joinPart(s.w, s.part, g)
	if s.in.WentBoth() {
		s.w.stats.L3++
		s.keepAll(end)
	}
	to, r := s.to, refill{s.from.index, s.part}
	to.hear(s.from.index, s.fromLife, s.part, end.Clock, false)
	s.w.must(s.in.End(end.Clock, end.Floor, func() {
		to.fresh = append(to.fresh, r)
		if s.donorLives() { // DONE tells the durable clock
			s.from.hear(to.index, s.toLife, s.part, to.shard(s.part).Clock(), false)
		}
	}))
	s.done = true
	s.w.stats.Sessions++
	if !s.from.owner() && s.sofar.Len() > 0 {
		s.w.stats.HandedOff++
	}
	if s.to.broken {
		s.to.broken = false
		s.w.stats.Resumed++
	}
	s.w.log("s%d has ended", s.id)
	s.close()
}
