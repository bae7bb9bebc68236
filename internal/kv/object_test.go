package kv_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"edged.dev/edged/internal/kv"
)

func drawVersion(t *rapid.T) kv.Version {
	v := kv.Version{
		Dot: kv.Dot{Actor: testActor(rapid.IntRange(0, 5).Draw(t, "actor")), Seq: rapid.Uint64Range(1, 12).Draw(t, "seq")},
		HLC: kv.HLC(rapid.Uint64Range(1, 6).Draw(t, "hlc")), Flags: kv.Flags(rapid.IntRange(0, 1).Draw(t, "tomb")),
		ExpiresMS: rapid.SampledFrom([]int64{0, 0, 5, 10}).Draw(t, "exp"),
	}
	if !v.Tombstone() {
		v.Value = []byte(v.Dot.String())
	}
	return v
}

func drawObject(t *rapid.T) kv.Object {
	vs := rapid.SliceOfNDistinct(rapid.Custom(drawVersion), 0, 5, func(v kv.Version) kv.Dot { return v.Dot }).Draw(t, "versions")
	slices.SortFunc(vs, func(a, b kv.Version) int { return a.Dot.Compare(b.Dot) })
	return kv.Object{Versions: vs, Ctx: drawVV(t)}
}

// Filling and stripping with one base lose nothing: the filled context is the
// same for ever, the stripped one the least that gives it.
func TestFilledAndStrippedAreInverse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o, base := drawObject(t), drawVV(t)
		filled := o.Filled(base)
		stripped := filled.Stripped(base)
		require.True(t, filled.Ctx.Covers(base) && filled.Ctx.Covers(o.Ctx))
		require.Equal(t, filled, stripped.Filled(base))
		require.Equal(t, stripped, stripped.Filled(base).Stripped(base))
		require.Equal(t, stripped, stripped.Stripped(base))
		require.Equal(t, stripped, o.Stripped(base), "it does not matter whether it was filled before")
		for _, d := range stripped.Ctx {
			require.Greater(t, d.Seq, base.Get(d.Actor), "nothing that the base covers")
			for _, v := range o.Versions {
				require.False(t, v.Dot.Actor == d.Actor && v.Dot.Seq >= d.Seq, "nothing that its own dots imply")
			}
		}
		require.Equal(t, kv.Context(filled), filled.Ctx, "a filled object's context has its dots already")
	})
}

// A base that grows afterwards makes less explicit and never less known.
func TestAGrownBaseStripsMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o, base := drawObject(t), drawVV(t)
		grown := base.Join(drawVV(t))
		before := o.Stripped(base)
		after := before.Stripped(grown)
		require.True(t, before.Ctx.Covers(after.Ctx))
		require.True(t, after.Filled(grown).Ctx.Covers(before.Filled(base).Ctx))
	})
}

func TestLiveShowsNeitherTombstonesNorExpiredNewestFirst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := drawObject(t)
		now := rapid.Int64Range(0, 12).Draw(t, "now")
		live := o.Live(nil, now)
		for i, v := range live {
			require.False(t, v.Tombstone())
			require.False(t, v.Expired(now))
			require.True(t, i == 0 || live[i-1].Newer(v), "newest first, and no two are the same age")
		}
		hidden := 0
		for _, v := range o.Versions {
			hidden += map[bool]int{true: 1}[v.Tombstone() || v.Expired(now)]
		}
		require.Len(t, live, len(o.Versions)-hidden)
		keep := []kv.Version{{HLC: 99}}
		require.Equal(t, append(slices.Clone(keep), live...), o.Live(keep, now), "what was there stays in front")
	})
}

func TestExpiryIsTheFirstMomentNotShown(t *testing.T) {
	v := kv.Version{ExpiresMS: 100}
	require.False(t, v.Expired(99))
	require.True(t, v.Expired(100))
	require.False(t, kv.Version{}.Expired(1<<60), "0 is never")
}

func TestNewerIsATotalOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := drawVersion(t), drawVersion(t), drawVersion(t)
		require.False(t, a.Newer(a))
		require.False(t, a.Newer(b) && b.Newer(a))
		if a.HLC != b.HLC || a.Dot != b.Dot {
			require.True(t, a.Newer(b) || b.Newer(a))
		}
		if a.Newer(b) && b.Newer(c) {
			require.True(t, a.Newer(c))
		}
	})
}

func TestObjectLookups(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := drawObject(t)
		n := 0
		for _, v := range o.Versions {
			got, ok := o.Find(v.Dot)
			require.True(t, ok)
			require.Equal(t, v, got)
			n += len(v.Value)
		}
		require.Equal(t, n, o.Bytes())
		_, ok := o.Find(kv.Dot{Actor: testActor(0), Seq: 99})
		require.False(t, ok)
		require.True(t, o.SameDots(kv.Object{Versions: o.Versions}))
		if len(o.Versions) > 0 {
			require.False(t, o.SameDots(kv.Object{Versions: o.Versions[1:]}))
			require.False(t, o.IsZero())
		}
	})
	require.True(t, kv.Object{}.IsZero())
	require.False(t, kv.Object{Ctx: kv.VV{{Seq: 1}}}.IsZero())
}

func TestSizesHoldAtTheLimitAndRefuseOneOver(t *testing.T) {
	check := func(key, value int) kv.Code {
		q := kv.Request{Key: make([]byte, key), Value: make([]byte, value)}
		return kv.CodeOf(q.CheckSizes())
	}
	require.Equal(t, kv.CodeInvalid, check(0, 0))
	require.Zero(t, check(1, 0))
	require.Zero(t, check(kv.MaxKeyBytes, kv.MaxValueBytes))
	require.Equal(t, kv.CodeTooLarge, check(kv.MaxKeyBytes+1, 0))
	require.Equal(t, kv.CodeTooLarge, check(1, kv.MaxValueBytes+1))
}

// What the limits promise each other.
func TestLimitsFitEachOther(t *testing.T) {
	require.LessOrEqual(t, 8*kv.MaxValueBytes, kv.MaxRecordBytes)
	require.LessOrEqual(t, 3*kv.MaxSiblingBytes, kv.MaxRecordBytes)
	require.LessOrEqual(t, 2*kv.MaxActors, kv.MaxClockActors)
	require.Equal(t, 0, kv.MaxPartitions&(kv.MaxPartitions-1))
}

func TestWordsForStates(t *testing.T) {
	require.Equal(t, "new suspect whole unknown", kv.New.String()+" "+kv.Suspect.String()+" "+kv.Whole.String()+" "+kv.Trust(9).String())
	for s, serves := range map[kv.State]bool{kv.Cold: false, kv.CatchingUp: false, kv.Live: true, kv.Isolated: true, kv.Degraded: true} {
		require.Equal(t, serves, s.Serves(), s)
		require.NotEqual(t, "unknown", s.String())
	}
	require.Equal(t, kv.Code(0), kv.CodeOf(nil))
	require.Equal(t, kv.CodeInternal, kv.CodeOf(errTest))
	require.Equal(t, kv.CodeFull, kv.CodeOf(kv.Errorf(kv.CodeFull, "disk %d", 1)))
	require.Equal(t, "disk-full", kv.CodeFull.String())
}

var errTest = testError("x")

type testError string

func (e testError) Error() string { return string(e) }
