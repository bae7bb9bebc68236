package replica

import (
	"bytes"
	"context"
	"errors"
	"time"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// get answers a read from this node's copy, joined with those of R-1 more LIVE
// owners.
func (r *Replica) get(ctx context.Context, part *core.Part, req *kv.Request, done func(*kv.Response, error)) {
	more := min(max(req.R, r.cfg.R, 1), len(part.Owners)) - 1
	if part.Partition == kv.System {
		more = 0
	}
	switch {
	case more <= 0:
		done(r.show(ctx, part, req, nil))
	case !r.tasks.run(func(context.Context) { r.getMany(ctx, part, req, more, done) }): // one copy is not what was asked for
		done(nil, kv.Errorf(kv.CodeUnavailable, "this node is stopping"))
	}
}

func (r *Replica) getMany(ctx context.Context, part *core.Part, req *kv.Request, more int, done func(*kv.Response, error)) {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	var extra []kv.Object
	var heard []ownerObject
	answers := r.readOwners(ctx, part, req.Key)
	for a := range answers {
		if a.State == kv.Live {
			heard = append(heard, a)
			if extra = append(extra, a.Object.Object); len(extra) == more {
				break
			}
		}
	}
	if len(extra) < more {
		done(nil, kv.Errorf(kv.CodeUnavailable, "%d of %d copies asked for could be read", len(extra)+1, more+1))
		return
	}
	key := bytes.Clone(req.Key) // the request is its caller's again once it is answered
	done(r.show(ctx, part, req, extra))
	r.repairRead(part, key, heard)
}

func withDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, requestWait)
}

// show builds the answer of a read.
func (r *Replica) show(ctx context.Context, part *core.Part, req *kv.Request, extra []kv.Object) (*kv.Response, error) {
	sh := r.cfg.Set.Shard(part.Partition)
	if sh == nil {
		return nil, kv.Errorf(kv.CodeNotServing, "partition %d has no copy here", part.Partition)
	}
	o, base, err := sh.Read(req.Key)
	if err != nil {
		return nil, r.storeError(part, err)
	}
	r.stats.Reads.Add(1)
	filled := o.Filled(base)
	for _, x := range extra {
		filled = kv.Merge(filled, &kv.Clock{}, x)
	}
	live := filled.Live(nil, r.NowMS())
	v, err := r.resolve(ctx, req, live)
	if err != nil {
		return nil, err
	}
	mark, err := r.stillServes(part)
	if err != nil {
		return nil, err
	}
	resp := &kv.Response{Found: v.Found, Value: v.Value, ExpiresMS: v.ExpiresMS, View: v.Mark, State: mark, Copies: 1 + len(extra)}
	if resp.State != 0 {
		r.stats.MarkedAnswers.Add(1)
	}
	if req.Meta {
		resp.Token = r.mint(part.Partition, req.Key, kv.Context(filled))
		resp.ETag = entityTag(live, v.Policy)
	}
	if req.Siblings {
		for _, s := range live {
			resp.Siblings = append(resp.Siblings, kv.Sibling{Value: s.Value, Dot: s.Dot, HLC: s.HLC, ExpiresMS: s.ExpiresMS})
		}
	}
	return resp, nil
}

// stillServes looks at the lease again, at an answer, and returns the mark of it:
// that of the state now, or when the object was read.
func (r *Replica) stillServes(part *core.Part) (kv.State, error) {
	now := r.part(part.Partition)
	if now == nil || !now.State.Serves() || !r.leased(now) {
		return 0, kv.Errorf(kv.CodeNotServing, "partition %d stopped serving here while it was read", part.Partition)
	}
	return max(marked(part), marked(now)), nil
}

// GetFast answers a plain read from this node's memory without allocating.
func (r *Replica) GetFast(dst, key []byte) (value []byte, found, handled bool) {
	hash := kv.Hash(key)
	p := kv.PartitionOf(hash, r.cfg.Partitions)
	slot := &r.parts.data[p]
	part := slot.Load()
	if part == nil || part.State != kv.Live || r.cfg.R > 1 {
		return dst, false, false
	}
	sh := r.cfg.Set.Shard(p)
	if sh == nil {
		return dst, false, false
	}
	from := len(dst)
	value, shown, handled := sh.ReadFast(dst, hash, key)
	r.heat.read(p, key)
	// One look after the read is enough: a lease that lapsed before it is renewed
	// only by way of another Part.
	if !handled || slot.Load() != part && !r.stillLive(slot.Load()) || !r.leased(part) {
		return value[:from], false, false
	}
	if !shown.Found || shown.ExpiresMS != 0 && shown.ExpiresMS <= r.NowMS() {
		return value[:from], false, true
	}
	return value, true, true
}

func (r *Replica) stillLive(part *core.Part) bool {
	return part != nil && part.State == kv.Live && r.leased(part)
}

// retryWait is how long a request that nobody could run waits before it asks
// again, if nothing is heard meanwhile.
const retryWait = 20 * time.Millisecond

// route finds where a request can run and has it run there, once: a request that
// was sent and not answered is not sent again.
func (r *Replica) route(ctx context.Context, p kv.Partition, req *kv.Request, refused error, done func(*kv.Response, error)) {
	ctx, cancel := withDeadline(ctx)
	release := cancel
	defer func() { release() }()
	tried := map[string]bool{}
	if refused != nil { // here; the others first
		tried[r.cfg.Self] = true
	}
	for ctx.Err() == nil {
		r.mu.Lock()
		changed := r.changed
		r.mu.Unlock()
		part := r.part(p)
		if part != nil && part.Self && part.State == kv.Live && !r.leased(part) {
			r.stats.LeaseWaits.Add(1)
			r.step(core.Lapsed{Partition: p})
			part = r.part(p)
		}
		target, ok := r.target(part, req, tried)
		switch {
		case ok && target == r.cfg.Self:
			release = func() {} // the write outlives this goroutine; its own deadline bounds it
			settle := func(resp *kv.Response, err error) { cancel(); done(resp, err) }
			r.run(ctx, part, req, func(resp *kv.Response, err error) {
				if elsewhere(req, err) && ctx.Err() == nil {
					r.startRoute(ctx, p, req, err, settle)
					return
				}
				settle(resp, err)
			})
			return
		case ok && req.Writes() && r.quiet(target):
		case ok:
			resp, err, settled := r.forward(ctx, target, req)
			if settled {
				done(resp, err)
				return
			}
			if kv.CodeOf(err) == kv.CodePolicy {
				refused = err
			}
			tried[target] = true
			continue
		}
		clear(tried)
		again := time.NewTimer(retryWait)
		select {
		case <-changed:
		case <-again.C: // what refused may serve, or have caught up with a fence, by now
		case <-ctx.Done():
		}
		again.Stop()
	}
	if kv.CodeOf(refused) == kv.CodePolicy {
		done(nil, refused)
		return
	}
	done(nil, kv.Errorf(kv.CodeUnavailable, "no copy of partition %d serves at present; nothing was done", p))
}

// target chooses who runs a request: for a write the first serving owner, for a
// read this node if it serves; of those not tried yet.
func (r *Replica) target(part *core.Part, req *kv.Request, tried map[string]bool) (string, bool) {
	if part == nil {
		return r.anyone(tried)
	}
	here := part.State.Serves() && r.leased(part) && r.seen(part, req)
	if here && !req.Writes() && !tried[r.cfg.Self] {
		return r.cfg.Self, true
	}
	for _, name := range part.Serving {
		if !tried[name] && (here || name != r.cfg.Self) {
			return name, true
		}
	}
	if len(part.Serving) == 0 && part.Partition == kv.System {
		return r.anyone(tried)
	}
	return "", false
}

// anyone returns a connected peer, one that owes no answer before one that does: what a
// node that has no layout yet can ask.
func (r *Replica) anyone(tried map[string]bool) (name string, found bool) {
	for _, p := range r.remotes() {
		if tried[p.name] || !r.fresh(p) {
			continue
		}
		if name, found = p.name, true; !r.quiet(p.name) {
			break
		}
	}
	return name, found
}

// forward has a peer run a request. settled is false only where nothing was
// started there, so that another may be tried.
func (r *Replica) forward(ctx context.Context, name string, req *kv.Request) (resp *kv.Response, err error, settled bool) {
	r.stats.Forwards.Add(1)
	at, _ := ctx.Deadline()
	f := wire.Forward{DeadlineMS: uint32(max(1, untilMS(at))), View: r.view(), Request: *req}
	frame, err := r.cfg.Peers.Call(ctx, name, f.Append(nil))
	if err != nil {
		if errors.Is(err, ErrNotSent) || !req.Writes() {
			return nil, nil, false
		}
		r.stats.Unknown.Add(1)
		return nil, kv.Errorf(kv.CodeUnknown, "sent to %s, which did not answer; the write may or may not have taken effect", name), true
	}
	res, err := answerOf(r, name, frame, wire.ParseResult)
	switch {
	case err != nil:
		return nil, kv.Errorf(kv.CodeUnknown, "answer of %s does not parse: %v", name, err), true
	case res.Err != nil && elsewhere(req, res.Err):
		return nil, res.Err, false
	case res.Err != nil:
		return nil, res.Err, true
	}
	return &res.Response, nil, true
}

// serveForward runs a request that a peer forwards. This node runs it though it
// may not be first in its own view, unless it does not serve.
func (r *Replica) serveForward(ctx context.Context, request []byte) ([]byte, error) {
	f, err := wire.ParseForward(request)
	if err != nil {
		return nil, err
	}
	req := &f.Request
	ctx, cancel := context.WithTimeout(ctx, durationMS(f.DeadlineMS))
	defer cancel()
	p := r.partitionOf(req)
	part := r.awaitLease(ctx, p)
	if part == nil || !r.seen(part, req) {
		res := wire.Result{Err: kv.Errorf(kv.CodeNotServing, "partition %d does not serve on %s", p, r.cfg.Self)}
		return res.Append(nil), nil
	}
	if !req.System && !req.Writes() {
		r.heat.readElsewhere(p, req.Key)
	}
	ch := make(chan wire.Result, 1)
	r.run(ctx, part, req, func(resp *kv.Response, err error) {
		var res wire.Result
		if err != nil {
			res.Err = kv.Errorf(kv.CodeOf(err), "%s", err.Error())
		} else {
			res.Response = *resp
		}
		ch <- res
	})
	res := <-ch // run always answers: its waits are bounded by ctx
	return res.Append(nil), nil
}

// awaitLease returns the partition if it serves here, after waiting for a lapsed
// lease to be renewed; nil if it does not.
func (r *Replica) awaitLease(ctx context.Context, p kv.Partition) *core.Part {
	for {
		r.mu.Lock()
		changed := r.changed
		r.mu.Unlock()
		part := r.part(p)
		if part == nil || !part.State.Serves() {
			return nil
		}
		if r.leased(part) {
			return part
		}
		r.step(core.Lapsed{Partition: p})
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}
