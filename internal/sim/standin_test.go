package sim_test

import (
	"testing"

	"edged.dev/edged/internal/sim"

	"github.com/stretchr/testify/require"
)

// acked lets a write become durable at nodes, and its coordinator hear of it.
func (p *play) acked(op *sim.Op, from int, at ...int) {
	for _, to := range at {
		p.tell(op, to)
		p.Deliver(op, from)
	}
}

// offered lets a node offer its copy, and the owners that are asked answer.
func (p *play) offered(n *sim.Node, asked ...*sim.Node) {
	p.Pass(10_000) // no promise of an earlier process holds any more
	p.Offer(n)
	for _, o := range asked {
		p.Cover(n, o)
	}
}

// lose takes a node's disk.
func (p *play) lose(n *sim.Node) {
	p.Crash(n, 0)
	p.LoseDisk(n)
}

func (p *play) judge() {
	p.Heal()
	p.Final()
}

func dropSchedules() []schedule {
	return []schedule{
		{sim.BugSeqForgotten, sim.Dropping, "I5", func(p *play) {
			p.acked(p.put(p.a, sim.Put{Key: 0}), 0, 1, 2)
			p.offered(p.a, p.b, p.c)
			p.Drop(p.a)
			p.put(p.a, sim.Put{Key: 1})
		}},
		{sim.BugSeqKept, sim.Dropping, "I7", func(p *play) {
			p.acked(p.put(p.a, sim.Put{Key: 0}), 0, 1, 2)
			p.offered(p.a, p.b, p.c)
			p.Drop(p.a)
			p.tell(p.put(p.a, sim.Put{Key: 0}), 1)
		}},
		{sim.BugCheckThenDrop, sim.Dropping, "I1", func(p *play) {
			p.acked(p.put(p.a, sim.Put{Key: 0}), 0, 1, 2)
			p.offered(p.a, p.b, p.c)
			p.acked(p.put(p.a, sim.Put{Key: 1}), 0, 1)
			p.Drop(p.a)
			p.lose(p.b)
			p.judge()
		}},
		{sim.BugDropEarly, sim.Dropping, "I1", func(p *play) {
			p.acked(p.put(p.a, sim.Put{Key: 0}), 0, 1)
			p.offered(p.a, p.b)
			p.Drop(p.a)
			p.lose(p.b)
			p.judge()
		}},
		{sim.BugPromiseBroken, sim.Dropping, "I1", func(p *play) {
			p.acked(p.put(p.a, sim.Put{Key: 0}), 0, 1, 2)
			p.offered(p.a, p.b, p.c)
			p.offered(p.b, p.a, p.c)
			p.Cover(p.a, p.b)
			p.Drop(p.a)
			p.Drop(p.b)
			p.lose(p.c)
			p.judge()
		}},
		{sim.BugStandInCounts, sim.StandIn, "I1", func(p *play) {
			p.Crash(p.b, 0)
			p.Crash(p.c, 0)
			p.acked(p.put(p.a, sim.Put{Key: 0}), 0, 3)
			p.lose(p.a)
			p.lose(p.Node(3))
			p.judge()
		}},
	}
}

// A node takes the writes of a partition with one owner up, hands them to an owner
// that returns, and drops its copy when all have them: the disk of the one that took
// them first is lost meanwhile.
func TestAStandInHandsOffWhatItTook(t *testing.T) {
	t.Parallel()
	p := newPlay(sim.Options{Mix: sim.StandIn()})
	d := p.Node(3)
	old := p.put(p.a, sim.Put{Key: 1})
	p.acked(old, 0, 1, 2)
	require.True(t, old.Acked)
	require.False(t, p.Holds(d), "enough owners are up")
	p.Crash(p.b, 0)
	p.Crash(p.c, 0)
	op := p.put(p.a, sim.Put{Key: 0})
	p.acked(op, 0, 3)
	require.True(t, p.Holds(d))
	require.False(t, op.Acked, "its copy is told apart")
	p.lose(p.a)
	p.Boot(p.b)
	p.offered(d, p.b)
	require.False(t, p.Drop(d), "no owner covers it")
	p.Catch(p.b, d, 0)
	p.offered(d, p.b)
	require.False(t, p.Drop(d), "not all do")
	p.Boot(p.a)
	p.Boot(p.c)
	p.Catch(p.a, p.b, 0)
	p.Catch(p.c, p.a, 0)
	p.offered(d, p.a, p.b, p.c)
	require.True(t, p.Drop(d))
	require.False(t, p.Holds(d))
	p.judge()
	require.Empty(t, p.Violations())
	s := p.Stats()
	require.Equal(t, []int{1, 1, 1, 0}, []int{s.StoodIn, s.HandedOff, s.Dropped, s.CameBack})
}

// What comes between the offer and the drop keeps the copy.
func TestACopyIsKeptForWhatCameMeanwhile(t *testing.T) {
	t.Parallel()
	p := newPlay(sim.Options{Mix: sim.StandIn()})
	d := p.Node(3)
	p.Crash(p.b, 0)
	p.Crash(p.c, 0)
	p.acked(p.put(p.a, sim.Put{Key: 0}), 0, 3)
	late := p.put(p.a, sim.Put{Key: 1})
	p.Boot(p.b)
	p.Boot(p.c)
	p.Catch(p.b, p.a, 0)
	p.Catch(p.c, p.a, 0)
	p.offered(d, p.a, p.b, p.c)
	p.tell(late, 3)
	require.False(t, p.Drop(d))
	p.offered(d, p.a, p.b, p.c)
	require.True(t, p.Drop(d))
	p.judge()
	require.Empty(t, p.Violations())
}
