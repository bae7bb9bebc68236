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
		{sim.BugHalfSession, tearing},
		{sim.BugKeepForgotten, sim.Hot},
		{sim.BugFirstBase, sim.Hot},
		{sim.BugLateBase, sim.Hot},
		{sim.BugLateEnd, sim.Hot},
		{sim.BugEcho, sim.Hot},
		{sim.BugUnsyncedEnd, unsynced},
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
		{sim.BugFloorForgotten, erasing},
		{sim.BugHealByJoin, sim.Rotting},
		{sim.BugHealOnce, sim.RottingWritten},
		{sim.BugGiveDamaged, sim.RottingWritten},
		{sim.BugAwayForgotten, sim.RottingApart},
		{sim.BugStandInForgotten, standInsGo},
		{sim.BugOpenIsNothing, leftOpen},
		{sim.BugMoreForgotten, sim.RottingApart},
		{sim.BugSeqForgotten, comeBacks},
		{sim.BugSeqKept, comeBacks},
		{sim.BugCheckThenDrop, dropsAndWrites},
		{sim.BugDropEarly, dropsAtOnce},
		{sim.BugPromiseBroken, dropsBoth},
		{sim.BugStandInCounts, disksDie},
		{sim.BugNoFence, lateAndSealed},
		{sim.BugSealUnlike, oftenSealed},
		{sim.BugSealLiving, oftenSealed},
		{sim.BugLateJoined, lateAndSealed},
		{sim.BugHeldKept, erasedWithoutClock},
		{sim.BugHeldClaimed, sim.Quarantining},
		{sim.BugHeldNotThere, sim.Quarantining},
		{sim.BugDonorWithout, withoutClock},
		{sim.BugOneRecord, breaking},
		{sim.BugRecordGrows, slowly},
		{sim.BugFold, readers},
		{sim.BugTombstoneView, sim.Collecting},
		{sim.BugLiveOnce, bothWays},
		{sim.BugFloorOnce, erasing},
		{sim.BugStub, sim.Collecting},
	}
}

// standInsGo has copies rot of which stand-ins alone have a part.
func standInsGo() sim.Mix {
	m := sim.RottingApart()
	m.Crash, m.Barrier = 1, 60
	return m
}

// leftOpen has owners that seldom answer twice.
func leftOpen() sim.Mix {
	m := sim.RottingApart()
	m.OpenPM, m.WrittenPM, m.Barrier = 400, 0, 20
	return m
}

// breaking has sessions from all sides that break in the middle.
func breaking() sim.Mix {
	m := sim.Lossy()
	m.Abort, m.BlindPM, m.Begin = 12, 400, 24
	return m
}

// tearing has sessions that break in the middle and have much to bring, for nodes that
// live on.
func tearing() sim.Mix {
	m := breaking()
	m.DropPM, m.Crash, m.LossPM, m.RestorePM, m.System = 900, 1, 0, 0, false
	return m
}

// unsynced has machines that lose power, and whose disks are written when a session
// ends alone.
func unsynced() sim.Mix {
	m := sim.Relaxed()
	m.Sync, m.Crash, m.Boot, m.LossPM, m.RestorePM = 0, 10, 30, 0, 0
	m.Catch, m.Barrier, m.System = 20, 0, false
	return m
}

// readers has keys read as often as they are written, beside each other.
func readers() sim.Mix {
	m := sim.Stock()
	m.Read, m.BlindPM, m.DeletePM = 24, 400, 500
	return m
}

// slowly has sessions that take long, while what their donors learn arrives at their
// receivers as well.
func slowly() sim.Mix {
	m := sim.Hot()
	m.System, m.BlindPM, m.DropPM, m.DeletePM, m.MaxSessions = false, 900, 300, 100, 3
	m.Write, m.Deliver, m.Commit, m.Crash, m.Boot = 16, 50, 60, 1, 8
	m.Begin, m.Donate, m.Receive, m.Abort, m.Barrier = 16, 16, 24, 0, 0
	return m
}

// bothWays has donors that catch up with others, their receivers among them, when they
// have told what lives.
func bothWays() sim.Mix {
	m := sim.Collecting()
	m.BlindPM, m.TokenPM, m.TTLPM, m.DeletePM, m.DropPM, m.DoublePM, m.ForcePM, m.LearnPM = 0, 0, 0, 600, 900, 0, 1000, 900
	m.Write, m.Deliver, m.Commit, m.Crash, m.Collect, m.Barrier, m.Read, m.Abort = 8, 4, 40, 0, 20, 0, 0, 0
	m.Begin, m.Donate, m.Receive, m.MaxSessions = 20, 30, 30, 1
	return m
}

// erasing has donors that catch up with others, which have just deleted and forgotten
// what the donors never had.
func erasing() sim.Mix {
	m := bothWays()
	m.DeletePM, m.DropPM, m.LearnPM, m.ErasePM = 0, 600, 800, 1000
	m.Write, m.Deliver, m.Collect, m.Donate, m.Receive = 6, 20, 0, 40, 40
	return m
}

// withoutClock has copies that give as soon as they are asked.
func withoutClock() sim.Mix {
	m := sim.Quarantining()
	m.DropPM, m.AckDropPM, m.Begin, m.Donate, m.Receive, m.Catch, m.Crash, m.Write = 500, 0, 0, 0, 0, 40, 10, 24
	m.LossPM, m.RestorePM = 0, 0
	return m
}

// erasedWithoutClock has copies that lose their clocks and hold what others have deleted
// and forgotten.
func erasedWithoutClock() sim.Mix {
	m := withoutClock()
	m.DeletePM, m.Collect, m.ForcePM = 500, 20, 1000
	return m
}

// dropsAtOnce has owners that want to drop their copies at the same time, and disks
// that are lost then.
func dropsAtOnce() sim.Mix {
	m := sim.Dropping()
	m.Offer, m.Crash, m.LossPM, m.Write, m.Deliver, m.Commit, m.MaxSessions = 60, 3, 1000, 6, 60, 40, 2
	return m
}

// dropsAndWrites has writes that arrive while a copy is dropped, and not everywhere.
func dropsAndWrites() sim.Mix {
	m := dropsAtOnce()
	m.Write, m.DropPM, m.AckDropPM, m.Catch, m.Begin, m.Barrier = 20, 300, 0, 6, 0, 0
	return m
}

// dropsBoth has all owners level when they drop, and disks that are lost soon after.
func dropsBoth() sim.Mix {
	m := dropsAtOnce()
	m.Offer, m.Crash, m.Boot, m.Write, m.DropPM, m.Catch, m.Begin = 300, 8, 4, 8, 0, 10, 0
	m.Donate, m.Receive, m.Backup = 0, 0, 0
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
	m.LossPM, m.RestorePM, m.DropPM = 600, 0, 250
	m.Crash, m.Boot, m.Write, m.Deliver, m.Commit = 16, 12, 24, 100, 50
	m.Begin, m.Donate, m.Receive, m.Offer, m.Barrier, m.Break = 1, 2, 2, 0, 0, 0
	return m
}

// lateWords has restarts in sessions that broke, and writes that arrive long
// after what overwrote them.
func lateWords() sim.Mix {
	m := sim.TTL()
	m.LossPM, m.RestorePM, m.DropPM, m.DoublePM, m.TokenPM, m.BlindPM = 0, 0, 0, 0, 0, 100
	m.Deliver, m.Commit, m.Crash, m.Boot, m.Abort, m.Break = 24, 60, 0, 60, 0, 60
	m.MaxSessions, m.Begin = 2, 20
	return m
}

// oftenSealed has processes that go, and sessions that end, so that all see the same of
// them.
func oftenSealed() sim.Mix {
	m := sim.Sealing()
	m.LossPM, m.RestorePM, m.RecordPM, m.DropPM, m.DoublePM = 0, 0, 0, 500, 0
	m.Write, m.Deliver, m.Commit, m.Crash, m.Boot = 20, 20, 40, 6, 40
	m.Begin, m.Donate, m.Receive, m.Abort, m.Break, m.Catch, m.Seal = 0, 0, 0, 0, 0, 60, 60
	return m
}

// lateAndSealed has processes that go with their disks while what they wrote is on its
// way, long enough to be sealed.
func lateAndSealed() sim.Mix {
	m := oftenSealed()
	m.DropPM, m.Barrier, m.Collect, m.DeletePM = 0, 0, 0, 100
	m.Write, m.Deliver, m.Crash, m.Orphan = 10, 2, 0, 12
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
			caught, first, mix := map[string]int{}, -1, p.mix()
			if *uniform {
				mix = sim.Stock()
			}
			for seed := range uint64(seeds) {
				if v := run(sim.Options{Seed: seed, Mix: mix, Bug: p.bug}).Violations(); len(v) > 0 {
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
			require.True(t, len(caught) > 0 || *uniform, "not caught in %d seeds", seeds)
		})
	}
}
