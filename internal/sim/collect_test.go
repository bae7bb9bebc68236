package sim_test

import (
	"testing"

	"edged.dev/edged/internal/sim"

	"github.com/stretchr/testify/require"
)

// buried lets a key be written everywhere and deleted without c's knowledge; a has
// given the tombstone up.
func buried(p *play) {
	w := p.put(p.a, sim.Put{Key: 0})
	p.tell(w, 1)
	p.tell(w, 2)
	p.tell(p.put(p.a, sim.Put{Key: 0, Held: true, Delete: true}), 1)
	p.Collect(p.a, 0, true)
	p.a.Commit()
}

func collectionSchedules() []schedule {
	return []schedule{
		{sim.BugNoLiveDots, sim.Stock, "I3", func(p *play) {
			buried(p)
			p.Catch(p.c, p.a, 0)
		}},
		{sim.BugFloorForgotten, sim.Stock, "I3", func(p *play) {
			buried(p)
			p.Crash(p.b, 0)
			p.LoseDisk(p.b)
			p.Boot(p.b)
			p.Catch(p.b, p.a, 0)
			p.Catch(p.c, p.b, 0)
		}},
	}
}

func TestWhoComesFromBelowTheFloorResurrectsNothing(t *testing.T) {
	t.Parallel()
	p := newPlay(sim.Options{Mix: sim.Stock()})
	buried(p)
	alone := p.put(p.c, sim.Put{Key: 1}) // what it alone wrote stays
	p.Catch(p.c, p.a, 0)
	require.Empty(t, p.Violations())
	require.Equal(t, 1, p.Stats().Below)
	require.Equal(t, 1, p.Stats().Collected)
	p.Catch(p.a, p.c, 0)
	p.Heal()
	p.Final()
	require.Empty(t, p.Violations())
	require.False(t, alone.Acked)
}

func TestATombstoneWaitsUntilAllOwnersHaveIt(t *testing.T) {
	t.Parallel()
	p := newPlay(sim.Options{Mix: sim.Stock()})
	p.tell(p.put(p.a, sim.Put{Key: 0, Delete: true}), 1)
	p.Collect(p.a, 0, false)
	require.Zero(t, p.Stats().Collected, "c has not said that it has it")
	p.Heal()
	p.Collect(p.a, 0, false)
	p.a.Commit()
	require.Equal(t, 1, p.Stats().Collected)
	p.Heal()
	p.Final()
	require.Empty(t, p.Violations())
	require.Zero(t, p.Stats().Below, "nobody had to be told what lives")
}
