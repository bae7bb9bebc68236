package partition

import (
	"bytes"
	"fmt"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition/state"
)

// Reap plans the removal of listed versions of a key as an operation of this copy
// (an expiry or an eviction); a write beside them survives. choose is called under
// the key's lock with the object as planned, its values left out, and lists what
// goes, of which Reap leaves out what PlanReap does; with nothing listed nothing is
// written. done is called from the committer once what choose saw or listed is
// published, with the change (nil if there was none). A full disk refuses no Reap,
// for it makes room.
func (s *Shard) Reap(key []byte, choose func(held kv.Object) ([]kv.Dot, kv.HLC), done func(*state.Change, error)) {
	hash := kv.Hash(key)
	defer s.planning(hash)()
	if s.gone.Load() {
		done(nil, fmt.Errorf("reap in partition %d: %w", s.id, ErrDropped))
		return
	}
	cur, err := s.load(hash, key, false)
	if err != nil {
		done(nil, err)
		return
	}
	s.mu.Lock()
	held := s.copy.Load(cur)
	s.mu.Unlock()
	dots, hlc := choose(held)
	if len(dots) > 0 && keepsValue(held, dots) {
		cur, err = s.load(hash, key, true) // what stays travels with its value
	}
	if err != nil {
		done(nil, err)
		return
	}
	s.mu.Lock()
	ch := s.copy.PlanReap(key, cur, dots, hlc)
	if ch != nil {
		o := s.plannedLocked(ch)
		o.wrote = done
		s.set.committer.enqueue(o)
	}
	s.mu.Unlock()
	if ch == nil {
		s.settle(key, func() { done(nil, nil) })
	}
}

// keepsValue reports whether a value that was not read stays when the dots go.
func keepsValue(o kv.Object, dots []kv.Dot) bool {
	gone := make(map[kv.Dot]struct{}, len(dots))
	for _, d := range dots {
		gone[d] = struct{}{}
	}
	for _, v := range o.Versions {
		if _, goes := gone[v.Dot]; !goes && !v.Tombstone() && v.Value == nil {
			return true
		}
	}
	return false
}

// Due names a key of which a version has expired.
type Due struct {
	Partition kv.Partition
	Key       []byte
}

// ExpiryPlace is how far a walk through the index of expiries has come; the zero
// value is its beginning.
type ExpiryPlace struct{ next []byte }

// Expired returns keys with a version that has expired at a time, the earliest
// first, from a place on, and the place behind them. It looks at limit versions at
// most; done means that there are no more. Whoever walks must begin anew now and
// then: a session may bring what expired long ago.
func (s *Set) Expired(from ExpiryPlace, nowMS int64, limit int) (due []Due, next ExpiryPlace, done bool, err error) {
	lower, upper := cache.ExpiryRange(nowMS)
	if from.next != nil {
		lower = from.next
	}
	if bytes.Compare(lower, upper) >= 0 { // the time was set back
		return nil, from, true, nil
	}
	var last []byte
	done = true
	err = s.cfg.Store.Scan(lower, upper, func(rec, _ []byte) (bool, error) {
		if limit == 0 {
			done = false
			return false, nil
		}
		limit--
		e, ok := cache.ParseExpiryKey(rec)
		if !ok {
			return false, fmt.Errorf("read expiry %x: %w", rec, cache.ErrRecord)
		}
		last = append(last[:0], rec...)
		if n := len(due); n == 0 || due[n-1].Partition != e.Partition || !bytes.Equal(due[n-1].Key, e.Key) {
			due = append(due, Due{e.Partition, bytes.Clone(e.Key)})
		}
		return true, nil
	})
	if last == nil {
		return nil, from, done, err
	}
	return due, ExpiryPlace{append(last, 0)}, done, err
}

func (s *Shard) expiryKey(dst []byte, hash uint64, key []byte, v kv.Version) []byte {
	return cache.AppendExpiryKey(dst, cache.Expiry{
		AtMS: v.ExpiresMS, Partition: s.id, Order: kv.OrderOf(hash, s.set.cfg.Partitions), Key: key,
		Actor: s.set.actors.ID(v.Dot.Actor), Seq: v.Dot.Seq,
	})
}

// wipeBatch is how many records go with one commit where many do.
const wipeBatch = 4096

// wipeExpiries removes a partition from the index of expiries. They lie apart in
// it, so all of it is read: this is for quarantine alone.
func (s *Set) wipeExpiries(p kv.Partition) error {
	var place ExpiryPlace
	for done := false; !done; {
		lower, upper := cache.PrefixRange(cache.ExpiryIndexKey()...)
		lower = append(lower, 0)
		if place.next != nil {
			lower = place.next
		}
		var b cache.Batch
		done = true
		err := s.cfg.Store.Scan(lower, upper, func(rec, _ []byte) (bool, error) {
			if e, ok := cache.ParseExpiryKey(rec); ok && e.Partition == p {
				b.Delete(rec)
			}
			done = b.Len() < wipeBatch
			place.next = append(append([]byte(nil), rec...), 0)
			return done, nil
		})
		if err == nil && b.Len() > 0 {
			err = s.cfg.Store.Commit(&b, true)
		}
		if err != nil {
			return fmt.Errorf("wipe expiries of partition %d: %w", p, err)
		}
	}
	return nil
}

// indexExpiries makes the index of a directory that an earlier version wrote, by
// one scan of all entries: without it what expires there would lie for ever. The
// mark that it is whole is written last, so that a crash begins anew.
func (s *Set) indexExpiries() error {
	_, found, err := s.cfg.Store.Get(nil, cache.ExpiryIndexKey())
	if err != nil || found {
		return err
	}
	from, upper := cache.PrefixRange('e')
	for done := false; !done && err == nil; {
		var b cache.Batch
		done = true
		err = s.cfg.Store.Scan(from, upper, func(rec, value []byte) (bool, error) {
			if done = b.Len() < wipeBatch; !done {
				from = append([]byte(nil), rec...)
				return false, nil
			}
			s.indexEntry(&b, rec, value)
			return true, nil
		})
		if err == nil && b.Len() > 0 {
			err = s.cfg.Store.Commit(&b, false)
		}
	}
	if err != nil {
		return fmt.Errorf("index expiries: %w", err)
	}
	var b cache.Batch
	b.Set(cache.ExpiryIndexKey(), nil)
	return s.cfg.Store.Commit(&b, true)
}

// indexEntry adds what an entry has. One that does not parse is left to whoever
// reads it and can say so of its key.
func (s *Set) indexEntry(b *cache.Batch, rec, value []byte) {
	key, order, ok := cache.KeyOf(rec)
	e, _, err := cache.ParseEntry(value, s.actors)
	if !ok || err != nil {
		return
	}
	for _, v := range e.Object.Versions {
		if v.ExpiresMS != 0 && !v.Tombstone() {
			b.Set(cache.AppendExpiryKey(nil, cache.Expiry{
				AtMS: v.ExpiresMS, Partition: partitionAt(rec), Order: order, Key: key,
				Actor: s.actors.ID(v.Dot.Actor), Seq: v.Dot.Seq,
			}), nil)
		}
	}
}
