package merkle_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/merkle"
)

func TestShortDigestsHaveSixBytesAndASalt(t *testing.T) {
	seen := map[uint64]bool{}
	for n := range uint64(10_000) {
		_, d := testItem(n)
		s := d.Short(1)
		require.Less(t, s, uint64(1)<<(8*merkle.ShortBytes))
		require.False(t, seen[s])
		seen[s] = true
		require.NotEqual(t, s, d.Short(2), "another session's are others")
	}
}

func TestACloneIsLeftAloneByChanges(t *testing.T) {
	a := newTree(t, 4)
	a.Add(testItem(1))
	b := a.Clone()
	require.Empty(t, merkle.Diff(a, b))
	a.Add(testItem(2))
	require.Len(t, merkle.Diff(a, b), 1)
	require.Equal(t, int64(32*24), b.Bytes())
}
