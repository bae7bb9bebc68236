package partition

import (
	"errors"
	"fmt"
	"slices"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/merkle"
	"edged.dev/edged/partition/state"
)

// ErrMoved says that a copy is not, or no more, at the clock that was asked for.
var ErrMoved = errors.New("the copy is at another clock")

// Item is one version that is there, by what stands for it in a leaf.
type Item struct {
	Hash  uint64 // that the tree places it by
	Short uint64
	Key   []byte
}

// Items returns the values of some ranges of tree hashes, in order, as they are at
// a clock; about limit of them at most. All up to the hash upto are told.
func (s *Shard) Items(at kv.Clock, ranges []merkle.Range, salt uint64, limit int) (items []Item, upto uint64, err error) {
	return s.items(&at, ranges, salt, limit)
}

func (s *Shard) items(at *kv.Clock, ranges []merkle.Range, salt uint64, limit int) (items []Item, upto uint64, err error) {
	upto = ^uint64(0)
	err = s.at(at, func(snap cache.Snapshot, _ *cache.Copy) error {
		for _, r := range ranges {
			err := s.foundIn(snap, r, func(hash uint64, f *FoundObject) error {
				if n := len(items); n >= limit && items[n-1].Hash>>16 != hash>>16 {
					upto = items[n-1].Hash | 0xffff // the store orders by the bits above
					return errEnough
				}
				for i := range f.Versions {
					if d := f.Versions[i].digest(s.set.cfg.DigestKey, f.Key); !d.IsZero() {
						items = append(items, Item{hash, d.Short(salt), f.Key})
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("list items of partition %d: %w", s.id, err)
	}
	return items, upto, nil
}

var errEnough = errors.New("enough")

// Held returns what the copy really holds of keys, at a clock.
func (s *Shard) Held(at kv.Clock, keys [][]byte) ([]FoundObject, error) {
	var out []FoundObject
	err := s.at(&at, func(snap cache.Snapshot, _ *cache.Copy) error {
		for _, key := range keys {
			f, err := s.foundKey(snap, key)
			if err != nil {
				return err
			}
			out = append(out, *f)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read objects of partition %d: %w", s.id, err)
	}
	return out, nil
}

func (s *Shard) foundKey(from cache.Snapshot, key []byte) (*FoundObject, error) {
	directory, found, err := from.Get(nil, s.entryKey(nil, kv.Hash(key), key))
	if err != nil || !found {
		return &FoundObject{Key: key}, err
	}
	return s.inspect(from, key, directory)
}

// at calls fn with a snapshot in which the copy is recorded at a clock, and with that
// record; nil: at any clock.
func (s *Shard) at(clock *kv.Clock, fn func(cache.Snapshot, *cache.Copy) error) error {
	snap, err := s.set.cfg.Store.Snapshot()
	if err != nil {
		return err
	}
	c, err := s.copyIn(snap)
	switch {
	case err != nil:
	case clock != nil && !c.Clock.Equal(*clock):
		err = ErrMoved
	default:
		err = fn(snap, &c)
	}
	return errors.Join(err, snap.Close())
}

// Fix is what a heal makes of one key: versions that are put in, whole and with
// their own dots, and dots that are taken out.
type Fix struct {
	Key  []byte
	Put  []kv.Version
	Drop []kv.Dot
}

// Heal puts exact versions in and takes exact ones out, in one change that does
// not move the clock. With whole, or where the copy agreed with its record before,
// the recorded digest becomes that of what is then there; else the record stays, and
// tells that something is still amiss. It is the only way past the join rule. look is the one that the fixes follow
// from; if the copy has changed since, nothing is done and ErrMoved returned. Keys
// of which a version would stay unverified are left alone, and returned. done is
// called when the change is published.
func (s *Shard) Heal(look *Look, fixes []Fix, whole bool, done func()) (left [][]byte, err error) {
	s.gate.Lock()
	defer s.gate.Unlock()
	if s.gone.Load() {
		return nil, fmt.Errorf("heal partition %d: %w", s.id, ErrDropped)
	}
	s.mu.Lock()
	quiet := len(s.overlay) == 0 && s.copy.Settled(look.Clock, look.Recorded)
	s.mu.Unlock()
	if !quiet {
		return nil, fmt.Errorf("heal partition %d: %w", s.id, ErrMoved)
	}
	return s.heal(look, fixes, whole, done)
}

// cure is a state.Cure with what was found of its records.
type cure struct {
	state.Cure
	put    []kv.Version
	gone   []kv.Version // leave with their records
	strays []kv.Version // records that nothing leads to
}

func (s *Shard) cures(snap cache.Snapshot, fixes []Fix) (out []cure, left [][]byte, err error) {
	strays, err := s.straysOf(snap, fixes)
	if err != nil {
		return nil, nil, err
	}
	for i := range fixes {
		f, err := s.foundKey(snap, fixes[i].Key)
		if err != nil {
			return nil, nil, err
		}
		f.strays = strays[string(fixes[i].Key)]
		c, ok := cureOf(f, &fixes[i])
		if !ok {
			left = append(left, fixes[i].Key)
			continue
		}
		c.Found = f.digest(s.set.cfg.DigestKey)
		out = append(out, c)
	}
	return out, left, nil
}

// cureOf applies a fix to what was found; false where a version would be kept
// whose records do not fit.
func cureOf(f *FoundObject, fix *Fix) (cure, bool) {
	c := cure{Cure: state.Cure{Key: f.Key, Before: f.Entry, After: state.Entry{Session: f.Entry.Session}}, put: slices.Clone(fix.Put)}
	after := &c.After.Object
	after.Ctx = f.Entry.Object.Ctx
	for i := range f.Versions {
		v := &f.Versions[i]
		replaced := slices.ContainsFunc(fix.Put, func(w kv.Version) bool { return w.Dot == v.Dot })
		switch {
		case replaced: // comes with put
		case slices.Contains(fix.Drop, v.Dot):
			c.gone = append(c.gone, v.Version)
		case v.Verified:
			after.Versions = append(after.Versions, v.Version)
		case v.Tombstone(): // all there is of it stands in the directory
			w := v.Version
			w.Value, w.Sum = nil, 0
			c.put = append(c.put, w)
		default:
			return cure{}, false
		}
	}
	after.Versions = append(after.Versions, c.put...)
	slices.SortFunc(after.Versions, func(v, w kv.Version) int { return v.Dot.Compare(w.Dot) })
	for _, v := range f.strays {
		if _, kept := after.Find(v.Dot); !kept {
			c.strays = append(c.strays, v)
		}
	}
	return c, true
}

// straysOf finds the versions and the tombstones' records of keys that have no place
// in their directories.
func (s *Shard) straysOf(snap cache.Snapshot, fixes []Fix) (map[string][]kv.Version, error) {
	wanted := map[string]bool{}
	for i := range fixes {
		wanted[string(fixes[i].Key)] = true
	}
	out := map[string][]kv.Version{}
	for _, kind := range []byte{'d', 't'} {
		err := s.eachPlaced(snap, kind, func(rec, key []byte, v kv.Version) (bool, error) {
			if !wanted[string(key)] {
				return true, nil
			}
			stray, err := s.strayIn(snap, rec, key)
			if actor, ok := s.set.actors.Actor(cache.ActorOf(rec)); err == nil && stray && ok {
				v.Dot = kv.Dot{Actor: actor, Seq: cache.SeqOf(rec)}
				v.Value = nil
				out[string(key)] = append(out[string(key)], v)
			}
			return true, err
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// cureRecords appends what a cure does to the store. All of the object's marks are
// set or deleted, whatever they were.
func (s *Shard) cureRecords(o *op, c *cure) {
	hash := kv.Hash(c.Key)
	order := kv.OrderOf(hash, s.set.cfg.Partitions)
	entryKey, complexKey := s.entryKey(nil, hash, c.Key), cache.AppendComplexKey(nil, s.id, order, c.Key)
	if c.After.IsZero() {
		o.entries.Delete(entryKey)
	} else {
		o.entries.Set(entryKey, cache.AppendEntry(nil, s.set.actors, cache.Entry(c.After), false))
	}
	if c.After.Complex() {
		o.entries.Set(complexKey, nil)
	} else {
		o.entries.Delete(complexKey)
	}
	for _, v := range slices.Concat(c.gone, c.strays) {
		s.dropVersion(o, c.Key, v)
	}
	for _, v := range c.put {
		s.putVersion(o, c.Key, v)
	}
}

func (s *Shard) dropVersion(o *op, key []byte, v kv.Version) {
	o.batch.Delete(s.versionKey(nil, v.Dot))
	o.batch.Delete(s.tombstoneKey(nil, v.Dot))
	if v.ExpiresMS != 0 {
		o.batch.Delete(s.expiryKey(nil, kv.Hash(key), key, v))
	}
}

func (s *Shard) putVersion(o *op, key []byte, v kv.Version) {
	o.batch.Set(s.versionKey(nil, v.Dot), cache.AppendVersion(nil, key, v))
	switch {
	case v.Tombstone():
		o.batch.Set(s.tombstoneKey(nil, v.Dot), cache.AppendTombstone(nil, key, v.HLC))
	case v.ExpiresMS != 0:
		o.batch.Set(s.expiryKey(nil, kv.Hash(key), key, v), nil)
	}
}
