package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/merkle"
	"edged.dev/edged/partition"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// laneWait is how long a donor may take from HELLO to the head of its lane.
const laneWait = 5 * time.Second

// hello begins a session as its receiver: the receiving sides are opened, the
// clocks they report taken in the same moment, and the peer asked.
func (r *Replica) hello(ctx context.Context, e core.SendHello) {
	at := r.cfg.Boottime()
	r.stats.FirstHelloNS.CompareAndSwap(0, at)
	r.stats.Sessions.Add(1)
	pl := &pull{id: e.Session, name: e.Name, in: map[kv.Partition]*partition.Incoming{}}
	h := wire.Hello{Session: e.Session, View: r.view(), Wants: slices.Clone(e.Wants)}
	sortParts(h.Wants)
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
	ack, err := r.askHello(ctx, e.Name, h)
	if err != nil || ack.Code == wire.HelloBusy {
		r.drop(pl, nil)
		r.step(core.HelloAnswered{Name: e.Name, Session: e.Session, Wants: e.Wants, Ack: ack, Failed: err != nil, AskAt: at})
		return
	}
	pl.answered(ack)
	r.step(core.HelloAnswered{Name: e.Name, Session: e.Session, Wants: e.Wants, Ack: ack, AskAt: at})
	if pl.streaming() {
		time.AfterFunc(laneWait, func() {
			if !pl.begun() {
				r.drop(pl, errors.New("the lane did not come"))
			}
		})
	}
}

func (r *Replica) askHello(ctx context.Context, name string, h wire.Hello) (wire.HelloAck, error) {
	req := h.Append(nil, r.codec)
	r.stats.SyncBytesOut.Add(int64(len(req)))
	resp, err := r.call(ctx, name, req)
	if err != nil {
		return wire.HelloAck{}, err
	}
	r.stats.SyncBytesIn.Add(int64(len(resp)))
	return wire.ParseHelloAck(resp, r.codec, h.Copies)
}

// answered notes what the donor told; receiving sides of what it will not stream
// are closed.
func (p *pull) answered(ack wire.HelloAck) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ack = ack.Copies
	streams := map[kv.Partition]bool{}
	for _, c := range ack.Copies {
		streams[c.Partition] = true
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
}

func (p *pull) streaming() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.in) > 0
}

func (p *pull) begun() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.over || p.objects > 0 || len(p.ended) > 0 || p.open > 0
}

// Lane takes a lane that a peer opened: the stream of a session this node asked
// for.
func (r *Replica) Lane(ctx context.Context, name string, rd io.Reader) {
	lr := r.codec.LaneReader(rd)
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
	err = r.receive(ctx, pl, lr)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	r.drop(pl, err)
}

// receive applies a lane's records as they come.
func (r *Replica) receive(ctx context.Context, pl *pull, lr *wire.LaneReader) error {
	var in *partition.Incoming
	var at kv.Partition
	for ctx.Err() == nil {
		rec, err := lr.Next()
		if err != nil {
			return err
		}
		if rec.Type == wire.TypeBegin {
			at = rec.Begin.Partition
			pl.mu.Lock()
			in = pl.in[at]
			pl.mu.Unlock()
		}
		if in == nil {
			return fmt.Errorf("lane of %s has partition %d, which was not asked for", pl.name, at)
		}
		switch rec.Type {
		case wire.TypeBatch, wire.TypeTail:
			if err := r.applyBatch(pl, in, rec.Batch); err != nil {
				return err
			}
		case wire.TypeKeep:
			in.Keep(rec.Keep.Dots)
		case wire.TypeEnd:
			if err := r.endPart(pl, in, at, rec.End); err != nil {
				return err
			}
			in = nil
		}
	}
	return ctx.Err()
}

func (r *Replica) applyBatch(pl *pull, in *partition.Incoming, b wire.Batch) error {
	for i := range b.Copies {
		if err := in.Apply(b.Copies[i].Key, b.Copies[i].Object, b.Base, nil); err != nil {
			return err
		}
	}
	pl.mu.Lock()
	pl.objects += len(b.Copies)
	pl.mu.Unlock()
	r.stats.EntriesIn.Add(int64(len(b.Copies)))
	return nil
}

func (r *Replica) endPart(pl *pull, in *partition.Incoming, p kv.Partition, end wire.End) error {
	pl.mu.Lock()
	delete(pl.in, p)
	pl.open++
	pl.mu.Unlock()
	r.stats.LastPendNS.Store(r.cfg.Boottime())
	return in.End(end.Clock, end.Floor, func() {
		r.step(core.PartEnded{Name: pl.name, Partition: p})
		pl.mu.Lock()
		pl.open--
		pl.ended = append(pl.ended, p)
		pl.mu.Unlock()
		r.finishPull(pl)
	})
}

// drop ends a pull: what did not end in order is cancelled and asked for again.
func (r *Replica) drop(pl *pull, cause error) {
	pl.mu.Lock()
	var left []kv.Partition
	for p, in := range pl.in {
		in.Cancel()
		left = append(left, p)
	}
	pl.in = nil
	pl.over = true
	pl.cut = pl.cut || cause != nil
	pl.mu.Unlock()
	if cause != nil {
		r.stats.SessionsCut.Add(1)
	}
	sortParts(left)
	for _, p := range left {
		r.step(core.PartEnded{Name: pl.name, Partition: p, Failed: true})
	}
	r.finishPull(pl)
}

// finishPull tells the machine when the lane is over and every end published.
func (r *Replica) finishPull(pl *pull) {
	pl.mu.Lock()
	if !pl.over || pl.open > 0 || pl.ended == nil && pl.ack == nil {
		pl.mu.Unlock()
		return
	}
	ended := slices.Clone(pl.ended)
	pl.mu.Unlock()
	sortParts(ended)
	r.step(core.SessionEnded{Name: pl.name, Session: pl.id, Parts: ended})
}

// cutSessions ends the pulls from a peer that went.
func (r *Replica) cutSessions(name string) {
	for _, pl := range r.sessions.of(name) {
		r.drop(pl, errors.New("connection lost"))
		r.sessions.remove(pl.id)
	}
}

// done ends a session with DONE: the clocks of what was streamed, and one root
// over the digests of everything that is now equal. Where roots differ, each
// partition is compared by itself.
func (r *Replica) done(ctx context.Context, e core.SendDone) {
	pl := r.sessions.find(e.Session)
	if pl == nil {
		return
	}
	defer r.sessions.remove(e.Session)
	pl.mu.Lock()
	ack, all := pl.ack, append(slices.Clone(pl.equal), pl.ended...)
	ended := slices.Clone(pl.ended)
	pl.mu.Unlock()
	sortParts(all)
	sortParts(ended)
	d := wire.Done{Session: e.Session}
	for _, p := range ended {
		if c, ok := r.copyClock(p); ok {
			d.Copies = append(d.Copies, c)
		}
	}
	root, comparable := rootOf(all, r.digest)
	if comparable && len(all) > 0 {
		d.Digests = []wire.Digest{{Partition: rootMark, Count: uint64(len(all)), Sum: root}}
	}
	reply, err := r.sendDone(ctx, e.Name, d, ack)
	if err == nil && comparable && len(reply.Bad) == 0 && len(reply.Compared) == 0 {
		reply.Compared = all
	} else if err == nil && len(reply.Bad) > 0 {
		reply = wire.DoneAck{}
		r.compare(ctx, core.Compare{Name: e.Name, Parts: all})
	}
	r.step(core.DoneAnswered{Name: e.Name, Parts: all, Ack: reply, Failed: err != nil})
}

func (r *Replica) sendDone(ctx context.Context, name string, d wire.Done, leans []wire.CopyClock) (wire.DoneAck, error) {
	req := d.Append(nil, r.codec, leans)
	r.stats.SyncBytesOut.Add(int64(len(req)))
	resp, err := r.call(ctx, name, req)
	if err != nil {
		return wire.DoneAck{}, err
	}
	r.stats.SyncBytesIn.Add(int64(len(resp)))
	return wire.ParseDoneAck(resp)
}

// digest returns the digest of a copy that may be compared.
func (r *Replica) digest(p kv.Partition) (merkle.Digest, bool) {
	sh := r.cfg.Set.Shard(p)
	if sh == nil {
		return merkle.Digest{}, false
	}
	st := sh.Status()
	return st.Digest, st.Comparable()
}

// compare asks a peer for the digests of partitions, each by itself with its
// clock.
func (r *Replica) compare(ctx context.Context, e core.Compare) {
	d := wire.Done{}
	for _, p := range e.Parts {
		sh := r.cfg.Set.Shard(p)
		if sh == nil {
			continue
		}
		st := sh.Status()
		c, ok := r.copyClock(p)
		if !ok || !st.Comparable() {
			continue
		}
		c.Clock = st.Clock
		d.Copies = append(d.Copies, c)
		d.Digests = append(d.Digests, wire.Digest{Partition: p, Count: st.Digest.Count, Sum: st.Digest.Bytes()})
	}
	if len(d.Copies) == 0 {
		return
	}
	ack, err := r.sendDone(ctx, e.Name, d, nil)
	if err == nil {
		r.step(core.DoneAnswered{Name: e.Name, Ack: ack})
	}
}
