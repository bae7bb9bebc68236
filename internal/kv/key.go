package kv

import (
	"math/bits"

	"github.com/zeebo/xxh3"
)

// Partition numbers a partition of the key space, or System.
type Partition uint32

// System is the partition that every member owns: layout, settings, bindings
// and policy modules live in it as ordinary entries.
const System Partition = 1<<32 - 1

// Hash is the xxh3-64 of a key. Its top bits choose the partition, the next 48
// order the keys inside it.
func Hash(key []byte) uint64 { return xxh3.Hash(key) }

// PartitionOf returns the partition of a hash among count partitions, a power of two.
func PartitionOf(hash uint64, count uint32) Partition {
	return Partition(hash >> (64 - bits.TrailingZeros32(count)) & uint64(count-1))
}

// OrderOf returns the 48 bits that order a key inside its partition.
func OrderOf(hash uint64, count uint32) uint64 {
	return hash << bits.TrailingZeros32(count) >> 16
}
