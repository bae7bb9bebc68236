package replica

import (
	"context"
	"fmt"
	"slices"

	"github.com/zeebo/xxh3"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// tick compares roots with a running peer: 48 bytes when in sync.
func (r *Replica) tick(ctx context.Context, name string) {
	r.cfg.Set.Cool() // what no peer asked since the last tick
	at := r.cfg.Boottime()
	peer := r.remote(name)
	if peer == nil {
		return
	}
	t, mine := r.rootWith(name)
	resp, err := r.call(ctx, name, t.Append(nil))
	if err != nil || r.remote(name) != peer { // which of two processes answered is not known
		return
	}
	ack, err := wire.ParseTickAck(resp, r.codec)
	if err == nil {
		err = r.forgedClocks(ack.Copies)
	}
	r.breach(name, err)
	if err == nil && ack.Code == wire.HelloEqual {
		r.stats.TicksEqual.Add(1)
		r.checkpoint(name, mine)
	} else {
		r.stats.TicksDifferent.Add(1)
	}
	r.step(core.TickAnswered{Name: name, Boot: peer.boot, Ack: ack, Failed: err != nil, AskAt: at, Mine: mine})
}

// shared returns the partitions that this node and a peer own in common, the
// system partition last.
func (r *Replica) shared(name string) []kv.Partition {
	var out []kv.Partition
	for p := range r.Parts() {
		if p.Self && slices.Contains(p.Owners, name) {
			out = append(out, p.Partition)
		}
	}
	sortParts(out)
	return out
}

// rootWith hashes clock and digest of every shared partition, and returns the
// clocks too. Pending is not
// zero where digests cannot be compared, so that a session runs even at equal
// clocks.
func (r *Replica) rootWith(name string) (wire.Tick, []wire.CopyClock) {
	var h xxh3.Hasher
	var mine []wire.CopyClock
	t := wire.Tick{View: r.view()}
	for _, p := range r.shared(name) {
		sh := r.cfg.Set.Shard(p)
		if sh == nil {
			continue
		}
		st := sh.Status()
		if !st.Comparable() {
			t.Pending++
		}
		hashClock(&h, p, st.Clock)
		mine = append(mine, wire.CopyClock{Partition: p, Clock: st.Clock})
		sum := st.Digest.Bytes()
		_, _ = h.Write(sum[:]) // a Hasher does not fail
	}
	sum := h.Sum128()
	putU64(t.Root[:], sum.Lo)
	putU64(t.Root[8:], sum.Hi)
	return t, mine
}

func hashClock(h *xxh3.Hasher, p kv.Partition, c kv.Clock) {
	b := make([]byte, 4, 4+32*c.Len())
	putU32(b, uint32(p))
	number := func(v uint64) {
		var n [8]byte
		putU64(n[:], v)
		b = append(b, n[:]...)
	}
	for _, s := range c.Spans() {
		b = s.Actor.Append(b)
		number(s.Base)
		number(uint64(len(s.Runs)))
		for _, run := range s.Runs {
			number(run.From)
			number(run.To)
		}
	}
	_, _ = h.Write(b) // a Hasher does not fail
}

// serveTick answers TICK: equal, or this node's copies of what both own.
func (r *Replica) serveTick(ctx context.Context, name string, request []byte) ([]byte, error) {
	t, err := wire.ParseTick(request)
	if err != nil {
		return nil, err
	}
	peer := r.remote(name)
	// The request's connection was there after that: the peer is whose it is.
	if peer == nil || ctx.Err() != nil {
		return nil, fmt.Errorf("answer tick of %s: not connected", name)
	}
	mine, copies := r.rootWith(name)
	ack := wire.TickAck{Code: wire.HelloEqual}
	if t.Root != mine.Root || t.Pending != 0 || mine.Pending != 0 {
		ack.Code = wire.HelloOK
		for _, p := range r.shared(name) {
			if c, ok := r.copyClock(p); ok {
				ack.Copies = append(ack.Copies, c)
			}
		}
	}
	if ack.Code == wire.HelloEqual {
		r.step(core.TickEqual{Name: name, Boot: peer.boot, Copies: copies})
		r.checkpoint(name, copies)
	}
	return ack.Append(nil, r.codec), nil
}

// Serve answers a call of a peer.
func (r *Replica) Serve(ctx context.Context, name string, request []byte) ([]byte, error) {
	resp, err := r.serve(ctx, name, request)
	r.breach(name, err)
	return resp, err
}

func (r *Replica) serve(ctx context.Context, name string, request []byte) ([]byte, error) {
	t, err := wire.TypeOf(request)
	if err != nil {
		return nil, err
	}
	switch t {
	case wire.TypeForward:
		return r.serveForward(ctx, request)
	case wire.TypeRead:
		return r.serveRead(request)
	case wire.TypeClocks:
		return r.serveClocks(name, request)
	case wire.TypeScan:
		return r.serveScan(request)
	case wire.TypeCount:
		return r.serveCount(request)
	case wire.TypeHello:
		return r.serveHello(name, request)
	case wire.TypeDone:
		return r.serveDone(name, request)
	case wire.TypeSeal:
		return r.serveSeal(ctx, request)
	case wire.TypeCover:
		return r.serveCover(name, request)
	case wire.TypeTick:
		return r.serveTick(ctx, name, request)
	case wire.TypeTree:
		return AnswerTree(ctx, r.cfg.Set, request)
	case wire.TypeHeld:
		return AnswerHeld(ctx, r.cfg.Set, request)
	}
	return nil, fmt.Errorf("call of type %d is not known; is %s of a newer version?", t, name)
}
