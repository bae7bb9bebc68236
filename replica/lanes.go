package replica

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
	"edged.dev/edged/transport/wire"
)

const (
	// groupParts is how many partitions of a session share one snapshot: opening
	// iterators is most of a scan, and a snapshot holds back compaction.
	groupParts = 64
	// sharedParts is the same for one of several lanes, beside which others wait for
	// their turn.
	sharedParts = 8
	// chunkBytes is how much is read before it is written to the lane.
	chunkBytes = wire.ChunkBytes
	// tailKeys is how many changed keys are read from one snapshot.
	tailKeys = 256
	// endWait spaces the looks at whether everything shown is published.
	endWait = time.Millisecond
)

// giving is one session in which this node streams.
type giving struct {
	peer    *remote
	session uint64
	told    []wire.CopyClock // in the answer, which the lane leans on
	have    map[kv.Partition]kv.Clock
	holds   map[kv.Partition]kv.Clock // beside, of copies that have lost their clock
	wishes  wishes
	hot     map[kv.Partition][]string // keys that go first
	until   int64                     // wishes slow nothing down after this
	level   wire.LaneLevel
	lanes   int

	mu    sync.Mutex
	queue []kv.Partition // that no lane has taken, in order
}

// take takes what a lane streams next: a few partitions that share a snapshot. With
// several lanes these are fewer, so that the partitions go in their order and the
// lanes end together.
func (g *giving) take() []kv.Partition {
	g.mu.Lock()
	defer g.mu.Unlock()
	most := groupParts
	if g.lanes > 1 {
		most = min(max(len(g.queue)/(2*g.lanes), 1), sharedParts)
	}
	n := g.wishes.group(g.queue, most)
	group := g.queue[:n:n]
	g.queue = g.queue[n:]
	return group
}

// putBack gives the other lanes what one that was cut has not begun.
func (g *giving) putBack(parts []kv.Partition) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.queue = slices.Concat(parts, g.queue)
}

// donate streams partitions over as many lanes as they are worth. A lane that fails
// ends without its closing mark; what it had begun the receiver asks for again, from
// whom it likes, and the rest of it goes by the others.
func (r *Replica) donate(ctx context.Context, g *giving, parts []kv.Partition) {
	r.guardBegins()
	now := r.cfg.Boottime()
	g.queue = g.wishes.arrange(parts, func(p kv.Partition) uint32 { return r.heat.rate(p, now) })
	g.hot = r.heat.hotKeys(parts)
	g.until = now + maxSlowed
	dots := r.dots(parts, g)
	taken := r.sessions.takeLanes(min(lanesFor(dots, r.laneBytes), len(parts)), r.cfg.Lanes)
	defer r.sessions.giveLanes(taken)
	open := r.openLanes(ctx, g.peer.name, taken)
	if g.lanes = len(open); g.lanes == 0 {
		return
	}
	g.level = levelFor(dots, open[0].RTT())
	var lanes sync.WaitGroup
	for i, l := range open {
		lanes.Go(func() { r.donateLane(l, g, i) })
	}
	lanes.Wait()
}

// openLane is a lane's stream with a context of its own.
type openLane struct {
	LaneStream
	ctx    context.Context //nolint:containedctx // the stream's
	cancel func()
}

// openLanes opens a session's lanes, so many at most: their heads say how many there
// are, and a receiver waits for each of them.
func (r *Replica) openLanes(ctx context.Context, name string, most int) []openLane {
	var open []openLane
	for len(open) < most {
		laneCtx, cancel := context.WithCancel(ctx)
		w, err := r.cfg.Peers.OpenLane(laneCtx, name)
		if err != nil {
			cancel()
			break
		}
		open = append(open, openLane{w, laneCtx, cancel})
	}
	return open
}

// levelFor is how hard the lanes of so many versions are compressed.
func levelFor(dots uint64, rtt time.Duration) wire.LaneLevel {
	switch {
	case dots <= fewDots:
		return wire.LaneBest
	case rtt >= farRTT:
		return wire.LaneBetter
	}
	return wire.LaneDefault
}

// lanesFor is how many lanes so many versions are worth, one of so many bytes.
func lanesFor(dots, bytes uint64) int {
	return int(min(max(dots*meanStreamBytes/bytes, 1), wire.MaxSessionLanes))
}

// donateLane streams what it takes from the session's queue, until that is empty.
func (r *Replica) donateLane(l openLane, g *giving, number int) {
	defer l.cancel()
	defer func() { _ = l.Close() }() // the closing mark inside is what counts
	r.stats.LanesOut.Add(1)
	under := &window{rtt: l.RTT(), lanes: int64(g.lanes), now: r.cfg.Boottime}
	key := laneKey{g.peer.name, g.session, uint8(number)}
	r.sessions.openWindow(key, under)
	defer r.sessions.closeWindow(key, under)
	paced := r.paced(l, under, g.until)
	lane, err := r.codec.LaneWriter(paced, g.level)
	if err != nil {
		return
	}
	lane.EachChunk(under.begin)
	if err := lane.HeadOf(g.session, number, g.lanes, g.told); err != nil {
		return
	}
	for group := g.take(); len(group) > 0; group = g.take() {
		if rate := g.wishes.rate(group[0]); rate != paced.rate.rate {
			if lane.Flush() != nil {
				g.putBack(group)
				return
			}
			paced.rate.rate = rate
		}
		if begun, err := r.donateGroup(l.ctx, lane, g, group); err != nil {
			g.putBack(group[begun:])
			r.stats.SessionsCut.Add(1)
			return
		}
	}
	_ = lane.Close() // the receiver sees a lane without its mark
}

const (
	// fewDots is up to how many versions a lane compresses as well as it can: they
	// take some 30 ms of a core then, and up to a tenth less bytes, which is what a
	// short absence costs on a thin link.
	fewDots = 1024
	// farRTT is from which round trip on a link is one of another region, on which bytes
	// are dearer than processors: 3 % fewer are worth twice the time to compress them,
	// 6 us a version, which is still half of what the receiver takes.
	farRTT = 20 * time.Millisecond
	// laneBytes is what is worth a lane more: less than that and its window has not
	// filled, so that what is alike in two lanes is told twice.
	laneBytes = 1 << 20
	// meanStreamBytes estimates what a version takes in a lane: 89 to 93 bytes were
	// measured of JSON-like values of 200.
	meanStreamBytes = 96
)

// dots counts what partitions have and a receiver has not seen.
func (r *Replica) dots(parts []kv.Partition, g *giving) (n uint64) {
	for _, p := range parts {
		c, ok := r.copyClock(p)
		if !ok {
			continue
		}
		have := g.have[p]
		have = have.Clone()
		have.Join(g.holds[p])
		dots, seals := kv.Dots(c.Clock.Minus(have))
		n += dots
		if sh := r.cfg.Set.Shard(p); sh != nil && seals > 0 { // of former processes: no more than the copy holds
			n += sh.Count()
		}
	}
	return n
}

// outgoing is one partition of a session.
type outgoing struct {
	*partition.Outgoing
	part kv.Partition
	most int // bytes of it, 0: all
}

// donateGroup opens the sessions of a few partitions, takes one snapshot that
// has all of them, and streams one after the other. begun is how many it began.
func (r *Replica) donateGroup(ctx context.Context, lane *wire.LaneWriter, g *giving, parts []kv.Partition) (begun int, err error) {
	open := make([]outgoing, 0, len(parts))
	defer func() {
		for _, o := range open {
			o.Close()
		}
	}()
	for _, p := range parts {
		sh := r.cfg.Set.Shard(p)
		if sh == nil {
			return 0, fmt.Errorf("stream partition %d: %w", p, partition.ErrDropped)
		}
		o, err := sh.OpenTo(g.peer.node, g.have[p], g.holds[p])
		if err != nil {
			return 0, err
		}
		o.Order(g.hot[p], g.wishes.rules(p))
		open = append(open, outgoing{o, p, g.wishes.most(p)})
	}
	snap, err := r.cfg.Set.Snapshot()
	if err != nil {
		return 0, err
	}
	defer func() { _ = snap.Close() }() // a view; nothing is lost with it
	for i := range parts {
		if ctx.Err() != nil {
			return i, ctx.Err()
		}
		if err := r.donatePart(ctx, lane, snap, open[i]); err != nil {
			return i + 1, err
		}
	}
	return len(parts), nil
}

func (r *Replica) donatePart(ctx context.Context, lane *wire.LaneWriter, snap partition.Snapshot, o outgoing) error {
	mode := wire.ModeInterval
	switch {
	case o.Both():
		mode = wire.ModeBoth
	case o.Below():
		mode = wire.ModeLive
	}
	if err := lane.Begin(wire.Begin{Partition: o.part, Mode: mode}); err != nil {
		return err
	}
	if err := o.Use(snap); err != nil {
		return err
	}
	size := chunkBytes
	for sent, more := 0, true; more; {
		if o.most > 0 && sent >= o.most {
			return lane.Stop()
		}
		if o.most > 0 {
			size = min(chunkBytes, o.most-sent)
		}
		var c partition.Chunk
		var err error
		if c, more, err = o.Next(size); err != nil {
			return err
		}
		if err := r.writeChunk(c, lane.Batch); err != nil {
			return err
		}
		sent += c.Bytes
	}
	for {
		ended, err := r.donateTail(ctx, lane, o.Outgoing)
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
