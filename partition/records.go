package partition

import (
	"errors"
	"fmt"

	"github.com/zeebo/xxh3"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition/state"
)

func (s *Shard) entryKey(dst []byte, hash uint64, key []byte) []byte {
	return cache.AppendEntryKey(dst, s.id, kv.OrderOf(hash, s.set.cfg.Partitions), key)
}

// records appends what a change of one key does to the store.
func (s *Shard) records(o *op, k *state.KeyChange) {
	var keyRoom, versionRoom [64]byte
	var room [512]byte // for a record of usual size; a larger one is made
	hash := kv.Hash(k.Key)
	entryKey := s.entryKey(keyRoom[:0], hash, k.Key)
	if k.After.IsZero() {
		o.entries.Delete(entryKey)
	} else {
		o.entries.Set(entryKey, cache.AppendEntry(room[:0], s.set.actors, cache.Entry(k.After), false))
	}
	if k.After.Complex() {
		o.entries.Set(cache.AppendComplexKey(nil, s.id, kv.OrderOf(hash, s.set.cfg.Partitions), k.Key), nil)
	} else if k.Before.Complex() {
		o.entries.Delete(cache.AppendComplexKey(nil, s.id, kv.OrderOf(hash, s.set.cfg.Partitions), k.Key))
	}
	for _, v := range k.Before.Object.Versions {
		if _, kept := k.After.Object.Find(v.Dot); !kept {
			o.batch.Delete(s.versionKey(versionRoom[:0], v.Dot))
			switch {
			case v.Tombstone():
				o.batch.Delete(s.tombstoneKey(versionRoom[:0], v.Dot))
			case v.ExpiresMS != 0:
				o.batch.Delete(s.expiryKey(room[:0], hash, k.Key, v))
			}
		}
	}
	for _, v := range k.After.Object.Versions {
		if _, had := k.Before.Object.Find(v.Dot); !had {
			o.batch.Set(s.versionKey(versionRoom[:0], v.Dot), cache.AppendVersion(room[:0], k.Key, v))
			switch {
			case v.Tombstone():
				o.batch.Set(s.tombstoneKey(versionRoom[:0], v.Dot), cache.AppendTombstone(room[:0], k.Key, v.HLC))
			case v.ExpiresMS != 0:
				o.batch.Set(s.expiryKey(room[:0], hash, k.Key, v), nil)
			}
		}
	}
}

func (s *Shard) versionKey(dst []byte, d kv.Dot) []byte {
	return cache.AppendVersionKey(dst, s.id, s.set.actors.ID(d.Actor), d.Seq)
}

func (s *Shard) tombstoneKey(dst []byte, d kv.Dot) []byte {
	return cache.AppendTombstoneKey(dst, s.id, s.set.actors.ID(d.Actor), d.Seq)
}

// copyRecord appends the copy's record of a published state.
func (s *Shard) copyRecord(dst []byte, p state.Published) []byte {
	return cache.AppendCopy(dst, s.set.actors, cache.Copy{
		Actor: s.copy.Actor(), Trust: p.Trust, Clock: p.Clock, Floor: p.Floor, Fence: p.Fence,
		Count: p.Digest.Count, Sum: p.Digest.Bytes(),
	})
}

// load returns the planned entry of a key. The caller holds the gate and the
// key's stripe, so that nobody plans on the key meanwhile. Without values, those
// that would need a read of their own are left out.
func (s *Shard) load(hash uint64, key []byte, values bool) (state.Entry, error) {
	if e, planned := s.loadPlanned(key); planned {
		return e, nil
	}
	return s.loadPublished(hash, key, values)
}

// loadPlanned returns the newest planned entry of a key that has changes in flight.
func (s *Shard) loadPlanned(key []byte) (state.Entry, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.overlay[string(key)]; p != nil {
		return p.entry, true
	}
	return state.Entry{}, false
}

// loadNear returns the entry of a key as it is planned or as the tier has it; known is
// false where the store is to be asked.
func (s *Shard) loadNear(hash uint64, key []byte) (e state.Entry, known bool, err error) {
	if e, known = s.loadPlanned(key); known {
		return e, true, nil
	}
	return s.loadTier(hash, key)
}

// loadTier returns the entry of a key as the tier has it, if it does.
func (s *Shard) loadTier(hash uint64, key []byte) (entry state.Entry, held bool, err error) {
	if t := s.set.cfg.Tier; t != nil {
		if rec, ok := t.Get(nil, uint32(s.id), hash, key); ok {
			e, _, err := cache.ParseEntry(rec, s.set.actors)
			return state.Entry(e), true, err
		}
	}
	return state.Entry{}, false, nil
}

// getter is what a Store and a Snapshot have in common.
type getter interface {
	Get(dst, key []byte) (value []byte, found bool, err error)
}

// loadPublished returns the entry as the tier or the store has it.
func (s *Shard) loadPublished(hash uint64, key []byte, values bool) (state.Entry, error) {
	if e, held, err := s.loadTier(hash, key); held {
		return e, err
	}
	seen := s.changes.Load()
	e, err := s.read(s.set.cfg.Store, hash, key, values)
	if errors.Is(err, ErrDamaged) { // or a commit came between the directory and a version
		e, err = s.readSnapshot(hash, key, values)
	}
	if errors.Is(err, ErrDamaged) && s.set.cfg.Damaged != nil {
		s.set.cfg.Damaged(s.id)
	}
	if err == nil && values && s.set.cfg.Tier != nil && !e.IsZero() {
		s.mu.Lock()
		if s.changes.Load() == seen {
			s.remember(key, e)
		}
		s.mu.Unlock()
	}
	return e, err
}

func (s *Shard) readSnapshot(hash uint64, key []byte, values bool) (state.Entry, error) {
	snap, err := s.set.cfg.Store.Snapshot()
	if err != nil {
		return state.Entry{}, err
	}
	e, err := s.read(snap, hash, key, values)
	return e, errors.Join(err, snap.Close())
}

// ErrDamaged says that the records of an object do not fit each other: a version is
// not where its directory says, or is not the one that was written.
var ErrDamaged = errors.New("records of an object do not fit each other")

func (s *Shard) read(from getter, hash uint64, key []byte, values bool) (state.Entry, error) {
	var scratch [96]byte
	rec, found, err := from.Get(nil, s.entryKey(scratch[:0], hash, key))
	if err != nil || !found {
		return state.Entry{}, err
	}
	e, checks, err := s.parseEntry(rec)
	if err != nil {
		return state.Entry{}, fmt.Errorf("read key %q: %w: %w", key, ErrDamaged, err)
	}
	for i := range e.Object.Versions {
		v := &e.Object.Versions[i]
		if !values || v.Value != nil {
			continue
		}
		if v.Value, err = s.readValue(from, v.Dot); err != nil {
			return state.Entry{}, err
		}
		if len(v.Value) != checks[i].Bytes || xxh3.Hash(v.Value) != checks[i].Sum {
			return state.Entry{}, fmt.Errorf("read key %q: value of %v has %d bytes, its directory says %d and another sum, or one of both: %w",
				key, v.Dot, len(v.Value), checks[i].Bytes, ErrDamaged)
		}
	}
	return e, nil
}

// parseStored parses a directory of the store, which tells of every version how long its
// value is. One that has values in it, as those in memory do, is damaged.
func (s *Shard) parseStored(record []byte) (cache.Entry, []cache.Check, error) {
	e, checks, err := cache.ParseEntry(record, s.set.actors)
	if err == nil && len(checks) != len(e.Object.Versions) {
		err = cache.ErrRecord
	}
	return e, checks, err
}

// parseEntry is parseStored, with the values that are empty, which need no read.
func (s *Shard) parseEntry(record []byte) (state.Entry, []cache.Check, error) {
	e, checks, err := s.parseStored(record)
	if err != nil {
		return state.Entry{}, nil, err
	}
	for i := range checks {
		if checks[i].Bytes == 0 {
			e.Object.Versions[i].Value = []byte{}
		}
	}
	return state.Entry(e), checks, nil
}

func (s *Shard) readValue(from getter, d kv.Dot) ([]byte, error) {
	rec, found, err := from.Get(nil, s.versionKey(nil, d))
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, fmt.Errorf("read version %v: it is not there: %w", d, ErrDamaged)
	}
	_, v, err := cache.ParseVersion(rec)
	if err != nil {
		return nil, fmt.Errorf("read version %v: %w: %w", d, ErrDamaged, err)
	}
	return v.Value, nil
}

// remember puts a published entry into the memory tier, or takes it out where
// its values are not at hand. The caller holds mu.
func (s *Shard) remember(key []byte, e state.Entry) {
	t := s.set.cfg.Tier
	if t == nil {
		return
	}
	hash := kv.Hash(key)
	if e.IsZero() || lacksValues(e.Object, kv.Object{}) {
		t.Delete(uint32(s.id), hash, key)
		return
	}
	s.record = cache.AppendEntry(s.record[:0], s.set.actors, cache.Entry(e), true)
	t.Put(uint32(s.id), hash, key, s.record)
	if cap(s.record) > maxKeptRecord {
		s.record = nil
	}
}
