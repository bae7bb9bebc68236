package replica

import (
	"context"
	"slices"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/merkle"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// done ends a session with DONE: the clocks of what was streamed, and one root
// over the digests of everything that is now equal. What stands in the way of the
// root, because its clock moved meanwhile, is left out of the next one.
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
	if len(all) == 0 {
		return
	}
	sortParts(all)
	d := wire.Done{Session: e.Session, Copies: r.copyClocks(ended)}
	root, comparable := rootOf(all, r.digest)
	if comparable {
		d.Digests = []wire.Digest{{Partition: rootMark, Count: uint64(len(all)), Sum: root}}
	}
	reply, err := r.sendDone(ctx, e.Name, d, ack)
	if err == nil {
		err = within(all, reply.Bad, "the answer to DONE")
		r.breach(e.Name, err)
	}
	switch {
	case err != nil || !comparable:
		reply = wire.DoneAck{}
	case len(reply.Bad) == 0:
		reply.Compared = all
	case len(reply.Bad) < len(all):
		reply = r.compareRoots(ctx, e.Name, without(all, reply.Bad))
	default:
		reply = r.compareEach(ctx, e.Name, all)
	}
	r.step(core.DoneAnswered{Name: e.Name, Parts: all, Ack: reply, Failed: err != nil})
}

// maxRoots bounds the roots tried on partitions that go on changing.
const maxRoots = 4

// compareRoots compares the digests of partitions by one root, leaving out those
// whose clocks are not equal at the moment, until one fits.
func (r *Replica) compareRoots(ctx context.Context, name string, parts []kv.Partition) wire.DoneAck {
	for range maxRoots {
		parts = slices.DeleteFunc(slices.Clone(parts), func(p kv.Partition) bool { return !r.comparable(p) })
		root, ok := rootOf(parts, r.digest)
		if !ok || len(parts) == 0 {
			return wire.DoneAck{}
		}
		d := wire.Done{
			Copies:  r.copyClocks(parts),
			Digests: []wire.Digest{{Partition: rootMark, Count: uint64(len(parts)), Sum: root}},
		}
		reply, err := r.sendDone(ctx, name, d, nil)
		if err == nil {
			err = within(parts, reply.Bad, "the answer to DONE")
			r.breach(name, err)
		}
		switch {
		case err != nil:
			return wire.DoneAck{}
		case len(reply.Bad) == 0:
			return wire.DoneAck{Compared: parts}
		case len(reply.Bad) == len(parts):
			return r.compareEach(ctx, name, parts)
		}
		parts = without(parts, reply.Bad)
	}
	return wire.DoneAck{}
}

func without(parts, gone []kv.Partition) []kv.Partition {
	return slices.DeleteFunc(slices.Clone(parts), func(p kv.Partition) bool { return slices.Contains(gone, p) })
}

// copyClocks tells of this node's copies of partitions, in order.
func (r *Replica) copyClocks(parts []kv.Partition) []wire.CopyClock {
	var out []wire.CopyClock
	for _, p := range parts {
		if c, ok := r.copyClock(p); ok {
			out = append(out, c)
		}
	}
	sortCopies(out)
	return out
}

// sendDone sends a DONE; told is what the answer to its session's HELLO told, or nil
// for one of no session, which leans on a checkpoint if there is one.
func (r *Replica) sendDone(ctx context.Context, name string, d wire.Done, told []wire.CopyClock) (wire.DoneAck, error) {
	if d.Session == 0 {
		told = r.checkpoints.newest(name)
	}
	ack, err := r.sendDoneOn(ctx, name, d, told)
	if err == nil && ack.NeedClocks {
		return r.sendDoneOn(ctx, name, d, nil)
	}
	return ack, err
}

func (r *Replica) sendDoneOn(ctx context.Context, name string, d wire.Done, told []wire.CopyClock) (wire.DoneAck, error) {
	req := d.Append(nil, r.codec, told)
	r.stats.SyncBytesOut.Add(int64(len(req)))
	resp, err := r.call(ctx, name, req)
	if err != nil {
		return wire.DoneAck{}, err
	}
	r.stats.SyncBytesIn.Add(int64(len(resp)))
	return answerOf(r, name, resp, wire.ParseDoneAck)
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

// compare tells a peer this node's clocks of partitions, and has the digests of
// those compared whose clocks are equal.
func (r *Replica) compare(ctx context.Context, e core.Compare) {
	parts := slices.Clone(e.Parts)
	sortParts(parts)
	moving := slices.DeleteFunc(slices.Clone(parts), r.comparable)
	if len(moving) > 0 {
		if _, err := r.sendDone(ctx, e.Name, wire.Done{Copies: r.copyClocks(moving)}, nil); err != nil {
			return
		}
	}
	r.step(core.DoneAnswered{Name: e.Name, Ack: r.compareRoots(ctx, e.Name, parts)})
}

// compareEach asks a peer for the digests of partitions, each by itself with its
// clock: which of them differ, where a root says that some do.
func (r *Replica) compareEach(ctx context.Context, name string, parts []kv.Partition) wire.DoneAck {
	d := wire.Done{}
	for _, p := range parts {
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
		return wire.DoneAck{}
	}
	ack, err := r.sendDone(ctx, name, d, nil)
	if err == nil {
		err = within(parts, slices.Concat(ack.Compared, ack.Bad), "the answer to DONE")
		r.breach(name, err)
	}
	if err != nil {
		return wire.DoneAck{}
	}
	return ack
}
