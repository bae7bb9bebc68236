package merkle

import (
	"encoding/binary"
	"slices"

	"github.com/dchest/siphash"
)

// ShortBytes is the length of what stands for an item in a differing leaf: among
// the few items of a leaf two that differ look alike once in 2^46 times.
const ShortBytes = 6

// Short returns the digest in 48 bits, under a session's salt.
func (d Digest) Short(salt uint64) uint64 {
	var b [24]byte
	binary.LittleEndian.PutUint64(b[:], d.Count)
	binary.LittleEndian.PutUint64(b[8:], d.Sum[0])
	binary.LittleEndian.PutUint64(b[16:], d.Sum[1])
	return siphash.Hash(salt, ^salt, b[:]) >> (64 - 8*ShortBytes)
}

// Clone returns a copy that changes of the tree do not reach.
func (t *Tree) Clone() *Tree { return &Tree{bits: t.bits, nodes: slices.Clone(t.nodes)} }

// Bytes is the memory that the nodes take.
func (t *Tree) Bytes() int64 { return int64(len(t.nodes)) * 24 }
