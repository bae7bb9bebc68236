package replica

import (
	"context"
	"time"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// carryOut does what the machine decided, in order. What waits for a peer gets a
// goroutine of its own.
func (r *Replica) carryOut(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.due:
		}
		progress := false
		for _, e := range r.takeEffects() {
			_, part := e.(core.SetPart)
			progress = progress || part
			r.do(e)
		}
		if progress {
			r.noteProgress()
		}
	}
}

func (r *Replica) do(e core.Effect) {
	switch e := e.(type) {
	case core.SetPart:
		if r.cfg.Events.Part != nil {
			r.cfg.Events.Part(e.Part)
		}
	case core.SetTrust:
		if sh := r.cfg.Set.Shard(e.Partition); sh != nil {
			sh.SetTrust(e.Trust, nil)
		}
	case core.WantPlan:
		r.tasks.run(func(ctx context.Context) { r.plan(ctx, nil, "") })
	case core.SendHello:
		r.plans.asked(e.Wants, e.Name, r.cfg.Boottime())
		r.tasks.run(func(ctx context.Context) { r.hello(ctx, e) })
	case core.SendDone:
		r.tasks.run(func(ctx context.Context) { r.done(ctx, e) })
	case core.Compare:
		r.tasks.run(func(ctx context.Context) { r.compare(ctx, e) })
	case core.Heal:
		r.tasks.run(func(ctx context.Context) { r.heal(ctx, e) })
	case core.SendClocks:
		r.tasks.run(func(ctx context.Context) { r.askClocks(ctx, e) })
	case core.SendSeal:
		r.tasks.run(func(ctx context.Context) { r.askSeal(ctx, e) })
	case core.Adopt:
		r.adopt(e.Partition, func(error) {})
	case core.SendCover:
		r.tasks.run(func(ctx context.Context) { r.askCover(ctx, e) })
	case core.Drop:
		r.tasks.run(func(context.Context) { r.dropHeld(e) })
	case core.SendTick:
		r.tasks.run(func(ctx context.Context) { r.tick(ctx, e.Name) })
	case core.Outlived:
		if r.cfg.Events.Outlived != nil {
			r.cfg.Events.Outlived(e.Boot)
		}
	case core.SendState:
		r.tellState()
	case core.PingAll:
		r.pingAll()
	case core.Note:
		r.stats.note(e)
		if r.cfg.Events.Note != nil {
			r.cfg.Events.Note(e)
		}
	}
}

// noteProgress stamps the moments at which all owned partitions were first LIVE
// and first verified.
func (r *Replica) noteProgress() {
	if r.stats.CaughtUpNS.Load() != 0 && r.stats.VerifiedNS.Load() != 0 {
		return
	}
	owned, live, verified := 0, 0, 0
	for p := range r.Parts() {
		if !p.Self || p.Partition == kv.System {
			continue
		}
		owned++
		if p.State == kv.Live {
			live++
			if p.Verified || len(p.Owners) == 1 {
				verified++
			}
		}
	}
	if owned == 0 {
		return
	}
	if live == owned {
		r.stats.CaughtUpNS.CompareAndSwap(0, r.cfg.Boottime())
	}
	if verified == owned {
		r.stats.VerifiedNS.CompareAndSwap(0, r.cfg.Boottime())
	}
}

// pingAll asks every peer for a sign of life, and tells those the STATE that the
// last one did not reach.
func (r *Replica) pingAll() {
	st := r.state()
	at := r.cfg.Boottime()
	frame := r.ping(st.Version)
	for _, p := range r.remotes() {
		first := p.askedAt.CompareAndSwap(0, at)
		if p.stateDue.Load() {
			p.stateDue.Store(r.cfg.Peers.SendControl(p.name, st.Append(nil)) != nil)
		}
		if r.cfg.Peers.SendControl(p.name, frame) != nil && first { // not asked: no lease, and no answer owed
			p.askedAt.CompareAndSwap(at, 0)
		}
	}
}

func (r *Replica) ping(version uint64) []byte {
	return wire.Ping{Stamp: r.cfg.Boottime(), StateVersion: version, WallMS: r.cfg.WallMS(), HLC: kv.HLC(r.hlc.Load())}.Append(nil)
}

// answerEvery spaces the looks of Answers.
const answerEvery = 2 * time.Millisecond

// Answers reports whether a connected peer answers a PING that is sent now, before
// ctx ends. It is false at once for one that gave no sign of life lately, and as
// soon as the connection ends.
func (r *Replica) Answers(ctx context.Context, name string) bool {
	p := r.remote(name)
	if !r.fresh(p) {
		return false
	}
	at := r.cfg.Boottime()
	if r.cfg.Peers.SendControl(name, r.ping(r.state().Version)) != nil {
		return false
	}
	tick := time.NewTicker(answerEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
		if p.pongAt.Load() >= at {
			return true
		}
		if r.remote(name) != p {
			return false
		}
	}
}

// state is what this node tells peers that it serves: nothing, once it leaves.
func (r *Replica) state() wire.State {
	r.mu.Lock()
	defer r.mu.Unlock()
	st := r.machine.State()
	if r.leaving.Load() {
		return wire.State{Version: st.Version + 1, View: st.View, Parts: make([]wire.Serving, len(st.Parts))}
	}
	return st
}

func (r *Replica) tellState() {
	frame := r.state().Append(nil)
	for _, p := range r.remotes() {
		p.stateDue.Store(r.cfg.Peers.SendControl(p.name, frame) != nil)
	}
}

// Leave tells every peer that this node serves nothing more, so that they send
// their requests elsewhere. What they sent before is still answered, until Run's
// context ends. It may be called again.
func (r *Replica) Leave() {
	if !r.leaving.Swap(true) {
		r.tellState()
	}
}

// Fence ends all coordination at once: when it returns, no request begins here or
// is answered, and nothing does again. Writes that are under way end as what their
// copies make of them.
func (r *Replica) Fence() { r.step(core.Fenced{}) }
