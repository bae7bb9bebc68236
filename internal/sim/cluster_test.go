package sim_test

import (
	"os"
	"testing"

	"edged.dev/edged/internal/sim"

	"github.com/stretchr/testify/require"
)

func runCluster(o sim.ClusterOptions) *sim.Cluster {
	c := sim.NewCluster(o)
	c.Run()
	return c
}

// TestLiveCopiesKnowWhatWasAcknowledged runs real machines over real copies, with
// restarts, mass restarts, lost and restored disks, cuts and pauses: no copy
// answers LIVE and lacks what was acknowledged before it asked (I18), and once
// faults stop all are LIVE and equal.
func TestLiveCopiesKnowWhatWasAcknowledged(t *testing.T) {
	t.Parallel()
	var sum sim.ClusterStats
	n := *seeds / 5
	for seed := *seedBase; seed < *seedBase+uint64(n); seed++ {
		c := runCluster(sim.ClusterOptions{Seed: seed})
		if v := c.Violations(); len(v) > 0 {
			t.Errorf("seed %d: %v\nreplay: go test ./internal/sim -run TestOneCluster -sim.seed=%d -sim.trace -v", seed, v[0], seed)
		}
		s := c.Stats()
		sum.Steps += s.Steps
		sum.Ops += s.Ops
		sum.Acked += s.Acked
		sum.Lives += s.Lives
		sum.Reads += s.Reads
		sum.Boots += s.Boots
		sum.Wipes += s.Wipes
		sum.Restores += s.Restores
		sum.Cuts += s.Cuts
		sum.Pauses += s.Pauses
		sum.Exempt += s.Exempt
		sum.Collected += s.Collected
		sum.Below += s.Below
	}
	require.Positive(t, sum.Collected)
	require.Positive(t, sum.Below)
	t.Logf("%d seeds: %+v", n, sum)
}

// TestOneCluster replays one seed, with a trace if asked.
func TestOneCluster(t *testing.T) {
	t.Parallel()
	o := sim.ClusterOptions{Seed: *seedOne}
	if *traced {
		o.Trace = os.Stdout
	}
	first := runCluster(o)
	require.Empty(t, first.Violations())
	o.Trace = nil
	require.Equal(t, first.Digest(), runCluster(o).Digest(), "a seed replays exactly")
}

// TestLiesAboutLivenessAreCaught breaks one rule after the other.
func TestLiesAboutLivenessAreCaught(t *testing.T) {
	t.Parallel()
	const seeds = 200
	for _, lie := range []sim.Lie{sim.LieCovers, sim.LieTrust, sim.LieNotLost, sim.LieForgets, sim.LieLease, sim.LieEarlyReport} {
		t.Run(string(lie), func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(seeds) {
				if v := runCluster(sim.ClusterOptions{Seed: seed, Lie: lie}).Violations(); len(v) > 0 {
					t.Logf("seed %d: %v", seed, v[0])
					return
				}
			}
			t.Errorf("not caught in %d seeds", seeds)
		})
	}
}
