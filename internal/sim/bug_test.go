package sim_test

import (
	"testing"

	"edged.dev/edged/internal/sim"

	"github.com/stretchr/testify/require"
)

// plant is a rule broken on purpose, and the mix that is biased to it.
type plant struct {
	bug sim.Bug
	mix func() sim.Mix
}

func plants() []plant {
	return []plant{
		{sim.BugSkipTail, sim.Hot},
		{sim.BugClockPerChunk, sim.Hot},
		{sim.BugHalfSession, sim.Lossy},
		{sim.BugKeepForgotten, sim.Hot},
		{sim.BugFirstBase, sim.Hot},
		{sim.BugLateBase, sim.Hot},
		{sim.BugLateEnd, sim.Hot},
		{sim.BugEcho, sim.Hot},
		{sim.BugUnsyncedEnd, sim.Relaxed},
		{sim.BugOnlyNewDot, sim.Stock},
		{sim.BugSiblingsCut, sim.Stock},
		{sim.BugForeignToken, sim.Stock},
		{sim.BugAckEarly, sim.Stock},
		{sim.BugActorReused, sim.Stock},
		{sim.BugLossKeepsClock, sim.Stock},
		{sim.BugChunkLost, sim.Hot},
		{sim.BugOldKnowledge, sim.Stock},
		{sim.BugRecordLost, lateWords},
		{sim.BugMarkLost, sim.OldTokens},
		{sim.BugContextStripped, sim.OldTokens},
		{sim.BugOwnClock, sim.TTL},
		{sim.BugReapRaw, sim.TTL},
		{sim.BugNoLiveDots, sim.Collecting},
		{sim.BugFloorForgotten, sim.Collecting},
		{sim.BugHealByJoin, sim.Rotting},
	}
}

// lateWords has restarts in sessions that broke, and writes that arrive long
// after what overwrote them.
func lateWords() sim.Mix {
	m := sim.TTL()
	m.LossPM, m.RestorePM, m.DropPM, m.DoublePM, m.TokenPM, m.BlindPM = 0, 0, 0, 0, 0, 100
	m.Deliver, m.Commit, m.Crash, m.Boot, m.Abort, m.Break = 24, 60, 0, 60, 0, 30
	m.MaxSessions, m.Begin = 2, 20
	return m
}

// TestPlantedBugsAreCaught breaks one rule after the other: the oracle must
// notice each within 200 seeds.
func TestPlantedBugsAreCaught(t *testing.T) {
	t.Parallel()
	const seeds = 200
	for _, p := range plants() {
		t.Run(string(p.bug), func(t *testing.T) {
			t.Parallel()
			caught, first := map[string]int{}, -1
			for seed := range uint64(seeds) {
				if v := run(sim.Options{Seed: seed, Mix: p.mix(), Bug: p.bug}).Violations(); len(v) > 0 {
					caught[v[0].Rule]++
					if first < 0 {
						first = int(seed)
						t.Logf("seed %d: %v", seed, v[0])
					}
				}
			}
			t.Logf("caught in %v of %d runs", caught, seeds)
			require.NotEmpty(t, caught)
		})
	}
}
