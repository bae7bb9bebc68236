package kv_test

import (
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"edged.dev/edged/internal/kv"
)

// sealedActors are those that the tests of seals look at: four of a node, two a boot,
// two of another, and of each boot one that never issues a dot and is sealed all the
// same.
func sealedActors() []kv.Actor {
	var out []kv.Actor
	for i := range testActors {
		out = append(out, testActor(i))
	}
	for _, of := range []int{0, 2, 4} {
		a := testActor(of)
		a.Rand = 99
		out = append(out, a)
	}
	return out
}

func drawSeal(t *rapid.T) kv.Dot {
	a := testActor(rapid.IntRange(0, testActors-1).Draw(t, "sealed"))
	return kv.SealOf(a.Node, a.Boot)
}

func (m model) seal(seal kv.Dot) {
	for _, a := range sealedActors() {
		if a.Node == seal.Actor.Node && a.Boot <= seal.Actor.Boot {
			m.addRun(a, kv.Run{From: 1, To: math.MaxUint64})
		}
	}
}

func drawSealedClock(t *rapid.T) (kv.Clock, model) {
	c, m := drawModelled(t)
	for range rapid.IntRange(0, 2).Draw(t, "seals") {
		seal := drawSeal(t)
		c.Seal(seal)
		m.seal(seal)
		d := drawDot(t)
		require.Equal(t, !m[d], c.Add(d), "a dot of a sealed actor is not new")
		m[d] = true
	}
	requireSealedModel(t, c, m)
	return c, m
}

func requireSealedModel(t require.TestingT, c kv.Clock, m model) {
	for _, a := range sealedActors() {
		for _, s := range seqs() {
			d := kv.Dot{Actor: a, Seq: s}
			require.Equal(t, m[d], c.Has(d), "%v in %v", d, c)
		}
	}
	requireNormal(t, c)
	require.True(t, c.Base().WellFormed(), "%v", c)
	spans := c.Spans()
	for i, s := range spans {
		if s.Actor.IsSeal() {
			require.EqualValues(t, uint64(math.MaxUint64), s.Base)
			require.True(t, i == 0 || spans[i-1].Actor.Node != s.Actor.Node, "nothing beside the seal that covers it in %v", c)
		}
	}
}

func TestASealIsAllDotsOfTheActorsItCovers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, ma := drawSealedClock(t)
		b, mb := drawSealedClock(t)
		keep := a.Clone()
		ab, ba := a.Clone(), b.Clone()
		ab.Join(b)
		ba.Join(a)
		both := model{}
		for d := range ma {
			both[d] = true
		}
		for d := range mb {
			both[d] = true
		}
		requireSealedModel(t, ab, both)
		require.True(t, ab.Equal(ba), "%v and %v", ab, ba)
		require.True(t, a.Equal(keep), "a clone shares nothing that changes")
		require.True(t, ab.Covers(a) && ab.Covers(b))
		require.Equal(t, ma.covers(mb), a.Covers(b), "%v covers %v", a, b)
		require.True(t, a.Equal(kv.ClockOf(rapid.Permutation(a.Spans()).Draw(t, "order")...)))
		for _, s := range a.Minus(b) {
			require.False(t, b.Covers(kv.ClockOf(s)), "%v is missing in %v", s, b)
		}
		rest := b.Clone()
		rest.Join(kv.ClockOf(a.Minus(b)...))
		require.True(t, rest.Equal(ab), "what is missing completes it")
	})
}

func TestASealedClockMeetsAVectorByDots(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, ma := drawSealedClock(t)
		b, _ := drawSealedClock(t)
		v := b.Base()
		for _, x := range sealedActors() {
			require.Equal(t, b.BaseOf(x), v.Get(x))
			require.Equal(t, b.BaseOf(x) == math.MaxUint64 && b.Seals().Get(x) != 0, v.Sealed(x))
		}
		upTo := model{}
		for d := range ma {
			if v.Has(d) {
				upTo[d] = true
			}
		}
		requireSealedModel(t, a.UpTo(v), upTo)
		require.True(t, b.CoversVV(v))
		require.Equal(t, a.Base().Covers(v), len(v.Beyond(a.Base())) == 0)
		joined := a.Base().Join(v)
		require.True(t, joined.WellFormed())
		for _, x := range sealedActors() {
			require.Equal(t, max(a.BaseOf(x), b.BaseOf(x)), joined.Get(x))
		}
		require.Equal(t, joined, v.Join(a.Base()))
	})
}

func TestAVectorTakesASealForWhatItCovers(t *testing.T) {
	x, y := testActor(0), testActor(2) // boots 1 and 2 of a node
	other := testActor(4)
	v := kv.VV{{Actor: x, Seq: 4}, {Actor: y, Seq: 5}, {Actor: other, Seq: 6}}
	keep := slices.Clone(v)
	w := v.With(kv.SealOf(x.Node, 1))
	require.Equal(t, keep, v)
	require.Equal(t, kv.VV{kv.SealOf(x.Node, 1), {Actor: y, Seq: 5}, {Actor: other, Seq: 6}}, w)
	require.Equal(t, w, w.With(kv.Dot{Actor: x, Seq: 9}), "what is sealed is seen already")
	require.True(t, w.Covers(v))
	require.False(t, v.Covers(w))
	require.Equal(t, kv.VV{kv.SealOf(x.Node, 2), {Actor: other, Seq: 6}}, w.With(kv.SealOf(x.Node, 2)), "former processes are one entry")
	require.False(t, kv.VV{{Actor: x, Seq: 4}, kv.SealOf(x.Node, 1)}.WellFormed())
	require.False(t, kv.VV{{Actor: kv.SealOf(x.Node, 1).Actor, Seq: 4}}.WellFormed())
}

func TestFormerIsWhatAClockHoldsOfANodesEarlierProcesses(t *testing.T) {
	x, y, later := testActor(0), testActor(1), testActor(2)
	c := kv.ClockOf(kv.Span{Actor: x, Base: 3}, kv.Span{Actor: y, Base: 4}, kv.Span{Actor: later, Base: 5}, kv.Span{Actor: testActor(4), Base: 6})
	require.Equal(t, []kv.Span{{Actor: x, Base: 3}, {Actor: y, Base: 4}}, c.Former(kv.SealOf(x.Node, 1)))
	require.Empty(t, c.Former(kv.SealOf(x.Node, 0)))
	require.Empty(t, c.Former(kv.SealOf(77, 1)))
	c.Seal(kv.SealOf(x.Node, 1))
	require.Equal(t, 3, c.Len())
	require.Equal(t, []kv.Span{{Actor: kv.SealOf(x.Node, 1).Actor, Base: math.MaxUint64}, {Actor: later, Base: 5}}, c.Former(kv.SealOf(x.Node, 2)))
	require.Equal(t, kv.VV{kv.SealOf(x.Node, 1)}, c.Seals())
}

func TestALateVersionOfASealedActorIsDeadInAJoin(t *testing.T) {
	x := testActor(0)
	var c kv.Clock
	c.Seal(kv.SealOf(x.Node, 1))
	late := kv.Object{Versions: []kv.Version{{Dot: kv.Dot{Actor: x, Seq: 7}, Value: []byte("late")}}}
	require.Empty(t, kv.Merge(kv.Object{}, &c, late.Filled(nil)).Versions)
	held := kv.Object{Versions: late.Versions}
	require.Len(t, kv.Merge(held, &c, late.Filled(c.Base())).Versions, 1, "what both hold stays")
	require.Empty(t, late.Filled(c.Base()).Stripped(c.Base()).Ctx, "a seal is part of the base")
}

func TestNoActorThatIssuesDotsIsASeal(t *testing.T) {
	require.False(t, kv.Actor{Rand: kv.IssuingBits(math.MaxUint32)}.IsSeal())
	require.EqualValues(t, 5, kv.IssuingBits(5))
	require.True(t, kv.SealOf(1, 1).Actor.IsSeal())
}

// A seal is no number of dots: how many it stands for is forgotten.
func TestDotsCountsWhatIsNotSealed(t *testing.T) {
	t.Parallel()
	c := kv.ClockOf(
		kv.Span{Actor: kv.Actor{Node: 1, Boot: 9, Rand: 3}, Base: 4, Runs: []kv.Run{{From: 6, To: 7}, {From: 10, To: 10}}},
		kv.Span{Actor: kv.Actor{Node: 2, Boot: 9, Rand: 3}, Base: 2},
	)
	c.Seal(kv.SealOf(3, 5))
	dots, seals := kv.Dots(c.Spans())
	require.EqualValues(t, 9, dots)
	require.Equal(t, 1, seals)
}
