package sim_test

import (
	"testing"

	"edged.dev/edged/internal/sim"

	"github.com/stretchr/testify/require"
)

// later is an expiry that no run reaches; the past is one.
const later = 1 << 40

func reapSchedules() []schedule {
	return []schedule{
		{sim.BugOwnClock, sim.TTL, "I7", func(p *play) {
			p.tell(p.put(p.a, sim.Put{Key: 0, Expires: 1}), 1)
			p.Reap(p.b, 0)
			p.b.Commit()
		}},
		{sim.BugReapRaw, sim.TTL, "I7", func(p *play) {
			p.put(p.a, sim.Put{Key: 0, Expires: later})
			p.put(p.a, sim.Put{Key: 0, Expires: 1})
			p.Reap(p.a, 0)
			p.a.Commit()
		}},
	}
}

// A version removed at one node is gone from all, whatever their clocks say, and a
// late copy of it brings nothing back.
func TestWhatIsReapedStaysAway(t *testing.T) {
	t.Parallel()
	p := newPlay(sim.Options{Mix: sim.TTL()})
	x := p.put(p.a, sim.Put{Key: 0, Expires: 1})
	p.tell(x, 1)
	y := p.put(p.c, sim.Put{Key: 0, Held: true}) // beside it
	gone := p.Reap(p.b, 0)
	require.NotNil(t, gone)
	p.b.Commit()
	p.tell(gone, 0)
	p.tell(gone, 2)
	p.tell(x, 2)
	p.tell(y, 0)
	p.tell(y, 1)
	require.Nil(t, p.Reap(p.b, 0))
	p.Heal()
	p.Final()
	require.Empty(t, p.Violations())
	require.Equal(t, 1, p.Stats().Reaps)
}

// What is evicted is gone from every copy; what was written elsewhere meanwhile is
// not.
func TestWhatIsEvictedStaysAwayAndWhatIsNewStays(t *testing.T) {
	t.Parallel()
	p := newPlay(sim.Options{Mix: sim.TTL()})
	x := p.put(p.a, sim.Put{Key: 0, Expires: later})
	p.tell(x, 1)
	p.tell(x, 2)
	y := p.put(p.c, sim.Put{Key: 0, Held: true})
	gone := p.Evict(p.a, 0)
	require.NotNil(t, gone)
	p.a.Commit()
	require.Nil(t, p.Evict(p.a, 0))
	p.tell(gone, 1)
	p.tell(y, 1)
	p.tell(x, 1)
	p.Heal()
	p.Final()
	require.Empty(t, p.Violations())
	require.NotNil(t, p.Evict(p.b, 0), "y is there")
}

// The lower of two versions of one actor is removed alone, the higher one waits.
func TestReapTakesNoLiveVersionAlong(t *testing.T) {
	t.Parallel()
	p := newPlay(sim.Options{Mix: sim.TTL()})
	p.put(p.a, sim.Put{Key: 0, Expires: 1})
	p.put(p.a, sim.Put{Key: 0, Expires: later})
	p.tell(p.put(p.a, sim.Put{Key: 0, Expires: 1}), 1)
	require.NotNil(t, p.Reap(p.b, 0))
	p.b.Commit()
	require.Nil(t, p.Reap(p.b, 0))
	p.Heal()
	p.Final()
	require.Empty(t, p.Violations())
}
