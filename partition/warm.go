package partition

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/merkle"
	"edged.dev/edged/partition/state"
)

const (
	// maxWarmBytes bounds the trees kept in step, of all copies of a node: those of
	// a thousand partitions of some thousand keys.
	maxWarmBytes = 64 << 20
	// maxLoggedChanges bounds what is remembered while a tree is built. Past it the
	// peer asks again.
	maxLoggedChanges = 64 << 10
)

// warmTree is a tree kept in step with what is published.
type warmTree struct {
	tree *merkle.Tree
	fit  bool // the copy was, when it was built
	used bool // since the trees were last cooled
}

// changeLog is what a copy published since a tree began to be built.
type changeLog struct {
	states []published // after each group; the first is that of the beginning
	groups [][]*state.Change
	kept   int
	more   chan struct{} // rings at a group
}

type published struct {
	clock  kv.Clock
	digest merkle.Digest
}

// TreeAnswer is a copy's answer to a question about its tree.
type TreeAnswer struct {
	Fit   bool
	Bits  int
	Root  merkle.Digest
	Nodes []uint32 // to the question, if it named nodes
}

// Answer answers a peer's question about the tree of what the copy holds at a
// clock. The tree is built by one look on first need, and then kept in step.
func (s *Shard) Answer(ctx context.Context, at kv.Clock, q merkle.Question) (TreeAnswer, error) {
	return s.answer(ctx, &at, q)
}

func (s *Shard) answer(ctx context.Context, at *kv.Clock, q merkle.Question) (TreeAnswer, error) {
	if err := s.heat(ctx); err != nil {
		return TreeAnswer{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.warm
	if w == nil || at != nil && !s.copy.Now().Clock.Equal(*at) {
		return TreeAnswer{}, fmt.Errorf("answer for partition %d: %w", s.id, ErrMoved)
	}
	w.used = true
	a := TreeAnswer{Fit: w.fit && !s.unfit.Load(), Bits: w.tree.Bits(), Root: w.tree.Root()}
	if len(q.Nodes) == 0 {
		return a, nil
	}
	var err error
	a.Nodes, err = w.tree.Answer(q)
	return a, err
}

// heat makes sure that there is a tree.
func (s *Shard) heat(ctx context.Context) error {
	s.warmUp.Lock()
	defer s.warmUp.Unlock()
	s.mu.Lock()
	there := s.warm != nil
	log := &changeLog{more: make(chan struct{}, 1)}
	now := s.copy.Now()
	log.states = append(log.states, published{now.Clock, now.Digest})
	if !there {
		s.warming = log
	}
	s.mu.Unlock()
	if there {
		return nil
	}
	defer func() {
		s.mu.Lock()
		s.warming = nil
		s.mu.Unlock()
	}()
	look, err := s.Look(func(int) error { return ctx.Err() })
	if err != nil {
		return err
	}
	s.set.warm.make(s, look.Tree.Bytes())
	for {
		if done, err := s.catchUp(log, look); done || err != nil {
			return err
		}
		select { // a group is in the store and not published yet
		case <-log.more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// catchUp brings a tree from the moment of its look to now, if what the look saw
// is published already.
func (s *Shard) catchUp(log *changeLog, look *Look) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if log.kept > maxLoggedChanges {
		return false, fmt.Errorf("build tree of partition %d: %w", s.id, ErrMoved)
	}
	seen := slices.IndexFunc(log.states, func(p published) bool {
		return p.clock.Equal(look.Clock) && p.digest == look.Recorded
	})
	if seen < 0 {
		return false, nil
	}
	s.warm = &warmTree{tree: look.Tree, fit: look.Fit()}
	for _, g := range log.groups[seen:] {
		s.warmLocked(g)
	}
	return true, nil
}

// keepWarmLocked takes a published group into the tree. The caller holds mu.
func (s *Shard) keepWarmLocked(changes []*state.Change) {
	if log := s.warming; log != nil && log.kept <= maxLoggedChanges {
		now := s.copy.Now()
		log.states = append(log.states, published{now.Clock, now.Digest})
		log.groups = append(log.groups, slices.Clone(changes))
		for _, ch := range changes {
			log.kept += len(ch.Keys)
			for i := range ch.Keys { // whose bytes are a caller's, until it is answered
				ch.Keys[i].Key = bytes.Clone(ch.Keys[i].Key)
			}
		}
		select {
		case log.more <- struct{}{}:
		default:
		}
	}
	s.warmLocked(changes)
	s.watchLocked(changes)
}

func (s *Shard) warmLocked(changes []*state.Change) {
	for _, ch := range changes {
		if s.warm == nil {
			return
		}
		if ch.Heals { // it stands for what no change did
			s.warm = nil
			return
		}
		for i := range ch.Keys {
			k := &ch.Keys[i]
			hash := s.treeHash(kv.Hash(k.Key))
			add, sub := state.Differ(s.set.cfg.DigestKey, k.Key, k.Before.Object, k.After.Object)
			s.warm.tree.Add(hash, add)
			s.warm.tree.Sub(hash, sub)
		}
	}
}

// warmSet bounds the trees of all copies of a node.
type warmSet struct {
	mu    sync.Mutex
	trees []warmShard // oldest first
	bytes int64
}

type warmShard struct {
	shard *Shard
	bytes int64
}

// make makes room for a tree of a shard.
func (w *warmSet) make(s *Shard, bytes int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dropLocked(func(x warmShard) bool { return x.shard == s })
	for len(w.trees) > 0 && w.bytes+bytes > maxWarmBytes {
		oldest := w.trees[0].shard
		w.dropLocked(func(x warmShard) bool { return x.shard == oldest })
		oldest.cool()
	}
	w.trees = append(w.trees, warmShard{s, bytes})
	w.bytes += bytes
}

func (w *warmSet) dropLocked(gone func(warmShard) bool) {
	w.trees = slices.DeleteFunc(w.trees, func(x warmShard) bool {
		if gone(x) {
			w.bytes -= x.bytes
			return true
		}
		return false
	})
}

func (s *Shard) cool() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.warm = nil
}

// Cool drops the trees that nobody asked since the last call.
func (s *Set) Cool() {
	s.warm.mu.Lock()
	defer s.warm.mu.Unlock()
	s.warm.dropLocked(func(x warmShard) bool {
		x.shard.mu.Lock()
		defer x.shard.mu.Unlock()
		cold := x.shard.warm == nil || !x.shard.warm.used
		if cold {
			x.shard.warm = nil
		} else {
			x.shard.warm.used = false
		}
		return cold
	})
}

// WarmBytes is the memory that trees take.
func (s *Set) WarmBytes() int64 {
	s.warm.mu.Lock()
	defer s.warm.mu.Unlock()
	return s.warm.bytes
}

// SetUnfit says whether the copy was found to hold less than its record says. It
// is given to nobody then.
func (s *Shard) SetUnfit(unfit bool) {
	s.unfit.Store(unfit)
	s.cool()
}

// Unfit reports whether the copy was found to hold less than its record says.
func (s *Shard) Unfit() bool { return s.unfit.Load() }
