package replica

import (
	"context"
	"sync"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition/state"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// maxReadRepairs bounds the keys repaired at once, after reads that found copies
// apart; what comes beyond is left to the tick, which mends it within ten seconds.
const maxReadRepairs = 128

// readRepairs are the keys under repair: one flight a key.
type readRepairs struct {
	mu   sync.Mutex
	keys map[string]struct{}
}

// begin takes a key, unless it is being repaired or too many are.
func (x *readRepairs) begin(key string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, flying := x.keys[key]; flying || len(x.keys) >= maxReadRepairs {
		return false
	}
	if x.keys == nil {
		x.keys = map[string]struct{}{}
	}
	x.keys[key] = struct{}{}
	return true
}

func (x *readRepairs) end(key string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.keys, key)
}

// ownerObject is what an owner answered to READ.
type ownerObject struct {
	name string
	wire.Object
}

// repairRead mends the copies that a read found apart, behind the read: what others
// hold and this copy has not seen is joined here, and this copy's object goes to
// those that have not seen all of it, as any replicated write does.
func (r *Replica) repairRead(part *core.Part, key []byte, answers []ownerObject) {
	sh := r.cfg.Set.Shard(part.Partition)
	if sh == nil || part.State != kv.Live {
		return
	}
	mine, _, err := sh.Read(key)
	if err != nil {
		return
	}
	apart := false
	for _, a := range answers {
		apart = apart || a.State == kv.Live && !a.Object.Object.SameDots(mine)
	}
	name := string(key)
	if !apart || !r.repairs.begin(name) {
		return
	}
	started := r.tasks.run(func(ctx context.Context) {
		defer r.repairs.end(name)
		r.repairKey(ctx, part, key, answers)
	})
	if !started {
		r.repairs.end(name)
	}
}

func (r *Replica) repairKey(ctx context.Context, part *core.Part, key []byte, answers []ownerObject) {
	sh := r.cfg.Set.Shard(part.Partition)
	for _, a := range answers {
		p := r.remote(a.name)
		if p == nil || a.State != kv.Live || !news(a.Object.Object, sh.Has) {
			continue
		}
		published := make(chan struct{})
		err := sh.Apply(state.Received{Key: key, Object: a.Object.Object, Floor: a.Floor, From: p.node}, func() { close(published) })
		if err != nil {
			return
		}
		r.stats.ReadRepairs.Add(1)
		select {
		case <-published:
		case <-ctx.Done():
			return
		}
	}
	o, base, err := sh.Read(key)
	if err != nil {
		return
	}
	w := wire.Write{Partition: part.Partition, Copy: wire.Copy{Key: key, Object: o.Filled(base)}}
	floor := sh.Status().Floor // not before the object: it lacks what was collected until then
	for _, a := range answers {
		p := r.remote(a.name)
		seen := func(d kv.Dot) bool { _, held := a.Object.Object.Find(d); return held || a.Object.Object.Ctx.Has(d) }
		if p != nil && a.State == kv.Live && news(o, seen) {
			r.stats.ReadRepairs.Add(1)
			r.sendWrite(p, w, floor, nil)
		}
	}
}

// news reports whether an object holds a version that was not seen.
func news(o kv.Object, seen func(kv.Dot) bool) bool {
	for _, v := range o.Versions {
		if !seen(v.Dot) {
			return true
		}
	}
	return false
}
