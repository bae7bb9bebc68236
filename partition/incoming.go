package partition

import (
	"fmt"
	"slices"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition/state"
)

// Incoming is the receiving side of one session for one partition.
type Incoming struct {
	shard *Shard
	in    *state.Incoming

	liveDots kv.Clock // of the pieces so far
	liveRuns int
	buried   []string // keys of versions that the donor's live dots bury
}

// Begin opens the receiving side and returns the clock to report in HELLO. The
// id is never used again, by no process of this data directory.
func (s *Shard) Begin(id uint64, peer kv.NodeID) (*Incoming, kv.Clock) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.beginLocked(id, peer), s.copy.Synced().Clone()
}

func (s *Shard) beginLocked(id uint64, peer kv.NodeID) *Incoming {
	in := s.copy.Begin(id, peer)
	for key, p := range s.overlay { // what is planned and not in the store yet
		for _, v := range p.entry.Object.Versions {
			in.Note(v.Dot, []byte(key))
		}
	}
	return &Incoming{shard: s, in: in}
}

// Cancel closes the receiving side; what was applied stays.
func (in *Incoming) Cancel() {
	in.shard.mu.Lock()
	defer in.shard.mu.Unlock()
	in.shard.copy.Cancel(in.in)
}

// Batch is what the objects of one batch have in common: the donor's base and
// floor of the snapshot they come from.
type Batch struct {
	Base, Floor kv.VV
	// Logged, if not nil, is called once for each object, ahead of Apply's done: what was
	// applied outlives this process from then on, and the machine once it is done.
	Logged func()
}

// Apply joins one filled object of a batch.
func (in *Incoming) Apply(key []byte, o kv.Object, b Batch, done func()) error {
	return in.shard.apply(state.Received{
		Key: key, Object: o, Floor: b.Floor, From: in.in.Peer, In: in.in, Base: b.Base,
	}, b.Logged, done)
}

// Keep takes the donor's word that it holds dots which it does not send.
func (in *Incoming) Keep(dots kv.Clock) {
	in.shard.mu.Lock()
	defer in.shard.mu.Unlock()
	in.in.Keep(dots)
}

// End applies the donor's end: what it proves dead is dropped and the clock
// grows, in one batch with nothing of this shard planned in between. done is
// called when that is published.
func (in *Incoming) End(clock kv.Clock, floor kv.VV, done func()) error {
	s := in.shard
	s.gate.Lock()
	defer s.gate.Unlock()
	if s.gone.Load() {
		return fmt.Errorf("end session of partition %d: %w", s.id, ErrDropped)
	}
	s.mu.Lock()
	if base := clock.Base(); base.Sealed(s.copy.Actor()) {
		s.mu.Unlock()
		return fmt.Errorf("end session of partition %d: %w", s.id, ErrSealsLiving)
	}
	keys, dots := in.in.Suspects(clock)
	s.mu.Unlock()
	keys = append(keys, in.buried...)
	if in.in.WentBoth() { // many, and thin
		found, err := s.keysAmong(kv.ClockOf(dots...))
		if err != nil {
			return fmt.Errorf("end session of partition %d: %w", s.id, err)
		}
		keys, dots = append(keys, found...), nil
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	keys, err := s.keysOf(keys, dots)
	if err != nil {
		return fmt.Errorf("end session of partition %d: %w", s.id, err)
	}
	suspects := make([]state.KeyEntry, 0, len(keys))
	for _, key := range keys {
		e, err := s.load(kv.Hash([]byte(key)), []byte(key), true)
		if err != nil {
			return fmt.Errorf("end session of partition %d: %w", s.id, err)
		}
		suspects = append(suspects, state.KeyEntry{Key: []byte(key), Entry: e})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.plannedLocked(s.copy.PlanEnd(in.in, clock, floor, suspects))
	if o.done, o.repair = done, true; in.in.WentBoth() {
		s.levelLocked(o)
	}
	s.set.committer.enqueue(o)
	return nil
}

// keysOf adds the keys of the versions that the store's dot index has in the
// runs; what is not there is dead already or planned, and then noted.
func (s *Shard) keysOf(keys []string, dots []kv.Span) ([]string, error) {
	seen := map[string]bool{}
	for _, k := range keys {
		seen[k] = true
	}
	for _, span := range dots {
		id := s.set.actors.ID(span.Actor)
		for _, r := range span.Runs {
			err := s.set.cfg.Store.Scan(
				cache.AppendVersionKey(nil, s.id, id, r.From), cache.AppendVersionKey(nil, s.id, id, r.To+1),
				func(_, value []byte) (bool, error) {
					key, _, err := cache.ParseVersion(value)
					if err == nil && !seen[string(key)] {
						seen[string(key)] = true
						keys = append(keys, string(key))
					}
					return true, err
				})
			if err != nil {
				return nil, err
			}
		}
	}
	return keys, nil
}
