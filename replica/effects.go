package replica

import (
	"context"

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
		case effects := <-r.effects:
			for _, e := range effects {
				r.do(ctx, e)
			}
		}
	}
}

func (r *Replica) do(ctx context.Context, e core.Effect) {
	switch e := e.(type) {
	case core.SetPart:
		r.noteProgress()
		if r.cfg.Events.Part != nil {
			r.cfg.Events.Part(e.Part)
		}
	case core.SetTrust:
		if sh := r.cfg.Set.Shard(e.Partition); sh != nil {
			sh.SetTrust(e.Trust, nil)
		}
	case core.SendHello:
		r.tasks.run(func(ctx context.Context) { r.hello(ctx, e) })
	case core.SendDone:
		r.tasks.run(func(ctx context.Context) { r.done(ctx, e) })
	case core.Compare:
		r.tasks.run(func(ctx context.Context) { r.compare(ctx, e) })
	case core.SendClocks:
		r.tasks.run(func(ctx context.Context) { r.askClocks(ctx, e) })
	case core.SendTick:
		r.tasks.run(func(ctx context.Context) { r.tick(ctx, e.Name) })
	case core.SendState:
		r.broadcast(e.State.Append(nil))
	case core.PingAll:
		r.pingAll()
	case core.Note:
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
	for _, p := range r.Parts() {
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

func (r *Replica) broadcast(frame []byte) {
	for _, p := range r.remotes() {
		_ = r.cfg.Peers.SendControl(p.name, frame) // a peer that cannot be told gets the whole STATE when it is back
	}
}

func (r *Replica) pingAll() {
	r.mu.Lock()
	version := r.machine.State().Version
	r.mu.Unlock()
	r.broadcast(wire.Ping{
		Stamp: r.cfg.Boottime(), StateVersion: version, WallMS: r.cfg.WallMS(), HLC: kv.HLC(r.hlc.Load()),
	}.Append(nil))
}
