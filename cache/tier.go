package cache

import (
	"fmt"
	"math/bits"
)

// Shape of a Tier, each number with its reason.
const (
	// maxShards keeps 16 busy cores from meeting at one lock more than now and
	// then; minShardBytes keeps a shard large enough to hold the largest value
	// (1 MiB) within its quarter.
	maxShards     = 64
	minShardBytes = 4 << 20
	// minTierBytes is the smallest tier that makes sense: one shard of it holds
	// a few hundred objects.
	minTierBytes = 64 << 10
	// maxTierBytes is what the 32-bit offsets of an index, in units of 8 bytes,
	// reach in 64 shards.
	maxTierBytes = maxShards << 32
)

// Tier is a bounded memory of encoded objects in front of the store. It is made
// of byte arenas and tables of integers, without a pointer per entry, so that
// its size costs the garbage collector nothing.
//
// The oldest entries make room for new ones; one that was read since it was
// written or last spared is spared once more (the second-chance form of FIFO,
// Corbató 1968). All methods are safe for concurrent use, and take one of up to
// 64 locks for as long as a copy of the record lasts.
type Tier struct {
	shards []tierShard
	shift  uint // a mixed hash >> shift is its shard
	bytes  int64
}

// TierStats counts what a Tier did since it was made, and what it holds.
type TierStats struct {
	Hits      uint64
	Misses    uint64
	Evictions uint64 // entries that made room for others
	Refused   uint64 // records too large to be kept
	Entries   int64
	Bytes     int64 // memory taken: arenas and indexes
	LiveBytes int64 // keys and records held
	MaxBytes  int64
}

// NewTier returns an empty tier that takes at most maxBytes of memory, its own
// tables counted in. It begins small and grows with what is put in. maxBytes
// must lie between 64 KiB and 256 GiB.
func NewTier(maxBytes int64) (*Tier, error) {
	if maxBytes < minTierBytes || maxBytes > maxTierBytes {
		return nil, fmt.Errorf("make memory tier: %d bytes is outside %d to %d", maxBytes, minTierBytes, int64(maxTierBytes))
	}
	n := 1
	for n < maxShards && maxBytes/int64(2*n) >= minShardBytes {
		n *= 2
	}
	t := &Tier{
		shards: make([]tierShard, n),
		shift:  uint(64 - bits.TrailingZeros(uint(n))),
		bytes:  maxBytes,
	}
	for i := range t.shards {
		t.shards[i].init(maxBytes / int64(n))
	}
	return t, nil
}

// Get appends the record of key in partition part to dst and returns the longer
// slice, and whether it was held. hash is the hash of key by which it was put.
// It does not allocate when dst has room.
func (t *Tier) Get(dst []byte, part uint32, hash uint64, key []byte) (record []byte, ok bool) {
	mixed := mix(part, hash)
	s := t.shard(mixed)
	s.mu.Lock()
	defer s.mu.Unlock()
	held, ok := s.readLocked(mixed, part, hash, key)
	return append(dst, held...), ok
}

// Value appends the value that the record of key shows, as PeekValue reads it,
// and nothing else of the record. ok is false where the record is not held or is
// not of a plain object. It does not allocate when dst has room.
func (t *Tier) Value(dst []byte, part uint32, hash uint64, key []byte) (value []byte, shown Shown, ok bool) {
	mixed := mix(part, hash)
	s := t.shard(mixed)
	s.mu.Lock()
	defer s.mu.Unlock()
	held, ok := s.readLocked(mixed, part, hash, key)
	if !ok {
		return dst, Shown{}, false
	}
	v, shown, plain := PeekValue(held)
	return append(dst, v...), shown, plain
}

// View calls fn with the record of key, if it is held, and tells whether it was.
// The record is not copied: fn must not keep or change it, must return at once,
// and must not call the tier, since one of its locks is held.
func (t *Tier) View(part uint32, hash uint64, key []byte, fn func(record []byte)) bool {
	mixed := mix(part, hash)
	s := t.shard(mixed)
	s.mu.Lock()
	defer s.mu.Unlock()
	held, ok := s.readLocked(mixed, part, hash, key)
	if ok {
		fn(held)
	}
	return ok
}

// Holds tells whether the record of key is held. It counts as no read.
func (t *Tier) Holds(part uint32, hash uint64, key []byte) bool {
	mixed := mix(part, hash)
	s := t.shard(mixed)
	s.mu.Lock()
	defer s.mu.Unlock()
	_, at, ok := s.findLocked(mixed, part, hash)
	return ok && s.keyIs(at, key)
}

// Put holds a copy of record for key, in place of an older one and of another
// key's with the same partition and hash. It tells whether the record is held
// now; one of more than a quarter of a shard is not, and neither is the older.
func (t *Tier) Put(part uint32, hash uint64, key, record []byte) bool {
	mixed := mix(part, hash)
	s := t.shard(mixed)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.putLocked(mixed, part, hash, key, record)
}

// Delete forgets key.
func (t *Tier) Delete(part uint32, hash uint64, key []byte) {
	mixed := mix(part, hash)
	s := t.shard(mixed)
	s.mu.Lock()
	defer s.mu.Unlock()
	if slot, at, ok := s.findLocked(mixed, part, hash); ok && s.keyIs(at, key) {
		s.dropLocked(slot, at)
	}
}

// DropPartition forgets everything of a partition, one shard after the other.
// It looks at every entry of the tier.
func (t *Tier) DropPartition(part uint32) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		s.dropPartitionLocked(part)
		s.mu.Unlock()
	}
}

// Stats adds up the shards, one after the other.
func (t *Tier) Stats() TierStats {
	sum := TierStats{MaxBytes: t.bytes}
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		sum.Hits += s.stats.Hits
		sum.Misses += s.stats.Misses
		sum.Evictions += s.stats.Evictions
		sum.Refused += s.stats.Refused
		sum.Entries += int64(s.live)
		sum.LiveBytes += s.stats.LiveBytes
		sum.Bytes += int64(len(s.arena)) + slotBytes*int64(len(s.index))
		s.mu.Unlock()
	}
	return sum
}

// shard returns the shard of a mixed hash, by bits that its index does not use.
func (t *Tier) shard(mixed uint64) *tierShard {
	return &t.shards[mixed>>t.shift]
}

// mix spreads a partition and a hash over 64 bits, for hashes of which only the
// low or the high bits vary (the finalizer of MurmurHash3).
func mix(part uint32, hash uint64) uint64 {
	h := hash ^ uint64(part)*0x9e3779b97f4a7c15
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
