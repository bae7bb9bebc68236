package sim_test

import (
	"flag"
	"os"
	"reflect"
	"sync"
	"testing"

	"edged.dev/edged/internal/sim"

	"github.com/stretchr/testify/require"
)

var (
	seeds    = flag.Int("seeds", 300, "how many seeds TestSeeds runs of each mix")
	seedBase = flag.Uint64("seed-base", 0, "the first of them")
	seedOne  = flag.Uint64("sim.seed", 0, "the one seed that TestOneSeed runs")
	mixName  = flag.String("sim.mix", "stock", "its mix")
	rates    = flag.Bool("sim.rates", false, "TestPlantedBugsAreCaught runs on behind the first seed that catches a bug, and tells how many do")
	uniform  = flag.Bool("sim.uniform", false, "with sim.rates: by the mix stock, and not by the one that is biased to the bug")
	traced   = flag.Bool("sim.trace", false, "print its events")
)

// events is how long a run is: enough for a few crashes and a dozen sessions.
const events = 250

func run(o sim.Options) *sim.World {
	w := sim.New(o)
	w.Run(events)
	return w
}

func mixOf(t *testing.T, name string) sim.Mix {
	t.Helper()
	for _, m := range sim.Mixes() {
		if m.Name == name {
			return m
		}
	}
	t.Fatalf("there is no mix %q", name)
	return sim.Mix{}
}

// TestSeeds runs random schedules over the real copies. A seed that fails is
// printed with the command that replays it.
func TestSeeds(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var total sim.Stats
	mixes := 0
	for _, m := range sim.Mixes() {
		t.Run(m.Name, func(t *testing.T) {
			t.Parallel()
			var sum sim.Stats
			for seed := *seedBase; seed < *seedBase+uint64(*seeds); seed++ {
				w := run(sim.Options{Seed: seed, Mix: m})
				if v := w.Violations(); len(v) > 0 {
					t.Error(failure(sim.Options{Seed: seed, Mix: m}, v[0]))
				}
				sum.Add(w.Stats())
			}
			t.Logf("%d seeds: %+v", *seeds, sum)
			mu.Lock()
			defer mu.Unlock()
			total.Add(sum)
			mixes++
		})
	}
	t.Cleanup(func() {
		if mixes < len(sim.Mixes()) {
			return // one of them was asked for
		}
		for _, name := range never(total) {
			t.Errorf("no run of any mix had %s", name)
		}
	})
}

// never returns the names of the counters that are at zero.
func never(stats any) (names []string) {
	v := reflect.ValueOf(stats)
	for i := range v.NumField() {
		if v.Field(i).Int() == 0 {
			names = append(names, v.Type().Field(i).Name)
		}
	}
	return names
}

// TestACounterAtZeroIsTold holds what runs must reach against what is counted.
func TestACounterAtZeroIsTold(t *testing.T) {
	t.Parallel()
	var s sim.Stats
	require.Subset(t, never(s), []string{
		"Siblings", "Merged", "Below", "L3", "L4", "Given", "Apart", "Unnamed", "Written", "Resumed", "Torn", "Collected", "Reaps", "Evictions", "Sealed", "Late", "StoodIn", "HandedOff", "Adopted",
	})
	for _, mode := range sim.Modes() {
		for _, name := range []string{"StoodIn", "HandedOff", "Dropped", "Collected", "Sealed", "ByLead", "Favours", "Lives"} {
			require.Contains(t, never(sim.ClusterStats{}), name)
			require.True(t, sometimes(mode, name), "%s in %s", name, mode)
		}
	}
	v := reflect.ValueOf(&s).Elem()
	for i := range v.NumField() {
		v.Field(i).SetInt(1)
	}
	require.Empty(t, never(s))
	for i := range v.NumField() {
		v.Field(i).SetInt(0)
		require.Equal(t, []string{v.Type().Field(i).Name}, never(s))
		v.Field(i).SetInt(1)
	}
}

// TestSeedReplaysExactly runs seeds twice: every event, frame bytes included, is
// the same.
func TestSeedReplaysExactly(t *testing.T) {
	t.Parallel()
	for _, m := range sim.Mixes() {
		digests := map[uint64]bool{}
		for seed := range uint64(5) {
			o := sim.Options{Seed: seed, Mix: m}
			first, again := run(o), run(o)
			require.Equal(t, first.Digest(), again.Digest(), "mix %s seed %d", m.Name, seed)
			require.Equal(t, first.Stats(), again.Stats())
			digests[first.Digest()] = true
		}
		require.Len(t, digests, 5, "another seed is another run of mix %s", m.Name)
	}
}

// TestOneSeed replays one seed, with a trace if asked.
func TestOneSeed(t *testing.T) {
	t.Parallel()
	o := sim.Options{Seed: *seedOne, Mix: mixOf(t, *mixName)}
	if *traced {
		o.Trace = os.Stdout
	}
	require.Empty(t, run(o).Violations())
}

// TestSeedsThatFailed replays what a soak once found, or thought it had.
func TestSeedsThatFailed(t *testing.T) {
	t.Parallel()
	for _, s := range []struct {
		mix  string
		seed uint64
	}{
		// A tombstone that rot took from one copy, above a hole, stays in another beside
		// a version whose writer did not know of it.
		{"rot", 1003049},
		{"rot", 1004975},
		{"oldtok", 1009328},
		// Two owners dropped their copies by each other's promises, which were over.
		{"dropping", 3000143},
		// What a copy that had lost its clock held implied that others were dead, and nobody
		// learnt the dot of the delete.
		{"seal", 7004007},
		// A tombstone that rot had taken from the donor was dropped, and with it what its place
		// in the order implied.
		{"ttl", 9001331},
	} {
		require.Empty(t, run(sim.Options{Seed: s.seed, Mix: mixOf(t, s.mix)}).Violations(), "mix %s seed %d", s.mix, s.seed)
	}
}
