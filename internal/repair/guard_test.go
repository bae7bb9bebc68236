package repair_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/repair"
)

// input has partitions 0 to n-1, each from n2 and from n3.
func input(n int) repair.Input {
	in := repair.Input{MaxSteps: 64, Peers: []repair.Peer{{Name: "n1"}, {Name: "n2"}, {Name: "n3"}}}
	for i := range n {
		in.Ranges = append(in.Ranges, repair.Range{Partition: uint64(i), From: 1}, repair.Range{Partition: uint64(i), From: 2})
	}
	return in
}

func syncStep(r uint32, priority uint16) repair.Step {
	return repair.Step{Range: r, Strategy: repair.Sync, Priority: priority}
}

func TestBuiltinKeepsTheOrderOfPartitions(t *testing.T) {
	t.Parallel()
	p := repair.Builtin(input(2))
	require.Equal(t, []repair.Order{
		{Partition: 0, Peers: []string{"n2", "n3"}}, {Partition: 1, Peers: []string{"n2", "n3"}},
	}, p.Orders())
	require.Equal(t, 4, p.Count(repair.Kept))
	require.Empty(t, repair.Builtin(repair.Input{}).Orders())
}

// TestGuardDropsWhatMayNotBe: each bad step is dropped with a reason, and the
// partition is repaired all the same.
func TestGuardDropsWhatMayNotBe(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		step repair.Step
		why  string
	}{
		"range":     {syncStep(2, 0), "range 2 of 2: there is no such range"},
		"far":       {syncStep(1<<32-1, 0), "there is no such range"},
		"strategy":  {repair.Step{Strategy: 4}, "unknown strategy 4"},
		"direction": {repair.Step{Strategy: repair.Sync, Direction: 3}, "unknown direction 3"},
		"push":      {repair.Step{Strategy: repair.Sync, Direction: repair.Push}, "never pushes"},
		"bad":       {repair.Step{Strategy: repair.Sync, Bad: "filters overlap"}, "filters overlap"},
	} {
		p := repair.Guard(input(1), []repair.Step{c.step})
		require.Equal(t, 1, p.Count(repair.Dropped), name)
		last := p.Steps[len(p.Steps)-1]
		require.Equal(t, repair.Dropped, last.Fate, name)
		require.Contains(t, last.Why, c.why, name)
		require.Equal(t, []repair.Order{{Partition: 0}}, p.Orders(), name)
		require.Equal(t, 2, p.Count(repair.Added), name)
	}
	twice := repair.Guard(input(1), []repair.Step{syncStep(1, 0), syncStep(1, 9)})
	require.Equal(t, []repair.Order{{Partition: 0, Peers: []string{"n3"}}}, twice.Orders())
	require.Contains(t, twice.Steps[1].Why, "named before")

	in := input(2)
	in.MaxSteps = 1
	many := repair.Guard(in, []repair.Step{syncStep(0, 0), syncStep(2, 0)})
	require.Equal(t, 1, many.Count(repair.Dropped))
	require.Len(t, many.Orders(), 2)
	flood := make([]repair.Step, 1000)
	for i := range flood {
		flood[i] = syncStep(99, 0)
	}
	p := repair.Guard(input(1), flood)
	require.Equal(t, 1000, p.Count(repair.Dropped))
	require.Len(t, p.Steps, 256+2, "of a flood some are shown")
}

// TestGuardClamps tries each limit, and one over.
func TestGuardClamps(t *testing.T) {
	t.Parallel()
	rules := func(n int) (out []repair.Rule) {
		for i := range n {
			out = append(out, repair.Rule{Prefix: fmt.Sprint(i)})
		}
		return out
	}
	for name, c := range map[string]struct {
		in, want repair.Step
		why      string
	}{
		"slow":      {repair.Step{RateKiBps: 127}, repair.Step{RateKiBps: 128}, "raised to 128"},
		"slowest":   {repair.Step{RateKiBps: 128}, repair.Step{RateKiBps: 128}, ""},
		"fast":      {repair.Step{RateKiBps: 1<<32 - 1}, repair.Step{RateKiBps: repair.MaxRateKiBps}, "lowered"},
		"fastest":   {repair.Step{RateKiBps: repair.MaxRateKiBps}, repair.Step{RateKiBps: repair.MaxRateKiBps}, ""},
		"small":     {repair.Step{MaxBytes: 1}, repair.Step{MaxBytes: repair.MinStepBytes}, "raised to 65536"},
		"smallest":  {repair.Step{MaxBytes: repair.MinStepBytes}, repair.Step{MaxBytes: repair.MinStepBytes}, ""},
		"rules":     {repair.Step{Rules: rules(16)}, repair.Step{Rules: rules(16)}, ""},
		"one more":  {repair.Step{Rules: rules(17)}, repair.Step{Rules: rules(16)}, "17 rules cut to 16"},
		"late":      {repair.Step{DelayMS: 600_001}, repair.Step{DelayMS: 600_000}, "cut to 600000"},
		"latest":    {repair.Step{DelayMS: 600_000}, repair.Step{DelayMS: 600_000}, ""},
		"for ever":  {repair.Step{DelayMS: 1<<32 - 1}, repair.Step{DelayMS: 600_000}, "cut to 600000"},
		"as it was": {repair.Step{}, repair.Step{}, ""},
	} {
		c.in.Strategy, c.want.Strategy = repair.Sync, repair.Sync
		got := repair.Guard(input(1), []repair.Step{c.in}).Steps[0]
		require.Equal(t, c.want, got.Step, name)
		if c.why == "" {
			require.Equal(t, repair.Kept, got.Fate, name)
			continue
		}
		require.Equal(t, repair.Clamped, got.Fate, name)
		require.Contains(t, got.Why, c.why, name)
	}
	scrub := repair.Guard(input(1), []repair.Step{{Strategy: repair.Scrub}}).Steps[0]
	require.Equal(t, repair.Sync, scrub.Strategy)
	require.Equal(t, repair.Clamped, scrub.Fate)
}

// TestAPolicyDelaysAndNeverStarves: what has waited for the longest delay goes
// first, whatever the policy says.
func TestAPolicyDelaysAndNeverStarves(t *testing.T) {
	t.Parallel()
	in := input(2)
	in.Ranges = in.Ranges[1:3] // partition 0 from n3, partition 1 from n2
	skip := []repair.Step{syncStep(1, 9), {Range: 0, Strategy: repair.Skip}}
	p := repair.Guard(in, skip)
	require.Equal(t, []repair.Order{
		{Partition: 1, Peers: []string{"n2"}}, {Partition: 0, Wave: 1, Peers: []string{"n3"}, DelayMS: 600_000},
	}, p.Orders())
	require.Equal(t, 2, p.Count(repair.Kept))

	in.Ranges[0].AgeMS = repair.MaxIntervalMS - 1
	require.Equal(t, int64(1), repair.Guard(in, skip).Orders()[1].DelayMS)
	in.Ranges[0].AgeMS = repair.MaxIntervalMS
	some := repair.Guard(in, []repair.Step{{Strategy: repair.Sync, MaxBytes: repair.MinStepBytes}})
	require.Zero(t, some.Orders()[0].MaxBytes, "all of it")
	p = repair.Guard(in, skip)
	require.Equal(t, []repair.Order{{Partition: 0, Peers: []string{"n3"}}, {Partition: 1, Wave: 1, Peers: []string{"n2"}}}, p.Orders())
	require.Equal(t, repair.Overdue, p.Steps[0].Fate)

	d := repair.Guard(in, []repair.Step{{Range: 1, Strategy: repair.Defer}}).Steps[0]
	require.Equal(t, uint32(repair.RoundMS), d.DelayMS, "a delay of nothing is to the next round")
}

func TestOrdersTakeTheSoonestPeers(t *testing.T) {
	t.Parallel()
	far, near := syncStep(0, 5), syncStep(1, 5)
	far.DelayMS, far.RateKiBps, near.RateKiBps = 5000, 200, 300
	p := repair.Guard(input(1), []repair.Step{far, near})
	require.Equal(t, []repair.Order{{Partition: 0, Peers: []string{"n3"}, RateKiBps: 300}}, p.Orders())
	far.DelayMS = 0
	p = repair.Guard(input(1), []repair.Step{far, near})
	require.Equal(t, []repair.Order{{Partition: 0, Peers: []string{"n2", "n3"}, RateKiBps: 200}}, p.Orders())
}

func TestWavesAreFew(t *testing.T) {
	t.Parallel()
	waves := func(priorities ...uint16) (out []int) {
		var steps []repair.Step
		for i, pr := range priorities {
			steps = append(steps, syncStep(uint32(2*i), pr))
		}
		for _, o := range repair.Guard(input(len(priorities)), steps).Orders() {
			out = append(out, o.Wave)
		}
		return out
	}
	require.Equal(t, []int{0, 0, 0}, waves(3, 3, 3))
	require.Equal(t, []int{0, 1, 1, 2, 3}, waves(9, 8, 8, 7, 1))
	require.Equal(t, []int{0, 1, 2, 2, 3, 3, 3, 3}, waves(9, 8, 7, 6, 5, 4, 3, 2))
	require.Equal(t, []int{0, 0, 0, 0, 3, 3, 3, 3}, waves(9, 9, 9, 9, 5, 4, 3, 2))
}

// TestNoAnswerStarves throws random answers at the guard: whatever they are, every
// partition is planned once, in time, and only from those who have it.
func TestNoAnswerStarves(t *testing.T) {
	t.Parallel()
	const seed = 7
	r := rand.New(rand.NewPCG(seed, seed))
	for range 2000 {
		in := input(1 + r.IntN(12))
		for i := range in.Ranges {
			in.Ranges[i].AgeMS = r.Int64N(2 * repair.MaxIntervalMS)
		}
		steps := make([]repair.Step, r.IntN(40))
		for i := range steps {
			steps[i] = repair.Step{
				Range: uint32(r.IntN(30)), Strategy: repair.Strategy(r.IntN(6)), Direction: repair.Direction(r.IntN(4)),
				Priority: uint16(r.IntN(4)), RateKiBps: r.Uint32() >> r.IntN(32), DelayMS: r.Uint32() >> r.IntN(32), MaxBytes: r.Uint64() >> r.IntN(64),
			}
		}
		seen := map[uint64]bool{}
		for _, o := range repair.Guard(in, steps).Orders() {
			require.False(t, seen[o.Partition])
			seen[o.Partition] = true
			age := in.Ranges[2*o.Partition].AgeMS
			if len(o.Peers) == 1 && o.Peers[0] == "n3" {
				age = in.Ranges[2*o.Partition+1].AgeMS
			}
			require.LessOrEqual(t, o.DelayMS, max(0, repair.MaxIntervalMS-min(age, in.Ranges[2*o.Partition].AgeMS)), "seed %d", seed)
			require.Less(t, o.Wave, repair.MaxWaves)
			require.True(t, o.RateKiBps == 0 || o.RateKiBps >= repair.MinRateKiBps && o.RateKiBps <= repair.MaxRateKiBps)
			require.True(t, o.MaxBytes == 0 || o.MaxBytes >= repair.MinStepBytes)
		}
		require.Len(t, seen, len(in.Ranges)/2)
	}
}

func TestLinkClasses(t *testing.T) {
	t.Parallel()
	for rtt, want := range map[uint32]repair.Link{
		0: repair.LinkUnknown, 1: repair.LinkLocal, 999: repair.LinkLocal, 1000: repair.LinkNear, 19_999: repair.LinkNear, 20_000: repair.LinkFar,
	} {
		require.Equal(t, want, repair.LinkOf(rtt), rtt)
	}
}
