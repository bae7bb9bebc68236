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

// laneWait is how long a donor may take from its answer to HELLO to the head of
// its lane, and from some bytes of it to the next. Past it another donor is asked.
const laneWait = 5 * time.Second

var (
	errLaneStalled = errors.New("the lane did not come, or stalled")
	errConnection  = errors.New("connection lost")
	errLaneOver    = errors.New("the session is over")
)

// hello begins a session as its receiver: the receiving sides are opened, the
// clocks they report taken in the same moment, and the peer asked.
func (r *Replica) hello(ctx context.Context, e core.SendHello) {
	at := r.cfg.Boottime()
	r.stats.FirstHelloNS.CompareAndSwap(0, at)
	r.stats.Sessions.Add(1)
	pl := &pull{id: e.Session, name: e.Name, ready: make(chan struct{}), in: map[kv.Partition]*partition.Incoming{}}
	defer close(pl.ready)
	h := wire.Hello{Session: e.Session, View: r.view(), Wants: slices.Clone(e.Wants)}
	sortParts(h.Wants)
	h.Orders, h.Planned = r.ordersOf(h.Wants)
	peer := r.remote(e.Name)
	if peer == nil {
		r.step(core.HelloAnswered{Name: e.Name, Session: e.Session, Wants: e.Wants, Failed: true, AskAt: at})
		return
	}
	parts := r.cfg.Set.Partitions()
	sortParts(parts)
	for _, p := range parts {
		c, ok := r.copyClock(p)
		if !ok {
			continue
		}
		sh := r.cfg.Set.Shard(p)
		if _, wanted := slices.BinarySearch(h.Wants, p); wanted {
			if st := sh.Status(); !st.Comparable() {
				h.Pending++
			}
			pl.in[p], c.Clock = sh.Begin(e.Session, peer.node)
		}
		h.Copies = append(h.Copies, c)
	}
	r.sessions.add(pl)
	if r.remote(e.Name) != peer { // it went, and what it took with it has not seen this session
		r.drop(pl, errConnection)
	}
	ack, err := r.askHello(ctx, e.Name, h)
	answered := core.HelloAnswered{Name: e.Name, Session: e.Session, Wants: e.Wants, Ack: ack, AskAt: at}
	if err != nil || ack.Code == wire.HelloBusy || !pl.take(ack) {
		r.drop(pl, nil)
		answered.Failed = err != nil || ack.Code != wire.HelloBusy
		r.step(answered)
		return
	}
	r.step(answered)
	pl.await(func() { r.drop(pl, errLaneStalled) })
}

// take notes what the donor told; receiving sides of what it will not stream are
// closed. It is false if the session is over already.
func (p *pull) take(ack wire.HelloAck) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return false
	}
	p.answered = true
	p.ack = ack.Copies
	streams := map[kv.Partition]bool{}
	for _, c := range ack.Copies {
		streams[c.Partition] = !c.Damaged
	}
	for _, c := range ack.Equal {
		p.equal = append(p.equal, c.Partition)
	}
	for part, in := range p.in {
		if !streams[part] {
			in.Cancel()
			delete(p.in, part)
		}
	}
	return true
}

// leansOn is what the donor's answer told of its copies.
func (p *pull) leansOn() []wire.CopyClock {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ack
}

// await begins to watch the lane, if there is to be one.
func (p *pull) await(stalled func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.over && len(p.in) > 0 {
		p.watch = time.AfterFunc(laneWait, stalled)
	}
}

// side returns the receiving side of a partition that has not ended.
func (p *pull) side(part kv.Partition) *partition.Incoming {
	p.moves() // what came at once may take its time to be applied
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.in[part]
}

// moves notes that bytes of the lane came.
func (p *pull) moves() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.watch != nil && !p.over {
		p.watch.Reset(laneWait)
	}
}

// end takes the receiving side of a partition whose end has come.
func (p *pull) end(part kv.Partition) (*partition.Incoming, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	in, ok := p.in[part]
	if ok {
		delete(p.in, part)
		p.open++
	}
	return in, ok
}

// ends notes that an end is published, or failed.
func (p *pull) ends(part kv.Partition, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open--
	if ok {
		p.ended = append(p.ended, part)
	}
}

// Lane takes a lane that a peer opened: the stream of a session this node asked
// for.
func (r *Replica) Lane(ctx context.Context, name string, rd io.Reader) {
	moving := &movingReader{Reader: rd}
	lr := r.codec.LaneReader(moving)
	defer lr.Close()
	defer func() { r.stats.SyncBytesIn.Add(lr.Bytes()) }()
	head, err := lr.Next()
	if err != nil || head.Type != wire.TypeLaneHead {
		return
	}
	pl := r.sessions.find(head.Session)
	if pl == nil || pl.name != name {
		return
	}
	select {
	case <-pl.ready: // a lane may overtake the answer that announces it
	case <-ctx.Done():
		return
	}
	moving.moved = pl.moves
	if err = lr.Lean(pl.leansOn()); err == nil {
		err = r.receive(ctx, pl, lr)
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	r.drop(pl, err)
}

// receive applies a lane's records as they come.
func (r *Replica) receive(ctx context.Context, pl *pull, lr *wire.LaneReader) error {
	at := kv.System - 1 // no partition
	for ctx.Err() == nil {
		rec, err := lr.Next()
		if err != nil {
			return err
		}
		if rec.Type == wire.TypeBegin {
			at = rec.Begin.Partition
		}
		in := pl.side(at)
		if in == nil {
			return fmt.Errorf("lane of %s has partition %d, which was not asked for: %w", pl.name, at, errLaneOver)
		}
		switch rec.Type {
		case wire.TypeBatch, wire.TypeTail:
			if err := r.applyBatch(at, in, rec.Batch); err != nil {
				return err
			}
		case wire.TypeKeep:
			in.Keep(rec.Keep.Dots)
		case wire.TypeLiveDots:
			if err := in.Live(rec.Live.Clock, rec.Live.Dots, rec.Live.More); err != nil {
				return err
			}
		case wire.TypeEnd:
			if err := r.endPart(pl, at, rec.End); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

func (r *Replica) applyBatch(p kv.Partition, in *partition.Incoming, b wire.Batch) error {
	for i := range b.Copies {
		if err := r.placed(p, b.Copies[i].Key); err != nil {
			return err
		}
		if err := in.Apply(b.Copies[i].Key, b.Copies[i].Object, partition.Batch{Base: b.Base, Floor: b.Floor}, nil); err != nil {
			return err
		}
	}
	r.stats.EntriesIn.Add(int64(len(b.Copies)))
	return nil
}

// placed refuses an object that a peer puts where its key does not belong.
func (r *Replica) placed(p kv.Partition, key []byte) error {
	if p == kv.System {
		return nil
	}
	if at := kv.PartitionOf(kv.Hash(key), r.cfg.Partitions); at != p {
		return fmt.Errorf("key of partition %d came as one of partition %d", at, p)
	}
	return nil
}

func (r *Replica) endPart(pl *pull, p kv.Partition, end wire.End) error {
	in, ok := pl.end(p)
	if !ok { // cut meanwhile: the receiving side has missed what came by other ways since
		return fmt.Errorf("end partition %d: %w", p, errLaneOver)
	}
	r.stats.LastPendNS.Store(r.cfg.Boottime())
	err := in.End(end.Clock, end.Floor, func() {
		r.whenSynced(func() {
			r.step(core.PartEnded{Name: pl.name, Session: pl.id, Partition: p, Below: in.WentBelow(), Buried: in.Dropped()})
			pl.ends(p, true)
			r.finishPull(pl)
		})
	})
	if err != nil {
		in.Cancel()
		r.step(core.PartEnded{Name: pl.name, Session: pl.id, Partition: p, Failed: true})
		pl.ends(p, false)
	}
	return err
}

// whenSynced calls fn once what is published is on stable storage. Under relaxed
// durability a session's end is told only then: asked before, its clock would not
// have grown yet, and the same objects would be fetched again.
func (r *Replica) whenSynced(fn func()) {
	if !r.cfg.Relaxed {
		fn()
		return
	}
	r.sessions.mu.Lock()
	r.sessions.unsynced = append(r.sessions.unsynced, fn)
	first := !r.sessions.syncing
	r.sessions.syncing = true
	r.sessions.mu.Unlock()
	if first {
		r.tasks.run(func(context.Context) { r.syncEnds() })
	}
}

// syncEnds makes the ends told so far durable, and those told meanwhile.
func (r *Replica) syncEnds() {
	for {
		r.sessions.mu.Lock()
		ends := r.sessions.unsynced
		r.sessions.unsynced = nil
		r.sessions.syncing = len(ends) > 0
		r.sessions.mu.Unlock()
		if len(ends) == 0 || r.cfg.Set.Committer().SyncApplied() != nil {
			return // a store that cannot sync ends the process
		}
		for _, fn := range ends {
			fn()
		}
	}
}

// drop ends a pull, once: what did not end in order is cancelled and asked for
// again.
func (r *Replica) drop(pl *pull, cause error) {
	pl.mu.Lock()
	if pl.over {
		pl.mu.Unlock()
		return
	}
	pl.over = true
	var left []kv.Partition
	for p, in := range pl.in {
		in.Cancel()
		left = append(left, p)
	}
	pl.in = nil
	if pl.watch != nil {
		pl.watch.Stop()
	}
	pl.mu.Unlock()
	if cause != nil {
		r.stats.SessionsCut.Add(1)
	}
	sortParts(left)
	for _, p := range left {
		r.step(core.PartEnded{Name: pl.name, Session: pl.id, Partition: p, Failed: true})
	}
	r.finishPull(pl)
}

// finishPull tells the machine, once, when the lane is over and every end
// published. A session whose HELLO was not answered is only forgotten.
func (r *Replica) finishPull(pl *pull) {
	pl.mu.Lock()
	if !pl.over || pl.open > 0 || pl.told {
		pl.mu.Unlock()
		return
	}
	pl.told = true
	answered, ended := pl.answered, slices.Clone(pl.ended)
	pl.mu.Unlock()
	if !answered {
		r.sessions.remove(pl.id)
		return
	}
	sortParts(ended)
	r.step(core.SessionEnded{Name: pl.name, Session: pl.id, Parts: ended})
}

// cutSessions ends the pulls from a peer that went.
func (r *Replica) cutSessions(name string) {
	for _, pl := range r.sessions.of(name) {
		r.drop(pl, errConnection)
	}
}
