package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Were the medians divided, a machine that turned slow between two pairs would
// show as a ratio.
func TestVersusHoldsEachReturnAgainstTheOneBesideIt(t *testing.T) {
	t.Parallel()
	v := &Versus{Pairs: []VersusPair{{EdgedMS: 100, PartialMS: 400}, {EdgedMS: 50, PartialMS: 500}, {EdgedMS: 1000, PartialMS: 2000, EdgedBytes: 7, PartialBytes: 9}}}
	for i, first := range []float64{30, 40, 20} {
		v.Pairs[i].EdgedFirstMS, v.Pairs[i].PartialFirstMS = first, 2*first
	}
	v.settle()
	require.InDelta(t, 4, v.Ratio, 1e-9)
	require.InDelta(t, 100, v.EdgedMS, 1e-9)
	require.InDelta(t, 500, v.PartialMS, 1e-9)
	require.Equal(t, uint64(7), v.EdgedBytes)
	require.Equal(t, uint64(9), v.PartialBytes)
	require.InDelta(t, 10, v.Pairs[1].Ratio, 1e-9)
	require.InDelta(t, 30, v.EdgedFirstMS, 1e-9)
	require.InDelta(t, 60, v.PartialFirstMS, 1e-9)
	require.Equal(t, "500.0 ms, the node 100.0 ms: 4.00 times faster (median of 3 pairs, 2.00 to 10.00)", v.timeText())
}

func TestMoreKeysAreHeldAgainstFewerPairByPair(t *testing.T) {
	t.Parallel()
	s := &Scale{Times: 10, Keys: 5, Pairs: []ScalePair{{LargeMS: 110, SmallMS: 100}, {LargeMS: 300, SmallMS: 150}, {LargeMS: 90, SmallMS: 100}}}
	s.settle()
	require.InDelta(t, 1.1, s.Ratio, 1e-9)
	require.Equal(t, "110.0 ms with 10 times the keys, 100.0 ms without: 1.10 times (median of 3 pairs, 0.90 to 2.00)", s.timeText())

	s.judge(&Report{RootsEqual: true})
	require.True(t, (&Report{RootsEqual: true, Scale: s}).ok())
	for _, small := range []Report{{}, {RootsEqual: true, Lost: 1}} {
		s.judge(&small)
		require.Equal(t, 1, s.Wrong)
		require.False(t, (&Report{RootsEqual: true, Scale: s}).ok())
	}
}

// someBusy is a return that took so long, with one request of each latency before and
// during.
func someBusy(caughtUpMS int, before, during float64) busyReturn {
	at := time.Unix(100, 0)
	m := bareMoments{back: at}
	m.caughtUp = at.Add(time.Duration(caughtUpMS) * time.Millisecond)
	return busyReturn{bareMoments: m, errors: 1, clients: clientPhases{before: []latency{{at: at, ms: before}}, during: []latency{{at: at, ms: during}}}}
}

// The slowest request of each return would be a percentile of none.
func TestWaitsArePooledOverReturns(t *testing.T) {
	t.Parallel()
	w := waitsOf([]busyReturn{someBusy(100, 1, 3), someBusy(300, 2, 1), someBusy(200, 2, 2)})
	require.Equal(t, Waits{
		Returns: 3, CaughtUpMS: 200, BeforeP99MS: 2, DuringP99MS: 3, P99Ratio: 1.5, BeforeRequests: 3, DuringRequests: 3, ClientErrors: 3,
		Reads: Kind{BeforeP99MS: 2, DuringP99MS: 3, P99Ratio: 1.5, DuringRequests: 3},
	}, w)
	require.Equal(t, Waits{}, waitsOf(nil))
}

// One write in twenty, each slower than any read, is the 99th percentile of all.
func TestWaitsAreToldByKind(t *testing.T) {
	t.Parallel()
	var c clientPhases
	for i := range 100 {
		write := i%trafficSetShare == 0
		ms := 1.0
		if write {
			ms = 10
		}
		c.before, c.during = append(c.before, latency{ms: ms, write: write}), append(c.during, latency{ms: 2 * ms, write: write})
	}
	w := waitsOf([]busyReturn{{clients: c}})
	require.InDelta(t, 20, w.DuringP99MS, 1e-9)
	require.Equal(t, Kind{BeforeP99MS: 1, DuringP99MS: 2, P99Ratio: 2, DuringRequests: 95}, w.Reads)
	require.Equal(t, Kind{BeforeP99MS: 10, DuringP99MS: 20, P99Ratio: 2, DuringRequests: 5}, w.Writes)
}

func TestAPolicysEffectIsHeldAgainstTheBuiltinPlan(t *testing.T) {
	t.Parallel()
	side := func(hot float64, n1, n2 uint64, during float64) RepairReturn {
		return RepairReturn{FirstHotKeyMS: hot, Egress: map[string]uint64{"n1": n1, "n2": n2}, clients: someBusy(100, 1, during)}
	}
	e := &RepairEffect{Pairs: []RepairPair{
		{Policy: side(50, 100, 0, 2), Builtin: side(100, 40, 40, 4)},
		{Policy: side(80, 80, 0, 1), Builtin: side(100, 40, 40, 2)},
		{Policy: side(90, 120, 0, 1), Builtin: side(100, 60, 20, 1)},
	}}
	e.settle()
	require.InDelta(t, 0.8, e.HotKeyRatio, 1e-9)
	require.InDelta(t, 1.25, e.EgressRatio, 1e-9)
	require.InDelta(t, 0.5, e.P99Ratio, 1e-9)
	require.Equal(t, map[string]uint64{"n1": 100, "n2": 0}, e.Policy.Egress)
	require.Equal(t, map[string]uint64{"n1": 40, "n2": 40}, e.Builtin.Egress)
	require.InDelta(t, 80, e.Policy.FirstHotKeyMS, 1e-9)
	require.Equal(t, 3, e.Builtin.Returns)

	s := &sheet{}
	e.tell(s, "mine")
	require.Regexp(t, `(?m)^  hottest key here +80\.0 ms +100\.0 ms   0\.80 times$`, s.String())
	require.Regexp(t, `(?m)^  sent by all +100 B +80 B   1\.25 times$`, s.String())
	require.Contains(t, e.figure("mine").Text, "p99 2.00 and 4.00 ms")
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
