package sim_test

import (
	"testing"

	"edged.dev/edged/internal/sim"

	"github.com/stretchr/testify/require"
)

// TestADroppedVersionLeavesWhatItImplied has an end drop a tombstone that rot took from
// the donor: that what lies below it is dead was said by its place in the order alone.
func TestADroppedVersionLeavesWhatItImplied(t *testing.T) {
	t.Parallel()
	mix := sim.TTL()
	mix.RotPM = 0
	p := newPlay(sim.Options{Seed: 1, Mix: mix})
	p.put(p.c, sim.Put{Key: 1}) // a hole for the others
	p.put(p.c, sim.Put{Key: 0})
	beside := p.put(p.c, sim.Put{Key: 0, Delete: true})
	p.tell(beside, 0)
	p.tell(beside, 1)
	p.Crash(p.c, 0)
	p.LoseDisk(p.c)
	p.Boot(p.c)
	p.Catch(p.c, p.a, 0)
	p.Catch(p.c, p.b, 0)
	p.Spoil(p.b, 0, sim.RotDirectoryLost)
	p.Mend(0)
	p.put(p.b, sim.Put{Key: 0, Delete: true, Token: p.ReadToken(p.b, 0)})
	p.Catch(p.a, p.b, 0)
	p.Catch(p.c, p.a, 0)
	require.Empty(t, p.Violations())
}
