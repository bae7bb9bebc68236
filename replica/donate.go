package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/merkle"
	"edged.dev/edged/partition"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

const (
	// groupParts is how many partitions of a session share one snapshot: opening
	// iterators is most of a scan, and a snapshot holds back compaction.
	groupParts = 64
	// chunkBytes is how much is read before it is written to the lane.
	chunkBytes = 64 << 10
	// tailKeys is how many changed keys are read from one snapshot.
	tailKeys = 256
	// endWait spaces the looks at whether everything shown is published.
	endWait = time.Millisecond
)

// serveHello answers HELLO and begins to stream what is wanted and differs.
func (r *Replica) serveHello(name string, request []byte) ([]byte, error) {
	h, err := wire.ParseHello(request, r.codec, func(id uint64) []wire.CopyClock { return r.checkpoints.find(name, id) })
	if errors.Is(err, wire.ErrNeedClocks) {
		return wire.HelloAck{Code: wire.HelloNeedClocks, View: r.view()}.Append(nil, r.codec, nil), nil
	}
	if err != nil {
		return nil, err
	}
	r.stats.SyncBytesIn.Add(int64(len(request)))
	peer := r.remote(name)
	if peer == nil {
		return nil, fmt.Errorf("answer hello of %s: not connected", name)
	}
	ack := wire.HelloAck{View: r.view()}
	r.mu.Lock()
	lost := map[kv.Partition]bool{}
	for _, c := range h.Copies {
		if r.machine.Greet(name, c) {
			lost[c.Partition] = true
		}
	}
	due := r.machine.TakeLost(name)
	r.mu.Unlock()
	if err := r.keepLost(due); err != nil {
		return nil, fmt.Errorf("answer hello of %s: %w", name, err)
	}
	have := map[kv.Partition]kv.Clock{}
	var stream []kv.Partition
	rec := &answered{}
	for _, asked := range h.Copies {
		c, ok := r.copyClock(asked.Partition)
		if !ok {
			continue
		}
		c.Lost = lost[c.Partition]
		_, wanted := slices.BinarySearch(h.Wants, c.Partition)
		if !c.Lost && c.Clock.Equal(asked.Clock) && r.comparable(c.Partition) && (h.Pending == 0 || !wanted) {
			rec.equal = append(rec.equal, c)
			c.Clock = kv.Clock{}
			ack.Equal = append(ack.Equal, c)
			continue
		}
		ack.Copies = append(ack.Copies, c)
		if wanted && !r.cfg.Set.Shard(c.Partition).Unfit() {
			stream = append(stream, c.Partition)
			have[c.Partition] = asked.Clock
		}
	}
	if len(stream) > 0 && !r.sessions.startOutgoing() {
		ack = wire.HelloAck{Code: wire.HelloBusy, View: ack.View}
		stream = nil
	}
	rec.copies = ack.Copies
	r.sessions.remember(answerKey{name, h.Session}, rec)
	r.step(core.HelloAsked{Name: name, Node: peer.node, Copies: h.Copies})
	if len(stream) > 0 {
		started := r.tasks.run(func(ctx context.Context) {
			defer r.sessions.endOutgoing()
			r.donate(ctx, &giving{peer: peer, session: h.Session, have: have, wishes: wishesOf(h)}, stream)
		})
		if !started {
			r.sessions.endOutgoing()
			return nil, fmt.Errorf("answer hello of %s: this node is stopping", name)
		}
	}
	resp := ack.Append(nil, r.codec, h.Copies)
	r.stats.SyncBytesOut.Add(int64(len(resp)))
	return resp, nil
}

func (r *Replica) comparable(p kv.Partition) bool {
	_, ok := r.digest(p)
	return ok
}

// giving is one session in which this node streams.
type giving struct {
	peer    *remote
	session uint64
	have    map[kv.Partition]kv.Clock
	wishes  wishes
	hot     map[kv.Partition][]string // keys that go first
}

// donate streams partitions over one lane. When it fails, the lane ends without
// its closing mark and the receiver asks again, from what it then holds.
func (r *Replica) donate(ctx context.Context, g *giving, parts []kv.Partition) {
	now := r.cfg.Boottime()
	parts = g.wishes.arrange(parts, func(p kv.Partition) uint32 { return r.heat.rate(p, now) })
	g.hot = r.heat.hotKeys(parts)
	w, err := r.cfg.Peers.OpenLane(ctx, g.peer.name)
	if err != nil {
		return
	}
	defer func() { _ = w.Close() }() // the closing mark inside is what counts
	paced := r.paced(ctx, w)
	lane, err := r.codec.LaneWriter(paced, r.laneLevel(parts, g.have))
	if err != nil {
		return
	}
	defer func() { r.stats.SyncBytesOut.Add(lane.Bytes()) }()
	if err := lane.Head(g.session); err != nil {
		return
	}
	for _, group := range g.wishes.groups(parts) {
		if rate := g.wishes.rate(group[0]); rate != paced.rate.rate {
			if lane.Flush() != nil {
				return
			}
			paced.rate.rate = rate
		}
		if err := r.donateGroup(ctx, lane, g, group); err != nil {
			r.stats.SessionsCut.Add(1)
			return
		}
	}
	_ = lane.Close() // the receiver sees a lane without its mark
}

// fewDots is up to how many versions a lane compresses as well as it can: they
// take some 30 ms of a core then, and up to a tenth less bytes, which is what a
// short absence costs on a thin link.
const fewDots = 1024

// laneLevel chooses how hard a lane compresses, by what it is about to carry.
func (r *Replica) laneLevel(parts []kv.Partition, have map[kv.Partition]kv.Clock) wire.LaneLevel {
	var dots uint64
	for _, p := range parts {
		c, ok := r.copyClock(p)
		if !ok {
			continue
		}
		for _, s := range c.Clock.Minus(have[p]) {
			for _, run := range s.Runs {
				if dots += run.To - run.From + 1; dots > fewDots {
					return wire.LaneDefault
				}
			}
		}
	}
	return wire.LaneBest
}

// donateGroup opens the sessions of a few partitions, takes one snapshot that
// has all of them, and streams one after the other.
func (r *Replica) donateGroup(ctx context.Context, lane *wire.LaneWriter, g *giving, parts []kv.Partition) error {
	open := make([]*partition.Outgoing, 0, len(parts))
	defer func() {
		for _, o := range open {
			o.Close()
		}
	}()
	for _, p := range parts {
		sh := r.cfg.Set.Shard(p)
		if sh == nil {
			return fmt.Errorf("stream partition %d: %w", p, partition.ErrDropped)
		}
		o, err := sh.Open(g.peer.node, g.have[p])
		if err != nil {
			return err
		}
		o.Order(g.hot[p], g.wishes.rules(p))
		open = append(open, o)
	}
	snap, err := r.cfg.Set.Snapshot()
	if err != nil {
		return err
	}
	defer func() { _ = snap.Close() }() // a view; nothing is lost with it
	for i, p := range parts {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := r.donatePart(ctx, lane, snap, p, open[i]); err != nil {
			return err
		}
	}
	return nil
}

func (r *Replica) donatePart(ctx context.Context, lane *wire.LaneWriter, snap partition.Snapshot, p kv.Partition, o *partition.Outgoing) error {
	mode := wire.ModeInterval
	if o.Below() {
		mode = wire.ModeLive
	}
	if err := lane.Begin(wire.Begin{Partition: p, Mode: mode}); err != nil {
		return err
	}
	if err := o.Use(snap); err != nil {
		return err
	}
	for more := true; more; {
		var c partition.Chunk
		var err error
		if c, more, err = o.Next(chunkBytes); err != nil {
			return err
		}
		if err := r.writeChunk(c, lane.Batch); err != nil {
			return err
		}
	}
	for {
		ended, err := r.donateTail(ctx, lane, o)
		if ended || err != nil {
			return err
		}
	}
}

func (r *Replica) writeChunk(c partition.Chunk, write func(wire.Batch) error) error {
	if len(c.Objects) == 0 {
		return nil
	}
	b := wire.Batch{Base: c.Base, Floor: c.Floor, Copies: make([]wire.Copy, len(c.Objects))}
	for i, o := range c.Objects {
		b.Copies[i] = wire.Copy{Key: o.Key, Object: o.Object}
	}
	r.stats.EntriesOut.Add(int64(len(c.Objects)))
	return write(b)
}

// donateTail sends what changed meanwhile, or ends the partition.
func (r *Replica) donateTail(ctx context.Context, lane *wire.LaneWriter, o *partition.Outgoing) (ended bool, err error) {
	keys, err := o.Dirty(tailKeys)
	if err != nil {
		return false, err
	}
	if len(keys) > 0 {
		return false, r.donateKeys(lane, o, keys)
	}
	if keep := o.TakeKeep(); keep.Len() > 0 {
		return false, lane.Keep(wire.Keep{Dots: keep})
	}
	if o.NeedsLive() {
		return false, r.donateLive(lane, o)
	}
	clock, floor, mustSync, ended := o.End()
	if !ended {
		timer := time.NewTimer(endWait)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-timer.C:
			return false, nil
		}
	}
	if mustSync {
		if err := r.cfg.Set.Committer().SyncApplied(); err != nil {
			return false, err
		}
	}
	return true, lane.End(wire.End{Clock: clock, Floor: floor})
}

// donateLive tells which dots the receiver may go on holding, as of now.
func (r *Replica) donateLive(lane *wire.LaneWriter, o *partition.Outgoing) error {
	snap, err := r.cfg.Set.Snapshot()
	if err != nil {
		return err
	}
	defer func() { _ = snap.Close() }() // a view; nothing is lost with it
	if err := o.Use(snap); err != nil {
		return err
	}
	clock, dots, err := o.LiveDots()
	if err != nil {
		return err
	}
	return lane.LiveDots(wire.LiveDots{Clock: clock, Dots: dots})
}

func (r *Replica) donateKeys(lane *wire.LaneWriter, o *partition.Outgoing, keys []string) error {
	snap, err := r.cfg.Set.Snapshot()
	if err != nil {
		return err
	}
	defer func() { _ = snap.Close() }() // a view; nothing is lost with it
	if err := o.Use(snap); err != nil {
		return err
	}
	c, err := o.Tail(keys)
	if err != nil {
		return err
	}
	return r.writeChunk(c, lane.Tail)
}

// serveDone answers DONE: what the receiver's clocks now are, and whether what
// is equal has equal digests.
func (r *Replica) serveDone(name string, request []byte) ([]byte, error) {
	r.stats.SyncBytesIn.Add(int64(len(request)))
	session, err := wire.DoneSession(request)
	if err != nil {
		return nil, err
	}
	rec := r.sessions.recall(answerKey{name, session})
	var leans []wire.CopyClock
	if rec != nil {
		leans = rec.copies
	}
	d, err := wire.ParseDone(request, r.codec, leans)
	if err != nil {
		return nil, err
	}
	peer := r.remote(name)
	if peer == nil {
		return nil, fmt.Errorf("answer done of %s: not connected", name)
	}
	r.step(core.DoneAsked{Name: name, Node: peer.node, Copies: d.Copies})
	var ack wire.DoneAck
	switch {
	case len(d.Digests) == 1 && d.Digests[0].Partition == rootMark:
		var all []kv.Partition
		if all, ack.Bad = r.compareRoot(d, rec); len(ack.Bad) == 0 {
			r.step(core.PeerEqual{Name: name, Parts: all})
		}
	default:
		ack = r.answerEach(d)
		if len(ack.Bad) == 0 && len(ack.Compared) > 0 {
			r.step(core.PeerEqual{Name: name, Parts: ack.Compared})
		}
	}
	resp := ack.Append(nil)
	r.stats.SyncBytesOut.Add(int64(len(resp)))
	return resp, nil
}

// compareRoot returns the partitions that a root is about and those of them that
// stand in its way: whose clocks have moved apart meanwhile, or else all of them
// if the digests differ; none if the root fits.
func (r *Replica) compareRoot(d wire.Done, rec *answered) (all, bad []kv.Partition) {
	note := func(c wire.CopyClock) {
		all = append(all, c.Partition)
		sh := r.cfg.Set.Shard(c.Partition)
		if sh == nil {
			bad = append(bad, c.Partition)
			return
		}
		if st := sh.Status(); !st.Comparable() || !st.Clock.Equal(c.Clock) {
			bad = append(bad, c.Partition)
		}
	}
	for _, c := range d.Copies {
		note(c)
	}
	if rec != nil {
		for _, c := range rec.equal {
			note(c)
		}
	}
	sortParts(all)
	if len(bad) > 0 {
		sortParts(bad)
		return all, bad
	}
	root, ok := rootOf(all, r.digest)
	if ok && uint64(len(all)) == d.Digests[0].Count && root == d.Digests[0].Sum {
		return all, nil
	}
	return all, all
}

func (r *Replica) answerEach(d wire.Done) wire.DoneAck {
	var ack wire.DoneAck
	clocks := map[kv.Partition]kv.Clock{}
	for _, c := range d.Copies {
		clocks[c.Partition] = c.Clock
	}
	for _, g := range d.Digests {
		sh := r.cfg.Set.Shard(g.Partition)
		if sh == nil {
			continue
		}
		st := sh.Status()
		clock, ok := clocks[g.Partition]
		if !ok || !st.Comparable() || !st.Clock.Equal(clock) {
			continue
		}
		ack.Compared = append(ack.Compared, g.Partition)
		if !st.Digest.Equal(merkle.DigestOf(g.Count, g.Sum)) {
			ack.Bad = append(ack.Bad, g.Partition)
		}
	}
	return ack
}
