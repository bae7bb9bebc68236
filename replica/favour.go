package replica

import (
	"sync"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/replica/core"
)

// favours are those of this node's copies: a few words for each that was written.
type favours struct {
	mu sync.Mutex
	of map[kv.Partition]*core.Favours
}

// note notes that a coordinator's write is acknowledged, or one that counts if that
// node has it too, and reports whether another's
// was, since a time.
func (f *favours) note(p kv.Partition, coordinator string, since, now int64) (other bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	of := f.of[p]
	if of == nil {
		if f.of == nil {
			f.of = map[kv.Partition]*core.Favours{}
		}
		of = &core.Favours{}
		f.of[p] = of
	}
	other = of.Other(coordinator, since)
	of.Note(coordinator, now)
	return other
}

// firstFor is whom the acknowledgement of a peer's write, durable now, names as the
// first owner. Where it would count, and a write of another coordinator was acknowledged
// since the peer was told this copy's clock, it says so instead, once.
func (r *Replica) firstFor(p *remote, part kv.Partition) string {
	first := r.first(part)
	if part == kv.System {
		return first // its coordinators go by no lead
	}
	now := r.cfg.Boottime()
	if first != "" && first != p.name && first != r.cfg.Self { // it counts if that one has the write
		r.favours.note(part, first, 0, now)
		return first
	}
	if !r.favours.note(part, p.name, p.othersTold(part), now) {
		return first
	}
	p.tellOthers(part, now)
	return core.Mixed
}

func (p *remote) othersTold(part kv.Partition) int64 {
	p.ackMu.Lock()
	defer p.ackMu.Unlock()
	return p.told[part]
}

func (p *remote) tellOthers(part kv.Partition, now int64) {
	p.ackMu.Lock()
	defer p.ackMu.Unlock()
	p.told[part] = max(p.told[part], now)
}
