package partition

import (
	"context"
	"errors"
	"fmt"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/merkle"
	"edged.dev/edged/partition/state"
)

// A copy that is always written is hardly ever at the clock of another. What is here
// answers for it as it is, and heals it key by key, while writes go on.

// Tree returns the tree of what the copy holds now. It is the caller's.
func (s *Shard) Tree(ctx context.Context) (*merkle.Tree, error) {
	if err := s.heat(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.warm == nil {
		return nil, fmt.Errorf("read tree of partition %d: %w", s.id, ErrMoved)
	}
	s.warm.used = true
	return s.warm.tree.Clone(), nil
}

// AnswerNow is Answer at whatever clock the copy has.
func (s *Shard) AnswerNow(ctx context.Context, q merkle.Question) (TreeAnswer, error) {
	return s.answer(ctx, nil, q)
}

// ItemsNow is Items at whatever clock the copy has.
func (s *Shard) ItemsNow(ranges []merkle.Range, salt uint64, limit int) (items []Item, upto uint64, err error) {
	return s.items(nil, ranges, salt, limit)
}

// HeldNow returns what the copy really holds of keys, and the clock it has with that.
// The clock may be ahead of what is on stable storage: it says what the answer is
// made of, and nothing else may be taken from it (R4).
func (s *Shard) HeldNow(keys [][]byte) (found []FoundObject, clock kv.Clock, err error) {
	err = s.at(nil, func(snap cache.Snapshot, c *cache.Copy) error {
		clock = c.Clock
		base := clock.Base()
		for _, key := range keys {
			f, err := s.foundKey(snap, key)
			if err != nil {
				return err
			}
			o, err := s.loadIn(snap, base, f.Entry)
			if err != nil {
				return err
			}
			f.Beyond = !clock.CoversVV(o.Ctx)
			found = append(found, *f)
		}
		return nil
	})
	if err != nil {
		return nil, kv.Clock{}, fmt.Errorf("read objects of partition %d: %w", s.id, err)
	}
	return found, clock, nil
}

// watchBits is how many marks a Watch has: while a partition is watched some ten
// thousand keys of it may be written, and a key that shares its mark with one of them
// is healed by the next attempt.
const watchBits = 1 << 16

// Watch knows which keys of a copy were changed since it began.
type Watch struct {
	shard *Shard
	marks [watchBits / 64]uint64 // by key hash; under the shard's mu
}

// Watch begins one.
func (s *Shard) Watch() *Watch {
	w := &Watch{shard: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watches = append(s.watches, w)
	return w
}

// Close ends it.
func (w *Watch) Close() {
	s := w.shard
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, x := range s.watches {
		if x == w {
			s.watches = append(s.watches[:i:i], s.watches[i+1:]...)
			return
		}
	}
}

func (w *Watch) mark(key []byte) {
	at := kv.Hash(key) % watchBits
	w.marks[at/64] |= 1 << (at % 64)
}

func (w *Watch) marked(key []byte) bool {
	at := kv.Hash(key) % watchBits
	return w.marks[at/64]&(1<<(at%64)) != 0
}

// watchLocked shows a published group to those who watch. The caller holds mu.
func (s *Shard) watchLocked(changes []*state.Change) {
	for _, w := range s.watches {
		for _, ch := range changes {
			for i := range ch.Keys {
				w.mark(ch.Keys[i].Key)
			}
		}
	}
}

// HealWatched is Heal while writes go on. A key that was changed since the watch
// began, or is being changed, is left alone: what the fixes follow from was read
// behind that beginning.
func (s *Shard) HealWatched(w *Watch, look *Look, fixes []Fix, whole bool, done func()) (left [][]byte, err error) {
	s.gate.Lock()
	defer s.gate.Unlock()
	if s.gone.Load() {
		return nil, fmt.Errorf("heal partition %d: %w", s.id, ErrDropped)
	}
	still := make([]Fix, 0, len(fixes))
	s.mu.Lock()
	for _, f := range fixes {
		if w.marked(f.Key) || s.overlay[string(f.Key)] != nil {
			left = append(left, f.Key)
			continue
		}
		still = append(still, f)
	}
	s.mu.Unlock()
	if len(fixes) > 0 && len(still) == 0 {
		return left, fmt.Errorf("heal partition %d: %w", s.id, ErrMoved)
	}
	more, err := s.heal(look, still, whole && len(left) == 0, done)
	return append(left, more...), err
}

// heal plans the fixes. The caller holds the gate alone, so that nobody plans
// meanwhile, and nothing is in flight for the keys of the fixes.
func (s *Shard) heal(look *Look, fixes []Fix, whole bool, done func()) (left [][]byte, err error) {
	snap, err := s.set.cfg.Store.Snapshot()
	if err != nil {
		return nil, fmt.Errorf("heal partition %d: %w", s.id, err)
	}
	cures, left, err := s.cures(snap, fixes)
	if err = errors.Join(err, snap.Close()); err != nil {
		return nil, fmt.Errorf("heal partition %d: %w", s.id, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	plain := make([]state.Cure, len(cures))
	for i := range cures {
		plain[i] = cures[i].Cure
	}
	ch := s.copy.PlanHeal(plain, look.Tree.Root(), look.Recorded)
	if !look.Fit() {
		s.copy.PlanLoss(ch)
		if !whole || len(left) > 0 {
			ch.Digest = state.Delta{}
		} else if t := s.set.cfg.Tier; t != nil { // it may remember what is lost for good
			s.changes.Add(1)
			t.DropPartition(uint32(s.id))
		}
	}
	o := s.set.committer.newOp(s, ch)
	for i := range cures {
		s.cureRecords(o, &cures[i])
		s.overlay[string(cures[i].Key)] = s.newPlannedLocked(cures[i].After)
	}
	o.done = done
	s.set.committer.enqueue(o)
	return left, nil
}
