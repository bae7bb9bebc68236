package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func answering(l *ledger, write uint32) kvAnswer {
	return kvAnswer{found: true, value: l.values.of(write)}
}

func testLedger(keys int) *ledger {
	return newLedger("", values{seed: 3, mix: mixJSON, bytes: 200}, keys)
}

// Each fault that a reader can be told is planted here, and must be counted as
// what it is.
func TestJudgeTellsFaultsApart(t *testing.T) {
	t.Parallel()
	l := testLedger(1)
	absent := kvAnswer{}
	for name, tc := range map[string]struct {
		want   expectation
		answer kvAnswer
		is     verdict
	}{
		"right":                      {expectation{a: 9}, answering(l, 9), fresh},
		"older":                      {expectation{a: 9}, answering(l, 3), stale},
		"nobody's":                   {expectation{a: 9}, kvAnswer{found: true, value: []byte("?")}, stale},
		"missing":                    {expectation{a: 9}, absent, notFound},
		"deleted":                    {expectation{a: 3, gone: true}, absent, fresh},
		"back from the dead":         {expectation{a: 3, gone: true}, answering(l, 3), resurrected},
		"one of two":                 {expectation{a: 9, b: 10}, answering(l, 9), fresh},
		"the other of two":           {expectation{a: 9, b: 10}, answering(l, 10), fresh},
		"what two writes superseded": {expectation{a: 9, b: 10}, answering(l, 1), stale},
	} {
		require.Equal(t, tc.is, judge(tc.want, tc.answer), name)
	}
}

func TestJudgeTrafficTellsLagFromStaleness(t *testing.T) {
	t.Parallel()
	l := testLedger(1)
	const first = firstTraffic + 10
	for name, tc := range map[string]struct {
		before, since uint32
		answer        kvAnswer
		is            verdict
	}{
		"the last":                      {first, first + 2, answering(l, first+2), fresh},
		"newer than was known":          {first, first + 2, answering(l, first+3), fresh},
		"older than one after start":    {first, first + 2, answering(l, first+1), lagging},
		"as before the start, no newer": {first, first, answering(l, first), fresh},
		"older than the start":          {first, first + 2, answering(l, first-1), stale},
		"missing":                       {first, first, kvAnswer{}, notFound},
		"missing, made after the start": {0, first, kvAnswer{}, lagging},
		"never written":                 {0, 0, kvAnswer{}, fresh},
		"nobody's":                      {0, 0, kvAnswer{found: true, value: []byte("?")}, stale},
	} {
		require.Equal(t, tc.is, judgeTraffic(tc.before, tc.since, tc.answer), name)
	}
}

func TestCountsKeepEveryVerdictApart(t *testing.T) {
	t.Parallel()
	var c readCounts
	for _, v := range []verdict{fresh, lagging, stale, notFound, resurrected} {
		for range int(v) + 1 {
			c.add(v, kvAnswer{})
		}
		c.add(v, kvAnswer{state: "isolated"})
	}
	require.Equal(t, readCounts{reads: 15, lagging: 2, stale: 3, notFound: 4, resurrected: 5, exempt: 5}, c)
	both := readCounts{reads: 1, errors: 2}
	both.join(c)
	require.Equal(t, readCounts{reads: 16, lagging: 2, stale: 3, notFound: 4, resurrected: 5, exempt: 5, errors: 2}, both)
}

// A pause shorter than the lease need not be noticed: what is answered from
// before it is lag.
func TestABriefPauseIsLag(t *testing.T) {
	t.Parallel()
	for _, v := range []verdict{fresh, lagging, stale, notFound, resurrected} {
		require.Equal(t, v, (&readers{}).leniently(v))
		want := lagging
		if v == fresh {
			want = fresh
		}
		require.Equal(t, want, (&readers{brief: true}).leniently(v))
	}
}
