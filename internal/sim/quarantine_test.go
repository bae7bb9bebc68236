package sim_test

import (
	"testing"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/internal/sim"

	"github.com/stretchr/testify/require"
)

// loseClock takes a node's clock and starts it again.
func (p *play) loseClock(n *sim.Node) {
	p.Crash(n, 0)
	p.LoseRecords(n, []kv.Partition{0})
	p.Boot(n)
}

func quarantineSchedules() []schedule {
	return []schedule{
		// What b overwrote is at c alone to tell; b claims its write when only a has
		// answered.
		{sim.BugAdoptEarly, sim.Quarantining, "I3", func(p *play) {
			first := p.put(p.a, sim.Put{Key: 0})
			p.tell(first, 1)
			p.tell(first, 2)
			second := p.put(p.b, sim.Put{Key: 0, Held: true})
			p.tell(second, 2)
			p.loseClock(p.b)
			p.Catch(p.b, p.a, 0)
			p.b.Commit()
		}},
		{sim.BugHeldKept, sim.Quarantining, "I3", func(p *play) {
			op := p.put(p.a, sim.Put{Key: 0})
			p.tell(op, 1)
			p.put(p.a, sim.Put{Key: 0, Delete: true, Held: true})
			p.loseClock(p.b)
			p.Collect(p.a, 0, true)
			p.a.Commit()
			p.Catch(p.b, p.a, 0)
		}},
		{sim.BugHeldClaimed, sim.Quarantining, "I3", func(p *play) {
			first := p.put(p.a, sim.Put{Key: 0})
			second := p.put(p.b, sim.Put{Key: 0})
			p.tell(first, 1)
			third := p.put(p.b, sim.Put{Key: 0, Held: true})
			p.tell(second, 0)
			p.tell(third, 2)
			p.loseClock(p.b)
			p.b.Commit()
			p.Catch(p.b, p.a, 0)
		}},
		{sim.BugHeldNotThere, sim.Quarantining, "I7", func(p *play) {
			p.put(p.a, sim.Put{Key: 0})
			p.put(p.b, sim.Put{Key: 1})
			p.loseClock(p.b)
			p.Catch(p.b, p.a, 0)
		}},
	}
}

// TestCopyWithoutItsClockLosesAndRaisesNothing is the plain story, step by step.
func TestCopyWithoutItsClockLosesAndRaisesNothing(t *testing.T) {
	t.Parallel()
	mix := sim.Quarantining()
	mix.System = false
	p := newPlay(sim.Options{Seed: 1, Mix: mix})
	shared := p.put(p.a, sim.Put{Key: 0})
	gone := p.put(p.a, sim.Put{Key: 1})
	for _, to := range []int{1, 2} {
		p.tell(shared, to)
		p.tell(gone, to)
	}
	p.put(p.b, sim.Put{Key: 2}) // b's alone
	del := p.put(p.a, sim.Put{Key: 1, Delete: true, Held: true})
	p.tell(del, 2)
	p.Collect(p.a, 0, true)
	p.a.Commit()
	p.loseClock(p.b)
	for _, from := range []*sim.Node{p.a, p.c} {
		p.Catch(p.b, from, 0)
	}
	p.b.Commit()
	p.Catch(p.a, p.b, 0)
	p.Catch(p.c, p.b, 0)
	p.Final()
	require.Empty(t, p.Violations())
	require.EqualValues(t, 1, p.Stats().Adopted)
	require.Equal(t, 1, p.Stats().L3, "the second donor is asked for what is beyond the first one's clock")
}

// TestAPromiseGoesWithTheRecord has an owner lose its record between the two rounds of
// a seal: the others close on its word, and it learns the seal by a session, which also
// says what lives of what it holds.
func TestAPromiseGoesWithTheRecord(t *testing.T) {
	t.Parallel()
	mix := sim.Sealing()
	mix.RecordPM, mix.Seal = 0, 1
	p := newPlay(sim.Options{Seed: 1, Mix: mix})
	kept := p.put(p.a, sim.Put{Key: 1})
	p.tell(kept, 1)
	p.tell(kept, 2)
	late := onItsWay(p)
	old := p.loseFor(p.a)
	p.Catch(p.a, p.b, 0)
	p.Catch(p.a, p.c, 0)
	p.a.Commit()
	p.BeginSeal(0, old)
	for _, n := range []*sim.Node{p.a, p.b, p.c} {
		p.Promise(n)
	}
	p.loseClock(p.c)
	p.Deliver(late, 2) // its connection went with the process
	p.CloseSeal()
	require.Equal(t, 2, p.Stats().Sealed)
	p.BeginSeal(0, p.c.Sealing(false))
	for _, n := range []*sim.Node{p.a, p.b, p.c} {
		p.Promise(n)
	}
	p.CloseSeal()
	require.Equal(t, 1, p.Stats().Unsealed)
	require.Equal(t, 2, p.Stats().Sealed, "nothing is sealed beside a copy that has lost its clock")
	p.Heal()
	p.Final()
	require.Empty(t, p.Violations())
	require.Positive(t, p.Stats().L3)
	require.Zero(t, p.Stats().Adopted, "the others had seen all that it held")
}
