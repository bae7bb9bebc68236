package core_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"edged.dev/edged/replica/core"
)

// Two coordinators are all that must be remembered to tell of each whether another's
// write was acknowledged since.
func TestFavoursTellWhetherAnotherWasFavoured(t *testing.T) {
	t.Parallel()
	var none core.Favours
	require.False(t, none.Other("a", 0))
	rapid.Check(t, func(t *rapid.T) {
		type note struct {
			of string
			at int64
		}
		var f core.Favours
		var all []note
		now := int64(0)
		for range rapid.IntRange(1, 12).Draw(t, "notes") {
			now += int64(rapid.IntRange(0, 2).Draw(t, "passed"))
			n := note{rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "of"), now}
			f.Note(n.of, n.at)
			all = append(all, n)
			of, since := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "asks"), int64(rapid.IntRange(0, 20).Draw(t, "since"))
			want := false
			for _, m := range all {
				want = want || m.of != of && m.at >= since
			}
			require.Equal(t, want, f.Other(of, since), "%v: %s since %d", all, of, since)
		}
	})
}
