package replica

import (
	"context"
	"errors"
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

var errConnection = errors.New("connection lost")

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
	h.AsksHeat = r.plans.asks.Load() // who has no policy leaves the order to its donors
	peer := r.remote(e.Name)
	// What a session brought that was cut is not asked for again.
	if peer == nil || r.cfg.Set.Committer().SyncApplied() != nil {
		r.step(core.HelloAnswered{Name: e.Name, Session: e.Session, Wants: e.Wants, Failed: true, AskAt: at})
		return
	}
	parts := r.cfg.Set.Partitions()
	sortParts(parts)
	var err error
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
			if pl.in[p], c.Clock, err = r.begin(sh, e.Session, peer.node, &h); err != nil {
				delete(pl.in, p)
				break
			}
		}
		h.Copies = append(h.Copies, c)
	}
	pl.asks(&h)
	r.sessions.add(pl)
	if len(pl.in) > 0 {
		r.guardBegins()
	}
	if r.remote(e.Name) != peer { // it went, and what it took with it has not seen this session
		r.drop(pl, errConnection)
	}
	var ack wire.HelloAck
	if err == nil {
		ack, err = r.askHello(ctx, e.Name, h)
	}
	if h.AsksHeat && err == nil {
		heat := ack.Heat // not the answer, which has the clocks of all copies
		peer.heat.Store(&heat)
	}
	answered := core.HelloAnswered{Name: e.Name, Session: e.Session, Wants: e.Wants, Ack: ack, AskAt: at}
	if err != nil || ack.Code == wire.HelloBusy || !pl.take(ack) {
		r.drop(pl, nil)
		answered.Failed = err != nil || ack.Code != wire.HelloBusy
		r.step(answered)
		return
	}
	r.step(answered)
	pl.await(func() {
		if !pl.isHeld() {
			r.drop(pl, errLaneStalled)
		}
	})
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
		streams[c.Partition] = !c.Damaged && !c.Quarantined
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

// await begins to watch for lanes, if there are to be any.
func (p *pull) await(stalled func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.over && len(p.in) > 0 {
		p.watch = time.AfterFunc(laneWait, stalled)
	}
}

// isHeld reports whether lanes are held up by this node; the watch then begins anew.
func (p *pull) isHeld() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	held := p.held > 0 || slices.ContainsFunc(p.lanes, func(a *arriving) bool { return a != nil && !a.over && a.taken.writes() })
	if held {
		p.movesLocked()
	}
	return held
}

// movesLocked notes that bytes of a lane came. The caller holds mu.
func (p *pull) movesLocked() {
	if p.watch != nil && !p.over {
		p.watch.Reset(laneWait)
	}
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

// tellEnd has the machine told of an end that is published. It looks at every
// partition at each event, and the ends of a session come by hundreds, out of the
// one goroutine that commits: so those that came while it looked are told at once.
func (r *Replica) tellEnd(e partEnd) {
	r.sessions.mu.Lock()
	r.sessions.ends = append(r.sessions.ends, e)
	first := !r.sessions.telling
	r.sessions.telling = true
	r.sessions.mu.Unlock()
	if first { // a node that stops tells nothing more
		r.tasks.run(func(context.Context) { r.tellEnds() })
	}
}

// tellEnds tells what is there to tell, and what came meanwhile.
func (r *Replica) tellEnds() {
	for {
		r.sessions.mu.Lock()
		ends := r.sessions.ends
		r.sessions.ends = nil
		r.sessions.telling = len(ends) > 0
		r.sessions.mu.Unlock()
		if len(ends) == 0 {
			return
		}
		ev := make(core.PartsEnded, len(ends))
		for i, e := range ends {
			ev[i] = e.PartEnded
		}
		r.step(ev)
		for _, e := range ends {
			e.pull.ends(e.Partition, true)
			r.finishPull(e.pull)
		}
	}
}

// asks notes what a HELLO asks for.
func (p *pull) asks(h *wire.Hello) {
	p.wants = h.Wants
	for _, o := range h.Orders {
		if o.MaxBytes > 0 {
			p.some = append(p.some, o.Partition)
		}
	}
}

// whenSynced calls fn once what is published is on stable storage. A session's end is
// told only then: asked before, its clock would not have grown yet, and the same objects
// would be fetched again.
func (r *Replica) whenSynced(fn func()) {
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
	for _, a := range pl.lanes {
		if a == nil {
			continue // it has not come
		}
		if p, unfinished := a.leaveLocked(); unfinished {
			left = append(left, p)
		}
	}
	if pl.watch != nil {
		pl.watch.Stop()
	}
	pl.mu.Unlock()
	if cause != nil {
		r.stats.SessionsCut.Add(1)
	}
	sortParts(left)
	if len(left) > 0 {
		ev := make(core.PartsEnded, len(left))
		for i, p := range left {
			ev[i] = core.PartEnded{Name: pl.name, Session: pl.id, Partition: p, Failed: true}
		}
		r.step(ev)
	}
	r.finishPull(pl)
}

// finishPull tells the machine, once, when the lanes are over and every end
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
