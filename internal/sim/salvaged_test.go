package sim_test

import (
	"os"
	"testing"

	"edged.dev/edged/internal/sim"

	"github.com/stretchr/testify/require"
)

// quarantining returns a play of a mix with copies that lose their clocks, one
// partition of which is played.
func quarantining(t *testing.T) *play {
	t.Helper()
	mix := sim.Quarantining()
	mix.System = false
	o := sim.Options{Seed: 1, Mix: mix}
	if *traced {
		o.Trace = os.Stdout
	}
	return newPlay(o)
}

// comesBack catches a node that has lost its clock up with the others, and them with
// it.
func (p *play) comesBack(n *sim.Node, others ...*sim.Node) {
	p.loseClock(n)
	for _, m := range others {
		p.Catch(n, m, 0)
	}
	n.Commit()
	for _, m := range others {
		p.Catch(m, n, 0)
	}
}

// TestADeleteOfWhichNothingIsLeft has a node delete one of two versions that all have,
// give the tombstone up, and lose its clock: nothing says any more that the version
// is dead.
func TestADeleteOfWhichNothingIsLeft(t *testing.T) {
	t.Parallel()
	p := quarantining(t)
	first := p.put(p.a, sim.Put{Key: 0})
	seen := p.ReadToken(p.a, 0)
	second := p.put(p.a, sim.Put{Key: 0})
	for _, to := range []int{1, 2} {
		p.tell(first, to)
		p.tell(second, to)
	}
	p.put(p.a, sim.Put{Key: 0, Delete: true, Token: seen})
	p.Collect(p.a, 0, true)
	p.a.Commit()
	require.EqualValues(t, 1, p.Stats().Collected)
	p.comesBack(p.a, p.b, p.c)
	p.Final()
	require.Empty(t, p.Violations())
}

// TestADeleteThatAClaimedVersionImplies has a node delete two versions that another
// has, write beside the tombstone, give it up, and lose its clock.
func TestADeleteThatAClaimedVersionImplies(t *testing.T) {
	t.Parallel()
	p := quarantining(t)
	p.put(p.a, sim.Put{Key: 1})
	p.tell(p.put(p.a, sim.Put{Key: 0}), 1)
	p.tell(p.put(p.a, sim.Put{Key: 0}), 1)
	p.put(p.a, sim.Put{Key: 0, Delete: true, Held: true})
	p.put(p.a, sim.Put{Key: 0})
	p.Collect(p.a, 0, true)
	p.a.Commit()
	require.EqualValues(t, 1, p.Stats().Collected)
	p.comesBack(p.a, p.b, p.c)
	p.Final()
	require.Empty(t, p.Violations())
	require.Positive(t, p.Stats().Adopted)
}

// TestWhatADonorToldStaysBesideWhatIsUnclaimed has a node learn by a context alone that
// a version is dead, whose place in the order lies below one that it holds and does not
// claim.
func TestWhatADonorToldStaysBesideWhatIsUnclaimed(t *testing.T) {
	t.Parallel()
	p := quarantining(t)
	p.tell(p.put(p.a, sim.Put{Key: 0}), 2)
	p.put(p.b, sim.Put{Key: 0, Token: p.ReadToken(p.a, 0)})
	p.put(p.a, sim.Put{Key: 0, Held: true})
	p.comesBack(p.a, p.b, p.c)
	p.Catch(p.c, p.b, 0)
	p.Catch(p.b, p.c, 0)
	p.Final()
	require.Empty(t, p.Violations())
	require.EqualValues(t, 1, p.Stats().Adopted)
}
