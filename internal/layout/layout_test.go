package layout_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"edged.dev/edged/internal/layout"
)

func members(names ...string) []layout.Member {
	out := make([]layout.Member, len(names))
	for i, name := range names {
		out[i] = layout.Member{Name: name, Node: uint64(i + 1), Weight: 1}
	}
	return out
}

func numbered(n int) []layout.Member {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("n%d", i+1)
	}
	return members(names...)
}

func mustNew(t testing.TB, partitions, copies int, members []layout.Member) *layout.Layout {
	t.Helper()
	l, err := layout.New(partitions, copies, members)
	require.NoError(t, err)
	return l
}

// The owners of a cluster's partitions must never change by a new version of
// the program: these were computed once.
func TestOwnersAreTheSameForEver(t *testing.T) {
	t.Parallel()
	l := mustNew(t, 256, 3, members("n1", "n2", "n3", "n4", "n5"))
	got := []string{}
	for _, p := range []uint32{0, 1, 2, 127, 255} {
		got = append(got, fmt.Sprintf("%d %s", p, strings.Join(l.Owners(p), " ")))
	}
	require.Equal(t, []string{
		"0 n2 n5 n4", "1 n3 n4 n1", "2 n2 n3 n1", "127 n3 n4 n5", "255 n4 n1 n3",
	}, got)
	require.Equal(t, "b49f6a4698f7aaa1", fmt.Sprintf("%016x", l.ViewHash8()))
}

func TestFewerMembersThanCopies(t *testing.T) {
	t.Parallel()
	l := mustNew(t, 8, 3, members("a", "b"))
	require.Equal(t, 3, l.Copies())
	require.Equal(t, 2, l.Width())
	for p := range uint32(8) {
		require.ElementsMatch(t, []string{"a", "b"}, l.Owners(p))
		require.True(t, l.Owns("a", p))
		require.False(t, l.Owns("c", p))
	}
	require.Len(t, l.OwnedBy("a"), 8)
	require.Empty(t, l.OwnedBy("c"))
	require.Nil(t, l.Owners(8))

	none := mustNew(t, 8, 3, nil)
	require.Zero(t, none.Width())
	require.Empty(t, none.Owners(0))
}

func TestMembersAreCopied(t *testing.T) {
	t.Parallel()
	given := members("b", "a")
	given[0].Addresses = []string{"127.0.0.1:1"}
	l := mustNew(t, 2, 1, given)
	given[0].Addresses[0] = "changed"
	given[0].Name = "changed"
	got := l.Members()
	require.Equal(t, "a", got[0].Name)
	require.Equal(t, []string{"127.0.0.1:1"}, got[1].Addresses)
	got[1].Addresses[0] = "changed"
	b, ok := l.Member("b")
	require.True(t, ok)
	require.Equal(t, []string{"127.0.0.1:1"}, b.Addresses)
	_, ok = l.Member("changed")
	require.False(t, ok)
}

func TestBalance(t *testing.T) {
	t.Parallel()
	for _, n := range []int{10, 20} {
		l := mustNew(t, 1024, 3, numbered(n))
		most := 0
		for _, m := range l.Members() {
			most = max(most, len(l.OwnedBy(m.Name)))
		}
		ideal := 1024 * 3 / float64(n)
		require.Less(t, float64(most)/ideal, 1.35, "%d members", n)
	}
}

func TestWeightIsAShare(t *testing.T) {
	t.Parallel()
	all := numbered(10)
	all[0].Weight = 2
	l := mustNew(t, 4096, 1, all)
	// One of 2 among nine of 1 has 2/11 of all.
	require.InEpsilon(t, 4096*2.0/11, len(l.OwnedBy("n1")), 0.1)
}

func TestJoinMovesOnlyToTheNewMember(t *testing.T) {
	t.Parallel()
	before := mustNew(t, 1024, 3, numbered(10))
	after := mustNew(t, 1024, 3, numbered(11))
	moved := 0
	for p := range uint32(1024) {
		for _, owner := range after.Owners(p) {
			if !before.Owns(owner, p) {
				require.Equal(t, "n11", owner)
				moved++
			}
		}
	}
	optimal := 1024 * 3.0 / 11
	require.InEpsilon(t, optimal, moved, 0.15)
}

func TestLeavingKeepsTheOthersOrder(t *testing.T) {
	t.Parallel()
	all := numbered(6)
	before := mustNew(t, 64, 3, all)
	all[2].Status = layout.Left
	after := mustNew(t, 64, 3, all)
	require.NotEqual(t, before.ViewHash8(), after.ViewHash8())
	for p := range uint32(64) {
		want := slices.DeleteFunc(before.Order(p), func(name string) bool { return name == "n3" })
		require.Equal(t, want, after.Order(p))
		require.Equal(t, want[:3], after.Owners(p))
	}
}

func TestOrderOfMembersDoesNotMatter(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all := drawMembers(t)
		shuffled := slices.Clone(all)
		seed := rapid.Uint64().Draw(t, "seed")
		rand.New(rand.NewPCG(seed, 0)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		a, err := layout.New(32, 3, all)
		require.NoError(t, err)
		b, err := layout.New(32, 3, shuffled)
		require.NoError(t, err)
		require.Equal(t, a, b)
	})
}

func TestOwnersKeepTheRules(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all := drawMembers(t)
		copies := rapid.IntRange(1, 5).Draw(t, "copies")
		l, err := layout.New(16, copies, all)
		require.NoError(t, err)
		zoneOf, sizes := map[string]string{}, map[string]int{}
		for _, m := range all {
			if m.Status == layout.Active {
				zoneOf[m.Name] = m.Zone
				sizes[m.Zone]++
			}
		}
		require.Equal(t, min(copies, len(zoneOf)), l.Width())
		perZone, reachable := 0, 0
		if len(sizes) > 0 {
			perZone = (copies + len(sizes) - 1) / len(sizes)
		}
		for _, size := range sizes {
			reachable += min(size, perZone)
		}
		rules := zoneRules{zoneOf: zoneOf, perZone: perZone, spread: reachable >= l.Width()}
		for p := range uint32(16) {
			rules.check(t, l, p)
		}
	})
}

// zoneRules are what the owners of one layout's partitions must keep to.
type zoneRules struct {
	zoneOf  map[string]string // active members alone
	perZone int
	spread  bool // the zones are large enough for perZone to be kept
}

// check holds one partition's owners against the rules: distinct, active, in
// the order of their scores, and spread over zones where that can be done.
func (r zoneRules) check(t *rapid.T, l *layout.Layout, p uint32) {
	owners, order, used := l.Owners(p), l.Order(p), map[string]int{}
	require.Len(t, owners, l.Width())
	require.Len(t, order, len(r.zoneOf))
	at := -1
	for _, name := range owners {
		require.Contains(t, r.zoneOf, name)
		next := slices.Index(order, name)
		require.Greater(t, next, at, "in rendezvous order, none twice")
		at = next
		used[r.zoneOf[name]]++
	}
	if len(owners) > 0 {
		require.Equal(t, order[0], owners[0], "the best always owns")
	}
	if r.spread {
		for zone, n := range used {
			require.LessOrEqual(t, n, r.perZone, "zone %q", zone)
		}
	}
}

func drawMembers(t *rapid.T) []layout.Member {
	names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z]{1,8}`), 0, 12, rapid.ID).Draw(t, "names")
	out := make([]layout.Member, len(names))
	for i, name := range names {
		out[i] = layout.Member{
			Name:   name,
			Weight: rapid.SampledFrom([]float64{0.5, 1, 1, 1, 2, 10}).Draw(t, "weight"),
			Zone:   rapid.SampledFrom([]string{"", "x", "y", "z"}).Draw(t, "zone"),
			Status: rapid.SampledFrom([]layout.Status{layout.Active, layout.Active, layout.Active, layout.Left, layout.Forgotten}).Draw(t, "status"),
		}
	}
	return out
}

func TestViewHashSeesWhatPlaces(t *testing.T) {
	t.Parallel()
	base := func() []layout.Member { return members("ab", "c") }
	seen := map[uint64]string{mustNew(t, 4, 2, base()).ViewHash8(): "base"}
	for name, change := range map[string]func([]layout.Member){
		"name":   func(m []layout.Member) { m[0].Name = "abd" },
		"weight": func(m []layout.Member) { m[0].Weight = 1.5 },
		"zone":   func(m []layout.Member) { m[0].Zone = "z" },
		"status": func(m []layout.Member) { m[0].Status = layout.Left },
		"split":  func(m []layout.Member) { m[0].Name, m[1].Name = "a", "bc" },
	} {
		changed := base()
		change(changed)
		hash := mustNew(t, 4, 2, changed).ViewHash8()
		require.NotContains(t, seen, hash, "%s against %s", name, seen[hash])
		seen[hash] = name
	}
	same := base()
	same[0].Addresses, same[0].Epoch, same[0].Node = []string{"x:1"}, 9, 9
	require.Equal(t, "base", seen[mustNew(t, 4, 2, same).ViewHash8()], "what does not place is not in it")
}

func TestLimits(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("n", layout.MaxNameBytes)
	one := func(change func(*layout.Member)) []layout.Member {
		m := members("a")
		change(&m[0])
		return m
	}
	for name, tc := range map[string]struct {
		partitions, copies int
		members            []layout.Member
		err                string
	}{
		"least":             {1, 1, nil, ""},
		"most":              {layout.MaxPartitions, layout.MaxCopies, numbered(20), ""},
		"most members":      {1, 1, numbered(layout.MaxMembers), ""},
		"no partitions":     {0, 1, nil, "power of two"},
		"three partitions":  {3, 1, nil, "power of two"},
		"negative":          {-4, 1, nil, "power of two"},
		"many partitions":   {2 * layout.MaxPartitions, 1, nil, "power of two"},
		"no copies":         {1, 0, nil, "0 copies"},
		"many copies":       {1, layout.MaxCopies + 1, nil, "17 copies"},
		"many members":      {1, 1, numbered(layout.MaxMembers + 1), "1025 members"},
		"longest name":      {1, 1, members(long), ""},
		"long name":         {1, 1, members(long + "n"), "name of 65 bytes"},
		"no name":           {1, 1, members(""), "no name"},
		"twice":             {1, 1, members("a", "b", "a"), "named twice"},
		"long zone":         {1, 1, one(func(m *layout.Member) { m.Zone = long + "n" }), "zone of 65 bytes"},
		"no weight":         {1, 1, one(func(m *layout.Member) { m.Weight = 0 }), "weight 0"},
		"heaviest":          {1, 1, one(func(m *layout.Member) { m.Weight = layout.MaxWeight }), ""},
		"too heavy":         {1, 1, one(func(m *layout.Member) { m.Weight = layout.MaxWeight + 1 }), "weight 1001"},
		"unknown status":    {1, 1, one(func(m *layout.Member) { m.Status = 3 }), "unknown status 3"},
		"forgotten is fine": {1, 1, one(func(m *layout.Member) { m.Status = layout.Forgotten }), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := layout.New(tc.partitions, tc.copies, tc.members)
			if tc.err == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, layout.ErrInvalid)
			require.ErrorContains(t, err, tc.err)
		})
	}
}

func TestStatusNames(t *testing.T) {
	t.Parallel()
	require.Equal(t, "active left forgotten status(7)",
		fmt.Sprint(layout.Active, " ", layout.Left, " ", layout.Forgotten, " ", layout.Status(7)))
}

func BenchmarkNewAtTheLimit(b *testing.B) {
	all := numbered(layout.MaxMembers)
	for b.Loop() {
		mustNew(b, layout.MaxPartitions, 3, all)
	}
}
