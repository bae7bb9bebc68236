package kv_test

import (
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"edged.dev/edged/internal/kv"
)

// window is how many sequence numbers at each end of the range the model looks
// at; runs begin and end only there, and may span what lies between.
const window = 24

func testActor(i int) kv.Actor {
	return kv.Actor{Node: kv.NodeID(1 + i/4), Boot: uint32(1 + i/2%2), Rand: uint32(1 + i%2)}
}

const testActors = 6

func seqs() []uint64 {
	var out []uint64
	for i := uint64(1); i <= window; i++ {
		out = append(out, i, math.MaxUint64-window+i)
	}
	slices.Sort(out)
	return out
}

func drawDot(t *rapid.T) kv.Dot {
	return kv.Dot{Actor: testActor(rapid.IntRange(0, testActors-1).Draw(t, "actor")), Seq: rapid.SampledFrom(seqs()).Draw(t, "seq")}
}

// model is a clock as a plain set of the dots in the windows.
type model map[kv.Dot]bool

func (m model) addRun(a kv.Actor, r kv.Run) {
	for _, s := range seqs() {
		if r.From <= s && s <= r.To {
			m[kv.Dot{Actor: a, Seq: s}] = true
		}
	}
}

func (m model) covers(n model) bool {
	for d := range n {
		if !m[d] {
			return false
		}
	}
	return true
}

// drawModelled draws a clock and its model. Only what is drawn at random ends in
// the windows; long runs that cross from one to the other are rare.
func drawModelled(t *rapid.T) (kv.Clock, model) {
	var c kv.Clock
	m := model{}
	for range rapid.IntRange(0, 14).Draw(t, "runs") {
		d := drawDot(t)
		r := kv.Run{From: d.Seq, To: d.Seq}
		switch rapid.IntRange(0, 9).Draw(t, "kind") {
		case 0:
			r.To = max(r.From, rapid.SampledFrom(seqs()).Draw(t, "to"))
		case 1, 2, 3:
			if r.To += rapid.Uint64Range(0, 6).Draw(t, "length"); r.To < r.From || r.From <= window && r.To > window {
				r.To = r.From
			}
		}
		before := len(m)
		m.addRun(d.Actor, r)
		require.Equal(t, len(m) > before || r.To-r.From > 2*window, c.AddRun(d.Actor, r) || r.To-r.From > 2*window, "AddRun reports what is new")
	}
	requireModel(t, c, m)
	return c, m
}

func requireModel(t require.TestingT, c kv.Clock, m model) {
	for i := range testActors {
		for _, s := range seqs() {
			d := kv.Dot{Actor: testActor(i), Seq: s}
			require.Equal(t, m[d], c.Has(d), "%v in %v", d, c)
		}
	}
	requireNormal(t, c)
}

func requireNormal(t require.TestingT, c kv.Clock) {
	spans := c.Spans()
	for i, s := range spans {
		require.True(t, i == 0 || spans[i-1].Actor.Compare(s.Actor) < 0, "actors ascend in %v", c)
		require.Positive(t, s.Max(), "no empty span in %v", c)
		end := s.Base
		for _, r := range s.Runs {
			require.Greater(t, r.From-1, end, "a gap before each run in %v", c)
			require.GreaterOrEqual(t, r.To, r.From)
			end = r.To
		}
	}
}

func TestAClockIsTheSetOfDotsAddedToIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, _ := drawModelled(t)
		require.Equal(t, c.Len(), len(c.Spans()))
		rebuilt := kv.ClockOf(rapid.Permutation(c.Spans()).Draw(t, "order")...)
		require.True(t, c.Equal(rebuilt), "%v and %v", c, rebuilt)
	})
}

func TestClockOfNormalisesAnySpans(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var spans []kv.Span
		m := model{}
		for range rapid.IntRange(0, 8).Draw(t, "spans") {
			d := drawDot(t)
			s := kv.Span{Actor: d.Actor}
			if rapid.Bool().Draw(t, "base") {
				s.Base = d.Seq
				m.addRun(d.Actor, kv.Run{From: 1, To: d.Seq})
			}
			for range rapid.IntRange(0, 4).Draw(t, "runs") {
				r := kv.Run{From: drawDot(t).Seq, To: drawDot(t).Seq} // some are empty
				s.Runs = append(s.Runs, r)
				m.addRun(d.Actor, r)
			}
			spans = append(spans, s)
		}
		requireModel(t, kv.ClockOf(spans...), m)
	})
}

func TestJoinIsUnionAndASemilattice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, ma := drawModelled(t)
		b, mb := drawModelled(t)
		c, _ := drawModelled(t)
		join := func(x, y kv.Clock) kv.Clock {
			z := x.Clone()
			z.Join(y)
			return z
		}
		ab := join(a, b)
		union := model{}
		for _, m := range []model{ma, mb} {
			for d := range m {
				union[d] = true
			}
		}
		requireModel(t, ab, union)
		same := func(x, y kv.Clock, law string) { require.True(t, x.Equal(y), "%s: %v and %v", law, x, y) }
		same(ab, join(b, a), "commutative")
		same(join(ab, c), join(a, join(b, c)), "associative")
		same(join(ab, b), ab, "idempotent")
		same(join(kv.Clock{}, a), a, "the empty clock is neutral")
		require.True(t, ab.Covers(a) && ab.Covers(b))
		requireModel(t, a, ma) // neither argument changed
		requireModel(t, b, mb)
	})
}

func TestCoversIsSupersetAndAntisymmetric(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, ma := drawModelled(t)
		b, mb := drawModelled(t)
		if rapid.Bool().Draw(t, "related") {
			b.Join(a)
			for d := range ma {
				mb[d] = true
			}
		}
		require.Equal(t, !hasBetween(b, a) && ma.covers(mb), a.Covers(b), "%v covers %v", a, b)
		require.True(t, a.Covers(a))
		if a.Covers(b) && b.Covers(a) {
			require.True(t, a.Equal(b), "%v and %v", a, b)
		}
		require.Equal(t, a.Covers(b), len(b.Minus(a)) == 0)
		require.Equal(t, a.Covers(b), a.CoversVV(b.Base()) && coversRuns(a, b))
	})
}

// hasBetween reports whether b has dots outside the windows that a has not,
// which the model cannot show.
func hasBetween(b, a kv.Clock) bool {
	const middle = math.MaxUint64 / 2
	for i := range testActors {
		d := kv.Dot{Actor: testActor(i), Seq: middle}
		if b.Has(d) && !a.Has(d) {
			return true
		}
	}
	return false
}

func coversRuns(a, b kv.Clock) bool {
	for _, s := range b.Spans() {
		if runs := kv.ClockOf(kv.Span{Actor: s.Actor, Runs: s.Runs}); !a.Covers(runs) {
			return false
		}
	}
	return true
}

func TestMinusIsDifference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, ma := drawModelled(t)
		b, mb := drawModelled(t)
		left := kv.ClockOf(a.Minus(b)...)
		want := model{}
		for d := range ma {
			if !mb[d] {
				want[d] = true
			}
		}
		requireModel(t, left, want)
		both := left.Clone()
		both.Join(b)
		union := a.Clone()
		union.Join(b)
		require.True(t, both.Equal(union), "what is missing completes it")
	})
}

func TestBaseIsTheContiguousPart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, m := drawModelled(t)
		base := c.Base()
		for i := range testActors {
			a := testActor(i)
			require.Equal(t, base.Get(a), c.BaseOf(a))
			if n := c.BaseOf(a); n < math.MaxUint64 {
				require.False(t, c.Has(kv.Dot{Actor: a, Seq: n + 1}))
			}
			for _, s := range seqs() {
				if s <= c.BaseOf(a) {
					require.True(t, m[kv.Dot{Actor: a, Seq: s}])
				}
			}
		}
		require.True(t, c.CoversVV(base))
	})
}

func TestAClockGrowsWithoutItsClones(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, m := drawModelled(t)
		clone := c.Clone()
		more, _ := drawModelled(t)
		clone.Join(more)
		clone.Add(drawDot(t))
		requireModel(t, c, m)
	})
}

func TestAddingNothingChangesNothing(t *testing.T) {
	var c kv.Clock
	require.False(t, c.Add(kv.Dot{Actor: testActor(0)}), "sequence 0 is no dot")
	require.False(t, c.AddRun(testActor(0), kv.Run{From: 5, To: 4}))
	require.Zero(t, c.Len())
	require.True(t, c.AddRun(testActor(0), kv.Run{From: 0, To: 3}), "a run from 0 is one from 1")
	require.Equal(t, uint64(3), c.BaseOf(testActor(0)))
	require.Equal(t, kv.Span{Actor: testActor(1)}, c.Span(testActor(1)))
	require.Empty(t, kv.Clock{}.String())
	c.AddRun(testActor(0), kv.Run{From: 6, To: 7})
	require.Equal(t, testActor(0).String()+":3+6-7", c.String())
}

func BenchmarkClock(b *testing.B) {
	var c kv.Clock
	for i := range 3 {
		c.AddRun(testActor(i), kv.Run{From: 1, To: 400})
	}
	b.Run("add next", func(b *testing.B) {
		b.ReportAllocs()
		d := kv.Dot{Actor: testActor(1), Seq: 400}
		for b.Loop() {
			d.Seq++
			c.Add(d)
		}
	})
	b.Run("base", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = c.Base()
		}
	})
	b.Run("join equal", func(b *testing.B) {
		b.ReportAllocs()
		d := c.Clone()
		for b.Loop() {
			c.Join(d)
		}
	})
	spans := make([]kv.Span, kv.MaxClockActors)
	for i := range spans {
		spans[i] = kv.Span{Actor: kv.Actor{Node: kv.NodeID(i) * 0x9e3779b97f4a7c15, Boot: 1}, Base: 7}
	}
	b.Run("of many actors", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = kv.ClockOf(spans...)
		}
	})
	for i := range spans { // what a hostile peer may send
		spans[i] = kv.Span{Actor: testActor(0), Runs: []kv.Run{{From: uint64(4*i + 2), To: uint64(4*i + 2)}, {From: 1 << 40, To: 1 << 40}}}
	}
	b.Run("of one actor many times", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = kv.ClockOf(spans...)
		}
	})
	b.Run("of three actors", func(b *testing.B) {
		b.ReportAllocs()
		three := c.Clone()
		for b.Loop() {
			_ = kv.ClockOf(three.Spans()...)
		}
	})
}
