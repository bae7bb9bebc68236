package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/merkle"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// serveHello answers HELLO and begins to stream what is wanted and differs.
func (r *Replica) serveHello(name string, request []byte) ([]byte, error) {
	h, err := wire.ParseHello(request, r.codec, func(id uint64) []wire.CopyClock { return r.checkpoints.find(name, id) })
	if errors.Is(err, wire.ErrNeedClocks) {
		return wire.HelloAck{Code: wire.HelloNeedClocks, View: r.view()}.Append(nil, r.codec, nil), nil
	}
	if err == nil {
		err = r.forgedClocks(h.Copies)
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
	lost, err := r.greet(name, h.Copies)
	if err != nil {
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
		if wanted && !c.Quarantined && !r.cfg.Set.Shard(c.Partition).Unfit() {
			stream = append(stream, c.Partition)
			have[c.Partition] = asked.Clock
		}
	}
	if len(stream) > 0 && !r.sessions.startOutgoing() {
		ack = wire.HelloAck{Code: wire.HelloBusy, View: ack.View}
		stream = nil
	}
	if h.AsksHeat {
		ack.Heat = r.heat.tell(h.Copies, r.cfg.Boottime())
	}
	rec.copies = ack.Copies
	r.sessions.remember(answerKey{name, h.Session}, rec)
	r.step(core.HelloAsked{Name: name, Node: peer.node, Copies: h.Copies})
	if len(stream) > 0 {
		started := r.tasks.run(func(ctx context.Context) {
			defer r.sessions.endOutgoing()
			g := giving{peer: peer, session: h.Session, told: ack.Copies, have: have, holds: toldHeld(&h), wishes: wishesOf(h)}
			r.donate(ctx, &g, stream)
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

// greet takes the clocks of a peer's HELLO and returns which of its copies were rolled
// back (R8), once that is on stable storage.
func (r *Replica) greet(name string, copies []wire.CopyClock) (lost map[kv.Partition]bool, err error) {
	r.mu.Lock()
	lost = map[kv.Partition]bool{}
	for _, c := range copies {
		if r.machine.Greet(name, c) {
			lost[c.Partition] = true
		}
	}
	due := r.machine.TakeLost(name)
	r.mu.Unlock()
	return lost, r.keepLost(due)
}

func (r *Replica) comparable(p kv.Partition) bool {
	_, ok := r.digest(p)
	return ok
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
	d, err := wire.ParseDone(request, r.codec, leans, func(id uint64) []wire.CopyClock { return r.checkpoints.find(name, id) })
	if errors.Is(err, wire.ErrNeedClocks) {
		return wire.DoneAck{NeedClocks: true}.Append(nil), nil
	}
	if err != nil {
		return nil, err
	}
	if err := r.forgedClocks(d.Copies); err != nil {
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
