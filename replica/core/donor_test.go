package core_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

func TestDonorsAreOrdered(t *testing.T) {
	t.Parallel()
	order := []core.Donor{ // the best first
		{Live: true},
		{Live: true, Load: wire.Load{Busy: 50}},
		{Live: true, Load: wire.Load{Sessions: 1}},
		{Live: true, Load: wire.Load{Sessions: 1, Busy: 100}},
		{Live: true, Load: wire.Load{Sessions: 255, Busy: 255}},
		{Live: true, Far: true},
		{Live: true, Far: true, Load: wire.Load{Sessions: 2}},
		{Has: 7, Far: true, Load: wire.Load{Sessions: 2}},
		{Has: 6},
		{Has: 6, Far: true},
		{},
	}
	for i, a := range order {
		for j, b := range order {
			require.Equal(t, i < j, a.Compare(b) < 0, "%+v before %+v", a, b)
			require.Equal(t, i == j, a.Compare(b) == 0, "%+v and %+v", a, b)
		}
	}
	require.Zero(t, core.Donor{Load: wire.Load{Busy: 10}}.Compare(core.Donor{Load: wire.Load{Busy: 40}}), "busy is not told apart to the percent")
}

// lacking is a node that is told by both others, who are LIVE, of what it lacks.
func lacking(s *planned) {
	s.meet("n2", "n3")
	s.pass(200 * time.Millisecond) // less than a plan is waited for
	require.Empty(s.t, s.hellos)
}

func TestDonorsWithLessToDoAreAsked(t *testing.T) {
	t.Parallel()
	for _, idle := range []string{"n2", "n3"} {
		s := newPlanned(t)
		s.loads = map[string]wire.Load{"n2": {Sessions: 1}, "n3": {Sessions: 1}}
		s.loads[idle] = wire.Load{Busy: 20}
		s.step(core.Planning{On: true}) // so that nothing is asked of the first before both have told their clocks
		lacking(s)
		s.step(core.Planning{On: false})
		wants, _ := s.asked()
		require.Equal(t, map[string][]kv.Partition{idle: {0, 1, 2, 3}}, wants)
	}
}

func TestDonorsInTheSameZoneAreAsked(t *testing.T) {
	t.Parallel()
	s := newZoned(t, "a", "b", "a")
	s.loads = map[string]wire.Load{"n3": {Sessions: 1, Busy: 90}}
	s.step(core.Planning{On: true})
	lacking(s)
	s.step(core.Planning{On: false})
	wants, _ := s.asked()
	require.Equal(t, map[string][]kv.Partition{"n3": {0, 1, 2, 3}}, wants, "whatever it has to do")
}

// A better donor that cannot be asked holds nothing up.
func TestDonorsThatCannotBeAskedAreNotWaitedFor(t *testing.T) {
	t.Parallel()
	s := newPlanned(t)
	s.loads = map[string]wire.Load{"n3": {Sessions: 1}}
	s.step(core.Planning{On: true})
	lacking(s)
	s.step(core.Planning{On: false})
	s.pass(200 * time.Millisecond)
	require.Len(t, s.hellos, 1)
	h := s.hellos[0]
	require.Equal(t, "n2", h.Name)
	s.hellos = nil
	s.step(core.HelloAnswered{Name: h.Name, Session: h.Session, Wants: h.Wants, Ack: wire.HelloAck{Code: wire.HelloBusy}, AskAt: s.now})
	s.pass(20 * time.Millisecond)
	require.Len(t, s.hellos, 1, "at once")
	require.Equal(t, "n3", s.hellos[0].Name)
	require.Equal(t, h.Wants, s.hellos[0].Wants)
}
