package core_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"edged.dev/edged/replica/core"
)

func TestQuorum(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		need    int
		owners  string
		events  string // +name acknowledges, -name fails
		settled bool
		copies  int
	}{
		{2, "a b c", "", false, 0},
		{2, "a b c", "+a", false, 1},
		{2, "a b c", "+a +b", true, 2},
		{2, "a b c", "+a +a", false, 1},      // counted once
		{2, "a b c", "+a -b", false, 1},      // c may still come
		{2, "a b c", "+a -b -c", true, 1},    // nobody left: with the copies there are
		{2, "a b c", "-a -b -c", true, 0},    //
		{2, "a b c", "+a -b +b", false, 1},   // a failed incarnation acknowledges nothing
		{2, "a b c", "+a +b -b", true, 2},    // what is durable stays so
		{3, "a b c", "+a +b", false, 2},      //
		{1, "a", "+a", true, 1},              //
		{2, "a b c", "-b -b +a", false, 1},   // failed once
		{2, "a b c", "+a -b -c +c", true, 1}, // settled is settled
		{3, "a b", "+a +b", true, 2},         // more asked for than there are
		{2, "a b c d e", "+e +d", true, 2},   //
		{2, "a b c", "+c -a -b", true, 1},    //
		{2, "a b c", "+c -a", false, 1},      //
		{2, "a b c", "+a +b>c", false, 1},    // c may hold what this does not cover
		{2, "a b c", "+a +b>c +c", true, 3},  // it has it too
		{2, "a b c", "+a +b>c -c", true, 1},  // nobody left
		{2, "a b c", "+a +b>b", true, 2},     // an owner that holds itself to be first has it
		{2, "a b c", "+a +b>?", false, 1},    // it changed meanwhile
		{2, "a b c", "+a +b>", true, 2},      // it knew nobody
	} {
		q := core.NewQuorum(tc.need, "a", strings.Fields(tc.owners))
		for _, e := range strings.Fields(tc.events) {
			if e[0] == '+' {
				q.Ack(first(e[1:]))
			} else {
				q.Fail(e[1:])
			}
		}
		require.Equal(t, tc.settled, q.Settled(), "%d of %s after %s", tc.need, tc.owners, tc.events)
		require.Equal(t, tc.copies, q.Copies(), "%d of %s after %s", tc.need, tc.owners, tc.events)
	}
}

// first splits "b>c": b acknowledges and names c; alone it names the coordinator.
func first(s string) (owner, named string) {
	owner, named, ok := strings.Cut(s, ">")
	if !ok {
		named = "a"
	}
	return owner, named
}

func TestQuorumStaysSettled(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		owners := []string{"a", "b", "c", "d", "e"}[:rapid.IntRange(1, 5).Draw(t, "owners")]
		q := core.NewQuorum(rapid.IntRange(1, len(owners)).Draw(t, "need"), "a", owners)
		settled, acked := false, map[string]bool{}
		for range rapid.IntRange(0, 12).Draw(t, "events") {
			name := rapid.SampledFrom(owners).Draw(t, "owner")
			if rapid.Bool().Draw(t, "acks") {
				q.Ack(name, rapid.SampledFrom(append([]string{"", core.Mixed}, owners...)).Draw(t, "first"))
			} else {
				q.Fail(name)
			}
			acked[name] = acked[name] || q.Has(name)
			if settled && !q.Settled() {
				t.Fatal("it was settled")
			}
			settled = q.Settled()
		}
		n := 0
		for name, has := range acked {
			if has != q.Has(name) {
				t.Fatalf("%s had a durable copy", name)
			}
			if has {
				n++
			}
		}
		if n < q.Copies() || q.Doubted() != (n > q.Copies()) {
			t.Fatalf("%d copies, %d acknowledged, doubted: %v", q.Copies(), n, q.Doubted())
		}
	})
}

func TestStandInsAreToldApart(t *testing.T) {
	t.Parallel()
	q := core.NewQuorum(2, "n1", []string{"n1", "n2", "n3"})
	q.StandIns([]string{"n4"})
	q.Ack("n1", "n1")
	q.Fail("n2")
	q.Fail("n3")
	require.False(t, q.Settled(), "a stand-in may make another copy")
	q.Ack("n4", "n1")
	q.Ack("n4", "n1")
	require.True(t, q.Settled())
	require.Equal(t, []int{1, 1}, []int{q.Copies(), q.Stood()}, "it makes no full acknowledgement")
	require.False(t, q.Doubted())

	q = core.NewQuorum(2, "n1", []string{"n1", "n2", "n3"})
	q.StandIns([]string{"n4"})
	q.Ack("n1", "n1")
	q.Ack("n2", "n1")
	require.True(t, q.Settled(), "an owner was up all the same")
	q.Fail("n4")
	q.Ack("n4", "n1")
	require.Zero(t, q.Stood(), "it failed before")
}

// A write is partial if its lead did not last, or if whoever is first at its beginning
// or at its end has it not.
func TestPartial(t *testing.T) {
	t.Parallel()
	part := func(first string, lead bool, term uint64) *core.Part {
		return &core.Part{First: first, Lead: lead, Term: term}
	}
	for name, tc := range map[string]struct {
		began, now *core.Part
		byLead     bool
		acked      string
		partial    bool
	}{
		"the lead lasts":                     {part("a", true, 1), part("a", true, 1), true, "a b", false},
		"the lead is over":                   {part("a", true, 1), part("a", false, 1), true, "a b", true},
		"another lead":                       {part("a", true, 1), part("a", true, 2), true, "a b", true},
		"more owners were asked":             {part("a", false, 1), part("a", true, 2), false, "a b", false},
		"another was first, and has it":      {part("b", false, 0), part("a", false, 1), false, "a b", false},
		"another was first, and has it not":  {part("c", false, 0), part("a", false, 1), false, "a b", true},
		"another is first, and has it":       {part("a", false, 1), part("b", false, 1), false, "a b", false},
		"another is first, and has it not":   {part("a", false, 1), part("c", false, 1), false, "a b", true},
		"another is first, and the lead was": {part("a", true, 1), part("b", false, 1), true, "a b", true},
		"nobody was first":                   {part("", false, 0), part("a", false, 1), false, "a b", true},
		"nobody is first":                    {part("a", false, 1), part("", false, 1), false, "a b", false},
		"an owner names another":             {part("a", true, 1), part("a", true, 1), true, "a b>c", true},
	} {
		q := core.NewQuorum(2, "a", []string{"a", "b", "c"})
		for _, e := range strings.Fields(tc.acked) {
			q.Ack(first(e))
		}
		require.Equal(t, tc.partial, q.Partial(tc.began, tc.now, tc.byLead), name)
	}
}
