package sim_test

import (
	"fmt"
	"go/parser"
	"go/token"
	"strings"
	"testing"

	"edged.dev/edged/internal/sim"

	"github.com/stretchr/testify/require"
)

// shrinkTries bounds what is spent on one failing seed: some seconds.
const shrinkTries = 600

// failure tells everything of a seed that failed: what it broke, how to replay it, and
// the smallest run found that does the same, as a test.
func failure(o sim.Options, v sim.Violation) string {
	text := fmt.Sprintf("seed %d of mix %s: %v\nreplay: go test ./internal/sim -run TestOneSeed -sim.mix=%s -sim.seed=%d -sim.trace -v\n",
		o.Seed, o.Mix.Name, v, o.Mix.Name, o.Seed)
	if s := sim.Shrink(o, events, shrinkTries); s != nil {
		text += fmt.Sprintf("as a test, of %d events:\n%s", len(s.Events), s.Test())
	}
	return text
}

// A recorded run is the run: played as a whole it does the same.
func TestARecordedRunPlaysTheSame(t *testing.T) {
	t.Parallel()
	for _, m := range sim.Mixes() {
		o := sim.Options{Seed: 3, Mix: m}
		w, all := sim.Record(o, events)
		require.Empty(t, w.Violations())
		require.Len(t, all, events+1)
		require.Equal(t, run(o).Digest(), w.Digest(), "recording changes nothing")
		require.Equal(t, w.Digest(), sim.Play(o, all).Digest(), "mix %s", m.Name)
	}
}

// A failing seed becomes a few events, which break the same rule with the bug and none
// without it, and can be pasted as a test.
func TestAFailingSeedIsShrunk(t *testing.T) {
	t.Parallel()
	for _, p := range []plant{{sim.BugSkipTail, sim.Hot}, {sim.BugOnlyNewDot, sim.Stock}, {sim.BugLossKeepsClock, sim.Stock}} {
		o := sim.Options{Mix: p.mix(), Bug: p.bug}
		for len(run(o).Violations()) == 0 {
			o.Seed++
		}
		was := run(o).Violations()[0]
		s := sim.Shrink(o, events, shrinkTries)
		require.NotNil(t, s)
		require.LessOrEqual(t, s.Tries, shrinkTries)
		require.Less(t, len(s.Events), 40, "%s", p.bug)
		require.Equal(t, was.Rule, s.Violation.Rule)
		require.Equal(t, s.Violation, sim.Play(o, s.Events).Violations()[0], "it replays exactly")
		sound := o
		sound.Bug = sim.NoBug
		require.Empty(t, sim.Play(sound, s.Events).Violations())
		text := s.Test()
		t.Logf("%s: %d events of %d in %d runs\n%s", p.bug, len(s.Events), events, s.Tries, text)
		_, err := parser.ParseFile(token.NewFileSet(), "x_test.go", "package x\n"+text, 0)
		require.NoError(t, err)
		for _, e := range s.Events {
			require.Contains(t, text, fmt.Sprintf("{%d, %#x, %#x}", e.Step, e.Hi, e.Lo))
		}
		require.Contains(t, failure(o, was), strings.TrimSpace(text))
	}
	require.Nil(t, sim.Shrink(sim.Options{Mix: sim.Stock()}, events, shrinkTries), "a run that does not fail")
}

// A failing cluster runs with fewer faults, and breaks the same rule.
func TestAFailingClusterIsShrunk(t *testing.T) {
	t.Parallel()
	o := sim.ClusterOptions{Lie: sim.LieLease, Mode: sim.Safety}
	for len(runCluster(o).Violations()) == 0 {
		o.Seed++
	}
	was := runCluster(o).Violations()[0]
	less, v, ok := sim.ShrinkCluster(o, 60)
	require.True(t, ok)
	require.Equal(t, was.Rule, v.Rule)
	require.NotEmpty(t, less.Skip)
	require.Equal(t, v, runCluster(less).Violations()[0], "it replays exactly")
	t.Logf("%d faults left out: %v", len(less.Skip), v)
	_, _, ok = sim.ShrinkCluster(sim.ClusterOptions{}, 60)
	require.False(t, ok)
}
