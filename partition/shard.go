package partition

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/merkle"
	"edged.dev/edged/partition/state"
)

const stripes = 64 // key locks a shard; two keys that share one only wait

// Shard is the copy of one partition on this node. Safe for concurrent use.
type Shard struct {
	id  kv.Partition
	set *Set

	gate    sync.RWMutex
	gone    atomic.Bool // dropped; set with the gate held alone
	stripes [stripes]sync.Mutex
	changes atomic.Uint64 // published groups; guards what readers put into the tier

	collectAt  []byte      // where the next Collect goes on; its caller's
	tombstoned atomic.Bool // there may be tombstones

	mu      sync.Mutex
	copy    *state.Copy
	overlay map[string]*planned
	spare   []*planned // of overlay, to be used again
	record  []byte     // the last one put into the tier
	warm    *warmTree  // of what is published, nil: none
	warming *changeLog // what is published while one is built
	watches []*Watch

	warmUp sync.Mutex  // builds a tree
	unfit  atomic.Bool // must not give to others

	stage   byte // of its quarantine; under mu
	adopted bool // the end of the quarantine is planned
}

// What a shard keeps to use again: some keys in flight, and a record of usual
// size.
const (
	maxSparePlanned = 64
	maxKeptRecord   = 16 << 10
)

// planned is the newest planned entry of a key that has changes in flight.
type planned struct {
	entry  state.Entry
	flight int
}

// ID returns the partition's number.
func (s *Shard) ID() kv.Partition { return s.id }

// Status is a copy's published state at one moment.
type Status struct {
	Actor  kv.Actor
	Trust  kv.Trust
	Clock  kv.Clock // on stable storage (R4)
	Floor  kv.VV
	Digest merkle.Digest
	Leans  bool     // an unfinished session's record is beyond the clock, or content is
	Beyond []string // keys whose explicit context is beyond the clock
}

// Comparable reports whether a digest at this clock may be held against another
// copy's at an equal clock.
func (st *Status) Comparable() bool { return !st.Leans && len(st.Beyond) == 0 }

// Status returns the copy's state. The clock is the synced one; the digest is of
// the published state, and is left out (Leans is set) where the two differ.
func (s *Shard) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.copy.Now()
	st := Status{
		Actor: s.copy.Actor(), Trust: now.Trust, Clock: s.copy.Synced().Clone(), Floor: now.Floor,
		Digest: now.Digest, Leans: s.copy.Leans(), Beyond: s.copy.Beyond(),
	}
	if !now.Clock.Equal(st.Clock) || s.stage != notQuarantined {
		st.Leans = true
	}
	return st
}

// Trust returns the published trust.
func (s *Shard) Trust() kv.Trust {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.copy.Now().Trust
}

// Clock returns the clock that is on stable storage.
func (s *Shard) Clock() kv.Clock {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.copy.Synced().Clone()
}

// Covers reports whether the clock on stable storage covers c.
func (s *Shard) Covers(c kv.Clock) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.copy.Synced().Covers(c)
}

// Changes counts the groups published so far: what was read when it had the same
// value is still all there is.
func (s *Shard) Changes() uint64 { return s.changes.Load() }

// Has reports whether a write is in the published clock.
func (s *Shard) Has(d kv.Dot) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.copy.Now().Clock.Has(d)
}

// Actor returns the incarnation of this copy.
func (s *Shard) Actor() kv.Actor { return s.copy.Actor() }

// Count returns the number of values held, siblings and expired ones included.
func (s *Shard) Count() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.copy.Now().Digest.Count
}

// Keys returns the number of keys that have a value, an expired one included. Most have
// one, which Count has counted; those with siblings are looked up.
func (s *Shard) Keys() (uint64, error) {
	s.mu.Lock()
	n, several := s.copy.Now().Digest.Count, s.copy.Complex()
	s.mu.Unlock()
	for _, key := range several {
		e, err := s.load(kv.Hash([]byte(key)), []byte(key), false)
		if err != nil {
			return 0, fmt.Errorf("count keys of partition %d: %w", s.id, err)
		}
		values := uint64(0)
		for _, v := range e.Object.Versions {
			if !v.Tombstone() {
				values++
			}
		}
		n -= min(n, max(values, 1)-1) // what changed meanwhile is off by itself
	}
	return n, nil
}

// SetTrust plans a change of trust; done is called when it is published.
func (s *Shard) SetTrust(t kv.Trust, done func()) {
	s.gate.RLock()
	defer s.gate.RUnlock()
	if s.gone.Load() {
		if done != nil {
			done()
		}
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.enqueueLocked(s.copy.PlanTrust(t), done)
}

// Write plans a write of this copy. decide is called under the key's lock with
// the object as planned, its context explicit; it returns what to write, or nil
// to write nothing. done is called once what decide saw or wrote is published,
// with the change (nil if there was none), from the committer.
func (s *Shard) Write(key []byte, decide func(held kv.Object) (*Mutation, error), done func(*state.Change, error)) {
	s.WriteBy(context.Background(), key, decide, done)
}

// WriteBy is Write that waits for room in the committer's queue no longer than ctx lasts.
func (s *Shard) WriteBy(ctx context.Context, key []byte, decide func(held kv.Object) (*Mutation, error), done func(*state.Change, error)) {
	if full := s.set.cfg.Full; full != nil && full() {
		done(nil, ErrFull)
		return
	}
	if !s.set.committer.admitBy(ctx) {
		done(nil, ErrBusy)
		return
	}
	s.gate.RLock()
	defer s.gate.RUnlock()
	if s.gone.Load() {
		done(nil, ErrDropped)
		return
	}
	hash := kv.Hash(key)
	stripe := &s.stripes[hash%stripes]
	stripe.Lock()
	defer stripe.Unlock()
	cur, err := s.load(hash, key, true)
	if err != nil {
		done(nil, err)
		return
	}
	s.mu.Lock()
	held := s.copy.Load(cur)
	s.mu.Unlock()
	m, err := decide(held)
	if err != nil || m == nil {
		s.settle(key, func() { done(nil, err) })
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ch, _ := s.copy.PlanWrite(key, cur, m.Covers, m.Version)
	o := s.plannedLocked(ch)
	o.wrote = done
	s.set.committer.enqueue(o)
}

// Mutation is what a write does: the version without its dot, and what it covers.
type Mutation struct {
	Version kv.Version
	Covers  state.Covers
}

// settle calls done when what is planned for key is published, at once if
// nothing is.
func (s *Shard) settle(key []byte, done func()) {
	s.mu.Lock()
	if s.overlay[string(key)] != nil {
		s.enqueueLocked(s.copy.Noop(), done)
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	done()
}

// planning takes what a planner of one key holds, and returns how to let it go.
// Write and Apply, which every write takes, spell it out to save its closure. Whether
// the copy is gone is the caller's to look at.
func (s *Shard) planning(hash uint64) (over func()) {
	s.set.committer.admit()
	s.gate.RLock()
	stripe := &s.stripes[hash%stripes]
	stripe.Lock()
	return func() {
		stripe.Unlock()
		s.gate.RUnlock()
	}
}

// Apply joins a received object. done is called when it is published; it may be
// nil. The object's memory is kept.
func (s *Shard) Apply(r state.Received, done func()) error { return s.apply(r, nil, done) }

// apply is Apply; logged is called ahead of done, when the change is in the store's log.
func (s *Shard) apply(r state.Received, logged, done func()) error {
	s.set.committer.admit()
	s.gate.RLock()
	defer s.gate.RUnlock()
	if s.gone.Load() {
		return fmt.Errorf("apply to partition %d: %w", s.id, ErrDropped)
	}
	hash := kv.Hash(r.Key)
	stripe := &s.stripes[hash%stripes]
	stripe.Lock()
	defer stripe.Unlock()
	cur, err := s.load(hash, r.Key, false)
	if err != nil {
		return fmt.Errorf("apply to partition %d: %w", s.id, err)
	}
	return s.join(r, hash, cur, logged, done)
}

// join plans a received object on what its key has. The caller holds the gate and the
// key's stripe.
func (s *Shard) join(r state.Received, hash uint64, cur state.Entry, logged, done func()) (err error) {
	if lacksValues(cur.Object, r.Object) {
		if cur, err = s.load(hash, r.Key, true); err != nil {
			return fmt.Errorf("apply to partition %d: %w", s.id, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.copy.Late(r, cur.Object) {
		return fmt.Errorf("apply to partition %d: %w", s.id, ErrSealed)
	}
	o := s.plannedLocked(s.copy.PlanApply(r, cur))
	o.logged, o.done, o.repair = logged, done, r.In != nil
	s.set.committer.enqueue(o)
	return nil
}

// lacksValues reports whether a version without its value could survive a join
// with remote: one that both have does, though remote's context covers it.
func lacksValues(o, remote kv.Object) bool {
	for _, v := range o.Versions {
		if v.Value != nil || v.Tombstone() {
			continue
		}
		if _, both := remote.Find(v.Dot); both || !remote.Ctx.Has(v.Dot) {
			return true
		}
	}
	return false
}

// enqueueLocked hands a planned change to the committer with its records.
func (s *Shard) enqueueLocked(ch *state.Change, done func()) {
	o := s.plannedLocked(ch)
	o.done = done
	s.set.committer.enqueue(o)
}

// plannedLocked shows a planned change to the next planners of its keys, and
// returns it with its records.
func (s *Shard) plannedLocked(ch *state.Change) *op {
	o := s.set.committer.newOp(s, ch)
	for i := range ch.Keys {
		k := &ch.Keys[i]
		s.records(o, k)
		if p := s.overlay[string(k.Key)]; p != nil {
			p.entry = k.After
			p.flight++
		} else {
			s.overlay[string(k.Key)] = s.newPlannedLocked(k.After)
		}
	}
	if ch.AddSession != 0 {
		o.batch.Set(cache.AppendSessionKey(nil, s.id, sessionRecord, ch.AddSession), cache.AppendVV(nil, s.set.actors, ch.SessionBase))
	}
	for _, id := range ch.DropSession {
		o.batch.Delete(cache.AppendSessionKey(nil, s.id, sessionRecord, id))
	}
	return o
}

func (s *Shard) newPlannedLocked(e state.Entry) *planned {
	n := len(s.spare)
	if n == 0 {
		return &planned{e, 1}
	}
	p := s.spare[n-1]
	s.spare = s.spare[:n-1]
	*p = planned{e, 1}
	return p
}

// sessionRecord is the kind of the records of unfinished sessions.
const sessionRecord = 'P'

// publish makes a committed group visible; the committer calls it. synced says that all
// that was committed so far is on stable storage.
func (s *Shard) publish(next state.Published, changes []*state.Change, c *Committer, synced bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes.Add(1)
	s.copy.Publish(next, changes, synced)
	s.keepWarmLocked(changes)
	for _, ch := range changes {
		for i := range ch.Keys {
			s.publishKeyLocked(&ch.Keys[i])
		}
	}
	if !synced {
		c.owesSync(s)
	}
}

func (s *Shard) publishKeyLocked(k *state.KeyChange) {
	if p := s.overlay[string(k.Key)]; p != nil {
		if p.flight--; p.flight == 0 {
			delete(s.overlay, string(k.Key))
			*p = planned{}
			if len(s.spare) < maxSparePlanned {
				s.spare = append(s.spare, p)
			}
		}
	}
	for _, v := range k.After.Object.Versions {
		if v.Tombstone() {
			s.tombstoned.Store(true)
		}
	}
	s.remember(k.Key, k.After)
}
