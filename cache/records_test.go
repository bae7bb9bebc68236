package cache_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
)

// ids gives actors ids in the order in which they come.
type ids struct{ list []kv.Actor }

func (i *ids) ID(a kv.Actor) uint32 {
	if at := slices.Index(i.list, a); at >= 0 {
		return uint32(at)
	}
	i.list = append(i.list, a)
	return uint32(len(i.list) - 1)
}

func (i *ids) Actor(id uint32) (kv.Actor, bool) {
	if int(id) >= len(i.list) {
		return kv.Actor{}, false
	}
	return i.list[id], true
}

func TestRecordKeysSortAsTheirNumbers(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p, q := kv.Partition(rapid.Uint32().Draw(t, "p")), kv.Partition(rapid.Uint32().Draw(t, "q"))
		a, b := rapid.Uint32().Draw(t, "a"), rapid.Uint32().Draw(t, "b")
		m, n := rapid.Uint64().Draw(t, "m"), rapid.Uint64().Draw(t, "n")
		want := compare(uint64(p), uint64(q))
		if want == 0 {
			want = compare(uint64(a), uint64(b))
		}
		if want == 0 {
			want = compare(m, n)
		}
		x, y := cache.AppendVersionKey(nil, p, a, m), cache.AppendVersionKey(nil, q, b, n)
		require.Equal(t, want, bytes.Compare(x, y))
		require.Equal(t, m, cache.SeqOf(x))
	})
}

func compare(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func TestEntryKeysTellKeyAndOrder(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"", "k", "\x00\xff"} {
		const order = 0x0102_0304_0506
		for _, rec := range [][]byte{
			cache.AppendEntryKey(nil, 7, order, []byte(key)), cache.AppendComplexKey(nil, 7, order, []byte(key)),
		} {
			k, o, ok := cache.KeyOf(rec)
			require.True(t, ok)
			require.Equal(t, key, string(k))
			require.EqualValues(t, order, o)
			lower, upper := cache.Range(rec[0], 7, order)
			require.LessOrEqual(t, bytes.Compare(lower, rec), 0)
			require.Negative(t, bytes.Compare(rec, upper))
			lower, _ = cache.Range(rec[0], 7, order+1)
			require.Positive(t, bytes.Compare(lower, rec))
		}
	}
	_, _, ok := cache.KeyOf([]byte("e123456789"))
	require.False(t, ok, "one byte short")
}

func TestRangesOfNeighboursDoNotMeet(t *testing.T) {
	t.Parallel()
	for _, p := range []kv.Partition{0, 1, 255, 256, 1<<32 - 2, kv.System} {
		lower, upper := cache.Range('e', p, 0)
		require.Negative(t, bytes.Compare(lower, upper))
		if p != kv.System {
			next, _ := cache.Range('e', p+1, 0)
			require.LessOrEqual(t, bytes.Compare(upper, next), 0)
			last := cache.AppendEntryKey(nil, p, 1<<48-1, bytes.Repeat([]byte{0xff}, kv.MaxKeyBytes))
			require.Negative(t, bytes.Compare(last, upper))
		}
	}
	_, upper := cache.Range('e', kv.System, 0)
	require.Equal(t, []byte{'f'}, upper)
	_, upper = cache.PrefixRange(0xff, 0xff)
	require.Nil(t, upper, "nothing is behind")
}

func TestSessionKeysHaveTheirPrefix(t *testing.T) {
	t.Parallel()
	key := cache.AppendSessionKey(nil, 3, 'P', 9)
	require.True(t, bytes.HasPrefix(key, cache.AppendSessionPrefix(nil, 3, 'P')))
	require.EqualValues(t, 9, cache.SeqOf(key))
	require.NotEqual(t, cache.NodeKey(), cache.AppendActorKey(nil, 0)[:1])
}
