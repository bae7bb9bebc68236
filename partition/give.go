package partition

import (
	"errors"
	"fmt"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/merkle"
)

// Sound calls fn with every object whose records all verify, filled with the copy's
// base, as they are at one moment. Its error ends the walk. A key with a record that its
// directory does not name is left out: the base would say of that version that it is dead.
func (s *Shard) Sound(fn func(key []byte, o kv.Object) error) error {
	snap, err := s.set.cfg.Store.Snapshot()
	if err != nil {
		return fmt.Errorf("read sound objects of partition %d: %w", s.id, err)
	}
	c, err := s.copyIn(snap)
	var strays map[string]bool
	if err == nil {
		strays, err = s.strayKeys(snap)
	}
	if err == nil {
		base := c.Clock.Base()
		err = s.foundIn(snap, merkle.Range{To: ^uint64(0)}, func(_ uint64, f *FoundObject) error {
			if !f.sound() || strays[string(f.Key)] {
				return nil
			}
			e := f.Entry
			e.Object.Versions = make([]kv.Version, len(f.Versions))
			for i := range f.Versions {
				e.Object.Versions[i] = f.Versions[i].Version
			}
			o, err := s.loadIn(snap, base, e)
			if err != nil {
				return err
			}
			return fn(f.Key, o.Filled(base))
		})
	}
	if err = errors.Join(err, snap.Close()); err != nil {
		return fmt.Errorf("read sound objects of partition %d: %w", s.id, err)
	}
	return nil
}

// strayKeys returns the keys of all versions and tombstones' records that have no place in
// a directory.
func (s *Shard) strayKeys(snap cache.Snapshot) (map[string]bool, error) {
	keys := map[string]bool{}
	for _, kind := range []byte{'d', 't'} {
		err := s.eachPlaced(snap, kind, func(rec, key []byte, _ kv.Version) (bool, error) {
			stray, err := s.strayIn(snap, rec, key)
			if stray {
				keys[string(key)] = true
			}
			return true, err
		})
		if err != nil {
			return nil, err
		}
	}
	return keys, nil
}
