package partition

import (
	"fmt"

	"github.com/zeebo/xxh3"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
)

// knownRecord is the kind of the records of what peers were known to hold.
const knownRecord = 'K'

// Known is what a peer's copy of a partition was known to hold (R8).
type Known struct {
	Partition kv.Partition
	Peer      string   // the member's name
	Actor     kv.Actor // of the copy's incarnation that said so
	Clock     kv.Clock // on stable storage there
	Lost      bool     // the copy was rolled back, and has not said yet that it knows
}

// Known returns what earlier processes kept of what peers hold, in the order of
// the partitions. A damaged record is left out: what it said can be learnt again,
// and until then a rollback of that one copy is for the other owners to notice.
func (s *Set) Known() ([]Known, error) {
	var out []Known
	lower, upper := cache.PrefixRange('s')
	err := s.cfg.Store.Scan(lower, upper, func(key, value []byte) (bool, error) {
		if len(key) != 14 || key[5] != knownRecord {
			return true, nil
		}
		if k, err := cache.ParseKnown(value, s.actors); err == nil {
			out = append(out, Known{partitionAt(key), k.Peer, k.Actor, k.Clock, k.Lost})
		}
		return true, nil
	})
	return out, err
}

// wipeKnown removes the records of what peers hold of a partition.
func (s *Set) wipeKnown(p kv.Partition) error {
	var b cache.Batch
	lower, upper := cache.PrefixRange(cache.AppendSessionPrefix(nil, p, knownRecord)...)
	err := s.cfg.Store.Scan(lower, upper, func(key, _ []byte) (bool, error) {
		b.Delete(key)
		return true, nil
	})
	if err == nil && b.Len() > 0 {
		err = s.cfg.Store.Commit(&b, true)
	}
	if err != nil {
		return fmt.Errorf("drop what is known of partition %d: %w", p, err)
	}
	return nil
}

// KeepKnown plans the records of what peers hold of this copy's partition, behind
// everything planned before; done is called when they are published. There is one
// record a peer, under the hash of its name.
func (s *Shard) KeepKnown(list []Known, done func()) {
	s.gate.RLock()
	defer s.gate.RUnlock()
	if s.gone.Load() { // with the copy goes what it would be compared with
		if done != nil {
			done()
		}
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.plannedLocked(s.copy.Noop())
	for _, k := range list {
		rec := cache.Known{Peer: k.Peer, Actor: k.Actor, Clock: k.Clock, Lost: k.Lost}
		o.batch.Set(cache.AppendSessionKey(nil, s.id, knownRecord, xxh3.HashString(k.Peer)), cache.AppendKnown(nil, s.set.actors, rec))
	}
	o.done = done
	s.set.committer.enqueue(o)
}
