package partition

import (
	"errors"
	"fmt"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition/state"
)

// Read returns the published object of a key, its context explicit, and the base
// that fills it.
func (s *Shard) Read(key []byte) (kv.Object, kv.VV, error) {
	s.mu.Lock()
	base := s.copy.NowBase() // before the object: an older base claims less
	s.mu.Unlock()
	e, err := s.loadPublished(kv.Hash(key), key, true)
	if err == nil && s.gone.Load() { // what is there may be another copy's
		err = fmt.Errorf("read partition %d: %w", s.id, ErrDropped)
	}
	if err != nil {
		return kv.Object{}, nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.copy.LoadNow(e), base, nil
}

// ReadFast appends the value that a plain object shows, from memory alone; the
// caller holds its expiry against the time. handled is false where Read must be
// taken. It does not allocate when dst has room.
func (s *Shard) ReadFast(dst []byte, hash uint64, key []byte) (value []byte, shown cache.Shown, handled bool) {
	if t := s.set.cfg.Tier; t != nil {
		return t.Value(dst, uint32(s.id), hash, key)
	}
	return dst, cache.Shown{}, false
}

// Scan calls fn with up to limit objects in key-hash order from order on, their
// contexts explicit, and returns where to go on; done means there is no more.
// Values are left out. Of keys that share an order either all are given or none.
func (s *Shard) Scan(from uint64, limit int, fn func(key []byte, o kv.Object)) (next uint64, done bool, err error) {
	return s.entries(from, limit, func(key []byte, o kv.Object, _ []cache.Check) { fn(key, o) })
}

func (s *Shard) entries(from uint64, limit int, fn func(key []byte, o kv.Object, checks []cache.Check)) (next uint64, done bool, err error) {
	lower, upper := cache.Range('e', s.id, from)
	n, last := 0, uint64(0)
	done = true
	err = s.set.cfg.Store.Scan(lower, upper, func(rec, value []byte) (bool, error) {
		key, order, ok := cache.KeyOf(rec)
		if !ok {
			return false, cache.ErrRecord
		}
		if n >= limit && order != last {
			next, done = order, false
			return false, nil
		}
		e, checks, err := s.parseStored(value)
		if err != nil {
			return false, fmt.Errorf("scan key %q: %w", key, err)
		}
		fn(key, e.Object, checks)
		n, last = n+1, order
		return true, nil
	})
	return next, done, err
}

// DumpedVersion is one stored version; its value is told by Sum and Bytes.
type DumpedVersion struct {
	kv.Version
	Key   []byte
	Bytes int
}

// Dump calls fn with every version of this copy in the order of key hashes, from
// one snapshot, and returns the copy record of that snapshot: clock and digest.
func (s *Shard) Dump(fn func(DumpedVersion) error) (cache.Copy, error) {
	snap, err := s.set.cfg.Store.Snapshot()
	if err != nil {
		return cache.Copy{}, fmt.Errorf("dump partition %d: %w", s.id, err)
	}
	lower, upper := cache.Range('e', s.id, 0)
	err = snap.Scan(lower, upper, func(rec, value []byte) (bool, error) {
		key, _, ok := cache.KeyOf(rec)
		if !ok {
			return false, cache.ErrRecord
		}
		e, checks, err := s.parseStored(value)
		if err != nil {
			return false, err
		}
		for i, v := range e.Object.Versions {
			if err := fn(DumpedVersion{v, key, checks[i].Bytes}); err != nil {
				return false, err
			}
		}
		return true, nil
	})
	c, copyErr := s.copyIn(snap)
	if err = errors.Join(err, copyErr, snap.Close()); err != nil {
		return cache.Copy{}, fmt.Errorf("dump partition %d: %w", s.id, err)
	}
	return c, nil
}

// copyIn returns the copy record as a snapshot has it.
func (s *Shard) copyIn(snap cache.Snapshot) (cache.Copy, error) {
	rec, found, err := snap.Get(nil, cache.AppendCopyKey(nil, s.id))
	if err != nil || !found {
		return cache.Copy{}, err
	}
	return cache.ParseCopy(rec, s.set.actors)
}

// sessionsIn reports whether a snapshot has records of unfinished sessions.
func (s *Shard) sessionsIn(snap cache.Snapshot) (some bool, err error) {
	lower, upper := cache.PrefixRange(cache.AppendSessionPrefix(nil, s.id, sessionRecord)...)
	err = snap.Scan(lower, upper, func(_, _ []byte) (bool, error) {
		some = true
		return false, nil
	})
	return some, err
}

// loadIn returns an object of a snapshot whose base is given, with what its
// session record, if that is still there, adds to its context.
func (s *Shard) loadIn(snap cache.Snapshot, base kv.VV, e state.Entry) (kv.Object, error) {
	o := e.Object
	if e.Session == 0 {
		return o, nil
	}
	rec, found, err := snap.Get(nil, cache.AppendSessionKey(nil, s.id, sessionRecord, e.Session))
	if err != nil || !found {
		return o, err
	}
	v, err := cache.ParseVV(rec, s.set.actors)
	o.Ctx = o.Ctx.Join(v.Beyond(base))
	return o, err
}
