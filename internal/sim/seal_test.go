package sim_test

import (
	"testing"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/internal/sim"

	"github.com/stretchr/testify/require"
)

// sealAll runs both rounds over all owners; between lets something happen after the
// first.
func sealAll(p *play, n *sim.Node, living bool, between func()) {
	p.BeginSeal(0, n.Sealing(living))
	for _, owner := range []*sim.Node{p.a, p.b, p.c} {
		p.Promise(owner)
	}
	between()
	p.CloseSeal()
}

// onItsWay lets a process write a key twice; the second write is on its way, and
// with the disk and the process nobody has it any more.
func onItsWay(p *play) *sim.Op {
	first := p.put(p.a, sim.Put{Key: 0})
	p.tell(first, 1)
	p.tell(first, 2)
	return p.put(p.a, sim.Put{Key: 0, Held: true})
}

func sealSchedules() []schedule {
	return []schedule{
		{sim.BugNoFence, sim.Stock, "I3", func(p *play) {
			late := onItsWay(p)
			old := p.loseFor(p.a)
			p.Catch(p.a, p.b, 0)
			p.Catch(p.a, p.c, 0)
			p.a.Commit()
			p.BeginSeal(0, old)
			p.Promise(p.a)
			p.Promise(p.b)
			p.Promise(p.c)
			p.tell(late, 1)
			p.CloseSeal()
		}},
		{sim.BugLateJoined, sim.Stock, "I7", func(p *play) {
			late := onItsWay(p)
			old := p.loseFor(p.a)
			p.Catch(p.a, p.b, 0)
			p.Catch(p.a, p.c, 0)
			p.a.Commit()
			p.BeginSeal(0, old)
			p.Promise(p.a)
			p.Promise(p.b)
			p.Promise(p.c)
			p.CloseSeal()
			p.tell(late, 1)
		}},
		{sim.BugSealUnlike, sim.Stock, "I7", func(p *play) {
			p.tell(p.put(p.a, sim.Put{Key: 0}), 1)
			p.reboot(p.a)
			sealAll(p, p.a, false, func() {})
		}},
		{sim.BugSealLiving, sim.Stock, "I3", func(p *play) {
			onItsWay(p)
			sealAll(p, p.a, true, func() {})
			p.put(p.a, sim.Put{Key: 1})
			p.put(p.b, sim.Put{Key: 2})
		}},
	}
}

// loseFor takes a node's disk and boots it on an empty one; it returns the seal over
// what it was.
func (p *play) loseFor(n *sim.Node) (old kv.Dot) {
	old = n.Sealing(true)
	p.Crash(n, 0)
	p.LoseDisk(n)
	p.Boot(n)
	return old
}

func TestSealedProcessesAreOneEntryAndStayDead(t *testing.T) {
	t.Parallel()
	p := newPlay(sim.Options{Mix: sim.Sealing()})
	late := onItsWay(p)
	old := p.loseFor(p.a)
	p.Catch(p.a, p.b, 0)
	p.Catch(p.a, p.c, 0)
	p.a.Commit()
	p.BeginSeal(0, old)
	p.Promise(p.a)
	p.Promise(p.b)
	p.Promise(p.c)
	p.CloseSeal()
	require.Equal(t, 3, p.Stats().Sealed)
	for to := range sim.Nodes {
		p.Deliver(late, to)
	}
	p.Heal()
	p.Final()
	require.Empty(t, p.Violations())
	require.Positive(t, p.Stats().Late)
}

func TestAnUnlikeOwnerStopsASeal(t *testing.T) {
	t.Parallel()
	p := newPlay(sim.Options{Mix: sim.Sealing()})
	p.tell(p.put(p.a, sim.Put{Key: 0}), 1)
	p.reboot(p.a)
	sealAll(p, p.a, false, func() {})
	require.Zero(t, p.Stats().Sealed)
	p.Catch(p.c, p.b, 0) // a promise stops no session
	sealAll(p, p.a, false, func() {})
	require.Equal(t, 3, p.Stats().Sealed)
	p.Heal()
	p.Final()
	require.Empty(t, p.Violations())
}
