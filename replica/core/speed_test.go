package core_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/internal/layout"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// BenchmarkPassed is what the passing of time costs a node with 256 partitions
// and two peers, all LIVE: it happens 50 times a second.
func BenchmarkPassed(b *testing.B) {
	const partitions = 256
	held := copies{kv.System: {trust: kv.Whole}}
	for p := range kv.Partition(partitions) {
		held[p] = &copyOf{trust: kv.Whole, clock: kv.ClockOf(kv.Span{Actor: actorOf("n2", 1), Base: 9})}
	}
	m := core.New(core.Config{Self: "n1", Node: 1, Boot: 1, Copies: held, W: 2, Jitter: func() uint64 { return 1 }})
	l, err := layout.New(partitions, 3, []layout.Member{{Name: "n1", Weight: 1}, {Name: "n2", Weight: 1}, {Name: "n3", Weight: 1}})
	require.NoError(b, err)
	now := 1000 * second
	m.Step(now, core.LayoutChanged{Layout: l})
	for _, name := range []string{"n2", "n3"} {
		for _, e := range m.Step(now, core.PeerUp{Name: name, Node: actorOf(name, 1).Node, Boot: 1}) {
			hello, ok := e.(core.SendHello)
			if !ok {
				continue
			}
			ack := wire.HelloAck{}
			for p := range held {
				ack.Equal = append(ack.Equal, wire.CopyClock{Partition: p, Trust: kv.Whole, State: kv.Live})
			}
			m.Step(now, core.HelloAnswered{Name: name, Session: hello.Session, Wants: hello.Wants, Ack: ack, AskAt: now})
		}
	}
	now += second
	m.Step(now, core.Passed{})
	live := 0
	for _, p := range m.Parts() {
		if p.State == kv.Live {
			live++
		}
	}
	require.Equal(b, partitions+1, live)
	b.ReportAllocs()
	for b.Loop() {
		m.Step(now, core.Passed{})
	}
}
