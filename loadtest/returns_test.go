package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// As many changes among more keys are measured in turn, and more returns beside
// clients; all of it is verified.
func TestRejoinOfMoreKeysAndOfMoreReturns(t *testing.T) {
	t.Parallel()
	page := filepath.Join(t.TempDir(), "page.html")
	line := "rejoin --keys 2000 --scale 4 --pairs 1 --returns 2 --control --changed 100 --deleted 5 --conflicts 3 --quiet-before 0s --down 0s --measure 300ms --timeout 60s -o json --report " + page
	code, out, talk := runLine(t, line+" --edged "+edgedBinary(t))
	require.Zero(t, code, "%s\n%s", out, talk)
	var r Report
	require.NoError(t, json.Unmarshal([]byte(out), &r))
	require.True(t, r.ok(), out)
	require.Equal(t, 2, r.Waits.Returns)
	require.Positive(t, r.Waits.CaughtUpMS)
	require.Positive(t, r.Waits.P99Ratio)
	require.GreaterOrEqual(t, r.Waits.BeforeRequests, 20, "of both returns")
	require.Equal(t, r.Waits.DuringRequests, r.Waits.Reads.DuringRequests+r.Waits.Writes.DuringRequests)
	require.Greater(t, r.Waits.Reads.DuringRequests, r.Waits.Writes.DuringRequests)
	c := r.Waits.Control
	require.Len(t, c.Pairs, 2)
	require.Positive(t, c.DuringRequests)
	for _, p := range c.Pairs {
		require.Positive(t, p.ProcessorMS)
		require.Positive(t, p.StandInMS)
		require.Positive(t, p.BurntMS)
	}
	// The second stand-in came before the second return, by what the first one used.
	require.GreaterOrEqual(t, c.Pairs[0].BurntMS, c.Pairs[0].ProcessorMS)
	require.GreaterOrEqual(t, c.Pairs[1].BurntMS, c.Pairs[0].ProcessorMS)
	require.GreaterOrEqual(t, c.Pairs[0].StandInMS, c.Pairs[0].ReturnMS)
	s := r.Scale
	require.Equal(t, 500, s.Keys)
	require.Len(t, s.Pairs, 1)
	for _, p := range s.Pairs {
		require.Positive(t, p.LargeMS)
		require.Positive(t, p.SmallMS)
		require.InEpsilon(t, p.SmallSyncBytes, p.LargeSyncBytes, 0.3, "as many changes take as many bytes")
	}
	require.Positive(t, s.Ratio)
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	require.Contains(t, string(text), "As many changes among more keys")
	require.Contains(t, string(text), "2 more returns, beside clients of the other nodes")
	require.Contains(t, string(text), "What a return costs clients beyond its processor time")
}

func TestAReturnIsHeldAgainstItsStandIn(t *testing.T) {
	t.Parallel()
	used := func(b busyReturn, ms int) busyReturn {
		b.processor = time.Duration(ms) * time.Millisecond
		return b
	}
	returns := []busyReturn{used(someBusy(400, 1, 6), 500), used(someBusy(500, 1, 8), 700), used(someBusy(600, 2, 3), 600)}
	standIns := []busyReturn{used(someBusy(410, 1, 3), 505), used(someBusy(520, 2, 2), 510), used(someBusy(700, 1, 3), 710)}
	c := controlOf(returns, standIns)
	require.Equal(t, ControlPair{ReturnMS: 500, ProcessorMS: 700, ReturnP99MS: 8, StandInMS: 520, BurntMS: 510, StandP99MS: 2, Ratio: 4}, c.Pairs[1])
	c.Pairs = nil
	require.Equal(t, &Control{
		Ratio: 2, ProcessorMS: 600, BurntMS: 510, LastedMS: 520, BeforeP99MS: 2, DuringP99MS: 3, P99Ratio: 1.5, BeforeRequests: 3, DuringRequests: 3, ClientErrors: 3,
		Reads: Kind{BeforeP99MS: 2, DuringP99MS: 3, P99Ratio: 1.5, DuringRequests: 3},
	}, c)

	w := waitsOf(returns)
	w.Control = controlOf(returns, standIns)
	s := &sheet{}
	w.tell(s)
	require.Regexp(t, `(?m)^  returns beside that +clients' p99 2\.00 times that beside the stand-in \(median of 3 pairs, 1\.00 to 4\.00\)$`, s.String())
	require.Regexp(t, `(?m)^  a stand-in for each +520\.0 ms, and 510\.0 ms of processor time, of the 600\.0 ms that a return takes; medians$`, s.String())
	require.Contains(t, w.Control.figure().Text, "p99 2.00 times that")
}

func TestAStandInKeepsItsPace(t *testing.T) {
	t.Parallel()
	b := burnBudget{processor: 300 * time.Millisecond, long: 500 * time.Millisecond}
	for elapsed, due := range map[time.Duration]time.Duration{
		0: 0, 100 * time.Millisecond: 60 * time.Millisecond, 500 * time.Millisecond: b.processor, time.Second: b.processor,
	} {
		require.Equal(t, due, b.due(elapsed), elapsed)
	}
	require.True(t, b.spent(b.long, b.processor))
	require.False(t, b.spent(b.long, b.processor-1), "a return that did not get the processor takes longer")
	require.False(t, b.spent(b.long-1, b.processor), "it has run ahead")
	require.NoError(t, burnBudget{maxBurn, maxBurn}.validate())
	for _, b := range []burnBudget{{0, 1}, {1, 0}, {maxBurn + 1, 1}, {1, maxBurn + 1}} {
		require.ErrorIs(t, b.validate(), errUsage)
		_, err := startBurning(t.Context(), b)
		require.ErrorIs(t, err, errUsage)
	}
}

// It uses its budget, all of it and hardly more, and lasts as long as it was told.
func TestAStandInUsesItsBudget(t *testing.T) {
	t.Parallel()
	begun := time.Now()
	s, err := startBurning(t.Context(), burnBudget{processor: 200 * time.Millisecond, long: 150 * time.Millisecond})
	require.NoError(t, err)
	used, err := s.wait()
	require.NoError(t, err)
	require.GreaterOrEqual(t, used, 200*time.Millisecond)
	require.Less(t, used, 400*time.Millisecond)
	require.GreaterOrEqual(t, time.Since(begun), 150*time.Millisecond)
}
