package partition

import "edged.dev/edged/internal/kv"

// DropCovered drops a copy as Drop does, if its clock is still the one that others
// were asked to cover and is on stable storage: what came meanwhile is nowhere else
// perhaps. Looking and dropping are one step, behind which nothing is planned any
// more.
func (s *Set) DropCovered(p kv.Partition, clock kv.Clock) (bool, error) {
	sh := s.Shard(p)
	if sh == nil {
		return false, nil
	}
	sh.gate.Lock() // nobody plans, or has begun to
	sh.mu.Lock()
	same := sh.copy.PlannedClock().Equal(clock) && sh.copy.Synced().Equal(clock)
	sh.mu.Unlock()
	first := same && sh.gone.CompareAndSwap(false, true)
	sh.gate.Unlock()
	if !first {
		return false, nil
	}
	return true, s.forget(p, sh)
}
