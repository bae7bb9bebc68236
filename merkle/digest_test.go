package merkle_test

import (
	"encoding/binary"
	"testing"

	"github.com/dchest/siphash"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"edged.dev/edged/merkle"
)

func testKey() merkle.Key { return merkle.KeyOf([]byte("0123456789abcdef0123456789abcdef")) }

func drawItem(t *rapid.T) merkle.Item {
	it := merkle.Item{
		Key:       rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "key"),
		Seq:       rapid.Uint64().Draw(t, "seq"),
		Expiry:    rapid.Uint64().Draw(t, "expiry"),
		ValueHash: rapid.Uint64().Draw(t, "valueHash"),
	}
	copy(it.Actor[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "actor"))
	return it
}

func TestItemDigestIsSipHashOfItsFields(t *testing.T) {
	it := merkle.Item{Key: []byte("user:17"), Seq: 9, Expiry: 1700, ValueHash: 0xfeed}
	for i := range it.Actor {
		it.Actor[i] = byte(i)
	}
	b := append([]byte("user:17"), it.Actor[:]...)
	for _, v := range []uint64{9, 1700, 0xfeed} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	// The derived key and the digest are part of what two nodes must agree on.
	got := it.Digest(testKey())
	require.Equal(t, uint64(1), got.Count)
	require.Equal(t, goldenItem, got.Bytes())
	k0, k1 := siphashKey(t)
	lo, hi := siphash.Hash128(k0, k1, b)
	require.Equal(t, [2]uint64{lo, hi}, got.Sum)
}

func TestEveryFieldCountsInAnItemDigest(t *testing.T) {
	base := merkle.Item{Key: []byte("k"), Seq: 1, Expiry: 2, ValueHash: 3}
	seen := map[merkle.Digest]string{base.Digest(testKey()): "base"}
	change := map[string]func(*merkle.Item){
		"key":       func(i *merkle.Item) { i.Key = []byte("l") },
		"longer":    func(i *merkle.Item) { i.Key = []byte("k\x00") },
		"actor":     func(i *merkle.Item) { i.Actor[15] = 1 },
		"seq":       func(i *merkle.Item) { i.Seq = 2 },
		"expiry":    func(i *merkle.Item) { i.Expiry = 3 },
		"valueHash": func(i *merkle.Item) { i.ValueHash = 4 },
	}
	for name, f := range change {
		it := base
		f(&it)
		d := it.Digest(testKey())
		require.NotContains(t, seen, d, name)
		seen[d] = name
	}
	require.NotContains(t, seen, base.Digest(merkle.KeyOf([]byte("another cluster"))))
}

func TestDigestIsASumThatAnyOrderReaches(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		items := rapid.SliceOfN(rapid.Custom(drawItem), 1, 20).Draw(t, "items")
		order := rapid.Permutation(items).Draw(t, "order")
		var a, b merkle.Digest
		for i := range items {
			a = a.Add(items[i].Digest(testKey()))
			b = b.Add(order[i].Digest(testKey()))
		}
		require.True(t, a.Equal(b))
		require.Equal(t, uint64(len(items)), a.Count)
		require.Equal(t, a, merkle.DigestOf(a.Count, a.Bytes()))
		for _, it := range order {
			a = a.Sub(it.Digest(testKey()))
		}
		require.True(t, a.IsZero())
	})
}

// Under XOR an item toggled twice is an item never seen.
func TestAnItemCountedTwiceShows(t *testing.T) {
	d := merkle.Item{Key: []byte("k"), Seq: 1}.Digest(testKey())
	require.NotEqual(t, merkle.Digest{}, d.Add(d))
	require.NotEqual(t, d, d.Add(d))
}

func TestItemDigestOfACommonKeyAllocatesNothing(t *testing.T) {
	it := merkle.Item{Key: []byte("user:000017:profile"), Seq: 9, ValueHash: 7}
	k := testKey()
	var sum merkle.Digest
	require.Zero(t, testing.AllocsPerRun(100, func() { sum = sum.Add(it.Digest(k)) }))
}

func BenchmarkItemDigest(b *testing.B) {
	it := merkle.Item{Key: []byte("user:000017"), Seq: 9, ValueHash: 7}
	k := testKey()
	var sum merkle.Digest
	for b.Loop() {
		sum = sum.Add(it.Digest(k))
	}
}
