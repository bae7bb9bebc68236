package merkle_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"edged.dev/edged/merkle"
)

func newTree(t require.TestingT, bits int) *merkle.Tree {
	tree, err := merkle.NewTree(bits)
	require.NoError(t, err)
	return tree
}

// testItem is item n: a hash and a digest that belong together.
func testItem(n uint64) (uint64, merkle.Digest) {
	h := n * 0x9e3779b97f4a7c15
	return h, merkle.Item{Key: []byte{byte(n), byte(n >> 8), byte(n >> 16)}, Seq: 1}.Digest(testKey())
}

func drawItems(t *rapid.T) map[uint64]bool {
	out := map[uint64]bool{}
	for _, n := range rapid.SliceOfN(rapid.Uint64Range(0, 400), 0, 60).Draw(t, "items") {
		out[n] = true
	}
	return out
}

func treeOf(t require.TestingT, bits int, items map[uint64]bool) *merkle.Tree {
	tree := newTree(t, bits)
	for n := range items {
		tree.Add(testItem(n))
	}
	return tree
}

// checkDiff holds ranges to what they promise: ascending, apart, and covering
// exactly the leaves at depth that have an item of only one side.
func checkDiff(t require.TestingT, rs []merkle.Range, depth int, a, b map[uint64]bool) {
	differ := map[uint64]bool{}
	for n := uint64(0); n <= 400; n++ {
		if a[n] != b[n] {
			h, _ := testItem(n)
			differ[h>>(64-depth)] = true
		}
	}
	var leaves uint64
	for i, r := range rs {
		require.LessOrEqual(t, r.From, r.To)
		require.True(t, i == 0 || rs[i-1].To < r.From-1, "ranges that touch are one")
		leaves += r.To>>(64-depth) - r.From>>(64-depth) + 1
	}
	require.Equal(t, uint64(len(differ)), leaves)
	for n := range a {
		h, _ := testItem(n)
		in := false
		for _, r := range rs {
			in = in || r.Has(h)
		}
		require.Equal(t, differ[h>>(64-depth)], in)
	}
}

func TestDiffFindsTheLeavesThatDiffer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawItems(t), drawItems(t)
		for n := range a {
			b[n] = b[n] || n%4 != 0
		}
		ba, bb := rapid.IntRange(0, 9).Draw(t, "bits"), rapid.IntRange(0, 9).Draw(t, "other bits")
		keep := map[uint64]bool{}
		for n, in := range b {
			if in {
				keep[n] = true
			}
		}
		ta, tb := treeOf(t, ba, a), treeOf(t, bb, keep)
		checkDiff(t, merkle.Diff(ta, tb), min(ba, bb), a, keep)
		require.Equal(t, merkle.Diff(ta, tb), merkle.Diff(tb, ta))
		require.Empty(t, merkle.Diff(ta, ta))
		require.Equal(t, ta.Root().Equal(tb.Root()), len(merkle.Diff(ta, tb)) == 0)

		got, _ := descend(t, ta, tb, 99)
		require.Equal(t, merkle.Diff(ta, tb), got, "a descent finds the same")
	})
}

func TestATreeIsTheSumOfItsItemsInAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bits := rapid.IntRange(0, 8).Draw(t, "bits")
		tree, in := newTree(t, bits), map[uint64]bool{}
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			n := rapid.Uint64Range(0, 30).Draw(t, "item")
			if h, d := testItem(n); in[n] {
				tree.Sub(h, d)
				delete(in, n)
			} else {
				tree.Add(h, d)
				in[n] = true
			}
		}
		require.Empty(t, merkle.Diff(tree, treeOf(t, bits, in)))
		for level := range bits {
			for i := range 1 << level {
				require.Equal(t, tree.Node(level, i), tree.Node(level+1, 2*i).Add(tree.Node(level+1, 2*i+1)))
			}
		}
		shallow := treeOf(t, 2, in)
		if bits >= 2 {
			for i := range 4 {
				require.Equal(t, shallow.Node(2, i), tree.Node(2, i), "a node does not depend on the depth of its tree")
			}
		}
		for n := range in {
			tree.Sub(testItem(n))
		}
		require.True(t, tree.Root().IsZero())
	})
}

// descend runs a descent of a against b and counts its round trips.
func descend(t require.TestingT, a, b *merkle.Tree, salt uint64) ([]merkle.Range, int) {
	d, trips := merkle.NewDescent(a, b.Bits(), salt), 0
	if a.Root() == b.Root() {
		return nil, 0
	}
	for q, ok := d.Ask(); ok; q, ok = d.Ask() {
		again, _ := d.Ask()
		require.Equal(t, q, again, "a question stands until it is answered")
		answer, err := b.Answer(q)
		require.NoError(t, err)
		require.NoError(t, d.Take(answer))
		trips++
	}
	return d.Ranges(), trips
}

func TestADescentGoesFourLevelsARoundTrip(t *testing.T) {
	a, b := newTree(t, 14), newTree(t, 12)
	for n := range uint64(20_000) {
		a.Add(testItem(n))
		if n != 777 {
			b.Add(testItem(n))
		}
	}
	got, trips := descend(t, a, b, 5)
	require.Equal(t, 3, trips)
	require.Len(t, got, 1)
	h, _ := testItem(777)
	require.True(t, got[0].Has(h))
	require.Equal(t, uint64(1)<<52-1, got[0].To-got[0].From)
}

// Where everything differs, questions keep to their limit.
func TestADescentAsksWithinItsLimit(t *testing.T) {
	a, b := newTree(t, 13), newTree(t, 13)
	for n := range uint64(60_000) {
		a.Add(testItem(n))
	}
	d := merkle.NewDescent(a, b.Bits(), 5)
	most := 0
	for q, ok := d.Ask(); ok; q, ok = d.Ask() {
		most = max(most, len(q.Nodes))
		answer, err := b.Answer(q)
		require.NoError(t, err)
		require.NoError(t, d.Take(answer))
	}
	require.Equal(t, merkle.MaxAsk, most)
	require.Equal(t, []merkle.Range{{From: 0, To: 1<<64 - 1}}, d.Ranges())
}

func TestAnAnswerOfTheWrongLengthIsRefused(t *testing.T) {
	a := newTree(t, 8)
	a.Add(testItem(1))
	d := merkle.NewDescent(a, 8, 1)
	require.Error(t, d.Take(nil), "nothing was asked")
	_, ok := d.Ask()
	require.True(t, ok)
	require.Error(t, d.Take(make([]uint32, 15)))
	require.Error(t, d.Take(make([]uint32, 17)))
	require.NoError(t, d.Take(make([]uint32, 16)))
}

func TestQuestionsAreCheckedAtTheLimitAndOneOver(t *testing.T) {
	tree := newTree(t, 9)
	ask := func(level, step int, nodes ...uint32) error {
		_, err := tree.Answer(merkle.Question{Level: level, Step: step, Nodes: nodes})
		return err
	}
	require.NoError(t, ask(5, 4, 31))
	require.ErrorIs(t, ask(5, 4, 32), merkle.ErrQuestion)
	require.ErrorIs(t, ask(6, 4, 0), merkle.ErrQuestion)
	require.ErrorIs(t, ask(-1, 4, 0), merkle.ErrQuestion)
	require.ErrorIs(t, ask(0, 0, 0), merkle.ErrQuestion)
	require.ErrorIs(t, ask(0, 5, 0), merkle.ErrQuestion)
	require.NoError(t, ask(0, 1, make([]uint32, merkle.MaxAsk)...))
	require.ErrorIs(t, ask(0, 1, make([]uint32, merkle.MaxAsk+1)...), merkle.ErrQuestion)
	for _, bits := range []int{0, merkle.MaxBits} {
		_, err := merkle.NewTree(bits)
		require.NoError(t, err)
	}
	for _, bits := range []int{-1, merkle.MaxBits + 1} {
		_, err := merkle.NewTree(bits)
		require.Error(t, err)
	}
}

func TestBitsForGivesFourItemsALeaf(t *testing.T) {
	for items, bits := range map[int]int{0: 0, 1: 0, 4: 0, 5: 1, 8: 1, 9: 2, 4000: 10, 4096: 10, 4097: 11, 1 << 20: 18, 1 << 30: merkle.MaxBits} {
		require.Equal(t, bits, merkle.BitsFor(items), items)
	}
}

// Two contents that look alike under one salt do not under the next.
func TestShortDigestsDependOnTheSalt(t *testing.T) {
	tree := newTree(t, 4)
	tree.Add(testItem(3))
	q := merkle.Question{Step: 4, Nodes: []uint32{0}}
	one, err := tree.Answer(q)
	require.NoError(t, err)
	q.Salt = 1
	two, err := tree.Answer(q)
	require.NoError(t, err)
	require.NotEqual(t, one, two)
}

func BenchmarkTreeAdd(b *testing.B) {
	tree := newTree(b, 10)
	_, d := testItem(1)
	r := rand.New(rand.NewPCG(1, 2))
	b.ReportAllocs()
	for b.Loop() {
		tree.Add(r.Uint64(), d)
	}
}
