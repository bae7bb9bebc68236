package partition

import (
	"errors"
	"fmt"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/merkle"
	"edged.dev/edged/partition/state"
)

// quarantineRecord is the kind of the record that says that a copy holds what its
// clock does not claim: it lost the clock, and has not been level with all others
// since.
const quarantineRecord = 'Q'

// The stages of a quarantine. The record's value is the stage.
const (
	notQuarantined = iota
	clockLost      // no session has ended since
	clockLevel     // the clock is a donor's; there may be versions that it does not claim
)

// droppedCopy stands in the place of the record of a copy that is being dropped: what
// is left of it is nobody's, whatever it holds.
const droppedCopy = "dropped"

// stageOf reads the record. What it cannot be is the worst it can be.
func stageOf(value []byte) byte {
	if len(value) == 1 && value[0] == clockLevel {
		return clockLevel
	}
	return clockLost
}

// salvage is what is found of a copy that has lost its record.
type salvage struct {
	sh         *Shard
	snap       cache.Snapshot
	batch      cache.Batch
	digest     merkle.Digest
	complex    map[string]kv.VV
	tombstones map[string]struct{} // keys of the records of those that are kept
	versions   int                 // kept
	dropped    map[string]bool     // keys of objects of which a version is damaged
}

// quarantine opens a copy whose record is lost or damaged. Objects whose versions all
// verify stay, claimed by no clock; where one does not, the whole object goes, since a
// version beside it may imply that it was superseded. Nothing of it counts before the
// last batch: until then the next start finds the same.
func (s *Set) quarantine(p kv.Partition, sessions map[uint64]kv.VV) error {
	snap, err := s.cfg.Store.Snapshot()
	if err != nil {
		return fmt.Errorf("quarantine partition %d: %w", p, err)
	}
	v := &salvage{
		sh: s.newShard(p, state.Published{}, nil), snap: snap,
		complex: map[string]kv.VV{}, tombstones: map[string]struct{}{}, dropped: map[string]bool{},
	}
	err = v.objects()
	if err == nil {
		err = v.records()
	}
	if err = errors.Join(err, snap.Close()); err != nil {
		return fmt.Errorf("quarantine partition %d: %w", p, err)
	}
	pub := state.Published{Digest: v.digest, Sessions: sessions}
	v.batch.Set(cache.AppendSessionKey(nil, p, quarantineRecord, 0), []byte{clockLost})
	v.batch.Set(cache.AppendCopyKey(nil, p), v.sh.copyRecord(nil, pub))
	if err := s.cfg.Store.Commit(&v.batch, true); err != nil {
		return fmt.Errorf("quarantine partition %d: %w", p, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := s.newShard(p, pub, v.complex)
	sh.stage = clockLost
	s.keepLocked(p, sh)
	return nil
}

// flush commits what was gathered, once it is much.
func (v *salvage) flush() error {
	if v.batch.Len() < wipeBatch {
		return nil
	}
	err := v.sh.set.cfg.Store.Commit(&v.batch, false)
	v.batch = cache.Batch{}
	return err
}

// objects looks at every object: its records must fit each other.
func (v *salvage) objects() error {
	sh := v.sh
	return sh.foundIn(v.snap, merkle.Range{To: ^uint64(0)}, func(_ uint64, f *FoundObject) error {
		if !f.sound() {
			v.dropped[string(f.Key)] = true
			v.batch.Delete(sh.entryKey(nil, kv.Hash(f.Key), f.Key))
			for i := range f.Versions {
				v.dropExpiry(f.Key, f.Versions[i].Version)
			}
			return v.flush()
		}
		v.digest = v.digest.Add(f.digest(sh.set.cfg.DigestKey))
		v.versions += len(f.Versions)
		if f.Entry.Complex() {
			v.complex[string(f.Key)] = f.Entry.Object.Ctx
		}
		for i := range f.Versions {
			if w := &f.Versions[i]; w.Tombstone() {
				rec := sh.tombstoneKey(nil, w.Dot)
				v.tombstones[string(rec)] = struct{}{}
				v.batch.Set(rec, cache.AppendTombstone(nil, f.Key, w.HLC))
			}
		}
		return v.flush()
	})
}

func (v *salvage) dropExpiry(key []byte, w kv.Version) {
	if w.ExpiresMS != 0 && !w.Tombstone() {
		v.batch.Delete(v.sh.expiryKey(nil, kv.Hash(key), key, w))
	}
}

// records removes what belongs to no object that is kept, and puts the marks of
// complex objects right.
func (v *salvage) records() error {
	if err := v.strays(); err != nil {
		return err
	}
	sh := v.sh
	lower, upper := cache.Range('t', sh.id, 0)
	err := v.snap.Scan(lower, upper, func(rec, _ []byte) (bool, error) {
		if _, kept := v.tombstones[string(rec)]; !kept {
			v.batch.Delete(rec)
		}
		return true, v.flush()
	})
	if err != nil {
		return err
	}
	lower, upper = cache.Range('c', sh.id, 0)
	err = v.snap.Scan(lower, upper, func(rec, _ []byte) (bool, error) {
		if key, _, ok := cache.KeyOf(rec); !ok || !v.isComplex(key) {
			v.batch.Delete(rec)
		}
		return true, v.flush()
	})
	for key := range v.complex {
		v.batch.Set(cache.AppendComplexKey(nil, sh.id, kv.OrderOf(kv.Hash([]byte(key)), sh.set.cfg.Partitions), []byte(key)), nil)
	}
	return err
}

func (v *salvage) isComplex(key []byte) bool {
	_, ok := v.complex[string(key)]
	return ok
}

// strays removes versions without a place in an object that is kept. They are looked
// for where there are more than objects name.
func (v *salvage) strays() error {
	n := 0
	lower, upper := cache.Range('d', v.sh.id, 0)
	err := v.snap.Scan(lower, upper, func(_, _ []byte) (bool, error) {
		n++
		return true, nil
	})
	if err != nil || n == v.versions {
		return err
	}
	return v.snap.Scan(lower, upper, func(rec, value []byte) (bool, error) {
		key, w, err := cache.ParseVersion(value)
		if err != nil {
			v.batch.Delete(rec)
			return true, v.flush()
		}
		stray := v.dropped[string(key)]
		if !stray {
			if stray, err = v.sh.strayIn(v.snap, rec, key); err != nil {
				return false, err
			}
		}
		if stray {
			v.batch.Delete(rec)
			if actor, ok := v.sh.set.actors.Actor(cache.ActorOf(rec)); ok {
				w.Dot = kv.Dot{Actor: actor, Seq: cache.SeqOf(rec)}
				v.dropExpiry(key, w)
			}
		}
		return true, v.flush()
	})
}

// recordless returns the partitions of which the store has versions and no record of
// a copy; known are those with a record, sorted by their numbers. It looks at one key
// between each two of them.
func (s *Set) recordless(known []kv.Partition) ([]kv.Partition, error) {
	var out []kv.Partition
	from := uint64(0)
	for i := 0; i <= len(known); i++ {
		to := uint64(1) << 32
		if i < len(known) {
			to = uint64(known[i])
		}
		for from < to {
			lower, _ := cache.Range('d', kv.Partition(from), 0)
			_, upper := cache.Range('d', kv.Partition(to-1), 0)
			found := false
			err := s.cfg.Store.Scan(lower, upper, func(key, _ []byte) (bool, error) {
				p := partitionAt(key)
				out, from, found = append(out, p), uint64(p)+1, true
				return false, nil
			})
			if err != nil {
				return nil, err
			}
			if !found {
				break
			}
		}
		from = to + 1
	}
	return out, nil
}

// Quarantined reports whether the copy has lost its clock and has not been level with
// all others since: it holds versions that its clock does not claim, gives nothing to
// others, and does not vote.
func (s *Shard) Quarantined() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stage != notQuarantined
}

// InQuarantine returns the partitions whose copies are, in no order.
func (s *Set) InQuarantine() []kv.Partition {
	var out []kv.Partition
	for _, p := range s.Partitions() {
		if sh := s.Shard(p); sh != nil && sh.Quarantined() {
			out = append(out, p)
		}
	}
	return out
}

// Unclaimed returns the dots of the versions that the copy holds and that its clock
// does not claim.
func (s *Shard) Unclaimed() (kv.Clock, error) {
	held, err := s.heldDots()
	if err != nil {
		return kv.Clock{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return kv.ClockOf(held.Minus(*s.copy.Synced())...), nil
}

// heldDots returns the dots of all versions in the store.
func (s *Shard) heldDots() (kv.Clock, error) {
	var spans []kv.Span
	var at *kv.Span
	last := uint32(0)
	lower, upper := cache.Range('d', s.id, 0)
	err := s.set.cfg.Store.Scan(lower, upper, func(rec, _ []byte) (bool, error) {
		id, seq := cache.ActorOf(rec), cache.SeqOf(rec)
		if at == nil || id != last {
			actor, ok := s.set.actors.Actor(id)
			if !ok {
				return false, fmt.Errorf("version of actor %d: %w", id, cache.ErrRecord)
			}
			spans = append(spans, kv.Span{Actor: actor})
			at, last = &spans[len(spans)-1], id
		}
		if n := len(at.Runs); n > 0 && at.Runs[n-1].To+1 == seq {
			at.Runs[n-1].To = seq
		} else {
			at.Runs = append(at.Runs, kv.Run{From: seq, To: seq})
		}
		return true, nil
	})
	if err != nil {
		return kv.Clock{}, fmt.Errorf("list what partition %d holds: %w", s.id, err)
	}
	return kv.ClockOf(spans...), nil
}

// BeginHolding opens the receiving side of a session for a quarantined copy. The donor
// is to be told of tell: what the copy holds, for as long as no session has ended since
// its clock was lost (the step L3). The clock to report is empty then.
func (s *Shard) BeginHolding(id uint64, peer kv.NodeID) (in *Incoming, clock, tell kv.Clock, err error) {
	held, err := s.heldDots()
	if err != nil {
		return nil, kv.Clock{}, kv.Clock{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	in = s.beginLocked(id, peer)
	if s.stage == clockLost {
		in.in.Hold(held)
		return in, kv.Clock{}, held, nil
	}
	synced := s.copy.Synced()
	in.in.HoldApart(kv.ClockOf(held.Minus(*synced)...))
	return in, synced.Clone(), kv.Clock{}, nil
}

// levelLocked lets a session's end say that the clock is a donor's now. One that ends
// behind Adopt says nothing: it began before, and the quarantine is over.
func (s *Shard) levelLocked(o *op) {
	if s.adopted {
		return
	}
	o.batch.Set(cache.AppendSessionKey(nil, s.id, quarantineRecord, 0), []byte{clockLevel})
	done := o.done
	o.done = func() {
		s.mu.Lock()
		s.stage = max(s.stage, clockLevel)
		s.mu.Unlock()
		if done != nil {
			done()
		}
	}
}

// Adopt ends the quarantine: the clock claims what the copy holds, and others may have
// it. That is sound once the copy was level with every other owner, none of which has
// seen these dots: whoever knew what they superseded is gone. done is called when it
// is published, with how many versions there were; it may be nil.
func (s *Shard) Adopt(done func(versions uint64)) error {
	s.gate.Lock()
	defer s.gate.Unlock()
	if s.gone.Load() {
		return fmt.Errorf("adopt in partition %d: %w", s.id, ErrDropped)
	}
	unclaimed, err := s.Unclaimed()
	if err != nil {
		return err
	}
	n := unclaimed.Dots()
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.plannedLocked(s.copy.PlanAdopt(unclaimed))
	o.batch.Delete(cache.AppendSessionKey(nil, s.id, quarantineRecord, 0))
	s.adopted = true
	o.done = func() {
		s.mu.Lock()
		s.stage = notQuarantined
		s.mu.Unlock()
		if done != nil {
			done(n)
		}
	}
	s.set.committer.enqueue(o)
	return nil
}

// WentBoth reports whether the donor was told what the copy holds: the step was L3.
func (in *Incoming) WentBoth() bool {
	in.shard.mu.Lock()
	defer in.shard.mu.Unlock()
	return in.in.WentBoth()
}
