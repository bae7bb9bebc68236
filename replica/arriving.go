package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

var (
	errLaneStalled = errors.New("the lane did not come, or stalled")
	errLaneOver    = errors.New("the session is over")
	// errLaneCut is wrapped by the end of a lane that broke off: its partition is
	// lost, and the session's other lanes go on.
	errLaneCut = errors.New("lane was cut")
	// errBreach is wrapped by what no donor in order says: the session is over.
	errBreach = wire.Breached(wire.BreachMalformed, "breach of the protocol")
)

// arriving is one lane of a session, at its receiver. Guarded by the pull's mu.
type arriving struct {
	pull  *pull
	part  kv.Partition
	in    *partition.Incoming // of part, which this lane streams; nil: of none
	watch *time.Timer
	held  int // 1 while it waits for room to apply
	over  bool
	taken taking
}

// join takes in a lane by its head. The number of lanes is the same in all of
// them, and each comes once.
func (p *pull) join(head wire.LaneRecord, tell func(wire.Taken)) (*arriving, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.over:
		return nil, errLaneOver
	case p.lanes == nil:
		p.lanes, p.lanesLeft = make([]*arriving, head.Lanes), int(head.Lanes)
	case len(p.lanes) != int(head.Lanes):
		return nil, fmt.Errorf("%w: a lane of %d, in a session of %d", errBreach, head.Lanes, len(p.lanes))
	case p.lanes[head.Lane] != nil:
		return nil, wire.Breached(wire.BreachReplayed, "%w: lane %d came twice", errBreach, head.Lane)
	}
	a := &arriving{pull: p}
	a.taken.tell = func(chunks uint64) { tell(wire.Taken{Session: head.Session, Lane: head.Lane, Chunks: chunks}) }
	p.lanes[head.Lane] = a
	return a, nil
}

// await begins to watch the lane.
func (a *arriving) await(stalled func()) {
	a.pull.mu.Lock()
	defer a.pull.mu.Unlock()
	if !a.over && !a.pull.over {
		a.watch = time.AfterFunc(laneWait, stalled)
	}
}

// moves notes that bytes of the lane came.
func (a *arriving) moves() {
	a.pull.mu.Lock()
	defer a.pull.mu.Unlock()
	a.movesLocked()
}

func (a *arriving) movesLocked() {
	a.pull.movesLocked()
	if a.watch != nil && !a.over {
		a.watch.Reset(laneWait)
	}
}

// isHeld reports whether it is this node that holds the lane up: it has no room for
// more, or has not written what came. The lane's watch then begins anew.
func (a *arriving) isHeld() bool {
	a.pull.mu.Lock()
	defer a.pull.mu.Unlock()
	held := a.held > 0 || a.taken.writes()
	if held {
		a.movesLocked()
	}
	return held
}

// begin takes a partition for this lane, which no other has.
func (a *arriving) begin(part kv.Partition) error {
	a.pull.mu.Lock()
	defer a.pull.mu.Unlock()
	in, ok := a.pull.in[part]
	switch {
	case a.over || a.pull.over:
		return fmt.Errorf("begin partition %d: %w", part, errLaneOver)
	case a.in != nil:
		return fmt.Errorf("%w: partition %d begins before %d has ended", errBreach, part, a.part)
	case !ok:
		return a.pull.strangerLocked(part)
	}
	delete(a.pull.in, part)
	a.pull.came = append(a.pull.came, part)
	a.part, a.in = part, in
	return nil
}

// side returns the receiving side of the partition that the lane streams.
func (a *arriving) side() (kv.Partition, *partition.Incoming, error) {
	a.moves() // what came at once may take its time to be applied
	a.pull.mu.Lock()
	defer a.pull.mu.Unlock()
	switch {
	case a.over || a.pull.over:
		return 0, nil, errLaneOver
	case a.in == nil:
		return 0, nil, fmt.Errorf("%w: a record outside of a partition", errBreach)
	}
	return a.part, a.in, nil
}

// end takes the receiving side of the partition whose end has come.
func (a *arriving) end() (*partition.Incoming, bool) {
	a.pull.mu.Lock()
	defer a.pull.mu.Unlock()
	if a.over || a.pull.over || a.in == nil {
		return nil, false
	}
	in := a.in
	a.in = nil
	a.pull.open++
	return in, true
}

// leaveLocked ends the lane; it returns the partition that it leaves unfinished.
// The caller holds the pull's mu.
func (a *arriving) leaveLocked() (left kv.Partition, ok bool) {
	if a.over {
		return 0, false
	}
	a.over = true
	if a.watch != nil {
		a.watch.Stop()
	}
	if a.in == nil {
		return 0, false
	}
	a.in.Cancel()
	a.in = nil
	return a.part, true
}

// leave ends a lane. What it leaves unfinished may be asked of any donor at once;
// the session goes on with the lanes that are left, and ends with the last.
func (r *Replica) leave(a *arriving, cause error) {
	pl := a.pull
	pl.mu.Lock()
	if a.over || pl.over {
		pl.mu.Unlock()
		return
	}
	left, unfinished := a.leaveLocked()
	pl.lanesLeft--
	last := pl.lanesLeft == 0
	pl.mu.Unlock()
	if unfinished {
		r.step(core.PartEnded{Name: pl.name, Session: pl.id, Partition: left, Failed: true})
	}
	switch {
	case last:
		r.drop(pl, cause)
	case cause != nil:
		r.stats.LanesCut.Add(1)
	}
}

// Lane takes a lane that a peer opened: a stream of a session this node asked
// for.
func (r *Replica) Lane(ctx context.Context, name string, rd io.Reader) {
	moving := &movingReader{Reader: rd, pace: &r.paceIn, stats: &r.stats, ctx: ctx}
	lr := r.codec.LaneReader(moving)
	defer lr.Close()
	head, err := lr.Next()
	if err == nil && head.Type != wire.TypeLaneHead {
		err = wire.Breached(wire.BreachMalformed, "a lane begins with a record of type %d", head.Type)
	}
	if err != nil {
		r.breach(name, err)
		return
	}
	pl := r.sessions.find(head.Session)
	if pl == nil || pl.name != name { // over meanwhile, or none of this peer's: nothing of it is read
		r.stats.LanesRefused.Add(1)
		r.breach(name, r.lateLane(pl, head.Session))
		return
	}
	select {
	case <-pl.ready: // a lane may overtake the answer that announces it
	case <-ctx.Done():
		return
	}
	a, err := pl.join(head, func(t wire.Taken) {
		frame := t.Append(nil)
		r.stats.SyncBytesOut.Add(int64(len(frame)))
		_ = r.cfg.Peers.SendControl(name, frame) // lost with its connection, like the lane
	})
	if err != nil {
		r.refuseLane(pl, err)
		return
	}
	r.stats.LanesIn.Add(1)
	moving.moved = a.moves
	a.await(func() {
		if !a.isHeld() {
			r.leave(a, errLaneStalled)
		}
	})
	if err = lr.Lean(pl.leansOn()); err == nil {
		err = r.receive(ctx, a, lr)
	}
	switch {
	case errors.Is(err, io.EOF):
		r.leave(a, nil)
	case errors.Is(err, errLaneCut), errors.Is(err, errLaneOver): // over before: it has been left already
		r.leave(a, err)
	default:
		r.refuseLane(pl, err)
	}
}

// refuseLane ends a session whose donor said what makes no sense, or which cannot
// go on here.
func (r *Replica) refuseLane(pl *pull, err error) {
	if errors.Is(err, errBreach) || errors.Is(err, wire.ErrMalformed) {
		r.stats.LanesRefused.Add(1)
	}
	r.drop(pl, err)
	r.breach(pl.name, err)
}

// lateLane says what a lane is of whose session this node does not know: one that it
// asked for may come when it has given it up, or was restarted; any other was never
// asked for.
func (r *Replica) lateLane(of *pull, session uint64) error {
	r.mu.Lock()
	asked := r.machine.Asked(session)
	r.mu.Unlock()
	switch {
	case of != nil:
		return wire.Breached(wire.BreachUnasked, "a lane of session %x, which is %s's", session, of.name)
	case !asked:
		return wire.Breached(wire.BreachUnasked, "a lane of session %x, which was never begun", session)
	}
	return nil
}

// strangerLocked says what a partition is that begins and is not to: what was not
// wanted, or has a lane already, no donor sends. What was cut may come. The caller
// holds mu.
func (p *pull) strangerLocked(part kv.Partition) error {
	switch {
	case !slices.Contains(p.wants, part):
		return wire.Breached(wire.BreachUnasked, "%w: partition %d begins, which was not asked for", errBreach, part)
	case slices.Contains(p.came, part):
		return wire.Breached(wire.BreachReplayed, "%w: partition %d begins again", errBreach, part)
	}
	return fmt.Errorf("begin partition %d: %w", part, errLaneOver)
}

// receive applies a lane's records as they come.
func (r *Replica) receive(ctx context.Context, a *arriving, lr *wire.LaneReader) error {
	for ctx.Err() == nil {
		if n, whole := lr.Chunks(); whole {
			a.taken.chunk(n)
		}
		rec, err := lr.Next()
		if err != nil && (errors.Is(err, io.EOF) || errors.Is(err, wire.ErrMalformed)) {
			return err
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errLaneCut, err)
		}
		if rec.Type == wire.TypeBegin {
			if err := a.begin(rec.Begin.Partition); err != nil {
				return err
			}
			continue
		}
		part, in, err := a.side()
		if err != nil {
			return err
		}
		if err := r.receiveOne(ctx, a, part, in, &rec); err != nil {
			return fmt.Errorf("lane of %s, partition %d: %w", a.pull.name, part, err)
		}
	}
	return ctx.Err()
}

func (r *Replica) receiveOne(ctx context.Context, a *arriving, part kv.Partition, in *partition.Incoming, rec *wire.LaneRecord) error {
	switch rec.Type {
	case wire.TypeBatch, wire.TypeTail:
		return r.applyBatch(ctx, a, in, rec.Batch)
	case wire.TypeKeep:
		if !in.Knows(rec.Keep.Dots) {
			return wire.Breached(wire.BreachKeep, "the donor keeps dots that this copy has not seen")
		}
		in.Keep(rec.Keep.Dots)
		return nil
	case wire.TypeLiveDots:
		if err := r.checkLive(part, rec.Live); err != nil {
			return err
		}
		return in.Live(rec.Live.Clock, rec.Live.Dots, rec.Live.More)
	case wire.TypeEnd:
		return r.endPart(a, part, rec.End)
	case wire.TypeStop:
		return r.stopPart(a, part)
	}
	return fmt.Errorf("%w: a record of type %d in the middle of a lane", errBreach, rec.Type)
}

func (r *Replica) applyBatch(ctx context.Context, a *arriving, in *partition.Incoming, b wire.Batch) error {
	if err := r.checkBatch(a.part, &b); err != nil {
		return err
	}
	for left := b.Copies; len(left) > 0; {
		n := runOf(left)
		if err := r.applyRun(ctx, a, in, left[:n], partition.Batch{Base: b.Base, Floor: b.Floor, Logged: a.taken.wrote}); err != nil {
			return err
		}
		left = left[n:]
	}
	r.stats.EntriesIn.Add(int64(len(b.Copies)))
	return nil
}

// runBytes ends a run of objects that are handed to the copy together: an eighth of what
// may wait for the store, or one object.
const runBytes = applyQueueBytes / 8

// runOf returns how many objects make the next run.
func runOf(copies []wire.Copy) (n int) {
	for bytes := 0; n < len(copies) && n < partition.MaxRun && bytes < runBytes; n++ {
		bytes += copies[n].Object.Bytes()
	}
	return n
}

// applyRun hands a run of a batch's objects to the copy, once there is room for them.
func (r *Replica) applyRun(ctx context.Context, a *arriving, in *partition.Incoming, copies []wire.Copy, b partition.Batch) error {
	objects, bytes, all := make([]partition.KeyObject, len(copies)), make([]int64, len(copies)), int64(0)
	for i := range copies {
		c := &copies[i]
		objects[i] = partition.KeyObject{Key: c.Key, Object: c.Object}
		bytes[i] = int64(len(c.Key) + c.Object.Bytes())
		all += bytes[i]
	}
	if err := r.admit(ctx, a, all); err != nil {
		return err
	}
	a.taken.hand(len(objects))
	taken, err := in.ApplyRun(objects, b, func(i int) { r.applies.wrote(bytes[i]) })
	for _, n := range bytes[taken:] {
		r.applies.wrote(n)
	}
	return err
}

// admit waits until the store has written enough of what sessions brought. Its lane
// does not stall meanwhile: it is this node that does not read.
func (r *Replica) admit(ctx context.Context, a *arriving, n int64) error {
	if !r.applies.has(n) {
		a.holds(1)
		defer a.holds(-1)
	}
	return r.applies.admit(ctx, n)
}

// holds counts the lanes of a session that are not read for want of room.
func (a *arriving) holds(n int) {
	a.pull.mu.Lock()
	defer a.pull.mu.Unlock()
	a.held += n
	a.pull.held += n
	if n < 0 {
		a.movesLocked()
	}
}

// placed refuses an object that a peer puts where its key does not belong.
func (r *Replica) placed(p kv.Partition, key []byte) error {
	if p == kv.System {
		return nil
	}
	if at := kv.PartitionOf(kv.Hash(key), r.cfg.Partitions); at != p {
		return wire.Breached(wire.BreachMisplaced, "key of partition %d came as one of partition %d", at, p)
	}
	return nil
}

// stopPart takes the donor's word that the rest of a partition goes in another session.
// What came stays, as when a lane is cut.
func (r *Replica) stopPart(a *arriving, p kv.Partition) error {
	pl := a.pull
	if !slices.Contains(pl.some, p) {
		return wire.Breached(wire.BreachUnasked, "partition %d stops, which was asked for whole", p)
	}
	pl.mu.Lock()
	in := a.in
	if a.over || pl.over || in == nil {
		pl.mu.Unlock()
		return fmt.Errorf("stop partition %d: %w", p, errLaneOver)
	}
	a.in = nil
	pl.mu.Unlock()
	in.Cancel()
	r.step(core.PartEnded{Name: pl.name, Session: pl.id, Partition: p, Stopped: true})
	return nil
}

func (r *Replica) endPart(a *arriving, p kv.Partition, end wire.End) error {
	pl := a.pull
	if _, in, err := a.side(); err == nil {
		if err := r.checkEnd(p, in, end); err != nil {
			return err
		}
	}
	in, ok := a.end()
	if !ok { // cut meanwhile: the receiving side has missed what came by other ways since
		return fmt.Errorf("end partition %d: %w", p, errLaneOver)
	}
	r.stats.LastPendNS.Store(r.cfg.Boottime())
	err := in.End(end.Clock, end.Floor, func() {
		r.whenSynced(func() {
			r.tellEnd(partEnd{pl, core.PartEnded{Name: pl.name, Session: pl.id, Partition: p, Below: in.WentBelow(), Both: in.WentBoth(), Buried: in.Dropped()}})
		})
	})
	if err != nil {
		in.Cancel()
		r.step(core.PartEnded{Name: pl.name, Session: pl.id, Partition: p, Failed: true})
		pl.ends(p, false)
	}
	return err
}
