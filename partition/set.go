package partition

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/merkle"
	"edged.dev/edged/partition/state"
)

// Config is what a Set needs.
type Config struct {
	Store      Store
	Tier       Tier          // nil: none
	Partitions uint32        // P of the cluster, a power of two
	DigestKey  merkle.Key    // of the cluster
	Sync       bool          // durability: sync a group before it is published
	Boot       uint32        // of this process
	Node       kv.NodeID     // of the data directory
	Rand       func() uint32 // draws an actor's random bits, once for all copies opened
	Fail       func(error)   // called once when the store failed; the process must end
	// Suspect says that the last stop was unclean under relaxed durability, so
	// that what copies remember may exceed what they hold.
	Suspect bool
	// Full reports whether the disk is at its watermark; client writes are then
	// refused before they are planned, with cache.ErrDiskFull. nil: never.
	Full func() bool
	// SystemChanged is called, from the committer, when the system partition's
	// copy has published changes; it must return at once. nil: nobody watches.
	SystemChanged func()
	// Damaged is called when a read found records of a partition that do not fit
	// each other; it must return at once. nil: nobody is told.
	Damaged func(kv.Partition)
}

// Set is all copies of a node: one Shard a partition, over one store and one
// committer. Safe for concurrent use.
type Set struct {
	cfg       Config
	actors    *actors
	committer *Committer

	rand        uint32                  // of this process's actors; one for all copies keeps clock tables small
	redrawn     map[kv.Partition]uint32 // of copies that are not the first in this process
	mu          sync.RWMutex
	shards      map[kv.Partition]*Shard
	byNumber    []atomic.Pointer[Shard] // those of shards below Partitions, for every request
	quarantined []kv.Partition
	warm        warmSet
}

// syncEvery is how long clocks may lag behind data that was published ahead of a sync.
const syncEvery = 50 * time.Millisecond

// Open reads the records of all copies; its time does not depend on how many
// keys they hold. Every copy gets an actor that has never issued a dot (R3). A
// copy whose record is damaged or lost is quarantined: it keeps what verifies and is
// New, and its clock is empty.
func Open(cfg Config) (*Set, error) {
	a, err := openActors(cfg.Store)
	if err != nil {
		return nil, fmt.Errorf("open copies: %w", err)
	}
	s := &Set{
		cfg: cfg, actors: a, rand: kv.IssuingBits(cfg.Rand()),
		shards: map[kv.Partition]*Shard{}, redrawn: map[kv.Partition]uint32{}, byNumber: make([]atomic.Pointer[Shard], cfg.Partitions),
	}
	s.committer = newCommitter(cfg.Store, a, cfg.Sync, cfg.Fail)
	s.committer.systemChanged = cfg.SystemChanged
	sessions, err := s.readSessions()
	if err != nil {
		return nil, fmt.Errorf("open copies: %w", err)
	}
	complexKeys, err := s.readComplex()
	if err == nil {
		err = s.indexExpiries()
	}
	if err != nil {
		return nil, fmt.Errorf("open copies: %w", err)
	}
	var known, unfinished []kv.Partition
	lower, upper := cache.PrefixRange('m')
	err = cfg.Store.Scan(lower, upper, func(key, value []byte) (bool, error) {
		if len(key) != 5 {
			return false, fmt.Errorf("read copy record %x: %w", key, cache.ErrRecord)
		}
		p := kv.Partition(uint32(key[1])<<24 | uint32(key[2])<<16 | uint32(key[3])<<8 | uint32(key[4]))
		rec, err := cache.ParseCopy(value, a)
		known = append(known, p)
		switch {
		case string(value) == droppedCopy:
			s.quarantined = append(s.quarantined, p)
			unfinished = append(unfinished, p)
		case err != nil:
			s.quarantined = append(s.quarantined, p)
		default:
			s.restore(p, rec, sessions, complexKeys[p])
		}
		return true, nil
	})
	if err == nil {
		err = s.salvageAll(known, unfinished, sessions)
	}
	if err != nil {
		return nil, fmt.Errorf("open copies: %w", err)
	}
	return s, nil
}

// salvageAll removes what is left of copies that were being dropped, and opens those
// whose record is damaged or lost; known are all with a record.
func (s *Set) salvageAll(known, unfinished []kv.Partition, sessions sessionRecords) error {
	lost, err := s.recordless(known)
	if err != nil {
		return err
	}
	s.quarantined = append(s.quarantined, lost...)
	for _, p := range s.quarantined {
		if slices.Contains(unfinished, p) {
			err = errors.Join(err, s.wipe(p))
		} else {
			err = errors.Join(err, s.quarantine(p, sessions.of[p]))
		}
	}
	return err
}

func (s *Set) restore(p kv.Partition, rec cache.Copy, sessions sessionRecords, complexKeys map[string]kv.VV) {
	trust := rec.Trust
	if s.cfg.Suspect && trust == kv.Whole {
		trust = kv.Suspect
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := s.newShard(p, state.Published{
		Trust: trust, Clock: rec.Clock, Floor: rec.Floor, Fence: rec.Fence,
		Digest: merkle.DigestOf(rec.Count, rec.Sum), Sessions: sessions.of[p],
	}, complexKeys)
	sh.stage = sessions.stages[p]
	s.keepLocked(p, sh)
}

func (s *Set) newShard(p kv.Partition, pub state.Published, complexKeys map[string]kv.VV) *Shard {
	actor := kv.Actor{Node: s.cfg.Node, Boot: s.cfg.Boot, Rand: s.bitsLocked(p)}
	sh := &Shard{
		id: p, set: s, copy: state.New(p, actor, s.cfg.DigestKey, pub, complexKeys),
		overlay: map[string]*planned{},
	}
	sh.tombstoned.Store(true) // until a look has found none
	return sh
}

// sessionRecords is what the store has of unfinished sessions, and which copies are in
// quarantine.
type sessionRecords struct {
	of     map[kv.Partition]map[uint64]kv.VV
	stages map[kv.Partition]byte
}

func (s *Set) readSessions() (sessionRecords, error) {
	out := sessionRecords{map[kv.Partition]map[uint64]kv.VV{}, map[kv.Partition]byte{}}
	lower, upper := cache.PrefixRange('s')
	err := s.cfg.Store.Scan(lower, upper, func(key, value []byte) (bool, error) {
		if len(key) == 14 && key[5] == quarantineRecord {
			out.stages[partitionAt(key)] = stageOf(value)
		}
		if len(key) != 14 || key[5] != sessionRecord {
			return true, nil
		}
		v, err := cache.ParseVV(value, s.actors)
		if err != nil {
			return false, err
		}
		p := partitionAt(key)
		if out.of[p] == nil {
			out.of[p] = map[uint64]kv.VV{}
		}
		out.of[p][cache.SeqOf(key)] = v
		return true, nil
	})
	return out, err
}

func partitionAt(key []byte) kv.Partition {
	return kv.Partition(uint32(key[1])<<24 | uint32(key[2])<<16 | uint32(key[3])<<8 | uint32(key[4]))
}

// readComplex reads the marks of complex objects and, for each, its context.
func (s *Set) readComplex() (map[kv.Partition]map[string]kv.VV, error) {
	type mark struct {
		p     kv.Partition
		key   string
		entry []byte
	}
	var marks []mark
	lower, upper := cache.PrefixRange('c')
	err := s.cfg.Store.Scan(lower, upper, func(rec, _ []byte) (bool, error) {
		key, order, ok := cache.KeyOf(rec)
		if !ok {
			return false, fmt.Errorf("read complex mark %x: %w", rec, cache.ErrRecord)
		}
		p := partitionAt(rec)
		marks = append(marks, mark{p, string(key), cache.AppendEntryKey(nil, p, order, key)})
		return true, nil
	})
	if err != nil || len(marks) == 0 {
		return nil, err
	}
	entries := make([][]byte, len(marks)) // they ascend as the marks do
	for i, m := range marks {
		entries[i] = m.entry
	}
	out := map[kv.Partition]map[string]kv.VV{}
	take := func(i int, rec []byte) error {
		e, _, err := cache.ParseEntry(rec, s.actors)
		if err != nil { // a damaged one is healed, and goes with others whole until then
			e = cache.Entry{}
		}
		m := marks[i]
		if out[m.p] == nil {
			out[m.p] = map[string]kv.VV{}
		}
		out[m.p][m.key] = e.Object.Ctx
		return nil
	}
	err = s.cfg.Store.GetMany(entries, take)
	if errors.Is(err, cache.ErrCorrupt) {
		err = s.readEach(entries, take)
	}
	return out, err
}

// readEach is GetMany where a table is damaged: what lies above the damage is found one
// by one.
func (s *Set) readEach(keys [][]byte, fn func(i int, rec []byte) error) error {
	for i, key := range keys {
		rec, found, err := s.cfg.Store.Get(nil, key)
		if err == nil && found {
			err = fn(i, rec)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// wipe removes all records of a partition's copy. What peers were known to hold
// is not the copy's, and stays.
func (s *Set) wipe(p kv.Partition) error {
	if err := s.wipeExpiries(p); err != nil {
		return err
	}
	for _, kind := range []byte{'e', 'd', 'c', 't', 's', 'm'} {
		lower, upper := cache.Range(kind, p, 0)
		for more := true; more; {
			var b cache.Batch
			more = false
			err := s.cfg.Store.Scan(lower, upper, func(key, _ []byte) (bool, error) {
				if kind != 's' || key[5] != knownRecord {
					b.Delete(key)
				}
				if object, _, ok := cache.KeyOf(key); ok && kind == 'e' && s.cfg.Tier != nil {
					s.cfg.Tier.Delete(uint32(p), kv.Hash(object), object)
				}
				more = b.Len() >= 4096
				return !more, nil
			})
			if err == nil && b.Len() > 0 {
				err = s.cfg.Store.Commit(&b, !more)
			}
			if err != nil {
				return fmt.Errorf("wipe partition %d: %w", p, err)
			}
		}
	}
	return nil
}

// Quarantined returns the partitions whose copies' records were found damaged or lost
// at open.
func (s *Set) Quarantined() []kv.Partition { return s.quarantined }

// Shard returns the copy of a partition, or nil if this node has none.
func (s *Set) Shard(p kv.Partition) *Shard {
	if int64(p) < int64(len(s.byNumber)) {
		return s.byNumber[p].Load()
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.shards[p]
}

// keepLocked adds a copy that is not there yet.
func (s *Set) keepLocked(p kv.Partition, sh *Shard) {
	s.shards[p] = sh
	if int64(p) < int64(len(s.byNumber)) {
		s.byNumber[p].Store(sh)
	}
}

// Add returns the copy of a partition, making an empty New one if there is none.
func (s *Set) Add(p kv.Partition) *Shard {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := s.shards[p]
	if sh == nil {
		sh = s.newShard(p, state.Published{}, nil)
		s.keepLocked(p, sh)
	}
	return sh
}

// Partitions returns which partitions this node has copies of, in no order.
func (s *Set) Partitions() []kv.Partition {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]kv.Partition, 0, len(s.shards))
	for p := range s.shards {
		out = append(out, p)
	}
	return out
}

// Committer returns the committer, whose Run the owner must call; the simulator
// steps it instead.
func (s *Set) Committer() *Committer { return s.committer }

// Run commits until ctx ends and everything planned is committed. It also syncs what
// was published ahead of that, every 50 ms while there is something to sync.
func (s *Set) Run(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- s.committer.Run(ctx) }()
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return errors.Join(err, s.committer.SyncApplied())
		case <-tick.C:
			if err := s.committer.SyncApplied(); err != nil {
				s.cfg.Fail(err)
				return errors.Join(err, <-done)
			}
		}
	}
}

// Snapshot returns a view of the store for sessions to share; the caller closes it.
func (s *Set) Snapshot() (cache.Snapshot, error) { return s.cfg.Store.Snapshot() }
