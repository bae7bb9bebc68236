package sim_test

import (
	"slices"
	"testing"

	"edged.dev/edged/internal/sim"

	"github.com/stretchr/testify/require"
)

// play is a world whose steps a test chooses. Its nodes are a, b and c.
type play struct {
	*sim.World
	a, b, c *sim.Node
}

func newPlay(o sim.Options) *play {
	o.Directed = true
	w := sim.New(o)
	return &play{w, w.Node(0), w.Node(1), w.Node(2)}
}

// put writes and publishes.
func (p *play) put(n *sim.Node, put sim.Put) *sim.Op {
	op := p.Write(n, put)
	n.Commit()
	return op
}

// tell lets a write arrive at a node, which publishes it.
func (p *play) tell(op *sim.Op, to int) {
	p.Deliver(op, to)
	p.Node(to).Commit()
}

// steps lets a session's donor make n steps and its receiver take what came.
func (p *play) steps(s *sim.Session, to *sim.Node, n int) {
	for range n {
		s.Donate()
		for s.Receive() {
		}
		to.Commit()
	}
}

func (p *play) reboot(n *sim.Node) {
	p.Crash(n, 0)
	p.Boot(n)
}

// schedule is one way to a bug, step by step: it ends in a violation if the bug
// is there, and in none if it is not.
type schedule struct {
	bug  sim.Bug
	mix  func() sim.Mix
	rule string
	run  func(p *play)
}

func schedules() []schedule {
	return slices.Concat(sessionSchedules(), otherSchedules(), collectionSchedules(), reapSchedules(), awaySchedules(), dropSchedules(), sealSchedules(), quarantineSchedules(), weakenedSchedules())
}

func sessionSchedules() []schedule {
	return []schedule{
		{sim.BugSkipTail, sim.Stock, "I7", func(p *play) {
			p.put(p.a, sim.Put{Key: 0})
			s := p.Begin(p.b, p.a, 0)
			p.steps(s, p.b, 1)
			p.put(p.a, sim.Put{Key: 1})
			p.steps(s, p.b, 10)
		}},
		{sim.BugClockPerChunk, sim.Stock, "I7", overwrittenByAnother},
		{sim.BugHalfSession, sim.Stock, "I7", func(p *play) {
			overwrittenByAnother(p)
		}},
		{sim.BugKeepForgotten, sim.Stock, "I7", func(p *play) {
			p.put(p.a, sim.Put{Key: 0})
			p.tell(p.put(p.a, sim.Put{Key: 1}), 1)
			p.Catch(p.b, p.a, 0)
		}},
		{sim.BugChunkLost, sim.Stock, "I7", func(p *play) {
			p.put(p.a, sim.Put{Key: 0})
			p.Catch(p.b, p.a, 0)
		}},
		{sim.BugFirstBase, sim.Stock, "I3", func(p *play) {
			x := p.put(p.c, sim.Put{Key: 0})
			p.tell(x, 1)
			s := p.Begin(p.b, p.a, 0)
			p.steps(s, p.b, 1)
			p.tell(x, 0)
			p.put(p.a, sim.Put{Key: 0, Held: true})
			p.steps(s, p.b, 10)
		}},
		{sim.BugLateBase, sim.Stock, "I7", func(p *play) {
			p.put(p.a, sim.Put{Key: 0})
			s := p.Begin(p.b, p.a, 0)
			p.steps(s, p.b, 1)
			p.tell(p.put(p.c, sim.Put{Key: 0}), 0)
			p.steps(s, p.b, 10)
		}},
		{sim.BugLateEnd, sim.Stock, "I7", func(p *play) {
			p.put(p.a, sim.Put{Key: 0})
			s := p.Begin(p.b, p.a, 0)
			p.steps(s, p.b, 1)
			p.Write(p.a, sim.Put{Key: 1})
			p.steps(s, p.b, 10)
		}},
		{sim.BugEcho, sim.Stock, "I15", func(p *play) {
			p.put(p.a, sim.Put{Key: 0})
			p.put(p.b, sim.Put{Key: 1})
			p.CatchBoth(p.a, p.b, 0)
		}},
		{sim.BugUnsyncedEnd, sim.Relaxed, "R4", func(p *play) {
			p.put(p.a, sim.Put{Key: 0})
			p.Catch(p.b, p.a, 0)
			p.reboot(p.a)
		}},
		{sim.BugUnsyncedEnd, sim.Stock, "R4", func(p *play) { // of what a session brought
			p.put(p.c, sim.Put{Key: 0})
			p.steps(p.Begin(p.a, p.c, 0), p.a, 8)
			p.Catch(p.b, p.a, 0)
			p.reboot(p.a)
		}},
		{sim.BugOldKnowledge, sim.Stock, "I7", func(p *play) {
			p.tell(p.put(p.a, sim.Put{Key: 0}), 1)
			p.Catch(p.b, p.a, 0)
			p.Crash(p.b, 0)
			p.LoseDisk(p.b)
			p.Boot(p.b)
			p.Catch(p.b, p.a, 0)
		}},
	}
}

// overwrittenByAnother breaks a session behind the first of two objects; the
// second would have told what became of the first dot of its donor.
func overwrittenByAnother(p *play) {
	x := p.put(p.a, sim.Put{Key: 0})
	p.put(p.a, sim.Put{Key: 1})
	p.tell(x, 2)
	p.tell(p.put(p.c, sim.Put{Key: 0, Held: true}), 0)
	s := p.Begin(p.b, p.a, 0)
	p.steps(s, p.b, 2)
	s.Abort()
	p.b.Commit()
}

func otherSchedules() []schedule {
	siblings := func(p *play) {
		p.put(p.a, sim.Put{Key: 0})
		p.tell(p.put(p.a, sim.Put{Key: 0}), 1)
	}
	return []schedule{
		{sim.BugOnlyNewDot, sim.Stock, "I7", siblings},
		{sim.BugSiblingsCut, sim.Stock, "I7", siblings},
		{sim.BugForeignToken, sim.Stock, "I7", func(p *play) {
			p.tell(p.put(p.a, sim.Put{Key: 0}), 1)
			p.put(p.a, sim.Put{Key: 1})
			p.put(p.b, sim.Put{Key: 0, Token: p.ReadToken(p.a, 1)})
		}},
		{sim.BugAckEarly, sim.Stock, "I1", func(p *play) {
			op := p.put(p.a, sim.Put{Key: 0})
			p.Deliver(op, 1) // b plans it
			p.Deliver(op, 0) // and says so
			p.reboot(p.b)
			p.Crash(p.a, 0)
			p.LoseDisk(p.a)
			p.Heal()
			p.Final()
		}},
		{sim.BugActorReused, sim.Stock, "I5", func(p *play) {
			p.put(p.a, sim.Put{Key: 0})
			p.reboot(p.a)
			p.put(p.a, sim.Put{Key: 1})
		}},
		{sim.BugLossKeepsClock, sim.Stock, "I4", func(p *play) {
			p.tell(p.put(p.a, sim.Put{Key: 0}), 1)
			p.Crash(p.b, 0)
			p.LoseDisk(p.b)
			p.Boot(p.b)
		}},
		{sim.BugRecordLost, sim.Stock, "I3", func(p *play) {
			x := p.put(p.c, sim.Put{Key: 0})
			p.tell(x, 0)
			p.put(p.a, sim.Put{Key: 0, Held: true})
			p.put(p.a, sim.Put{Key: 1})
			s := p.Begin(p.b, p.a, 0)
			p.steps(s, p.b, 2)
			p.b.Sync()
			p.reboot(p.b)
			p.tell(x, 1)
		}},
		{sim.BugMarkLost, sim.Stock, "I7", func(p *play) {
			p.tell(p.put(p.a, sim.Put{Key: 0}), 1)
			p.put(p.b, sim.Put{Key: 0})
			p.reboot(p.b)
			p.Catch(p.c, p.b, 0)
		}},
		{sim.BugHealByJoin, sim.TTL, "I7", func(p *play) {
			op := p.put(p.a, sim.Put{Key: 0})
			p.tell(op, 1)
			p.tell(op, 2)
			p.Spoil(p.a, 0, sim.RotObjectLost)
			p.Mend(0)
		}},
		{sim.BugHealOnce, sim.Rotting, "I3", lostWhileWritten},
		{sim.BugGiveDamaged, sim.Rotting, "I5", lostWhileWritten},
		{sim.BugTokenOwnActors, sim.Stock, "I3", func(p *play) {
			x := p.put(p.c, sim.Put{Key: 0})
			p.tell(x, 0)
			p.put(p.a, sim.Put{Key: 0, Held: true})
			p.put(p.b, sim.Put{Key: 0, Token: p.ReadToken(p.a, 0)})
			p.tell(x, 1)
		}},
		{sim.BugContextStripped, sim.Stock, "I3", func(p *play) {
			p.tell(p.put(p.a, sim.Put{Key: 0}), 1)
			p.put(p.c, sim.Put{Key: 0, Token: p.ReadToken(p.a, 0)})
			p.Catch(p.b, p.c, 0)
		}},
	}
}

// lostWhileWritten has an object rot away, and its copy healed while others write, and
// itself has written what has reached nobody.
func lostWhileWritten(p *play) {
	for k := range 2 {
		op := p.put(p.a, sim.Put{Key: k})
		p.tell(op, 1)
		p.tell(op, 2)
	}
	for range 4 { // what is written, and arrives, is drawn
		p.Spoil(p.a, 0, sim.RotObjectLost)
		p.MendWritten(0, []*sim.Node{p.a}, []int{1, 2})
	}
}

// TestDirectedSchedulesCatchPlantedBugs walks straight to each planted bug; the
// same steps without the bug are harmless.
func TestDirectedSchedulesCatchPlantedBugs(t *testing.T) {
	t.Parallel()
	covered := map[sim.Bug]bool{}
	for _, s := range schedules() {
		covered[s.bug] = true
		t.Run(string(s.bug), func(t *testing.T) {
			t.Parallel()
			sound := newPlay(sim.Options{Mix: s.mix()})
			s.run(sound)
			require.Empty(t, sound.Violations(), "the steps alone break nothing")
			broken := newPlay(sim.Options{Mix: s.mix(), Bug: s.bug})
			s.run(broken)
			require.NotEmpty(t, broken.Violations())
			require.Equal(t, s.rule, broken.Violations()[0].Rule, "%v", broken.Violations()[0])
		})
	}
	for _, p := range plants() {
		require.True(t, covered[p.bug], "no schedule leads to %q", p.bug)
	}
}
