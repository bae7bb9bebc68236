package core_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/internal/layout"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// BenchmarkReturn is what the machine does for a return in which each of 256
// partitions has missed something: two answers, the ends of the session, told one by
// one or by 32, and DONE.
func BenchmarkReturn(b *testing.B) {
	for _, group := range []int{1, 32} {
		b.Run(fmt.Sprintf("ends by %d", group), func(b *testing.B) { benchmarkReturn(b, group) })
	}
}

func benchmarkReturn(b *testing.B, group int) {
	const partitions = 256
	l, err := layout.New(partitions, 3, []layout.Member{{Name: "n1", Weight: 1}, {Name: "n2", Weight: 1}, {Name: "n3", Weight: 1}})
	require.NoError(b, err)
	clock := func(n uint64) kv.Clock {
		return kv.ClockOf(kv.Span{Actor: actorOf("n1", 1), Base: 9}, kv.Span{Actor: actorOf("n2", 1), Base: n}, kv.Span{Actor: actorOf("n3", 1), Base: 9})
	}
	b.ReportAllocs()
	for b.Loop() {
		held := copies{kv.System: {trust: kv.Whole}}
		for p := range kv.Partition(partitions) {
			held[p] = &copyOf{trust: kv.Whole, clock: clock(9)}
		}
		m := core.New(core.Config{Self: "n1", Node: 1, Boot: 1, Copies: held, W: 2, Jitter: func() uint64 { return 1 }})
		now := 1000 * second
		m.Step(now, core.LayoutChanged{Layout: l})
		var pulls core.SendHello
		for _, name := range []string{"n2", "n3"} {
			for _, e := range m.Step(now, core.PeerUp{Name: name, Node: actorOf(name, 1).Node, Boot: 1}) {
				hello, ok := e.(core.SendHello)
				if !ok {
					continue
				}
				if len(hello.Wants) > 0 {
					pulls = hello
				}
				ack := wire.HelloAck{}
				for p := range held {
					ack.Copies = append(ack.Copies, wire.CopyClock{Partition: p, Trust: kv.Whole, State: kv.Live, Clock: clock(12)})
				}
				m.Step(now, core.HelloAnswered{Name: name, Session: hello.Session, Wants: hello.Wants, Ack: ack, AskAt: now})
			}
		}
		var ends core.PartsEnded
		for p := range kv.Partition(partitions) {
			now += second / 10_000
			held[p].clock = clock(12)
			if ends = append(ends, core.PartEnded{Name: pulls.Name, Session: pulls.Session, Partition: p}); len(ends) == group {
				m.Step(now, ends)
				ends = nil
			}
		}
		held[kv.System].clock = clock(12)
		m.Step(now, core.PartEnded{Name: pulls.Name, Session: pulls.Session, Partition: kv.System})
		m.Step(now, core.SessionEnded{Name: pulls.Name, Session: pulls.Session, Parts: pulls.Wants})
		m.Step(now, core.DoneAnswered{Name: pulls.Name, Parts: pulls.Wants, Ack: wire.DoneAck{Compared: pulls.Wants}})
		live := 0
		for _, p := range m.Parts() {
			if p.State == kv.Live {
				live++
			}
		}
		require.Equal(b, partitions+1, live)
	}
}
