package partition_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/partition"
	"edged.dev/edged/partition/state"
)

// filled is a node with n keys of each prefix.
func filled(t *testing.T, n int, prefixes ...string) *node {
	t.Helper()
	a := newNode(t, 1)
	for i := range n {
		for _, p := range prefixes {
			a.put(fmt.Sprintf("%s%04d", p, i), "v")
		}
	}
	return a
}

func TestNamedKeysGoAhead(t *testing.T) {
	t.Parallel()
	a, b := filled(t, 600, "k"), newNode(t, 2)
	a.put("k0599", "newer")
	a.plan("k0500", "blind", state.Covers{Held: true}) // two versions
	a.commit()
	s := begin(b, a)
	s.out.Order([]string{"k0599", "gone", "k0500", "k0003"}, nil)
	s.finish()
	require.Equal(t, []string{"k0599", "k0500", "k0003"}, s.sent[:3])
	require.Len(t, s.sent, 600, "each goes once")
	requireEqual(t, a, b)
}

// A few versions are all there at once, whatever their order.
func TestFewVersionsGoInTheOrderOfTheIndex(t *testing.T) {
	t.Parallel()
	for n, first := range map[int]string{4 * partition.MaxFirst: "k0000", 4*partition.MaxFirst + 1: "k0009"} {
		a, b := filled(t, n, "k"), newNode(t, 2)
		s := begin(b, a)
		s.out.Order([]string{"k0009"}, nil)
		s.finish()
		require.Equal(t, first, s.sent[0], n)
		requireEqual(t, a, b)
	}
}

func TestNoMoreGoesAheadThanTheLimit(t *testing.T) {
	t.Parallel()
	a, b := filled(t, 600, "k"), newNode(t, 2)
	var first []string
	for i := range partition.MaxFirst + 1 {
		first = append(first, fmt.Sprintf("k%04d", 599-i))
	}
	s := begin(b, a)
	s.out.Order(first, nil)
	s.finish()
	require.Equal(t, first[:partition.MaxFirst], s.sent[:partition.MaxFirst])
	require.Equal(t, "k0000", s.sent[partition.MaxFirst])
	requireEqual(t, a, b)
}

func TestRulesOrderTheKeys(t *testing.T) {
	t.Parallel()
	class := func(key string) int { return strings.Index("hwc", key[:1]) }
	for name, rules := range map[string][]partition.Rule{
		"first and last":        {{Prefix: "h"}, {Last: true, Prefix: "c"}},
		"all but one last":      {{Last: true, Prefix: "c"}, {Prefix: "h"}, {Last: true, Prefix: "h"}},
		"the first rule counts": {{Prefix: "h"}, {Last: true, Prefix: "c"}, {Prefix: "c"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := filled(t, 20, "c", "h", "w"), newNode(t, 2)
			a.plan("h0007", "blind", state.Covers{Held: true}) // two versions
			a.put("c0003", "")
			s := begin(b, a)
			s.out.Order(nil, rules)
			s.finish()
			require.Len(t, s.sent, 60)
			require.True(t, slices.IsSortedFunc(s.sent, func(a, b string) int { return class(a) - class(b) }), s.sent)
			requireEqual(t, a, b)
		})
	}
}

// An order changes nothing of what a session that broke off goes on with.
func TestAnOrderedSessionGoesOnWhereItBroke(t *testing.T) {
	t.Parallel()
	a, b := filled(t, 300, "c", "h"), newNode(t, 2)
	s := begin(b, a)
	s.out.Order([]string{"c0200", "h0100"}, []partition.Rule{{Prefix: "h"}})
	for len(s.sent) < 100 && s.scan(1) {
	}
	s.in.Cancel()
	b.commit()
	require.Equal(t, []string{"c0200", "h0100"}, s.sent[:2])
	had := len(s.sent)
	s = begin(b, a)
	s.out.Order([]string{"c0200", "h0100"}, []partition.Rule{{Prefix: "h"}})
	s.finish()
	require.Len(t, s.sent, 600-had)
	requireEqual(t, a, b)
}
