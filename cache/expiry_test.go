package cache_test

import (
	"bytes"
	"math"
	"testing"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func expiries() *rapid.Generator[cache.Expiry] {
	return rapid.Custom(func(t *rapid.T) cache.Expiry {
		return cache.Expiry{
			AtMS:      rapid.Int64Range(0, 1<<48).Draw(t, "at"),
			Partition: kv.Partition(rapid.Uint32().Draw(t, "partition")),
			Order:     rapid.Uint64Range(0, 1<<48-1).Draw(t, "order"),
			Key:       rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "key"),
			Actor:     rapid.Uint32().Draw(t, "actor"),
			Seq:       rapid.Uint64().Draw(t, "seq"),
		}
	})
}

func TestExpiryKeysReadBackAndSortByTime(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := expiries().Draw(t, "a"), expiries().Draw(t, "b")
		x, y := cache.AppendExpiryKey(nil, a), cache.AppendExpiryKey(nil, b)
		back, ok := cache.ParseExpiryKey(x)
		require.True(t, ok)
		require.Equal(t, a.Key, append([]byte{}, back.Key...))
		back.Key = a.Key
		require.Equal(t, a, back)
		if a.AtMS < b.AtMS {
			require.Negative(t, bytes.Compare(x, y))
		}
		lower, upper := cache.ExpiryRange(b.AtMS)
		require.Equal(t, a.AtMS <= b.AtMS, bytes.Compare(lower, x) <= 0 && bytes.Compare(x, upper) < 0)
	})
}

func TestExpiryRangeHoldsNeitherTheMarkNorOtherRecords(t *testing.T) {
	t.Parallel()
	for _, at := range []int64{math.MinInt64, -1, 0, 1, 1 << 47, math.MaxInt64} {
		lower, upper := cache.ExpiryRange(at)
		require.Positive(t, bytes.Compare(lower, cache.ExpiryIndexKey()))
		end, _ := cache.PrefixRange('x' + 1)
		require.Negative(t, bytes.Compare(upper, end))
	}
	early := cache.AppendExpiryKey(nil, cache.Expiry{AtMS: math.MinInt64, Key: []byte("k")})
	lower, upper := cache.ExpiryRange(0)
	require.LessOrEqual(t, bytes.Compare(lower, early), 0)
	require.Negative(t, bytes.Compare(early, upper), "a time before 1970 is always due")
}

func TestExpiryKeysThatAreCutAreRefused(t *testing.T) {
	t.Parallel()
	whole := cache.AppendExpiryKey(nil, cache.Expiry{AtMS: 1, Partition: 2, Order: 3, Actor: 4, Seq: 5})
	_, ok := cache.ParseExpiryKey(whole)
	require.True(t, ok, "an empty key is the shortest")
	for n := range whole {
		_, ok := cache.ParseExpiryKey(whole[:n])
		require.False(t, ok, "%d bytes", n)
	}
	other := append([]byte{'d'}, whole[1:]...)
	_, ok = cache.ParseExpiryKey(other)
	require.False(t, ok)
}
