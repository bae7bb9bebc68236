package partition

import (
	"errors"
	"fmt"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition/state"
)

var (
	// ErrSealed refuses a version that comes late, of a process that is gone and that
	// is sealed, or about to be: joined, it would bring back what no copy has.
	ErrSealed = errors.New("it is of a process that is gone, and comes too late")
	// ErrSealsLiving refuses a seal over the actor of this very copy.
	ErrSealsLiving = errors.New("it seals the process of this copy, which lives")
	// ErrUnlike refuses to close what does not hold what all were found to hold.
	ErrUnlike = errors.New("the copy is not fenced, or holds other versions of the process than was found")
	// ErrQuarantined refuses a promise, and a close, of a copy that has lost its clock:
	// what it has seen is not known, and it may hold alone what a seal would bury.
	ErrQuarantined = errors.New("the copy has lost its clock")
)

// Former returns what the published clock has of the actors that a seal covers.
func (s *Shard) Former(seal kv.Dot) state.Former {
	s.mu.Lock()
	defer s.mu.Unlock()
	return state.FormerOf(&s.copy.Now().Clock, seal)
}

// Seals counts the seals in the published clock.
func (s *Shard) Seals() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.copy.Now().Clock.Seals())
}

// Fence promises that of the actors that a seal covers nothing is taken any more that
// comes late. done is called from the committer once the promise is published, and
// durable unless durability is relaxed; what Former says then, and later, has all
// that was taken before it.
func (s *Shard) Fence(seal kv.Dot, done func()) error {
	s.gate.RLock()
	defer s.gate.RUnlock()
	if s.gone.Load() {
		return fmt.Errorf("fence in partition %d: %w", s.id, ErrDropped)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.mayPromise(seal); err != nil {
		return err
	}
	ch := s.copy.PlanFence(seal)
	if ch == nil {
		ch = s.copy.Noop() // behind the one that promised it
	}
	s.enqueueLocked(ch, done)
	return nil
}

func (s *Shard) mayPromise(seal kv.Dot) error {
	if (kv.VV{seal}).Sealed(s.copy.Actor()) {
		return fmt.Errorf("seal in partition %d: %w", s.id, ErrSealsLiving)
	}
	if s.stage != notQuarantined {
		return fmt.Errorf("seal in partition %d: %w", s.id, ErrQuarantined)
	}
	return nil
}

// Seal closes what every owner was found to hold of the actors that a seal covers:
// from now on all their dots count as seen. It refuses where this copy has promised
// nothing, or holds something else than was found. done is called as by Fence.
func (s *Shard) Seal(seal kv.Dot, found uint64, done func()) error {
	s.gate.Lock() // nothing is planned meanwhile
	defer s.gate.Unlock()
	if s.gone.Load() {
		return fmt.Errorf("seal in partition %d: %w", s.id, ErrDropped)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.mayPromise(seal); err != nil {
		return err
	}
	var ch *state.Change
	switch f := state.FormerOf(s.copy.PlannedClock(), seal); {
	case f.Sealed:
		ch = s.copy.Noop()
	case !s.copy.Fenced(seal) || f.Sum != found:
		return fmt.Errorf("seal in partition %d: %w", s.id, ErrUnlike)
	default:
		ch = s.copy.PlanSeal(seal)
	}
	s.enqueueLocked(ch, done)
	return nil
}
