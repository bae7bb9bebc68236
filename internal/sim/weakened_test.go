package sim_test

import (
	"testing"

	"edged.dev/edged/internal/sim"

	"github.com/stretchr/testify/require"
)

// weakenedSchedules are of the rules of the design whose variants its checker broke, as
// far as other schedules have them not.
func weakenedSchedules() []schedule {
	return []schedule{
		{sim.BugOneRecord, sim.Stock, "I7", func(p *play) {
			p.put(p.c, sim.Put{Key: 0})
			p.put(p.c, sim.Put{Key: 1})
			s := p.Begin(p.b, p.c, 0)
			p.steps(s, p.b, 2) // k0 leans on the record
			s.Abort()
			p.put(p.a, sim.Put{Key: 2})
			p.put(p.a, sim.Put{Key: 0})
			p.Catch(p.b, p.a, 0)
		}},
		{sim.BugRecordGrows, sim.Stock, "I7", func(p *play) {
			for key := range 3 {
				p.put(p.a, sim.Put{Key: key})
			}
			s := p.Begin(p.b, p.a, 0)
			p.steps(s, p.b, 2) // k0 leans on the record
			x := p.put(p.c, sim.Put{Key: 0})
			p.tell(x, 0)
			s.Look()
			p.steps(s, p.b, 1)
			s.Abort()
			p.tell(x, 1)
		}},
		{sim.BugFold, sim.Stock, "I3", func(p *play) {
			x, y := p.put(p.a, sim.Put{Key: 0}), p.put(p.b, sim.Put{Key: 0})
			p.tell(x, 1)
			p.tell(y, 0)
			both := p.ReadToken(p.b, 0)
			p.Read(p.a, 0)
			p.a.Commit()
			p.tell(p.put(p.b, sim.Put{Key: 0, Delete: true, Token: both}), 0)
		}},
		{sim.BugTombstoneView, sim.Stock, "I9", func(p *play) {
			x := p.put(p.a, sim.Put{Key: 0})
			p.Pass(10)
			beside := p.put(p.b, sim.Put{Key: 0, Delete: true})
			p.tell(x, 1)
			p.tell(beside, 0)
			p.Collect(p.b, 0, true)
			p.b.Commit()
		}},
		{sim.BugLiveOnce, sim.Stock, "I7", func(p *play) {
			buried(p)
			p.put(p.c, sim.Put{Key: 1})
			s := p.Begin(p.c, p.a, 0)
			p.steps(s, p.c, 3) // it was told what lives
			p.Catch(p.a, p.c, 0)
			p.steps(s, p.c, 10)
		}},
		// What c holds was never a's, and b has forgotten its delete.
		{sim.BugFloorOnce, sim.Stock, "I3", func(p *play) {
			p.tell(p.put(p.b, sim.Put{Key: 0}), 2)
			s := p.Begin(p.c, p.a, 0)
			p.steps(s, p.c, 1)
			p.put(p.b, sim.Put{Key: 0, Held: true, Delete: true})
			p.Collect(p.b, 0, true)
			p.b.Commit()
			p.Catch(p.a, p.b, 0)
			p.steps(s, p.c, 10)
		}},
		{sim.BugStub, sim.Stock, "I7", func(p *play) {
			p.tell(p.put(p.a, sim.Put{Key: 0}), 1)
			p.Collect(p.a, 0, true)
			p.Catch(p.c, p.a, 0)
		}},
		// b holds what it had overwritten, beside what it overwrote that with.
		{sim.BugDonorWithout, sim.Quarantining, "I3", func(p *play) {
			p.tell(p.put(p.a, sim.Put{Key: 0}), 1)
			p.put(p.b, sim.Put{Key: 0, Held: true})
			p.loseClock(p.b)
			p.Catch(p.b, p.a, 0)
			p.Catch(p.c, p.b, 0)
		}},
	}
}

// Of the weakened variants of the design, "collection not pinned by a session" is none
// here: a copy gives up pinned tombstones by rule all the same, where it joins what an
// owner sends that has collected them, so a session's end looks at the floor once more
// (BugFloorOnce has it not do so), and its receiver is told what lives. The pin only
// spares it that.
func TestACollectionThatIsNotPinnedBreaksNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		bug              sim.Bug
		collected, below int
	}{{sim.NoBug, 0, 0}, {sim.BugNotPinned, 1, 1}} {
		p := newPlay(sim.Options{Mix: sim.Stock(), Bug: c.bug})
		x := p.put(p.a, sim.Put{Key: 0})
		p.tell(x, 1)
		p.tell(x, 2)
		s := p.Begin(p.c, p.a, 0)
		p.steps(s, p.c, 1)
		p.put(p.a, sim.Put{Key: 0, Held: true, Delete: true})
		p.Collect(p.a, 0, true)
		p.a.Commit()
		require.Equal(t, c.collected, p.Stats().Collected)
		p.steps(s, p.c, 10)
		require.Equal(t, 1, p.Stats().Sessions)
		require.Equal(t, c.below, p.Stats().Below)
		p.Heal()
		p.Final()
		require.Empty(t, p.Violations())
	}
	for seed := range uint64(200) {
		require.Empty(t, run(sim.Options{Seed: seed, Mix: bothWays(), Bug: sim.BugNotPinned}).Violations(), "seed %d", seed)
	}
}
