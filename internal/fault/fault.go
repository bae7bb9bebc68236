// Package fault names the points where a test may fail, hold or observe a step.
//
// Production code carries a *Set through its configuration and asks it at each
// named point whether to go on. A nil *Set is the ordinary case: it answers
// nil at once, so that a point costs one comparison when faults are off.
// Nothing here is global: two nodes in one process have two sets.
package fault

import (
	"context"
	"errors"
	"sort"
	"sync"
)

// ErrInjected is the error of a fault armed without an error of its own. Tests
// recognise it with errors.Is.
var ErrInjected = errors.New("injected fault")

// Handler decides one hit of a point: hit counts from 1 and counts the hits of
// this name since the set was made. A nil answer lets the step go on; an error
// fails it. A handler may block, and then the step waits; it must end when ctx
// does. It runs without the set's lock, so it may call the set.
type Handler func(ctx context.Context, hit int) error

// Set holds the faults armed by one test. The zero value is ready for use, and
// a nil *Set has no faults. All methods are safe for concurrent use.
type Set struct {
	mu     sync.Mutex
	points map[string]*point
}

// point is the state of one name; it exists once the name was armed or hit.
type point struct {
	hits    int
	handler Handler
	fired   bool
}

// Point is called by production code where a step may be failed. It returns
// what the armed handler says, and nil when the set is nil or the name is not
// armed. Names are "package.step", e.g. "cache.commit".
func (s *Set) Point(ctx context.Context, name string) error {
	if s == nil {
		return nil
	}
	return s.hit(ctx, name)
}

// hit is apart from Point so that Point stays small enough to be inlined.
func (s *Set) hit(ctx context.Context, name string) error {
	s.mu.Lock()
	p := s.pointLocked(name)
	p.hits++
	hit, handler := p.hits, p.handler
	p.fired = p.fired || handler != nil
	s.mu.Unlock()
	if handler == nil {
		return nil
	}
	return handler(ctx, hit)
}

// On arms name with a handler, in place of the one before.
func (s *Set) On(name string, handler Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pointLocked(name)
	p.handler, p.fired = handler, false
}

// Clear disarms name; its hits stay counted.
func (s *Set) Clear(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pointLocked(name).handler = nil
}

// Fail arms name to fail every hit with err, or ErrInjected when err is nil.
func (s *Set) Fail(name string, err error) {
	err = orInjected(err)
	s.On(name, func(context.Context, int) error { return err })
}

// FailNth arms name to fail its nth hit from now on, counted from 1, and no
// other, with err, or ErrInjected when err is nil.
func (s *Set) FailNth(name string, nth int, err error) {
	err = orInjected(err)
	at := s.Hits(name) + nth
	s.On(name, func(_ context.Context, hit int) error {
		if hit == at {
			return err
		}
		return nil
	})
}

// Hold arms name so that its next hit waits: reached is closed when a step has
// arrived there, and the step goes on after release. Later hits pass. A step
// whose context ends first fails with that context's cause. release may be
// called more than once.
func (s *Set) Hold(name string) (reached <-chan struct{}, release func()) {
	arrived, freed := make(chan struct{}), make(chan struct{})
	var first, once sync.Once
	s.On(name, func(ctx context.Context, _ int) error {
		held := false
		first.Do(func() { held = true; close(arrived) })
		if !held {
			return nil
		}
		select {
		case <-freed:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	return arrived, func() { once.Do(func() { close(freed) }) }
}

// Hits returns how often name was reached, armed or not.
func (s *Set) Hits(name string) int {
	if s == nil {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.points[name]; p != nil {
		return p.hits
	}
	return 0
}

// Unfired returns the armed names that no step has reached since, sorted. A
// test asserts that it is empty, so that a misspelt name cannot pass unseen.
func (s *Set) Unfired() []string {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for name, p := range s.points {
		if p.handler != nil && !p.fired {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return names
}

// pointLocked returns the point of name, made when it is new.
func (s *Set) pointLocked(name string) *point {
	if s.points == nil {
		s.points = make(map[string]*point)
	}
	p := s.points[name]
	if p == nil {
		p = &point{}
		s.points[name] = p
	}
	return p
}

// orInjected stands ErrInjected in for a nil error.
func orInjected(err error) error {
	if err == nil {
		return ErrInjected
	}
	return err
}
