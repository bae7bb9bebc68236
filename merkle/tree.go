package merkle

import (
	"fmt"
	"math/bits"
)

// MaxBits bounds the depth of a tree: a leaf for every four of a million items,
// in 12 MiB.
const MaxBits = 18

// itemsPerLeaf is how many items BitsFor aims at: few enough that to list them
// costs no more than one step of a descent, which sends fan digests.
const itemsPerLeaf = 4

// Tree is a binary tree of 2^Bits leaves over 64-bit hashes, whose top bits
// choose the leaf. Items are hashed by their owner, who shifts away the bits that
// all of them share. Every node is the digest of the items below it; as that is
// a sum, a node does not depend on the depth of its tree. A Tree does no locking.
type Tree struct {
	bits  int
	nodes []Digest // node i has children 2i and 2i+1; 1 is the root, 0 is unused
}

// BitsFor returns the depth for a number of items.
func BitsFor(items int) int {
	if items <= itemsPerLeaf {
		return 0
	}
	return min(bits.Len(uint((items-1)/itemsPerLeaf)), MaxBits)
}

// NewTree returns an empty tree of 2^bits leaves.
func NewTree(bits int) (*Tree, error) {
	if bits < 0 || bits > MaxBits {
		return nil, fmt.Errorf("make tree: %d bits, want 0 to %d", bits, MaxBits)
	}
	return &Tree{bits: bits, nodes: make([]Digest, 2<<bits)}, nil
}

// Bits is the depth.
func (t *Tree) Bits() int { return t.bits }

// Root is the digest of all items.
func (t *Tree) Root() Digest { return t.nodes[1] }

// Add puts items of one hash in.
func (t *Tree) Add(hash uint64, d Digest) {
	for i := t.leaf(hash); i > 0; i /= 2 {
		t.nodes[i] = t.nodes[i].Add(d)
	}
}

// Sub takes items of one hash out, which must be in.
func (t *Tree) Sub(hash uint64, d Digest) {
	for i := t.leaf(hash); i > 0; i /= 2 {
		t.nodes[i] = t.nodes[i].Sub(d)
	}
}

func (t *Tree) leaf(hash uint64) int { return 1<<t.bits + int(hash>>(64-t.bits)) }

// Node returns the digest of node i of a level; level 0 is the root, level Bits
// the leaves. It panics where there is no such node.
func (t *Tree) Node(level, i int) Digest {
	if level < 0 || level > t.bits || i < 0 || i >= 1<<level {
		panic(fmt.Sprintf("bug: node %d of level %d in a tree of %d bits", i, level, t.bits))
	}
	return t.nodes[1<<level+i]
}

// Range is a closed interval of hashes.
type Range struct{ From, To uint64 }

// Has reports whether the hash lies in the range.
func (r Range) Has(hash uint64) bool { return r.From <= hash && hash <= r.To }

// rangeOf is what node i of a level spans.
func rangeOf(level, i int) Range {
	from := uint64(i) << (64 - level)
	return Range{from, from | ^uint64(0)>>level}
}

// appendRange appends r, joined to the last range if it follows it.
func appendRange(rs []Range, r Range) []Range {
	if n := len(rs); n > 0 && rs[n-1].To == r.From-1 {
		rs[n-1].To = r.To
		return rs
	}
	return append(rs, r)
}

// Diff returns where two trees differ, in ascending ranges of at least one leaf
// of the shallower tree. It looks only at nodes below nodes that differ.
func Diff(a, b *Tree) []Range {
	depth := min(a.bits, b.bits)
	var out []Range
	var walk func(level, i int)
	walk = func(level, i int) {
		switch {
		case a.Node(level, i) == b.Node(level, i):
		case level == depth:
			out = appendRange(out, rangeOf(level, i))
		default:
			walk(level+1, 2*i)
			walk(level+1, 2*i+1)
		}
	}
	walk(0, 0)
	return out
}
