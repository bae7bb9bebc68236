package core_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/internal/layout"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// again is n1 whose peer n2 was restarted: boot 1 is gone, boot 2 is connected.
func again(t *testing.T) *scenario {
	s := newScenario(t)
	s.copies[0].trust, s.copies[0].clock = kv.Whole, s.clock("n1:9")
	l, err := layout.New(1, 2, []layout.Member{{Name: "n1", Node: 1, Weight: 1}, {Name: "n2", Node: 2, Weight: 1}})
	require.NoError(t, err)
	s.step(core.LayoutChanged{Layout: l})
	for boot := range uint32(2) {
		s.step(core.PeerDown{Name: "n2", Boot: boot})
		s.step(core.PeerUp{Name: "n2", Node: 2, Boot: boot + 1})
	}
	return s
}

// of is what n2's process says of its copy.
func (s *scenario) of(boot uint32, clock string) wire.CopyClock {
	return wire.CopyClock{Actor: actorOf("n2", boot), State: kv.Live, Trust: kv.Whole, Clock: s.clock(clock)}
}

// knownOf returns what is known to be durable at n2.
func (s *scenario) knownOf() kv.Clock {
	s.machine.Greet("n2", wire.CopyClock{Partition: kv.System, Actor: actorOf("n2", 2)}) // something is due
	var out kv.Clock
	for _, k := range s.machine.TakeKnown(100) {
		if k.Partition == 0 {
			out = k.Clock
		}
	}
	return out
}

func TestATickOfAFormerProcessProvesNothing(t *testing.T) {
	t.Parallel()
	for name, tick := range map[string]func(s *scenario, boot uint32){
		"asked": func(s *scenario, boot uint32) {
			s.step(core.TickEqual{Name: "n2", Boot: boot, Copies: []wire.CopyClock{s.of(boot, "n1:9")}})
		},
		"answered": func(s *scenario, boot uint32) {
			s.step(core.TickAnswered{
				Name: "n2", Boot: boot, Ack: wire.TickAck{Code: wire.HelloEqual}, Mine: []wire.CopyClock{s.of(boot, "n1:9")}, AskAt: s.now,
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := again(t)
			s.machine.Greet("n2", s.of(2, "n1:3")) // what is left of it
			require.Equal(t, s.clock("n1:3"), s.knownOf())
			tick(s, 1)
			require.Zero(t, s.knownOf(), "nothing is new")
			tick(s, 2)
			require.Equal(t, s.clock("n1:9"), s.knownOf())
		})
	}
}

func TestATickOfTheNextProcessLeavesWhatTheFormerOneHeld(t *testing.T) {
	t.Parallel()
	s := again(t)
	s.machine.Greet("n2", s.of(1, "n1:3"))
	require.Equal(t, s.clock("n1:3"), s.knownOf())
	s.step(core.TickEqual{Name: "n2", Boot: 2, Copies: []wire.CopyClock{s.of(2, "n1:9")}})
	require.Zero(t, s.knownOf(), "its HELLO is held against what boot 1 held")
}

func TestClocksOfAFormerProcessAreNoReport(t *testing.T) {
	t.Parallel()
	s := again(t)
	answer := func(boot uint32) {
		for range 4 {
			s.now += core.AnswerWait / 2
			s.step(core.Ponged{Name: "n2", Stamp: s.now})
		}
		s.step(core.ClocksAnswered{Name: "n2", Boot: boot, Copies: []wire.CopyClock{s.of(boot, "n1:5")}, AskAt: s.now})
	}
	state := func() kv.State {
		for _, p := range s.machine.Parts() {
			if p.Partition == 0 {
				return p.State
			}
		}
		return 0
	}
	answer(1)
	require.Equal(t, kv.CatchingUp, state())
	answer(2)
	require.Equal(t, kv.Live, state())
}

func TestATickOfAFormerProcessAsksForNothing(t *testing.T) {
	t.Parallel()
	s := again(t)
	differs := func(boot uint32) {
		s.effects = nil
		s.step(core.TickAnswered{Name: "n2", Boot: boot, Ack: wire.TickAck{Copies: []wire.CopyClock{s.of(boot, "n1:5")}}, AskAt: s.now})
	}
	compares := func() bool {
		for _, e := range s.effects {
			if strings.HasSuffix(e, "compare n2 0") {
				return true
			}
		}
		return false
	}
	differs(1)
	require.False(t, compares(), "%v", s.effects)
	differs(2)
	require.True(t, compares(), "%v", s.effects)
}

// A peer may name as many partitions as it likes that there are not: nothing is kept
// of them.
func TestNothingIsKnownOfPartitionsThatThereAreNot(t *testing.T) {
	t.Parallel()
	s := again(t)
	s.machine.TakeKnown(100)
	for p, kept := range map[kv.Partition]int{0: 1, 1: 0, 1 << 20: 0, kv.System - 1: 0, kv.System: 1} {
		c := wire.CopyClock{Partition: p, Actor: actorOf("n2", 2), Clock: s.clock("n2:1")}
		require.False(t, s.machine.Greet("n2", c))
		s.step(core.Acked{Name: "n2", Copies: []wire.CopyClock{c}})
		require.Len(t, s.machine.TakeKnown(100), kept, p)
	}
}
