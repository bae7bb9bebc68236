package replica

import (
	"context"
	"fmt"
	"time"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
	"edged.dev/edged/transport/wire"
)

const (
	// groupParts is how many partitions of a session share one snapshot: opening
	// iterators is most of a scan, and a snapshot holds back compaction.
	groupParts = 64
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
	if err := lane.Head(g.session, g.told); err != nil {
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
