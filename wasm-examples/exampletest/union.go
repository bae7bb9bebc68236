package exampletest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/policies"
)

// Lists returns siblings with these values, the first the oldest.
func Lists(values ...string) []policies.Sibling {
	s := make([]policies.Sibling, len(values))
	for i, v := range values {
		s[i] = policies.Sibling{Value: []byte(v), HLC: uint64(i + 1), Actor: uint64(i % 3), Counter: uint64(i + 1)}
	}
	return s
}

// Union checks a policy that unites sets written as one item a line.
func Union(t *testing.T, p *Policy) {
	t.Helper()
	many, want := []string{}, []string{}
	for i := range 32 {
		many = append(many, fmt.Sprintf("common\nitem %02d\n", i))
		want = append(want, fmt.Sprintf("item %02d", i))
	}
	for name, c := range map[string]struct {
		values []string
		want   string
	}{
		"two":          {[]string{"b\na", "c\nb"}, "a\nb\nc"},
		"three":        {[]string{"pear", "apple\npear", "fig"}, "apple\nfig\npear"},
		"thirty-two":   {many, "common\n" + strings.Join(want, "\n")},
		"one empty":    {[]string{"", "x"}, "x"},
		"both empty":   {[]string{"\n\n", "\n"}, ""},
		"prefixes":     {[]string{"ab\na", "abc\n"}, "a\nab\nabc"},
		"unsigned":     {[]string{"\u00e9\nz", "\u65e5"}, "z\n\u00e9\n\u65e5"},
		"line endings": {[]string{"a\n\n\nb\n", "\nb\na"}, "a\nb"},
	} {
		t.Run(name, func(t *testing.T) {
			view := p.Merge(t, Lists(c.values...))
			require.Equal(t, policies.Present, view.Kind)
			require.Equal(t, c.want, string(view.Value))
		})
	}
	t.Run("merging again changes nothing", func(t *testing.T) {
		once := p.Merge(t, Lists("b\na", "c"))
		require.Equal(t, once.Value, p.Merge(t, Lists("a\nb", string(once.Value))).Value)
	})
	t.Run("expiry", func(t *testing.T) {
		s := Lists("a", "b")
		s[0].ExpiresMS, s[1].ExpiresMS = 50, 40
		require.Equal(t, uint64(50), p.Merge(t, s).ExpiresMS)
		s = Lists("a", "b")
		s[0].ExpiresMS = 50
		require.Zero(t, p.Merge(t, s).ExpiresMS)
	})
	t.Run("large", func(t *testing.T) {
		var a, b strings.Builder
		for i := range 1500 {
			fmt.Fprintf(&a, "item %05d\n", 2*i)
			fmt.Fprintf(&b, "item %05d\n", 2*i+1)
		}
		view := p.Merge(t, Lists(a.String(), b.String()))
		require.Len(t, strings.Split(string(view.Value), "\n"), 3000)
	})
	t.Run("too much work falls back", func(t *testing.T) {
		view, err := p.Table.Resolve(t.Context(), []byte("key"), Lists(strings.Repeat("x\n", 400_000), strings.Repeat("y\n", 400_000)))
		require.NoError(t, err)
		require.Equal(t, policies.MarkUnresolved, view.Mark)
	})
}
