package core_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/internal/layout"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// planned drives the machine of n1, which has missed a write of n2's in each of
// the partitions 0 to 3. n2 and n3 are LIVE and have all of it.
type planned struct {
	t       *testing.T
	now     int64
	copies  copies
	machine *core.Machine
	hellos  []core.SendHello // not answered
	plans   int              // asked for
	loads   map[string]wire.Load
}

const planParts = 4

func newPlanned(t *testing.T) *planned { return newZoned(t, "", "", "") }

// newZoned is newPlanned with the zones of n1, n2 and n3.
func newZoned(t *testing.T, zones ...string) *planned {
	s := &planned{t: t, now: 1000 * second, copies: copies{kv.System: {trust: kv.Whole}}}
	var members []layout.Member
	for i, name := range []string{"n1", "n2", "n3"} {
		members = append(members, layout.Member{Name: name, Node: uint64(i + 1), Epoch: 1, Weight: 1, Zone: zones[i]})
	}
	for p := range kv.Partition(planParts) {
		s.copies[p] = &copyOf{kv.Whole, s.clockOf(1)}
	}
	s.machine = core.New(core.Config{
		Self: "n1", Node: 1, Copies: s.copies, W: 2, Jitter: func() uint64 { return uint64(core.TickEvery) / 4 },
	})
	l, err := layout.New(planParts, 3, members)
	require.NoError(t, err)
	s.step(core.LayoutChanged{Layout: l})
	return s
}

// clockOf has seen so many writes of n2's.
func (s *planned) clockOf(writes uint64) kv.Clock {
	var c kv.Clock
	for seq := range writes {
		c.Add(kv.Dot{Actor: actorOf("n2", 1), Seq: seq + 1})
	}
	return c
}

func (s *planned) step(ev core.Event) {
	for _, e := range s.machine.Step(s.now, ev) {
		switch e := e.(type) {
		case core.SendHello:
			s.hellos = append(s.hellos, e)
		case core.WantPlan:
			s.plans++
		}
	}
}

func (s *planned) pass(d time.Duration) {
	for range d / (20 * time.Millisecond) {
		s.now += int64(20 * time.Millisecond)
		for _, name := range []string{"n2", "n3"} {
			s.step(core.Ponged{Name: name, Stamp: s.now, Load: s.loads[name]})
		}
		s.step(core.Passed{})
	}
}

// meet connects a LIVE peer, whose HELLO brings its clocks.
func (s *planned) meet(names ...string) {
	for _, name := range names {
		s.step(core.PeerUp{Name: name, Node: actorOf(name, 1).Node, Boot: 1})
		parts := make([]wire.Serving, planParts)
		for i := range parts {
			parts[i] = wire.ServingLive
		}
		s.step(core.Stated{Name: name, State: wire.State{Version: 1, System: wire.ServingLive, Parts: parts}})
	}
	s.pass(20 * time.Millisecond)
	s.answer()
}

// answer answers every HELLO with clocks that have a write more, and returns what
// was wanted of whom.
func (s *planned) answer() map[string][]kv.Partition {
	out := map[string][]kv.Partition{}
	for _, h := range slices.Clone(s.hellos) {
		wants := slices.DeleteFunc(slices.Clone(h.Wants), func(p kv.Partition) bool { return p == kv.System })
		out[h.Name] = append(out[h.Name], wants...)
		ack := wire.HelloAck{Equal: []wire.CopyClock{{Partition: kv.System, State: kv.Live, Trust: kv.Whole}}}
		for p := range kv.Partition(planParts) {
			ack.Copies = append(ack.Copies, wire.CopyClock{Partition: p, Clock: s.clockOf(2), State: kv.Live, Trust: kv.Whole})
		}
		s.step(core.HelloAnswered{Name: h.Name, Session: h.Session, Wants: h.Wants, Ack: ack, AskAt: s.now})
	}
	s.hellos = nil
	return out
}

// asked lets a little time pass and returns what is asked of whom meanwhile, and
// the sessions it is asked in.
func (s *planned) asked() (map[string][]kv.Partition, map[kv.Partition]core.SendHello) {
	s.pass(200 * time.Millisecond)
	of := map[kv.Partition]core.SendHello{}
	for _, h := range s.hellos {
		for _, p := range h.Wants {
			of[p] = h
		}
	}
	wants := s.answer()
	for name, parts := range wants {
		if len(parts) == 0 {
			delete(wants, name)
		}
	}
	return wants, of
}

// arrive ends the streams of partitions in order.
func (s *planned) arrive(of map[kv.Partition]core.SendHello, parts ...kv.Partition) {
	for _, p := range parts {
		s.copies[p].clock = s.clockOf(2)
		s.step(core.PartEnded{Name: of[p].Name, Session: of[p].Session, Partition: p})
	}
}

func TestWithoutAPolicyNothingIsPlanned(t *testing.T) {
	t.Parallel()
	s := newPlanned(t)
	s.step(core.Planned{Orders: []core.Order{{Partition: 0, Delay: core.MaxDelay}}})
	s.step(core.PeerUp{Name: "n2", Node: 2, Boot: 1})
	require.Equal(t, map[string][]kv.Partition{"n2": {0, 1, 2, 3}}, s.answer(), "all at once, before the clocks are known")
	s.pass(time.Second)
	require.Zero(t, s.plans)
}

func TestAPlanOrdersWavesAndPeers(t *testing.T) {
	t.Parallel()
	s := newPlanned(t)
	s.step(core.Planning{On: true})
	s.meet("n2", "n3")
	require.Equal(t, 1, s.plans, "the clocks came first")
	gaps := s.machine.Gaps()
	require.Len(t, gaps, 2*planParts)
	require.Equal(t, core.Gap{Partition: 0, Peer: "n2", Node: 2, Dots: 1}, gaps[0])

	s.step(core.Planned{Orders: []core.Order{
		{Partition: 3, Peers: []string{"n3", "n2"}}, {Partition: 1, Wave: 1, Peers: []string{"n3"}}, {Partition: 0, Wave: 1, Peers: []string{"n2"}}, {Partition: 2, Wave: 2},
	}})
	wants, of := s.asked()
	require.Equal(t, map[string][]kv.Partition{"n3": {3}}, wants)
	s.arrive(of, 3)
	wants, of = s.asked()
	require.Equal(t, map[string][]kv.Partition{"n2": {0}, "n3": {1}}, wants)
	s.arrive(of, 1)
	wants, _ = s.asked()
	require.Empty(t, wants, "the wave is not over")
	s.arrive(of, 0)
	wants, of = s.asked()
	require.Equal(t, map[string][]kv.Partition{"n2": {2}}, wants, "any peer")
	s.arrive(of, 2)
	s.pass(10 * time.Second)
	require.Empty(t, s.machine.Gaps())
	require.Equal(t, 1, s.plans, "nothing is left to plan")
	for _, p := range s.machine.Parts() {
		require.Equal(t, kv.Live, p.State)
	}
}

func TestAPlanDelaysAndNeverStarves(t *testing.T) {
	t.Parallel()
	s := newPlanned(t)
	s.step(core.Planning{On: true})
	s.meet("n2", "n3")
	late := func(d int64) core.Planned {
		var e core.Planned
		for p := range kv.Partition(planParts) {
			e.Orders = append(e.Orders, core.Order{Partition: p, Delay: d})
		}
		return e
	}
	s.step(late(2 * second))
	wants, _ := s.asked()
	require.Empty(t, wants)
	s.pass(2 * time.Second)
	wants, _ = s.asked()
	require.Len(t, wants["n2"], planParts)

	s = newPlanned(t)
	s.step(core.Planning{On: true})
	s.meet("n2", "n3")
	began, answered := s.now, 0
	for s.now < began+core.MaxDelay-second {
		if s.plans > answered {
			answered = s.plans
			s.step(late(1 << 60))
		}
		wants, _ = s.asked()
		require.Empty(t, wants, "at %v", time.Duration(s.now-began))
	}
	s.pass(1500 * time.Millisecond)
	wants, _ = s.asked()
	require.Len(t, wants["n2"], planParts, "the longest delay is over, and the plan says never")
	require.InDelta(t, 120, s.plans, 5, "a plan is made anew while anything waits")
}

func TestAPlanThatDoesNotComeIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	s := newPlanned(t)
	s.step(core.Planning{On: true})
	s.meet("n2", "n3")
	s.pass(800 * time.Millisecond)
	require.Empty(t, s.hellos)
	s.pass(300 * time.Millisecond)
	require.Len(t, s.answer()["n2"], planParts)

	s = newPlanned(t) // a plan that forgets a partition
	s.step(core.Planning{On: true})
	s.meet("n2", "n3")
	s.step(core.Planned{Orders: []core.Order{{Partition: 1}}})
	wants, _ := s.asked()
	require.Equal(t, map[string][]kv.Partition{"n2": {1}}, wants)
	require.Equal(t, 1, s.plans)
	s.pass(time.Second)
	require.Equal(t, []kv.Partition{0, 2, 3}, s.answer()["n2"])
	require.Equal(t, 3, s.plans, "it is asked for one that names all")
}

// TestNoPlanKeepsAwayWhatNobodyServes: where no other owner is LIVE, a delay would
// be an outage.
func TestNoPlanKeepsAwayWhatNobodyServes(t *testing.T) {
	t.Parallel()
	s := newPlanned(t)
	s.step(core.Planning{On: true})
	s.meet("n2", "n3")
	s.step(core.Planned{Orders: []core.Order{{Partition: 0, Delay: core.MaxDelay}, {Partition: 1, Delay: core.MaxDelay}, {Partition: 2, Delay: core.MaxDelay}, {Partition: 3, Delay: core.MaxDelay}}})
	s.pass(2 * time.Second)
	require.Empty(t, s.hellos)
	for _, name := range []string{"n2", "n3"} {
		s.step(core.Stated{Name: name, State: wire.State{Version: 2, Parts: make([]wire.Serving, planParts)}})
	}
	s.pass(20 * time.Millisecond)
	require.Len(t, s.answer()["n2"], planParts)
}

func TestAPreferredPeerThatFailsIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	plan := core.Planned{Orders: []core.Order{{Partition: 0, Peers: []string{"n3"}}, {Partition: 1, Wave: 1}, {Partition: 2, Wave: 1}, {Partition: 3, Wave: 1}}}
	s := newPlanned(t)
	s.step(core.Planning{On: true})
	s.meet("n2", "n3")
	s.step(plan)
	wants, of := s.asked()
	require.Equal(t, map[string][]kv.Partition{"n3": {0}}, wants)
	s.step(core.PartEnded{Name: "n3", Session: of[0].Session, Partition: 0, Failed: true})
	wants, _ = s.asked()
	require.Equal(t, map[string][]kv.Partition{"n2": {0}}, wants)
	i := slices.IndexFunc(s.machine.Gaps(), func(g core.Gap) bool { return g.Peer == "n3" && g.Partition == 0 })
	require.Equal(t, uint(1), s.machine.Gaps()[i].Failures)

	s = newPlanned(t) // one that goes
	s.step(core.Planning{On: true})
	s.meet("n2", "n3")
	s.step(plan)
	s.step(core.PeerDown{Name: "n3", Boot: 1})
	wants, _ = s.asked()
	require.Equal(t, map[string][]kv.Partition{"n2": {0}}, wants)

	s = newPlanned(t) // one that streams for ever holds up no other wave for ever
	s.step(core.Planning{On: true})
	s.meet("n2", "n3")
	s.step(plan)
	wants, _ = s.asked()
	require.Equal(t, map[string][]kv.Partition{"n3": {0}}, wants)
	s.pass(4500 * time.Millisecond)
	require.Empty(t, s.hellos)
	s.pass(time.Second)
	require.Len(t, s.hellos, 1)
	require.Equal(t, []kv.Partition{1, 2, 3}, s.hellos[0].Wants)
}

// A partition that has had its bytes is asked for again with the next plan, and holds up
// no other meanwhile; where nobody else serves it, it is asked for at once.
func TestAPartitionThatHasHadItsBytesWaitsForTheNextPlan(t *testing.T) {
	t.Parallel()
	plan := core.Planned{Orders: []core.Order{{Partition: 0}, {Partition: 1, Wave: 1}, {Partition: 2, Wave: 1}, {Partition: 3, Wave: 1}}}
	s := newPlanned(t)
	s.step(core.Planning{On: true})
	s.meet("n2", "n3")
	s.step(plan)
	_, of := s.asked()
	require.Len(t, of, 1)
	s.step(core.PartEnded{Name: of[0].Name, Session: of[0].Session, Partition: 0, Stopped: true})
	_, of = s.asked()
	require.Len(t, of, 3, "the next wave begins")
	s.arrive(of, 1, 2, 3)
	_, of = s.asked()
	require.Empty(t, of)
	plans := s.plans
	s.pass(6 * time.Second)
	require.Empty(t, s.hellos)
	require.Greater(t, s.plans, plans, "a plan is asked for, for something is left")
	s.step(plan)
	_, of = s.asked()
	require.Len(t, of, 1)
	s.step(core.PartEnded{Name: of[0].Name, Session: of[0].Session, Partition: 0, Stopped: true})
	for _, name := range []string{"n2", "n3"} {
		s.step(core.Stated{Name: name, State: wire.State{Version: 2, Parts: make([]wire.Serving, planParts)}})
	}
	_, of = s.asked()
	require.Len(t, of, 1, "nobody serves it")
}

func TestAPolicyThatGoesIsForgotten(t *testing.T) {
	t.Parallel()
	s := newPlanned(t)
	s.step(core.Planning{On: true})
	s.meet("n2", "n3")
	s.step(core.Planned{Orders: []core.Order{{Partition: 0, Delay: core.MaxDelay}}})
	s.step(core.Planning{})
	wants, _ := s.asked()
	require.Len(t, wants["n2"], planParts)
}

// plans turns planning on, where the world has policies, and has every question
// for a plan answered by a hostile one: nobody, late, the wrong peer, a wave that
// does not exist, or a delay. It must keep every promise all the same; delays are
// below what the world waits for at its end.
func (n *wnode) plans() {
	if n.w.planned {
		n.step(core.Planning{On: true})
	}
}

func (n *wnode) plan() {
	x, boot := n.w, n.boot
	x.plans++
	if x.rng.IntN(8) == 0 {
		return
	}
	o := core.Order{Wave: x.rng.IntN(3), Delay: []int64{0, 0, 500 * millisecond, 3 * second}[x.rng.IntN(4)]}
	for _, m := range x.nodes {
		if x.rng.IntN(2) == 0 {
			o.Peers = append(o.Peers, m.name)
		}
	}
	x.after(x.rng.Int64N(1500)*millisecond, func() {
		if n.up && n.boot == boot && n.pausedTo <= x.now {
			n.step(core.Planned{Orders: []core.Order{o, {Partition: 77, Delay: 1 << 62}}})
		}
	})
}
