package cache

import (
	"errors"
	"fmt"
	"time"
)

// FlushIfDue is a step of Run's flush loop at a time of the test's choice.
func (s *Store) FlushIfDue(now time.Time) error { return s.flushIfDue(now) }

// CheckCommits is a step of Run's watch loop.
func (s *Store) CheckCommits(now time.Time, stalled bool) bool {
	return s.checkCommits(now, stalled)
}

// CheckSpace is a step of Run's watch loop.
func (s *Store) CheckSpace() { s.checkSpace() }

// BeginCommit stands for a commit that does not end until end is called.
func (s *Store) BeginCommit(now time.Time) (end func()) {
	s.watch.begin(now)
	return func() { s.watch.end(now) }
}

// Dir returns the directory.
func (s *Store) Dir() string { return s.cfg.Dir }

// LogBytes returns the size of the log that a reopen would replay.
func (s *Store) LogBytes() uint64 { return s.db.Metrics().WAL.Size }

// Flushes returns how many flushes have ended.
func (s *Store) Flushes() int64 { return s.db.Metrics().Flush.Count }

// Compactions returns how many compactions that merge tables have ended.
func (s *Store) Compactions() int64 {
	m := s.db.Metrics().Compact
	return m.Count - m.MoveCount - m.DeleteOnlyCount
}

// Flush writes the memtable to a table and waits.
func (s *Store) Flush() error { return s.db.Flush() }

// Check verifies what must hold of every shard: the ring's pieces add up, and
// its live entries and the index's slots are the same.
func (t *Tier) Check() error {
	for i := range t.shards {
		if err := t.shards[i].check(); err != nil {
			return fmt.Errorf("shard %d: %w", i, err)
		}
	}
	return nil
}

// check is Check for one shard.
func (s *tierShard) check() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	live, bytes, at := 0, int64(0), s.head
	for left := s.used; left > 0; {
		size := s.size(at)
		if size <= 0 || size > left || at+size > len(s.arena) {
			return fmt.Errorf("piece of %d bytes at %d, %d left", size, at, left)
		}
		if s.arena[at]&flagLive != 0 {
			live++
			bytes += int64(s.keyLen(at) + s.recordLen(at))
			_, found, ok := s.findLocked(mix(s.part(at), s.hash(at)), s.part(at), s.hash(at))
			if !ok || found != at {
				return fmt.Errorf("entry at %d is indexed at %d (%v)", at, found, ok)
			}
		}
		left -= size
		if at += size; at == len(s.arena) {
			at = 0
		}
	}
	slots := 0
	for _, v := range s.index {
		if v != 0 {
			slots++
		}
	}
	switch {
	case s.used > 0 && at != s.tail && !(at == 0 && s.tail == len(s.arena)):
		return fmt.Errorf("ring ends at %d, tail is %d", at, s.tail)
	case live != s.live || slots != s.live:
		return fmt.Errorf("%d live entries, %d slots, %d counted", live, slots, s.live)
	case bytes != s.stats.LiveBytes:
		return fmt.Errorf("%d live bytes, %d counted", bytes, s.stats.LiveBytes)
	case len(s.arena) > s.maxArena || len(s.index) > s.maxIndex:
		return errors.New("arena or index above its bound")
	}
	return nil
}
