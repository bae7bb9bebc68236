package cache

import (
	"bytes"
	"encoding/binary"
	"math"
	"sync"
)

// An entry lies in the arena in one piece, aligned to 8 bytes:
//
//	0  u32 size of the whole entry (a multiple of 8) | flags in the low 3 bits
//	4  u32 partition
//	8  u64 hash
//	16 u32 record length
//	20 u16 key length, and 2 bytes unused
//	24 key, record, padding
//
// An entry without flagLive is dead, or padding at the end of the arena of which
// only the first word is there.
const (
	entryHeader  = 24
	entryAlign   = 8
	flagLive     = 1
	flagRead     = 2 // read since it was written or spared
	sizeMask     = ^uint32(entryAlign - 1)
	slotBytes    = 8
	firstSlots   = 64
	firstArena   = 16 << 10
	arenaParts   = 8 // of a shard's bytes one part is for the index, the rest for the arena
	largestParts = 4 // a record may take this part of a shard
	// slack is how much larger than needed an entry may be that is overwritten
	// in place; beyond, the waste would pass the 100 bytes allowed a key.
	slack = 32
	// spareAtMost bounds the entries that one Put moves, and so its time under
	// the lock; when all it meets were read, the oldest go anyhow.
	spareAtMost = 16
)

// tierShard is a ring of entries and an index over it.
//
// The ring holds `used` bytes from head to tail, around the arena's end. Until
// the arena has its full size nothing is evicted and head stays 0.
//
// The index is a table with linear probing; a slot is 0, or the low 32 bits of
// the mixed hash above the entry's place in units of 8 bytes, plus 1. The slot's
// home is given by those bits, so moving slots reads no entry.
type tierShard struct {
	mu       sync.Mutex
	arena    []byte
	index    []uint64
	live     int // entries in the index
	head     int
	tail     int
	used     int
	maxArena int
	maxIndex int
	stats    TierStats
	_        [64]byte // so that the locks of two shards share no cache line
}

// init sets the bounds of a shard of so many bytes.
func (s *tierShard) init(maxBytes int64) {
	share := int(maxBytes / arenaParts)
	s.maxIndex = firstSlots
	for s.maxIndex*2*slotBytes <= share {
		s.maxIndex *= 2
	}
	s.maxArena = (int(maxBytes) - share) &^ (entryAlign - 1)
	s.index = make([]uint64, firstSlots)
}

// readLocked finds a record, counts, and marks the entry as read.
func (s *tierShard) readLocked(mixed uint64, part uint32, hash uint64, key []byte) ([]byte, bool) {
	_, at, ok := s.findLocked(mixed, part, hash)
	if !ok || !s.keyIs(at, key) {
		s.stats.Misses++
		return nil, false
	}
	s.stats.Hits++
	s.arena[at] |= flagRead
	from := at + entryHeader + len(key)
	return s.arena[from : from+s.recordLen(at)], true
}

// putLocked stores a record.
func (s *tierShard) putLocked(mixed uint64, part uint32, hash uint64, key, record []byte) bool {
	size := (entryHeader + len(key) + len(record) + entryAlign - 1) &^ (entryAlign - 1)
	slot, at, found := s.findLocked(mixed, part, hash)
	if found {
		if room := s.size(at) - size; room >= 0 && room <= slack && s.keyIs(at, key) {
			s.stats.LiveBytes += int64(len(record) - s.recordLen(at))
			s.fill(at, part, hash, key, record)
			s.arena[at] |= flagRead
			return true
		}
		s.dropLocked(slot, at)
	}
	if size > s.maxArena/largestParts || len(key) > math.MaxUint16 {
		s.stats.Refused++
		return false
	}
	at = s.reserveLocked(size)
	binary.LittleEndian.PutUint32(s.arena[at:], uint32(size)|flagLive)
	s.fill(at, part, hash, key, record)
	s.insertLocked(mixed, at)
	s.stats.LiveBytes += int64(len(key) + len(record))
	return true
}

// fill writes all of an entry but its first word.
func (s *tierShard) fill(at int, part uint32, hash uint64, key, record []byte) {
	e := s.arena[at:]
	binary.LittleEndian.PutUint32(e[4:], part)
	binary.LittleEndian.PutUint64(e[8:], hash)
	binary.LittleEndian.PutUint32(e[16:], uint32(len(record)))
	binary.LittleEndian.PutUint16(e[20:], uint16(len(key)))
	copy(e[entryHeader:], key)
	copy(e[entryHeader+len(key):], record)
}

// reserveLocked makes size bytes in one piece at the tail and takes them.
func (s *tierShard) reserveLocked(size int) int {
	spare := spareAtMost
	for s.live+1 > s.maxIndex/4*3 {
		s.evictLocked(&spare)
	}
	for {
		if s.used == 0 {
			s.head, s.tail = 0, 0
		}
		end := len(s.arena)
		if s.tail < s.head || s.used > 0 && s.tail == s.head {
			end = s.head
		}
		switch {
		case s.tail+size <= end:
			return s.takeLocked(size)
		case len(s.arena) < s.maxArena:
			s.growArenaLocked(s.tail + size)
		case end == len(s.arena) && s.head >= size && s.head <= s.tail:
			s.wrapLocked()
		default:
			s.evictLocked(&spare)
		}
	}
}

// takeLocked moves the tail over size bytes and returns where they begin. At the
// end of the arena the tail goes on at 0.
func (s *tierShard) takeLocked(size int) int {
	at := s.tail
	s.used += size
	s.tail += size
	if s.tail == len(s.arena) && len(s.arena) == s.maxArena {
		s.tail = 0
	}
	return at
}

// wrapLocked pads the arena from the tail to its end.
func (s *tierShard) wrapLocked() {
	pad := len(s.arena) - s.tail
	if pad > 0 {
		binary.LittleEndian.PutUint32(s.arena[s.tail:], uint32(pad))
	}
	s.used += pad
	s.tail = 0
}

// evictLocked frees the oldest piece of the ring. A live entry that was read
// goes to the tail instead, if it fits there and there is a spare left.
func (s *tierShard) evictLocked(spare *int) {
	at, size := s.head, s.size(s.head)
	s.head += size
	s.used -= size
	if s.head == len(s.arena) {
		s.head = 0
	}
	if s.arena[at]&flagLive == 0 {
		return
	}
	part, hash := s.part(at), s.hash(at)
	slot, _, _ := s.findLocked(mix(part, hash), part, hash)
	if s.arena[at]&flagRead != 0 && *spare > 0 && s.spareLocked(slot, at, size) {
		*spare--
		return
	}
	s.stats.Evictions++
	s.forgetLocked(slot, at)
}

// spareLocked moves the entry just freed at the head to the tail. The two places
// may overlap: when the ring was full, the entry's own place is all the room.
func (s *tierShard) spareLocked(slot, at, size int) bool {
	if s.used == 0 {
		return false // alone in its shard: it would be its own successor
	}
	if s.tail > at && s.tail+size > len(s.arena) {
		if len(s.arena) < s.maxArena {
			s.growArenaLocked(s.tail + size)
		}
		if s.tail+size > len(s.arena) {
			s.wrapLocked() // the front is free up to the end of this entry
		}
	}
	to := s.takeLocked(size)
	copy(s.arena[to:to+size], s.arena[at:at+size])
	s.arena[to] &^= flagRead
	s.index[slot] = s.index[slot]&^math.MaxUint32 | uint64(to/entryAlign+1)
	return true
}

// dropLocked forgets an entry; its bytes stay in the ring until it comes round.
func (s *tierShard) dropLocked(slot, at int) {
	s.arena[at] &^= flagLive | flagRead
	s.forgetLocked(slot, at)
}

// forgetLocked takes an entry out of the index and of the counts.
func (s *tierShard) forgetLocked(slot, at int) {
	s.stats.LiveBytes -= int64(s.keyLen(at) + s.recordLen(at))
	s.removeLocked(slot)
}

// dropPartitionLocked walks the ring.
func (s *tierShard) dropPartitionLocked(part uint32) {
	at := s.head
	for left := s.used; left > 0; {
		size := s.size(at)
		if s.arena[at]&flagLive != 0 && s.part(at) == part {
			hash := s.hash(at)
			slot, _, _ := s.findLocked(mix(part, hash), part, hash)
			s.dropLocked(slot, at)
		}
		left -= size
		if at += size; at == len(s.arena) {
			at = 0
		}
	}
}

// growArenaLocked doubles the arena, at least to need, at most to its full size.
func (s *tierShard) growArenaLocked(need int) {
	size := min(max(2*len(s.arena), need, firstArena), s.maxArena)
	arena := make([]byte, size)
	copy(arena, s.arena[:s.tail])
	s.arena = arena
}

// findLocked returns the slot and the place of an entry with this partition and
// hash. There is never more than one.
func (s *tierShard) findLocked(mixed uint64, part uint32, hash uint64) (slot, at int, ok bool) {
	mask := len(s.index) - 1
	for slot = int(uint32(mixed)) & mask; s.index[slot] != 0; slot = (slot + 1) & mask {
		v := s.index[slot]
		if uint32(v>>32) != uint32(mixed) {
			continue
		}
		at = int(uint32(v)-1) * entryAlign
		if s.hash(at) == hash && s.part(at) == part {
			return slot, at, true
		}
	}
	return 0, 0, false
}

// insertLocked adds an entry that is not in the index.
func (s *tierShard) insertLocked(mixed uint64, at int) {
	if s.live+1 > len(s.index)/4*3 {
		s.growIndexLocked()
	}
	s.placeLocked(uint64(uint32(mixed))<<32 | uint64(at/entryAlign+1))
	s.live++
}

// placeLocked puts a slot's value into the first free slot from its home.
func (s *tierShard) placeLocked(v uint64) {
	mask := len(s.index) - 1
	slot := int(v>>32) & mask
	for s.index[slot] != 0 {
		slot = (slot + 1) & mask
	}
	s.index[slot] = v
}

// growIndexLocked doubles the index. reserveLocked sees to it that live never
// asks for more than maxIndex slots.
func (s *tierShard) growIndexLocked() {
	old := s.index
	s.index = make([]uint64, 2*len(old))
	for _, v := range old {
		if v != 0 {
			s.placeLocked(v)
		}
	}
}

// removeLocked frees a slot and moves back those that had to step over it, so
// that no mark of a removed entry is needed (Knuth, volume 3, algorithm 6.4R).
func (s *tierShard) removeLocked(slot int) {
	mask := len(s.index) - 1
	hole := slot
	for next := (hole + 1) & mask; s.index[next] != 0; next = (next + 1) & mask {
		home := int(s.index[next]>>32) & mask
		if (next-home)&mask >= (next-hole)&mask {
			s.index[hole] = s.index[next]
			hole = next
		}
	}
	s.index[hole] = 0
	s.live--
}

// keyIs tells whether the entry at this place has the key.
func (s *tierShard) keyIs(at int, key []byte) bool {
	from := at + entryHeader
	return s.keyLen(at) == len(key) && bytes.Equal(s.arena[from:from+len(key)], key)
}

// size returns the bytes of the entry or padding at this place.
func (s *tierShard) size(at int) int {
	return int(binary.LittleEndian.Uint32(s.arena[at:]) & sizeMask)
}

// part, hash, recordLen and keyLen read the header of the entry at this place.
func (s *tierShard) part(at int) uint32 {
	return binary.LittleEndian.Uint32(s.arena[at+4:])
}

func (s *tierShard) hash(at int) uint64 {
	return binary.LittleEndian.Uint64(s.arena[at+8:])
}

func (s *tierShard) recordLen(at int) int {
	return int(binary.LittleEndian.Uint32(s.arena[at+16:]))
}

func (s *tierShard) keyLen(at int) int {
	return int(binary.LittleEndian.Uint16(s.arena[at+20:]))
}
