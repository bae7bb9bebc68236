package merkle

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"

	"github.com/dchest/siphash"
)

// Digest is the content of a set of items: how many, and the sum of their
// digests, lane by lane mod 2^64. The zero value is the empty set.
type Digest struct {
	Count uint64
	Sum   [2]uint64
}

// Add returns the digest of the union of two disjoint sets.
func (d Digest) Add(e Digest) Digest {
	return Digest{d.Count + e.Count, [2]uint64{d.Sum[0] + e.Sum[0], d.Sum[1] + e.Sum[1]}}
}

// Sub returns the digest of d's set without e's, which it must contain.
func (d Digest) Sub(e Digest) Digest {
	return Digest{d.Count - e.Count, [2]uint64{d.Sum[0] - e.Sum[0], d.Sum[1] - e.Sum[1]}}
}

// Equal reports whether both are digests of the same set.
func (d Digest) Equal(e Digest) bool { return d == e }

// IsZero reports whether d is the digest of nothing.
func (d Digest) IsZero() bool { return d == Digest{} }

// Bytes returns the sum as 16 bytes, the form that travels and is stored.
func (d Digest) Bytes() (sum [16]byte) {
	binary.LittleEndian.PutUint64(sum[:], d.Sum[0])
	binary.LittleEndian.PutUint64(sum[8:], d.Sum[1])
	return sum
}

// DigestOf rebuilds a digest from its count and the bytes of its sum.
func DigestOf(count uint64, sum [16]byte) Digest {
	return Digest{count, [2]uint64{binary.LittleEndian.Uint64(sum[:]), binary.LittleEndian.Uint64(sum[8:])}}
}

// Key is the secret of a cluster's digests. Without it a client could choose
// items whose digests cancel out: 126 keys suffice against an unkeyed sum.
type Key struct{ k0, k1 uint64 }

// KeyOf derives the digest key from the cluster key, so that what leaks of the
// one says nothing of the other uses of the cluster key.
func KeyOf(cluster []byte) Key {
	mac := hmac.New(sha256.New, cluster)
	mac.Write([]byte("edged item digest 1"))
	sum := mac.Sum(nil)
	return Key{binary.LittleEndian.Uint64(sum), binary.LittleEndian.Uint64(sum[8:])}
}

// Item is what a digest says of one version of one key.
type Item struct {
	Key       []byte   // only read during the call
	Actor     [16]byte // of the version's dot, in full
	Seq       uint64   // of the version's dot
	Expiry    uint64   // as stored; 0 = never
	ValueHash uint64   // xxh3-64 of the value, computed here and never taken from a peer
}

// Digest returns the digest of the set of this one item: the SipHash-2-4-128
// (Aumasson, Bernstein, 2012) of its fields. All fields behind the key have a
// fixed length, so two items never share an encoding.
func (i Item) Digest(k Key) Digest {
	var scratch [192]byte // longer keys, up to the 1 KiB limit, cost an allocation
	b := append(scratch[:0], i.Key...)
	b = append(b, i.Actor[:]...)
	b = binary.LittleEndian.AppendUint64(b, i.Seq)
	b = binary.LittleEndian.AppendUint64(b, i.Expiry)
	b = binary.LittleEndian.AppendUint64(b, i.ValueHash)
	lo, hi := siphash.Hash128(k.k0, k.k1, b)
	return Digest{1, [2]uint64{lo, hi}}
}
