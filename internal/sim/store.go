package sim

import (
	"bytes"
	"errors"
	"slices"
	"sync"

	"edged.dev/edged/cache"
)

// ErrCrash is what a commit returns whose process dies in it.
var ErrCrash = errors.New("the process dies in this commit")

type pair struct{ key, value []byte }

// Store is a durable ordered map in memory. What was committed since the last
// sync is a tail that a crash may take, group by group from its end: a group is
// whole or absent. It is safe for concurrent use.
type Store struct {
	mu      sync.Mutex
	durable []pair   // at the last sync; never changed, only replaced
	tail    [][]pair // after each commit since
	failing bool     // the next commit is durable and its process dies
	between func()   // called when a commit is visible and has not returned
}

// NewStore returns an empty store.
func NewStore() *Store { return &Store{} }

func (s *Store) now() []pair {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nowLocked()
}

func (s *Store) nowLocked() []pair {
	if n := len(s.tail); n > 0 {
		return s.tail[n-1]
	}
	return s.durable
}

// Get appends the value of key to dst, and tells whether it was found.
func (s *Store) Get(dst, key []byte) (value []byte, found bool, err error) {
	return get(s.now(), dst, key)
}

// GetMany calls fn for the keys that are there, which ascend, as of one moment.
func (s *Store) GetMany(keys [][]byte, fn func(i int, value []byte) error) error {
	pairs := s.now()
	for i, key := range keys {
		value, found, err := get(pairs, nil, key)
		if err == nil && found {
			err = fn(i, value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Scan calls fn for the pairs with lower <= key < upper, in order.
func (s *Store) Scan(lower, upper []byte, fn func(key, value []byte) (more bool, err error)) error {
	return scan(s.now(), lower, upper, fn)
}

// Snapshot returns the view of this moment.
func (s *Store) Snapshot() (cache.Snapshot, error) {
	return &snapshot{pairs: s.now()}, nil
}

// Between sets what runs at the end of each commit, before it returns: others
// can see then what its caller does not know to be there. nil: nothing.
func (s *Store) Between(fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.between = fn
}

// Commit applies a batch, and makes it and all before it durable with sync.
func (s *Store) Commit(b *cache.Batch, sync bool) error {
	err := s.commit(b, sync)
	s.mu.Lock()
	between := s.between
	s.mu.Unlock()
	if err == nil && between != nil {
		between()
	}
	return err
}

func (s *Store) commit(b *cache.Batch, sync bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.nowLocked()
	if b.Len() > 0 {
		next = slices.Grow(slices.Clone(next), b.Len())
	}
	err := b.Each(func(key, value []byte, deleted bool) error {
		next = put(next, key, value, deleted)
		return nil
	})
	if err != nil {
		return err
	}
	s.tail = append(s.tail, next)
	if s.failing {
		s.failing = false
		s.syncLocked()
		return ErrCrash
	}
	if sync {
		s.syncLocked()
	}
	return nil
}

// Sync makes everything committed durable.
func (s *Store) Sync() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.syncLocked()
	return nil
}

func (s *Store) syncLocked() {
	s.durable, s.tail = s.nowLocked(), nil
}

// Tail returns how many commits a crash could take.
func (s *Store) Tail() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.tail)
}

// Crash takes the tail but its first keep commits, which are durable then.
func (s *Store) Crash(keep int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tail = s.tail[:min(keep, len(s.tail))]
	s.syncLocked()
}

// FailNext makes the next commit durable and return ErrCrash all the same: the
// process died behind the sync and before anybody learned of it. With false it
// takes that back.
func (s *Store) FailNext(fail bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failing = fail
}

// Backup is what was durable at one moment.
type Backup struct{ pairs []pair }

// Backup returns what is durable now.
func (s *Store) Backup() Backup {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Backup{s.durable}
}

// Restore replaces everything by a backup.
func (s *Store) Restore(b Backup) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.durable, s.tail = b.pairs, nil
}

type snapshot struct {
	mu     sync.Mutex
	pairs  []pair
	closed bool
}

func (s *snapshot) usable() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return cache.ErrClosed
	}
	return nil
}

// Get implements cache.Snapshot.
func (s *snapshot) Get(dst, key []byte) (value []byte, found bool, err error) {
	if err := s.usable(); err != nil {
		return dst, false, err
	}
	return get(s.pairs, dst, key)
}

// Scan implements cache.Snapshot.
func (s *snapshot) Scan(lower, upper []byte, fn func(key, value []byte) (more bool, err error)) error {
	if err := s.usable(); err != nil {
		return err
	}
	return scan(s.pairs, lower, upper, fn)
}

// Close implements cache.Snapshot.
func (s *snapshot) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

func find(pairs []pair, key []byte) (int, bool) {
	return slices.BinarySearchFunc(pairs, key, func(p pair, k []byte) int { return bytes.Compare(p.key, k) })
}

func get(pairs []pair, dst, key []byte) ([]byte, bool, error) {
	i, found := find(pairs, key)
	if !found {
		return dst, false, nil
	}
	return append(dst, pairs[i].value...), true, nil
}

func scan(pairs []pair, lower, upper []byte, fn func(key, value []byte) (bool, error)) error {
	i, _ := find(pairs, lower)
	var k, v []byte // used again, as an engine does: who keeps one finds it overwritten
	for ; i < len(pairs); i++ {
		if len(upper) > 0 && bytes.Compare(pairs[i].key, upper) >= 0 {
			return nil
		}
		k, v = append(k[:0], pairs[i].key...), append(v[:0], pairs[i].value...)
		more, err := fn(k, v)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

func put(pairs []pair, key, value []byte, deleted bool) []pair {
	i, found := find(pairs, key)
	switch {
	case deleted && found:
		return slices.Delete(pairs, i, i+1)
	case deleted:
		return pairs
	}
	p := pair{key, bytes.Clone(value)}
	if found {
		p.key = pairs[i].key
		pairs[i] = p
		return pairs
	}
	p.key = bytes.Clone(key)
	return slices.Insert(pairs, i, p)
}
