package cache

import (
	"encoding/binary"

	"edged.dev/edged/internal/kv"
)

// The records of the store, by their first byte. Numbers in keys are big endian,
// so that keys sort as they do.
//
//	e partition hash48 key   -> directory of an object (AppendEntry)
//	d partition actor seq    -> one version with its key (AppendVersion)
//	t partition actor seq    -> a tombstone's time and key (AppendTombstone)
//	m partition              -> the copy: actor, trust, clock, floor, digest
//	c partition hash48 key   -> nothing; the object is complex (see partition)
//	s partition kind id      -> what a copy keeps of sessions and peers
//	a id                     -> Actor of that id
//	n                        -> the node
//	x expiry partition hash48 key actor seq -> nothing; a value with an expiry
//	x                        -> nothing; the index x is whole (see partition)
//
// Versions of one actor lie in the order they were issued in, so a catch-up is
// one range scan that needs no other read.
const (
	recordEntry   = 'e'
	recordVersion = 'd'
	recordTomb    = 't'
	recordCopy    = 'm'
	recordComplex = 'c'
	recordSession = 's'
	recordActor   = 'a'
	recordNode    = 'n'
	recordExpiry  = 'x'
)

func partitionKey(dst []byte, record byte, p kv.Partition) []byte {
	return binary.BigEndian.AppendUint32(append(dst, record), uint32(p))
}

// AppendEntryKey appends the key of an object's directory.
func AppendEntryKey(dst []byte, p kv.Partition, order uint64, key []byte) []byte {
	return append(appendOrder(partitionKey(dst, recordEntry, p), order), key...)
}

// AppendComplexKey appends the key of an object's mark as complex.
func AppendComplexKey(dst []byte, p kv.Partition, order uint64, key []byte) []byte {
	return append(appendOrder(partitionKey(dst, recordComplex, p), order), key...)
}

func appendOrder(dst []byte, order uint64) []byte {
	return append(dst, byte(order>>40), byte(order>>32), byte(order>>24), byte(order>>16), byte(order>>8), byte(order))
}

const keyedHead = 1 + 4 + 6

// KeyOf returns the object's key and its 48-bit order from the key of an entry
// or complex record. key lies in record.
func KeyOf(record []byte) (key []byte, order uint64, ok bool) {
	if len(record) < keyedHead {
		return nil, 0, false
	}
	for _, b := range record[5:keyedHead] {
		order = order<<8 | uint64(b)
	}
	return record[keyedHead:], order, true
}

// AppendVersionKey appends the key of one version in the dot index.
func AppendVersionKey(dst []byte, p kv.Partition, actor uint32, seq uint64) []byte {
	dst = binary.BigEndian.AppendUint32(partitionKey(dst, recordVersion, p), actor)
	return binary.BigEndian.AppendUint64(dst, seq)
}

// AppendTombstoneKey appends the key of a tombstone's record: what may be
// collected is found without a look at anything else.
func AppendTombstoneKey(dst []byte, p kv.Partition, actor uint32, seq uint64) []byte {
	dst = binary.BigEndian.AppendUint32(partitionKey(dst, recordTomb, p), actor)
	return binary.BigEndian.AppendUint64(dst, seq)
}

// ActorOf returns the actor id from the key of a version or tombstone record.
func ActorOf(record []byte) uint32 {
	if len(record) < 12 {
		return 0
	}
	return binary.BigEndian.Uint32(record[len(record)-12:])
}

// SeqOf returns the sequence from the key of a version.
func SeqOf(record []byte) uint64 {
	if len(record) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64(record[len(record)-8:])
}

// AppendCopyKey appends the key of a copy record.
func AppendCopyKey(dst []byte, p kv.Partition) []byte { return partitionKey(dst, recordCopy, p) }

// AppendSessionKey appends the key of a session record of a kind.
func AppendSessionKey(dst []byte, p kv.Partition, kind byte, id uint64) []byte {
	return binary.BigEndian.AppendUint64(AppendSessionPrefix(dst, p, kind), id)
}

// AppendSessionPrefix appends what the keys of all session records of a kind in
// a partition begin with.
func AppendSessionPrefix(dst []byte, p kv.Partition, kind byte) []byte {
	return append(partitionKey(dst, recordSession, p), kind)
}

// AppendActorKey appends the key of an actor's record.
func AppendActorKey(dst []byte, id uint32) []byte {
	return binary.BigEndian.AppendUint32(append(dst, recordActor), id)
}

// NodeKey returns the key of the node's record.
func NodeKey() []byte { return []byte{recordNode} }

// Range returns the bounds of all records of one kind in a partition: entries
// from an order on, with kind 'e', say.
func Range(record byte, p kv.Partition, from uint64) (lower, upper []byte) {
	lower = partitionKey(nil, record, p)
	if from > 0 {
		lower = appendOrder(lower, from)
	}
	return lower, after(partitionKey(nil, record, p))
}

// PrefixRange returns the bounds of all keys that begin with prefix.
func PrefixRange(prefix ...byte) (lower, upper []byte) { return prefix, after(prefix) }

// after returns the least key behind all that begin with prefix.
func after(prefix []byte) []byte {
	out := append([]byte(nil), prefix...)
	for i := len(out) - 1; i >= 0; i-- {
		if out[i]++; out[i] != 0 {
			return out[:i+1]
		}
	}
	return nil
}

// ActorIDs turns actors into the short ids that records hold, and back.
type ActorIDs interface {
	// ID returns the id of an actor, giving it one if it has none yet.
	ID(kv.Actor) uint32
	// Actor returns the actor of an id.
	Actor(id uint32) (kv.Actor, bool)
}
