package partition

import (
	"errors"
	"fmt"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
)

// Damage returns what the records of keys hold now, whatever the clock.
func (s *Shard) Damage(keys []string) ([]FoundObject, error) {
	snap, err := s.set.cfg.Store.Snapshot()
	if err != nil {
		return nil, fmt.Errorf("read damaged keys of partition %d: %w", s.id, err)
	}
	var out []FoundObject
	for _, key := range keys {
		f, foundErr := s.foundKey(snap, []byte(key))
		if err = errors.Join(err, foundErr); err != nil {
			break
		}
		out = append(out, *f)
	}
	if err = errors.Join(err, snap.Close()); err != nil {
		return nil, fmt.Errorf("read damaged keys of partition %d: %w", s.id, err)
	}
	return out, nil
}

// Mend stores a value again that the copy holds by its directory and has lost, or
// holds damaged. It must have the checksum that the directory has, so that nothing
// of the copy changes, and no vote is needed. False: the copy no longer holds that
// version, or holds it whole. done is called when it is stored; it may be nil.
func (s *Shard) Mend(key []byte, v kv.Version, done func()) (bool, error) {
	defer s.planning(kv.Hash(key))()
	if s.gone.Load() {
		return false, fmt.Errorf("mend in partition %d: %w", s.id, ErrDropped)
	}
	s.mu.Lock()
	inFlight := s.overlay[string(key)] != nil
	s.mu.Unlock()
	if inFlight {
		return false, nil // looked at again, once it is stored
	}
	found, err := s.Damage([]string{string(key)})
	if err != nil {
		return false, err
	}
	for i := range found[0].Versions {
		have := &found[0].Versions[i]
		if have.Dot != v.Dot || have.Verified {
			continue
		}
		if have.HLC != v.HLC || have.ExpiresMS != v.ExpiresMS || have.Tombstone() != v.Tombstone() || have.Sum != v.ValueSum() {
			return false, fmt.Errorf("mend %v of partition %d: %w", v.Dot, s.id, cache.ErrRecord)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		o := s.set.committer.newOp(s, s.copy.Noop())
		s.putVersion(o, key, v)
		o.done = done
		s.set.committer.enqueue(o)
		return true, nil
	}
	return false, nil
}
