package kv_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"edged.dev/edged/internal/kv"
)

func drawVV(t *rapid.T) kv.VV {
	var v kv.VV
	for range rapid.IntRange(0, 14).Draw(t, "entries") {
		v = v.With(kv.Dot{
			Actor: testActor(rapid.IntRange(0, 11).Draw(t, "actor")), // more than the loop of a short vector takes
			Seq:   rapid.Uint64Range(0, 9).Draw(t, "seq"),
		})
	}
	requireNormalVV(t, v)
	return v
}

func requireNormalVV(t require.TestingT, v kv.VV) {
	for i, d := range v {
		require.Positive(t, d.Seq)
		require.True(t, i == 0 || v[i-1].Actor.Compare(d.Actor) < 0)
	}
}

func TestVVJoinIsASemilattice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := drawVV(t), drawVV(t), drawVV(t)
		keepA, keepB := slices.Clone(a), slices.Clone(b)
		ab := a.Join(b)
		requireNormalVV(t, ab)
		for i := range 12 {
			require.Equal(t, max(a.Get(testActor(i)), b.Get(testActor(i))), ab.Get(testActor(i)))
		}
		require.Equal(t, ab, b.Join(a))
		require.Equal(t, ab.Join(c), a.Join(b.Join(c)))
		require.Equal(t, ab, ab.Join(a))
		require.True(t, slices.Equal(keepA, a) && slices.Equal(keepB, b), "no argument changes")
	})
}

func TestVVCoversAndBeyondAgreeWithGet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawVV(t), drawVV(t)
		covers := true
		for i := range 12 {
			d := kv.Dot{Actor: testActor(i), Seq: b.Get(testActor(i))}
			covers = covers && a.Has(d)
			beyond := b.Beyond(a)
			if d.Seq > a.Get(d.Actor) {
				require.Equal(t, d.Seq, beyond.Get(d.Actor))
			} else {
				require.Zero(t, beyond.Get(d.Actor))
			}
		}
		require.Equal(t, covers, a.Covers(b))
		require.Equal(t, covers, len(b.Beyond(a)) == 0)
		require.Equal(t, a.Join(b), a.Join(b.Beyond(a)))
		if covers && b.Covers(a) {
			require.True(t, slices.Equal(a, b))
		}
	})
}

func TestVVWithLeavesTheReceiver(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := drawVV(t)
		before := slices.Clone(v)
		d := kv.Dot{Actor: testActor(rapid.IntRange(0, 11).Draw(t, "actor")), Seq: rapid.Uint64Range(0, 20).Draw(t, "seq")}
		w := v.With(d)
		requireNormalVV(t, w)
		require.Equal(t, max(d.Seq, v.Get(d.Actor)), w.Get(d.Actor))
		require.True(t, w.Covers(v))
		require.True(t, slices.Equal(before, v))
	})
}
