package replica

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
	"edged.dev/edged/partition/state"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

const (
	// requestWait is a request's deadline where its door sets none.
	requestWait = 2 * time.Second
	// contextWait bounds the read of more owners that a write without the lead
	// makes: their slower answers are done without, and the answer says so.
	contextWait = 200 * time.Millisecond
)

// Start begins a request: here if this node may run it, else at a serving owner.
// done is called once, from any goroutine.
func (r *Replica) Start(ctx context.Context, req *kv.Request, done func(*kv.Response, error)) {
	if err := r.check(req); err != nil {
		done(nil, err)
		return
	}
	p := r.partitionOf(req)
	answer := r.timed(p, req, done)
	if part := r.part(p); part != nil && r.runsHere(part, req) {
		r.run(ctx, part, req, func(resp *kv.Response, err error) {
			if !elsewhere(req, err) {
				answer(r.ownAnswer(p, req, resp), err)
				return
			}
			r.startRoute(ctx, p, req, err, answer)
		})
		return
	}
	r.startRoute(ctx, p, req, nil, answer)
}

// elsewhere reports whether another owner may answer what this one could not:
// nothing was started here, or this node cannot run the policy that a read needs.
func elsewhere(req *kv.Request, err error) bool {
	code := kv.CodeOf(err)
	return code == kv.CodeNotServing || code == kv.CodePolicy && !req.Writes()
}

// ownAnswer takes the fence off the answer to a write that this node's own copy
// decided: a later read here cannot miss it, and goes the fast way. Where the partition
// was taken away meanwhile, a later read is another node's to answer.
func (r *Replica) ownAnswer(p kv.Partition, req *kv.Request, resp *kv.Response) *kv.Response {
	if resp != nil && !req.Meta && r.part(p).Self {
		resp.Fence = nil
	}
	return resp
}

// startRoute has a request run where it can. refused is why this node could not,
// nil if it was not asked.
func (r *Replica) startRoute(ctx context.Context, p kv.Partition, req *kv.Request, refused error, done func(*kv.Response, error)) {
	if !r.tasks.run(func(context.Context) { r.route(ctx, p, req, refused, done) }) {
		done(nil, kv.Errorf(kv.CodeUnavailable, "this node is stopping"))
	}
}

func (r *Replica) check(req *kv.Request) error {
	if req.System {
		return nil // written by this program alone, with limits of its own
	}
	return req.CheckSizes()
}

// leased reports whether a copy may answer now.
func (r *Replica) leased(part *core.Part) bool {
	return part.Until == core.Forever || r.cfg.Boottime() <= part.Until
}

func (r *Replica) runsHere(part *core.Part, req *kv.Request) bool {
	return part.State.Serves() && (!req.Writes() || part.First == r.cfg.Self) && r.leased(part) && r.seen(part, req)
}

// run runs a request on this node's copy, which serves.
func (r *Replica) run(ctx context.Context, part *core.Part, req *kv.Request, done func(*kv.Response, error)) {
	if !req.Writes() {
		r.get(ctx, part, req, done)
		return
	}
	w := &write{r: r, ctx: ctx, part: part, req: req, done: done}
	if req.Token != nil {
		covers, err := r.context(part.Partition, req.Key, req.Token)
		if err != nil {
			done(nil, err)
			return
		}
		w.covers.Ctx = covers
		w.start()
		return
	}
	w.covers.Held = true
	more := len(part.Owners) - r.need(part, 0)
	w.byLead = part.Lead && more > 0 && part.Partition != kv.System
	if w.byLead || more <= 0 || part.Partition == kv.System {
		w.start()
		return
	}
	if !r.tasks.run(func(ctx context.Context) { w.gather(ctx, more); w.start() }) {
		done(nil, kv.Errorf(kv.CodeUnavailable, "this node is stopping"))
	}
}

// need is the number of copies a full acknowledgement has.
func (r *Replica) need(part *core.Part, asked int) int {
	w := r.cfg.W
	if part.Partition == kv.System {
		w = 2
	}
	if asked > 0 {
		w = asked
	}
	return min(w, max(1, len(part.Owners)))
}

// write is one write under way at its coordinator.
type write struct {
	r       *Replica
	ctx     context.Context
	part    *core.Part
	req     *kv.Request
	done    func(*kv.Response, error)
	covers  state.Covers
	extra   []kv.Object // of more owners, filled
	partial bool
	byLead  bool // it goes by this copy alone
	resp    kv.Response
	decided partition.Mutation
	asked   asked
}

// gather reads the object at more LIVE owners: without the lead this copy alone
// may lack an acknowledged write that a plain one must supersede.
func (w *write) gather(ctx context.Context, more int) {
	ctx, cancel := context.WithTimeout(ctx, contextWait)
	defer cancel()
	answers := w.r.readOwners(ctx, w.part, w.req.Key)
	got := 0
	for range w.part.Live {
		a, ok := <-answers
		if !ok {
			break
		}
		if a.State != kv.Live {
			continue
		}
		w.extra = append(w.extra, a.Object.Object)
		w.covers.Ctx = w.covers.Ctx.Join(kv.Context(a.Object.Object))
		if got++; got == more {
			return
		}
	}
	w.partial = true
}

func (w *write) start() {
	r := w.r
	if r.cfg.Refuse && r.reachable(w.part) < r.need(w.part, w.req.W) {
		w.done(nil, kv.Errorf(kv.CodeUnavailable, "too few owners of the key can be reached, and isolated writes are refused; nothing was written"))
		return
	}
	r.stats.Writes.Add(1)
	w.plan()
}

func (w *write) plan() {
	sh := w.r.cfg.Set.Shard(w.part.Partition)
	if sh == nil {
		w.done(nil, kv.Errorf(kv.CodeNotServing, "partition %d has no copy here", w.part.Partition))
		return
	}
	sh.WriteBy(w.ctx, w.req.Key, w.decide, w.planned)
}

// reachable counts the owners that a write could reach now, this node included.
func (r *Replica) reachable(part *core.Part) int {
	n := 0
	for _, name := range part.Owners {
		if name == r.cfg.Self || r.fresh(r.remote(name)) {
			n++
		}
	}
	return n
}

// decide runs under the key's lock, on the object as planned here joined with
// what other owners hold.
func (w *write) decide(held kv.Object) (*partition.Mutation, error) {
	r, now := w.r, w.r.NowMS()
	shown := held
	if len(w.extra) > 0 {
		seen := r.cfg.Set.Shard(w.part.Partition).Clock() // what this copy has seen and no longer holds is dead
		shown = held.Filled(nil)                          // what is planned may be ahead of what it has published
		for _, o := range w.extra {
			shown = kv.Merge(shown, &seen, o)
		}
	}
	live := shown.Live(nil, now)
	var v View
	if looks(w.req) {
		if _, err := r.stillServes(w.part); err != nil { // it may have waited, or been paused
			return nil, err
		}
		var err error
		if v, err = w.show(live); err != nil {
			return nil, err
		}
	}
	tag := ""
	if len(w.req.IfMatch)+len(w.req.IfNoneMatch) > 0 {
		tag = entityTag(live, v.Policy)
	}
	d, err := decide(w.req, v, tag, len(live) > 0, now)
	if err != nil {
		return nil, err
	}
	w.resp = d.resp
	if !d.write {
		return nil, nil
	}
	if err := w.checkSiblings(held, d); err != nil {
		return nil, err
	}
	version := kv.Version{HLC: r.nextHLC(shown), ExpiresMS: d.expiresMS, Value: d.value}
	if d.tombstone {
		version.Flags = kv.Tombstone
	}
	w.decided = partition.Mutation{Version: version, Covers: w.covers}
	return &w.decided, nil
}

// looks reports whether a write depends on what is shown. A plain SET does not:
// it must get through where the policy cannot run.
func looks(q *kv.Request) bool {
	return q.Op != kv.OpSet || q.NX || q.XX || q.KeepTTL || q.ReturnOld || len(q.IfMatch)+len(q.IfNoneMatch) > 0
}

// checkSiblings refuses a write that would leave too much side by side.
func (w *write) checkSiblings(held kv.Object, d decision) error {
	if w.covers.Held {
		return nil
	}
	n, bytes := 1, len(d.value)
	for _, v := range held.Versions {
		if !w.covers.Ctx.Has(v.Dot) {
			n++
			bytes += len(v.Value)
		}
	}
	if n > kv.MaxSiblings || n > 1 && bytes > kv.MaxSiblingBytes {
		return kv.Errorf(kv.CodeSiblings, "key would have %d concurrent versions of %d bytes; the limits are %d and %d: read it, then write with the token of that answer",
			n, bytes, kv.MaxSiblings, kv.MaxSiblingBytes)
	}
	return nil
}

// planned is called when the write, or what decide saw, is published.
func (w *write) planned(ch *state.Change, err error) {
	if errors.Is(err, errAsk) {
		w.ask()
		return
	}
	if err != nil {
		w.done(nil, w.r.storeError(w.part, err))
		return
	}
	if ch == nil { // a read, in effect
		if w.resp.State, err = w.r.stillServes(w.part); err != nil {
			w.done(nil, err)
			return
		}
		w.done(&w.resp, nil)
		return
	}
	w.resp.State = marked(w.part)
	w.replicate(ch)
}

// storeError is what a client or a forwarder is told. Nothing was started; where
// records are damaged, another owner may have them whole.
func (r *Replica) storeError(part *core.Part, err error) error {
	var e *kv.Error
	if errors.As(err, &e) {
		return e
	}
	if errors.Is(err, partition.ErrDamaged) && len(part.Owners) > 1 {
		return kv.Errorf(kv.CodeNotServing, "the copy of partition %d on %s is damaged at this key, and is being healed", part.Partition, r.cfg.Self)
	}
	if errors.Is(err, partition.ErrFull) {
		return kv.Errorf(kv.CodeFull, "the disk of the node that would write is nearly full; reads go on, nothing was written: free some space there")
	}
	if errors.Is(err, partition.ErrBusy) {
		return kv.Errorf(kv.CodeUnavailable, "the disk does not keep up; nothing was written")
	}
	return kv.Errorf(kv.CodeInternal, "store: %v", err)
}

// marked is the state an answer is marked with: none for a LIVE copy.
func marked(part *core.Part) kv.State {
	if part.State == kv.Live {
		return 0
	}
	return part.State
}

// replicate sends the published change to the other owners and answers when
// enough of them hold it.
func (w *write) replicate(ch *state.Change) {
	r := w.r
	if w.part.Partition != kv.System {
		r.favours.note(w.part.Partition, r.cfg.Self, 0, r.cfg.Boottime())
	}
	sole := len(w.part.Owners) == 1 && w.part.Owners[0] == r.cfg.Self
	if now := r.part(w.part.Partition); sole && !now.Self {
		// It was displaced meanwhile: who owns the partition now may have asked for this
		// copy's clock before the write was in it.
		w.part, sole = now, false
	}
	need := r.need(w.part, w.req.W)
	if sole { // nobody to wait for
		q := core.NewQuorum(need, r.cfg.Self, w.part.Owners)
		q.Ack(r.cfg.Self, r.cfg.Self)
		w.settled(ch, &q, false)
		return
	}
	wait := &waiting{dot: ch.Dots[0], quorum: core.NewQuorum(need, r.cfg.Self, w.part.Owners), settle: func(q core.Quorum, late bool) {
		w.settled(ch, &q, late)
	}}
	stand := w.part.StandIns
	if r.cfg.Refuse {
		stand = nil // it promises owners' copies or nothing
	}
	wait.quorum.StandIns(stand)
	for _, name := range slices.Concat(w.part.Owners, stand) {
		if name == r.cfg.Self {
			wait.ack(name, name)
			continue
		}
		p := r.remote(name)
		switch {
		case p == nil:
			wait.fail(name)
		case !r.fresh(p):
			wait.fail(name)
			r.sendChange(p, w.part.Partition, ch, nil)
		default:
			r.sendChange(p, w.part.Partition, ch, wait)
		}
	}
	left := requestWait
	if at, ok := w.ctx.Deadline(); ok {
		left = time.Until(at)
	}
	wait.begin(left)
}

func (w *write) settled(ch *state.Change, q *core.Quorum, late bool) {
	r := w.r
	if late {
		r.stats.Unknown.Add(1)
		w.done(nil, kv.Errorf(kv.CodeUnknown, "%d of %d copies acknowledged in time; the write may or may not last", q.Copies(), q.Need))
		return
	}
	w.resp.Copies, w.resp.Wanted, w.resp.StandIns = q.Copies(), max(1, len(w.part.Owners)), q.Stood()
	if w.resp.StandIns > 0 {
		r.stats.StandInWrites.Add(1)
	}
	if len(w.part.Owners) > 1 || !w.part.Self { // else every reader has what this copy has
		w.resp.Fence = fenceOf(ch.Dots[0])
	}
	if q.Copies() < q.Need {
		r.stats.FewCopies.Add(1)
	}
	w.resp.Partial = w.partial || q.Partial(w.part, r.part(w.part.Partition), w.byLead)
	if w.resp.Partial {
		r.stats.PartialContext.Add(1)
	}
	if w.req.Meta {
		filled := ch.Filled(0)
		w.resp.Token = r.mint(w.part.Partition, w.req.Key, kv.Context(filled))
		w.tag(filled.Live(nil, r.NowMS()))
		return
	}
	w.done(&w.resp, nil)
}

// resolve shows what lies behind a key: nothing, the one version, or what the
// bound policy makes of several.
func (r *Replica) resolve(ctx context.Context, req *kv.Request, live []kv.Version) (View, error) {
	switch {
	case len(live) == 0:
		return View{}, nil
	case len(live) == 1:
		return View{Found: true, Value: live[0].Value, ExpiresMS: live[0].ExpiresMS}, nil
	case req.System: // resolved by epoch, by whoever reads the partition
		return View{Found: true, Value: live[0].Value}, nil
	}
	v, err := r.cfg.Merger.View(ctx, req.Key, live)
	if err != nil {
		return View{}, kv.Errorf(kv.CodePolicy, "the policy bound to the key cannot run on this node: %v", err)
	}
	return v, nil
}

// serveRead answers READ with this node's copy of one object.
func (r *Replica) serveRead(request []byte) ([]byte, error) {
	q, err := wire.ParseRead(request)
	if err != nil {
		return nil, err
	}
	before, sh := r.part(q.Partition), r.cfg.Set.Shard(q.Partition)
	if before == nil || sh == nil {
		return wire.Object{}.Append(nil), nil
	}
	o, base, err := sh.Read(q.Key)
	if err != nil {
		return nil, err
	}
	// The floor comes behind the object, which lacks what was collected until then.
	ans := wire.Object{State: before.State, Actor: sh.Actor(), Object: o.Filled(base), Floor: sh.Status().Floor}
	// The lease is checked at the answer, a peer's READ included.
	if now := r.part(q.Partition); now.State != before.State || !r.leased(before) {
		ans.State = kv.CatchingUp
	}
	return ans.Append(nil), nil
}

// readOwners asks every other LIVE owner for its object; the channel brings the
// answers as they come and is closed behind the last.
func (r *Replica) readOwners(ctx context.Context, part *core.Part, key []byte) <-chan ownerObject {
	out := make(chan ownerObject, len(part.Live))
	var left atomic.Int64
	left.Store(int64(len(part.Live)))
	over := func() {
		if left.Add(-1) == 0 {
			close(out)
		}
	}
	if len(part.Live) == 0 {
		close(out)
	}
	req := wire.Read{Partition: part.Partition, Key: key}.Append(nil)
	for _, name := range part.Live {
		started := r.tasks.run(func(context.Context) {
			defer over()
			resp, err := r.cfg.Peers.Call(ctx, name, req)
			if err != nil {
				return
			}
			if o, err := r.parseObject(name, part.Partition, resp); err == nil {
				out <- ownerObject{name, o}
			}
		})
		if !started {
			over()
		}
	}
	return out
}
