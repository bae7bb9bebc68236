package partition_test

import (
	"strings"
	"testing"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
	"edged.dev/edged/partition/state"

	"github.com/stretchr/testify/require"
)

func (n *node) weigh(step int) (out map[string]partition.Weight) {
	n.t.Helper()
	out = map[string]partition.Weight{}
	for from, done := uint64(0), false; !done; {
		var err error
		from, done, err = n.Weigh(from, step, func(w partition.Weight) {
			key := string(w.Key)
			w.Key = nil
			out[key] = w
		})
		require.NoError(n.t, err)
	}
	return out
}

func TestWeighCountsValuesAndTheirKeys(t *testing.T) {
	t.Parallel()
	a := newNode(t, 1)
	a.put("deleted", "x")
	a.put("deleted", "")
	a.put("key", strings.Repeat("v", 1000))
	a.put("two", "22")
	a.write("two", "4444", state.Covers{})
	at := kv.HLCAt(int64(a.boot))
	want := map[string]partition.Weight{
		"key": {Newest: at, Bytes: 1000 + 2*3 + 64},
		"two": {Newest: at, Bytes: 2 + 4 + 2*(2*3+64)},
	}
	for _, step := range []int{1, 2, 100} {
		require.Equal(t, want, a.weigh(step))
	}
}

func TestWeighTellsWhatTheMemoryHolds(t *testing.T) {
	t.Parallel()
	a := newNode(t, 1)
	a.put("cold", "v")
	a.put("read", "v")
	tier, err := cache.NewTier(1 << 20)
	require.NoError(t, err)
	a.tier = tier
	a.crash()
	require.Equal(t, []string{"v"}, a.values("read"))
	a.put("written", "v")
	before := tier.Stats()
	w := a.weigh(10)
	require.False(t, w["cold"].Warm)
	require.True(t, w["read"].Warm)
	require.True(t, w["written"].Warm)
	require.Equal(t, before, tier.Stats(), "to look is not to read")
}
