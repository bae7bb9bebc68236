package replica

import (
	"cmp"
	"fmt"
	"slices"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// A peer that breaks the protocol is broken or hostile, and what else it says is
// worth no more: nothing of the frame is applied, the connection is closed with a
// code that names the breach, an alarm is raised and counted, and for a while every
// other donor is asked before it (core.BreachWait).
//
// What is held against a peer must be impossible, not only odd: views differ while
// a layout spreads, sessions are cut and their lanes come late, a donor forgets the
// answer that a DONE leans on. None of that is a breach.

// breach ends the connection to a peer if err says that it broke the protocol.
func (r *Replica) breach(name string, err error) {
	b := wire.BreachOf(err)
	if b == wire.NoBreach {
		return
	}
	r.Breached(name, err)
	r.cfg.Peers.Hangup(name, b, err.Error())
}

// Breached takes note of a breach whose connection is closed already.
func (r *Replica) Breached(name string, err error) {
	b := wire.BreachOf(err)
	r.stats.Breaches[b].Add(1)
	r.step(core.Breached{Name: name, Breach: b, Text: err.Error()})
}

// answerOf takes a peer's answer apart.
func answerOf[T any](r *Replica, name string, resp []byte, parse func([]byte) (T, error)) (T, error) {
	v, err := parse(resp)
	r.breach(name, err)
	return v, err
}

// claims are the dots that a peer's frame says somebody has seen.
type claims struct {
	issued kv.Dot
	p      kv.Partition
	err    error
}

// claimsOn begins to check what is said of a partition: dots of this node's copy
// above the last that it gave out are forged. Where there is no copy, none of its
// dots are known to anybody.
func (r *Replica) claimsOn(p kv.Partition) *claims {
	c := &claims{p: p}
	if sh := r.cfg.Set.Shard(p); sh != nil {
		c.issued = sh.Issued()
	}
	return c
}

func (c *claims) seq(seq uint64) {
	if c.err == nil && seq > c.issued.Seq {
		c.err = wire.Breached(wire.BreachForged, "it names dot %d of this node's copy of partition %d, which has given out %d", seq, c.p, c.issued.Seq)
	}
}

// A seal over the process of this copy names no dot of it. Who makes one believes that
// the process is gone, which an honest peer may (its disk and its machine's clock were
// set back): it is not taken in, and this process fences itself when it sees that.
func (c *claims) vv(v kv.VV) { c.seq(v.Entry(c.issued.Actor)) }

func (c *claims) clock(k kv.Clock) {
	if s := k.Entry(c.issued.Actor); s.Base > 0 || len(s.Runs) > 0 {
		c.seq(s.Max())
	}
}

func (c *claims) object(o *kv.Object) {
	c.vv(o.Ctx)
	for i := range o.Versions {
		if o.Versions[i].Dot.Actor == c.issued.Actor {
			c.seq(o.Versions[i].Dot.Seq)
		}
	}
}

// forgedClocks checks the clocks that a peer tells of its copies.
func (r *Replica) forgedClocks(copies []wire.CopyClock) error {
	for i := range copies {
		c := r.claimsOn(copies[i].Partition)
		if c.clock(copies[i].Clock); c.err != nil {
			return c.err
		}
	}
	return nil
}

// checkWrite checks a replicated write before anything of it is applied.
func (r *Replica) checkWrite(p *remote, w *wire.Write) error {
	if err := r.placed(w.Partition, w.Key); err != nil {
		return err
	}
	if w.Seq <= p.lastSeq {
		return wire.Breached(wire.BreachReplayed, "write %d came after write %d", w.Seq, p.lastSeq)
	}
	c := r.claimsOn(w.Partition)
	c.vv(w.Floor)
	c.object(&w.Object)
	return c.err
}

// checkAck checks a peer's ACK.
func (r *Replica) checkAck(ack *wire.Ack) error {
	if last := r.liveSeq.Load(); ack.Seq > last {
		return wire.Breached(wire.BreachUnasked, "write %d is acknowledged, and the last one sent is %d", ack.Seq, last)
	}
	return r.forgedClocks(ack.Copies)
}

// checkBatch checks a lane's objects before any of them is applied.
func (r *Replica) checkBatch(p kv.Partition, b *wire.Batch) error {
	c := r.claimsOn(p)
	c.vv(b.Base)
	c.vv(b.Floor)
	for i := range b.Copies {
		if err := r.placed(p, b.Copies[i].Key); err != nil {
			return err
		}
		c.object(&b.Copies[i].Object)
	}
	return c.err
}

// checkEnd checks a donor's end of a partition.
func (r *Replica) checkEnd(p kv.Partition, in *partition.Incoming, end wire.End) error {
	c := r.claimsOn(p)
	c.clock(end.Clock)
	c.vv(end.Floor)
	if c.err == nil && !in.Agrees(end.Clock) {
		return wire.Breached(wire.BreachEnd, "the end of partition %d lacks dots that were sent before it", p)
	}
	return c.err
}

// checkLive checks a donor's word of its live dots.
func (r *Replica) checkLive(p kv.Partition, l wire.LiveDots) error {
	c := r.claimsOn(p)
	c.clock(l.Clock)
	if c.err == nil && !l.Clock.Covers(l.Dots) {
		return wire.Breached(wire.BreachEnd, "live dots of partition %d are not in the clock they are told as of", p)
	}
	return c.err
}

// checkHelloAck checks that an answer to HELLO is about what was asked.
func (r *Replica) checkHelloAck(h *wire.Hello, ack *wire.HelloAck) error {
	for _, copies := range [][]wire.CopyClock{ack.Copies, ack.Equal} {
		for i := range copies {
			if _, asked := placeOf(h.Copies, copies[i].Partition); !asked {
				return wire.Breached(wire.BreachUnasked, "HELLO told of no copy of partition %d, which the answer is about", copies[i].Partition)
			}
		}
	}
	return r.forgedClocks(ack.Copies)
}

// placeOf returns where a partition is among copies, which ascend.
func placeOf(copies []wire.CopyClock, p kv.Partition) (at int, found bool) {
	return slices.BinarySearchFunc(copies, p, func(c wire.CopyClock, p kv.Partition) int { return cmp.Compare(c.Partition, p) })
}

// within refuses an answer about partitions that were not asked about.
func within(asked, answered []kv.Partition, what string) error {
	for _, p := range answered {
		if !slices.Contains(asked, p) {
			return wire.Breached(wire.BreachUnasked, "%s is about partition %d, which was not asked about", what, p)
		}
	}
	return nil
}

func partsOf(copies []wire.CopyClock) []kv.Partition {
	out := make([]kv.Partition, len(copies))
	for i := range copies {
		out[i] = copies[i].Partition
	}
	return out
}

// checkClocks checks an answer to CLOCKS.
func (r *Replica) checkClocks(asked []kv.Partition, ack *wire.ClocksAck) error {
	if err := within(asked, partsOf(ack.Copies), "the answer to CLOCKS"); err != nil {
		return err
	}
	return r.forgedClocks(ack.Copies)
}

// parseClocks takes an answer to CLOCKS apart.
func (r *Replica) parseClocks(name string, asked []kv.Partition, resp []byte) (wire.ClocksAck, error) {
	ack, err := wire.ParseClocksAck(resp)
	if err == nil {
		err = r.checkClocks(asked, &ack)
	}
	if err != nil {
		r.breach(name, err)
		return wire.ClocksAck{}, fmt.Errorf("answer of %s: %w", name, err)
	}
	return ack, nil
}

// parseObject takes an answer to READ apart.
func (r *Replica) parseObject(name string, p kv.Partition, resp []byte) (wire.Object, error) {
	o, err := wire.ParseObject(resp)
	if err == nil {
		c := r.claimsOn(p)
		c.vv(o.Floor)
		c.object(&o.Object)
		err = c.err
	}
	r.breach(name, err)
	return o, err
}

// parseCount takes an answer to COUNT apart, a number for each of so many partitions.
func (r *Replica) parseCount(name string, asked int, resp []byte) (wire.CountAck, error) {
	ack, err := wire.ParseCountAck(resp)
	if err == nil && len(ack.Keys) != asked {
		err = wire.Breached(wire.BreachAnswer, "the answer to COUNT has %d numbers for %d partitions", len(ack.Keys), asked)
	}
	r.breach(name, err)
	return ack, err
}
