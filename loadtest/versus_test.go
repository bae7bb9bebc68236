package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Were the medians divided, a machine that turned slow between two pairs would
// show as a ratio.
func TestVersusHoldsEachReturnAgainstTheOneBesideIt(t *testing.T) {
	t.Parallel()
	v := &Versus{Pairs: []VersusPair{{EdgedMS: 100, PartialMS: 400}, {EdgedMS: 50, PartialMS: 500}, {EdgedMS: 1000, PartialMS: 2000, EdgedBytes: 7, PartialBytes: 9}}}
	v.settle()
	require.InDelta(t, 4, v.Ratio, 1e-9)
	require.InDelta(t, 100, v.EdgedMS, 1e-9)
	require.InDelta(t, 500, v.PartialMS, 1e-9)
	require.Equal(t, uint64(7), v.EdgedBytes)
	require.Equal(t, uint64(9), v.PartialBytes)
	require.InDelta(t, 10, v.Pairs[1].Ratio, 1e-9)
	require.Equal(t, "500.0 ms, the node 100.0 ms: 4.00 times faster (median of 3 pairs, 2.00 to 10.00)", v.timeText())
}

// The last write must show when the replica has it, so it is no removal; and a
// conflict weighs as much as it does for the cluster.
func TestRedisTakesTheSameWritesRemovalsFirst(t *testing.T) {
	t.Parallel()
	l := testLedger(10)
	l.want[7] = expectation{a: 70}
	r := &rejoinRun{ledger: l}
	p := plan{overwritten: []int{1, 2}, deleted: []int{5}, conflicting: []int{7}}
	writes := p.writes(l)
	require.Equal(t, []write{{key: 1, number: 1}, {key: 2, number: 2}, {key: 5, remove: true}}, writes)
	require.Equal(t, []write{{key: 5, remove: true}, {key: 7, number: 70}, {key: 7, number: 70}, {key: 1, number: 1}, {key: 2, number: 2}}, r.asRedis(p, writes))
}

func TestHeldIsWhatIsThere(t *testing.T) {
	t.Parallel()
	l := testLedger(4)
	l.want[0], l.want[1], l.want[2] = expectation{a: 4}, expectation{a: 5, gone: true}, expectation{a: 6, b: 7}
	require.Equal(t, []write{{key: 0, number: 4}, {key: 2, number: 6}}, (&rejoinRun{ledger: l}).held())
}
