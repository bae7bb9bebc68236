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
		{sim.BugTokenOwnActors, sim.OldTokens},
		{sim.BugOwnClock, sim.TTL},
		{sim.BugReapRaw, sim.TTL},
		{sim.BugNoLiveDots, sim.Collecting},
		{sim.BugFloorForgotten, sim.Collecting},
		{sim.BugHealByJoin, sim.Rotting},
		{sim.BugSeqForgotten, comeBacks},
		{sim.BugSeqKept, comeBacks},
		{sim.BugCheckThenDrop, dropsAtOnce},
		{sim.BugDropEarly, dropsAtOnce},
		{sim.BugPromiseBroken, dropsAtOnce},
		{sim.BugStandInCounts, disksDie},
		{sim.BugNoFence, lateAndSealed},
		{sim.BugSealUnlike, sim.Sealing},
		{sim.BugSealLiving, sim.Sealing},
		{sim.BugLateJoined, lateAndSealed},
		{sim.BugHeldKept, sim.Quarantining},
		{sim.BugHeldClaimed, sim.Quarantining},
		{sim.BugHeldNotThere, sim.Quarantining},
	}
}

// dropsAtOnce has owners that want to drop their copies at the same time, and disks
// that are lost then.
func dropsAtOnce() sim.Mix {
	m := sim.Dropping()
	m.Offer, m.Crash, m.LossPM, m.Write, m.Deliver, m.Commit, m.MaxSessions = 60, 3, 1000, 6, 60, 40, 2
	return m
}

// comeBacks has copies dropped as often as may be, and writes beside what is there.
func comeBacks() sim.Mix {
	m := sim.Dropping()
	m.Offer, m.Crash, m.Boot, m.Commit, m.Deliver, m.Begin, m.BlindPM, m.MaxSessions = 60, 0, 0, 40, 60, 14, 600, 2
	return m
}

// disksDie has writes that only one owner and those that stand in for the others
// have, and disks that are lost soon after.
func disksDie() sim.Mix {
	m := sim.StandIn()
	m.LossPM, m.Crash, m.Boot, m.Write, m.Deliver = 600, 12, 9, 12, 70
	m.Begin, m.Donate, m.Receive, m.Offer, m.Barrier, m.Break = 1, 2, 2, 0, 0, 0
	return m
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

// lateAndSealed has disks that are lost while what their processes wrote is on its
// way, long enough for those to be sealed.
func lateAndSealed() sim.Mix {
	m := sim.Sealing()
	m.DropPM, m.DoublePM, m.LossPM, m.RecordPM, m.RestorePM, m.Barrier, m.Collect, m.DeletePM = 0, 0, 900, 0, 0, 0, 0, 100
	m.Write, m.Deliver, m.Commit, m.Crash, m.Boot = 24, 2, 60, 2, 60
	m.Begin, m.Donate, m.Receive, m.Abort, m.Break, m.Seal = 40, 200, 200, 0, 0, 60
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
						if !*rates {
							return
						}
					}
				}
			}
			t.Logf("caught in %v of %d runs", caught, seeds)
			require.NotEmpty(t, caught)
		})
	}
}
