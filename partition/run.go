package partition

import (
	"bytes"
	"cmp"
	"fmt"
	"math/bits"
	"slices"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition/state"
)

// MaxRun is how many objects ApplyRun takes: so many keys are locked at once, and what
// clients write to them waits while they are read, for a millisecond or two.
const MaxRun = 64

// ApplyRun joins filled objects of a batch, MaxRun at most, in their order: Apply of
// each, but what their keys have is read in one walk over the store, which is most of
// what an object costs a node that comes back. done is called for each object, by its
// place, when it is published. With an error it says how many were taken; done is called
// for these alone.
func (in *Incoming) ApplyRun(objects []KeyObject, b Batch, done func(i int)) (taken int, err error) {
	if len(objects) > MaxRun { // of whose keys more could not be told apart
		return 0, fmt.Errorf("apply a run of %d objects to partition %d: the limit is %d", len(objects), in.shard.id, MaxRun)
	}
	in.shard.set.committer.admit()
	all, taken, err := in.applyAtOnce(objects, b, done)
	if all {
		return taken, err
	}
	for i, o := range objects {
		if err := in.Apply(o.Key, o.Object, b, func() { done(i) }); err != nil {
			return i, err
		}
	}
	return len(objects), nil
}

// applyAtOnce is ApplyRun where nobody else plans on one of the keys: who waits for one
// key would hold up what clients write to the others. all is false where somebody does.
func (in *Incoming) applyAtOnce(objects []KeyObject, b Batch, done func(i int)) (all bool, taken int, err error) {
	s := in.shard
	s.gate.RLock()
	defer s.gate.RUnlock()
	if s.gone.Load() {
		return true, 0, fmt.Errorf("apply to partition %d: %w", s.id, ErrDropped)
	}
	run := s.runOf(objects)
	unlock, ok := s.tryLockAll(run)
	if !ok {
		return false, 0, nil
	}
	defer unlock()
	entries, err := s.loadRun(run)
	if err != nil {
		return true, 0, fmt.Errorf("apply to partition %d: %w", s.id, err)
	}
	for i, o := range objects {
		cur := entries[i]
		if run.again>>i&1 != 0 {
			if cur, err = s.load(run.hashes[i], o.Key, false); err != nil {
				return true, i, fmt.Errorf("apply to partition %d: %w", s.id, err)
			}
		}
		r := state.Received{Key: o.Key, Object: o.Object, Floor: b.Floor, From: in.in.Peer, In: in.in, Base: b.Base}
		if err := s.join(r, run.hashes[i], cur, b.Logged, func() { done(i) }); err != nil {
			return true, i, err
		}
	}
	return true, len(objects), nil
}

// run is a few objects by the order of their keys in the store.
type run struct {
	objects []KeyObject
	hashes  []uint64
	order   []int    // of objects
	keys    [][]byte // in the store, of each in order
	again   uint64   // bits of objects whose key one before them has, which is planned on then
}

func (s *Shard) runOf(objects []KeyObject) *run {
	n := len(objects)
	r := &run{objects: objects, hashes: make([]uint64, n), order: make([]int, n), keys: make([][]byte, n)}
	for i, o := range objects {
		r.hashes[i], r.order[i] = kv.Hash(o.Key), i
	}
	count := s.set.cfg.Partitions
	slices.SortFunc(r.order, func(a, b int) int {
		if c := cmp.Compare(kv.OrderOf(r.hashes[a], count), kv.OrderOf(r.hashes[b], count)); c != 0 {
			return c
		}
		return cmp.Or(bytes.Compare(objects[a].Key, objects[b].Key), a-b)
	})
	for at, i := range r.order {
		r.keys[at] = s.entryKey(nil, r.hashes[i], objects[i].Key)
		if at > 0 && bytes.Equal(r.keys[at-1], r.keys[at]) {
			r.again |= 1 << i
		}
	}
	return r
}

// tryLockAll takes the stripes of a run, if all are free, and returns what gives them
// back.
func (s *Shard) tryLockAll(r *run) (unlock func(), ok bool) {
	var wanted, held uint64
	for _, h := range r.hashes {
		wanted |= 1 << (h % stripes)
	}
	unlock = func() {
		for ; held != 0; held &= held - 1 {
			s.stripes[bits.TrailingZeros64(held)].Unlock()
		}
	}
	for left := wanted; left != 0; left &= left - 1 {
		i := bits.TrailingZeros64(left)
		if !s.stripes[i].TryLock() {
			unlock()
			return nil, false
		}
		held |= 1 << i
	}
	return unlock, true
}

// loadRun returns what the keys of a run have, by the places of its objects, without
// values that would need reads of their own. The caller holds the gate and the stripes.
func (s *Shard) loadRun(r *run) ([]state.Entry, error) {
	entries := make([]state.Entry, len(r.objects))
	at := make([]int, 0, len(r.order)) // places of what the store is asked for
	keys := make([][]byte, 0, len(r.order))
	for n, i := range r.order {
		e, known, err := s.loadNear(r.hashes[i], r.objects[i].Key)
		if err != nil {
			return nil, err
		}
		if known {
			entries[i] = e
			continue
		}
		at, keys = append(at, i), append(keys, r.keys[n])
	}
	if len(keys) == 0 {
		return entries, nil
	}
	err := s.set.cfg.Store.GetMany(keys, func(n int, record []byte) error {
		e, _, err := s.parseEntry(record)
		if err != nil {
			return fmt.Errorf("read key %q: %w", r.objects[at[n]].Key, err)
		}
		entries[at[n]] = e
		return nil
	})
	if err == nil {
		return entries, nil
	}
	for _, i := range at { // one after the other: what is damaged is told, and what is not is found
		if entries[i], err = s.load(r.hashes[i], r.objects[i].Key, false); err != nil {
			return nil, err
		}
	}
	return entries, nil
}
