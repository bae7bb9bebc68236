package core_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/internal/layout"
	"edged.dev/edged/replica/core"
)

// manyActors is a node whose copies have seen so many actors.
type manyActors int

func (n manyActors) Copy(kv.Partition) core.Copy {
	spans := make([]kv.Span, 0, n)
	for i := range int(n) {
		spans = append(spans, kv.Span{Actor: kv.Actor{Node: 1, Boot: uint32(i + 1)}, Base: 1})
	}
	return core.Copy{Held: true, Trust: kv.Whole, Clock: kv.ClockOf(spans...)}
}

func (manyActors) Trust(kv.Partition) kv.Trust        { return kv.Whole }
func (manyActors) Covers(kv.Partition, kv.Clock) bool { return true }

func TestManyActorsAreAnAlarmAndServe(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]bool{kv.MaxActors - 1: false, kv.MaxActors: true} {
		l, err := layout.New(1, 1, []layout.Member{{Name: "n1", Node: 1, Weight: 1}})
		require.NoError(t, err)
		m := core.New(core.Config{Self: "n1", Node: 1, Copies: manyActors(n), W: 1, Jitter: func() uint64 { return 0 }})
		alarmed, live := false, false
		for _, e := range m.Step(1, core.LayoutChanged{Layout: l}) {
			switch e := e.(type) {
			case core.Note:
				alarmed = alarmed || e.Kind == "alarm" && strings.Contains(e.Text, "actors")
			case core.SetPart:
				live = live || e.Part.Partition == 0 && e.Part.State == kv.Live
			}
		}
		require.Equal(t, want, alarmed, n)
		require.True(t, live)
	}
}
