package partition

import (
	"bytes"
	"fmt"
	"sync"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
)

// actors gives actors the short ids that records hold. A new id's record goes
// into the next commit group, ahead of everything that may use it. It implements
// cache.ActorIDs; safe for concurrent use.
type actors struct {
	mu   sync.RWMutex
	ids  map[kv.Actor]uint32
	list []kv.Actor // by id
	kept int        // ids below are in a group that was built
}

func openActors(store Store) (*actors, error) {
	a := &actors{ids: map[kv.Actor]uint32{}}
	lower, upper := cache.PrefixRange('a')
	err := store.Scan(lower, upper, func(key, value []byte) (bool, error) {
		// One that is lost would shift all ids behind it: dots of other actors.
		if len(value) != kv.ActorBytes || !bytes.Equal(key, cache.AppendActorKey(nil, uint32(len(a.list)))) {
			return false, fmt.Errorf("read actor %d: %w", len(a.list), cache.ErrRecord)
		}
		a.add(kv.ActorFrom(value))
		return true, nil
	})
	a.kept = len(a.list)
	return a, err
}

func (a *actors) add(actor kv.Actor) uint32 {
	id := uint32(len(a.list))
	a.list = append(a.list, actor)
	a.ids[actor] = id
	return id
}

// ID implements cache.ActorIDs.
func (a *actors) ID(actor kv.Actor) uint32 {
	a.mu.RLock()
	id, ok := a.ids[actor]
	a.mu.RUnlock()
	if ok {
		return id
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if id, ok := a.ids[actor]; ok {
		return id
	}
	return a.add(actor)
}

// Actor implements cache.ActorIDs.
func (a *actors) Actor(id uint32) (kv.Actor, bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if int(id) >= len(a.list) {
		return kv.Actor{}, false
	}
	return a.list[id], true
}

// under returns the actors that a seal covers.
func (a *actors) under(seal kv.Actor) []kv.Actor {
	a.mu.RLock()
	defer a.mu.RUnlock()
	var out []kv.Actor
	for _, x := range a.list {
		if x.Node == seal.Node && x.Boot <= seal.Boot && !x.IsSeal() {
			out = append(out, x)
		}
	}
	return out
}

// record puts the ids given since the last call into a batch.
func (a *actors) record(b *cache.Batch) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var key [5]byte
	for ; a.kept < len(a.list); a.kept++ {
		b.Set(cache.AppendActorKey(key[:0], uint32(a.kept)), a.list[a.kept].Append(nil))
	}
}
