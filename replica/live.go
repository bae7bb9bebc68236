package replica

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
	"edged.dev/edged/partition/state"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// LiveFrame takes a frame of a peer's live stream: replicated writes, or ACKs of
// this node's own. The frame goes over to the replica.
//
// An error means that the frame could not be taken; if it is the peer's doing, the
// connection is being closed.
func (r *Replica) LiveFrame(name string, frame []byte) error {
	p := r.remote(name)
	if p == nil {
		return nil
	}
	err := r.liveFrame(p, frame)
	r.breach(name, err)
	return err
}

func (r *Replica) liveFrame(p *remote, frame []byte) error {
	t, err := wire.TypeOf(frame)
	if err != nil {
		return err
	}
	if t == wire.TypeAck {
		ack, err := wire.ParseAck(frame)
		if err == nil {
			err = r.checkAck(&ack)
		}
		if err == nil {
			r.acked(p, ack)
		}
		return err
	}
	apply, err := wire.ParseApply(frame)
	if err != nil {
		return err
	}
	for i := range apply.Writes {
		if err := r.checkWrite(p, &apply.Writes[i]); err != nil {
			return err
		}
		if err := r.applyWrite(p, &apply.Writes[i]); err != nil {
			return err
		}
		p.lastSeq = apply.Writes[i].Seq
	}
	return nil
}

func (r *Replica) applyWrite(p *remote, w *wire.Write) error {
	r.stats.LiveApplied.Add(1)
	seq, part := w.Seq, w.Partition
	err := r.takeFor(part, state.Received{Key: w.Key, Object: w.Object, Floor: w.Floor, From: p.node}, func() {
		first := r.firstFor(p, part)
		p.ackMu.Lock()
		p.applied = max(p.applied, seq)
		p.touch(part, first)
		p.ackMu.Unlock()
		wake(r.sessions.ackDue)
	})
	if errors.Is(err, partition.ErrSealed) {
		r.stats.LateRefused.Add(1) // the stream ends here: an ACK is for all that came before it
	}
	return err
}

// first returns the first serving owner of a partition in this node's view.
func (r *Replica) first(p kv.Partition) string {
	if part := r.part(p); part != nil {
		return part.First
	}
	return ""
}

// touch notes that a write of a partition is to be acknowledged, and who was first
// when it became durable. The caller holds ackMu.
func (p *remote) touch(part kv.Partition, first string) {
	if had, ok := p.touched[part]; ok && had != first {
		first = core.Mixed
	}
	p.touched[part] = first
}

// acked takes a peer's ACK: everything up to its number is durable there.
func (r *Replica) acked(p *remote, ack wire.Ack) {
	p.mu.Lock()
	n := 0
	for n < len(p.flight) && p.flight[n].seq <= ack.Seq {
		n++
	}
	settled := p.flight[:n:n]
	p.flight = p.flight[n:]
	if len(p.flight) == 0 {
		p.flight = nil
	}
	p.mu.Unlock()
	elsewhere := map[kv.Partition]string{}
	for _, f := range ack.Elsewhere {
		elsewhere[f.Partition] = f.Name
	}
	for _, f := range settled {
		if !r.holds(ack.Copies, f) {
			f.wait.fail(p.name)
			continue
		}
		first, ok := elsewhere[f.part]
		if !ok {
			first = r.cfg.Self
		}
		f.wait.ack(p.name, first)
	}
	r.step(core.Acked{Name: p.name, Copies: ack.Copies})
	for part, first := range elsewhere {
		if first != "" && first != p.name {
			r.step(core.Doubted{Partition: part})
		}
	}
}

// holds reports whether the copy that acknowledges a write is one that has it: of the
// incarnation that took it in, and not of one that was opened since that was dropped.
// Under relaxed durability the clock told lags behind what is acknowledged, and only
// that there is a copy can be seen.
func (r *Replica) holds(copies []wire.CopyClock, f inFlight) bool {
	i, ok := slices.BinarySearchFunc(copies, f.part, func(c wire.CopyClock, p kv.Partition) int { return cmp.Compare(c.Partition, p) })
	return ok && (r.cfg.Relaxed || copies[i].Clock.Has(f.wait.dot))
}

// acknowledge sends ACKs when writes of peers were published, a round for all of
// a commit group.
func (r *Replica) acknowledge(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.sessions.ackDue:
		}
		for _, p := range r.remotes() {
			r.sendAck(p)
		}
	}
}

func (r *Replica) sendAck(p *remote) {
	p.ackMu.Lock()
	if len(p.touched) == 0 {
		p.ackMu.Unlock()
		return
	}
	ack := wire.Ack{Seq: p.applied}
	touched := p.touched
	p.touched = make(map[kv.Partition]string, len(touched))
	p.ackMu.Unlock()
	for part, first := range touched {
		if c, ok := r.copyClock(part); ok {
			ack.Copies = append(ack.Copies, c)
		}
		if first != p.name {
			ack.Elsewhere = append(ack.Elsewhere, wire.First{Partition: part, Name: first})
		}
	}
	sortCopies(ack.Copies)
	slices.SortFunc(ack.Elsewhere, func(a, b wire.First) int { return cmp.Compare(a.Partition, b.Partition) })
	if r.cfg.Peers.SendLive(p.name, ack.Append(nil)) == nil {
		return
	}
	// The queue is full: it is due again at the next pass. With the connection goes
	// the peer's wait for it.
	p.ackMu.Lock()
	defer p.ackMu.Unlock()
	for part, first := range touched {
		p.touch(part, first)
	}
}

// ackLate has the ACKs sent again that did not get into a queue.
func (r *Replica) ackLate() {
	for _, p := range r.remotes() {
		p.ackMu.Lock()
		late := len(p.touched) > 0
		p.ackMu.Unlock()
		if late {
			wake(r.sessions.ackDue)
		}
	}
}

// copyClock tells of this node's copy of a partition.
func (r *Replica) copyClock(p kv.Partition) (wire.CopyClock, bool) {
	sh := r.cfg.Set.Shard(p)
	if sh == nil {
		return wire.CopyClock{}, false
	}
	c := wire.CopyClock{Partition: p}
	if part := r.part(p); part != nil {
		// Ahead of the clock: what a copy that has ceased to serve acknowledged by itself is
		// in it. A write that is committed later waits for the owners that are then.
		c.State = part.State
	}
	st := sh.Status()
	c.Actor, c.Trust, c.Clock = st.Actor, st.Trust, st.Clock
	if sh.Unfit() && c.Trust != kv.New { // new is what counts of a new one, when copies found each other
		c.Trust, c.Damaged = kv.Suspect, true
	}
	if c.Quarantined = c.Trust == kv.New && sh.Quarantined(); c.Quarantined {
		c.State = kv.CatchingUp
	}
	return c, true
}

// callWait bounds a call between nodes that carries no client's deadline.
const callWait = 2 * time.Second

func (r *Replica) call(ctx context.Context, name string, request []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	return r.cfg.Peers.Call(ctx, name, request)
}

func (r *Replica) askClocks(ctx context.Context, e core.SendClocks) {
	at := r.cfg.Boottime()
	peer := r.remote(e.Name)
	if peer == nil {
		return
	}
	resp, err := r.call(ctx, e.Name, wire.Clocks{Partitions: e.Parts}.Append(nil))
	if err != nil || r.remote(e.Name) != peer {
		return // asked again while it is wanted
	}
	if ack, err := r.parseClocks(e.Name, e.Parts, resp); err == nil {
		r.step(core.ClocksAnswered{Name: e.Name, Boot: peer.boot, Copies: ack.Copies, AskAt: at})
	}
}

// serveClocks answers CLOCKS. The asker then knows what other coordinators' writes this
// node has acknowledged until now: a write is durable before it is.
func (r *Replica) serveClocks(name string, request []byte) ([]byte, error) {
	q, err := wire.ParseClocks(request)
	if err != nil {
		return nil, err
	}
	if p := r.remote(name); p != nil {
		now := r.cfg.Boottime()
		for _, part := range q.Partitions {
			if r.part(part) != nil { // else it is none of the cluster's
				p.tellOthers(part, now)
			}
		}
	}
	var ack wire.ClocksAck
	for _, p := range q.Partitions {
		if c, ok := r.copyClock(p); ok {
			ack.Copies = append(ack.Copies, c)
		}
	}
	sortCopies(ack.Copies)
	return ack.Append(nil), nil
}
