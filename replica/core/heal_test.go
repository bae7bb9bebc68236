package core_test

import (
	"slices"
	"testing"

	"edged.dev/edged/replica/core"

	"github.com/stretchr/testify/require"
)

// Owners that are away are waited for, five times, and what nobody has is lost only where
// every member says so, however often that was tried.
func TestWhomAnAttemptToHealAsks(t *testing.T) {
	t.Parallel()
	const patience = 5
	for name, x := range map[string]struct {
		away, holds []string
		tries       int
		want        core.Heal
		ok          bool
	}{
		"all there":                   {want: core.Heal{Owners: []string{"b", "c"}, All: true, Every: true, Sole: true}, ok: true},
		"an owner is away":            {away: []string{"b"}, tries: patience - 1, want: core.Heal{Owners: []string{"c"}, All: true}},
		"for long":                    {away: []string{"b"}, tries: patience, want: core.Heal{Owners: []string{"c"}}, ok: true},
		"all owners":                  {away: []string{"b", "c"}, tries: patience},
		"a member is away":            {away: []string{"d"}, want: core.Heal{Owners: []string{"b", "c"}, All: true, Every: true}, ok: true},
		"a member has a copy":         {holds: []string{"b", "d"}, want: core.Heal{Owners: []string{"b", "c"}, All: true, Every: true}, ok: true},
		"back behind all attempts":    {holds: []string{"b", "c"}, tries: patience, want: core.Heal{Owners: []string{"b", "c"}, Every: true, Sole: true}, ok: true},
		"but for one that has a copy": {holds: []string{"d"}, tries: patience, want: core.Heal{Owners: []string{"b", "c"}, Every: true}, ok: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := core.Reach{
				Owners: []string{"b", "c"}, Members: []string{"b", "c", "d"},
				Answers: func(name string) bool { return !slices.Contains(x.away, name) },
				Holds:   func(name string) bool { return slices.Contains(x.holds, name) },
			}
			x.want.Partition = 7
			got, ok := r.Attempt(7, x.tries)
			require.Equal(t, x.ok, ok)
			require.Equal(t, x.want, got)
		})
	}
}
