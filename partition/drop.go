package partition

import (
	"errors"
	"fmt"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
)

// ErrDropped refuses what comes for a copy that was dropped.
var ErrDropped = errors.New("copy was dropped")

// Drop forgets a copy with everything that it holds: objects, clock and actor (R6).
// Its sessions end, both ways, and whoever still has the Shard is refused. The next
// Add makes an empty New copy, whose actor has random bits of its own: with those
// of the one before, its context would claim dots that it forgot (R3).
//
// Whether a copy may be dropped is for the caller to know: other copies must cover
// its clock durably; DropCovered looks at that once more. What peers were known to hold
// of the partition goes with it: it would be held against this copy's successor.
func (s *Set) Drop(p kv.Partition) error {
	sh := s.Shard(p)
	if sh == nil {
		return nil
	}
	sh.gate.Lock() // nobody plans, or has begun to
	first := sh.gone.CompareAndSwap(false, true)
	sh.gate.Unlock()
	if !first {
		return fmt.Errorf("drop partition %d: %w", p, ErrDropped)
	}
	return s.forget(p, sh)
}

// forget removes a copy for which nothing is planned any more.
func (s *Set) forget(p kv.Partition, sh *Shard) error {
	published := make(chan struct{})
	sh.mu.Lock()
	sh.enqueueLocked(sh.copy.Noop(), func() { close(published) })
	sh.mu.Unlock()
	<-published
	sh.mu.Lock()
	sh.changes.Add(1) // what is being read now does not go into the tier any more
	sh.mu.Unlock()
	if err := s.spoil(p); err != nil {
		return err
	}
	if err := s.wipe(p); err != nil {
		return err
	}
	if err := s.wipeKnown(p); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.bitsLocked(p)
	next := kv.IssuingBits(s.cfg.Rand())
	for next == was || next == s.rand {
		next = kv.IssuingBits(s.cfg.Rand())
	}
	s.redrawn[p] = next
	delete(s.shards, p)
	if int64(p) < int64(len(s.byNumber)) {
		s.byNumber[p].Store(nil)
	}
	return nil
}

// bitsLocked returns the random bits of the actor of a partition's copy: those of
// the process, which keeps clock tables small, or its own where it is not the first
// copy in this process. The caller holds mu.
func (s *Set) bitsLocked(p kv.Partition) uint32 {
	if bits, ok := s.redrawn[p]; ok {
		return bits
	}
	return s.rand
}

// spoil makes the copy's record one that quarantines it at the next start, so that
// a process that dies while the rest is removed leaves no clock over data that is
// gone: that would read as deletes.
func (s *Set) spoil(p kv.Partition) error {
	var b cache.Batch
	b.Set(cache.AppendCopyKey(nil, p), []byte(droppedCopy))
	if err := s.cfg.Store.Commit(&b, true); err != nil {
		return fmt.Errorf("drop partition %d: %w", p, err)
	}
	return nil
}
