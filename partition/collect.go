package partition

import (
	"fmt"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
)

// Collection says which tombstones may leave a copy: those that Stable covers,
// which every owner is known to hold durably, and those older than Horizon, which
// are not waited for any more. A receiver that has not seen one of them takes the
// step L2 then.
type Collection struct {
	Stable  kv.VV
	Horizon kv.HLC // 0: none
	Excess  int    // how many are not waited for at any age, for there are too many
	Limit   int    // tombstones looked at
}

// Collected is what came of it.
type Collected struct {
	Stable, Forced int  // tombstones that left
	Waiting        int  // that stay, of those looked at
	Wrapped        bool // the end of the tombstones was reached
}

// Collect removes tombstones, going on where the last call ended. Their removal is
// an ordinary change: planned, committed, and seen by sessions. It is called by one
// goroutine at a time.
func (s *Shard) Collect(c Collection) (Collected, error) {
	var out Collected
	if s.collectAt == nil {
		s.tombstoned.Store(false) // what comes from here on says so itself
	}
	found, err := s.tombstones(c, &out)
	if err != nil {
		return Collected{}, fmt.Errorf("collect in partition %d: %w", s.id, err)
	}
	for _, t := range found {
		n, err := s.collect(t)
		if err != nil {
			return out, fmt.Errorf("collect in partition %d: %w", s.id, err)
		}
		switch {
		case n == 0:
			out.Waiting++
		case t.forced:
			out.Forced++
		default:
			out.Stable++
		}
	}
	if out.Waiting > 0 || !out.Wrapped {
		s.tombstoned.Store(true)
	}
	return out, nil
}

// Tombstoned reports whether there may be tombstones to collect.
func (s *Shard) Tombstoned() bool { return s.tombstoned.Load() }

type tombstone struct {
	dot    kv.Dot
	key    []byte
	forced bool
}

// tombstones lists the next ones that may leave.
func (s *Shard) tombstones(c Collection, out *Collected) ([]tombstone, error) {
	lower, upper := cache.Range('t', s.id, 0)
	if s.collectAt != nil {
		lower = s.collectAt
	}
	s.collectAt = nil
	var found []tombstone
	left := c.Limit
	err := s.set.cfg.Store.Scan(lower, upper, func(rec, value []byte) (bool, error) {
		if left == 0 {
			s.collectAt = append([]byte(nil), rec...)
			return false, nil
		}
		left--
		actor, ok := s.set.actors.Actor(cache.ActorOf(rec))
		key, at, err := cache.ParseTombstone(value)
		if err != nil || !ok {
			return false, fmt.Errorf("read tombstone %x: %w", rec, cache.ErrRecord)
		}
		d := kv.Dot{Actor: actor, Seq: cache.SeqOf(rec)}
		stable := c.Stable.Has(d)
		if !stable && at >= c.Horizon {
			if c.Excess <= 0 {
				out.Waiting++
				return true, nil
			}
			c.Excess--
		}
		found = append(found, tombstone{d, append([]byte(nil), key...), !stable})
		return true, nil
	})
	out.Wrapped = s.collectAt == nil
	return found, err
}

// collect removes one tombstone, and returns how many left.
func (s *Shard) collect(t tombstone) (int, error) {
	hash := kv.Hash(t.key)
	defer s.planning(hash)()
	if s.gone.Load() {
		return 0, nil
	}
	cur, err := s.load(hash, t.key, true)
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ch := s.copy.PlanCollect(t.key, cur, []kv.Dot{t.dot})
	if ch == nil {
		return 0, nil
	}
	s.enqueueLocked(ch, nil)
	return 1, nil
}
