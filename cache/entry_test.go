package cache_test

import (
	"encoding/binary"
	"hash/crc32"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
)

func drawActor(t *rapid.T) kv.Actor {
	return kv.Actor{Node: kv.NodeID(rapid.Uint64Range(1, 4).Draw(t, "node")), Boot: rapid.Uint32Range(0, 2).Draw(t, "boot")}
}

func drawVV(t *rapid.T) (v kv.VV) {
	for range rapid.IntRange(0, 3).Draw(t, "actors") {
		v = v.With(kv.Dot{Actor: drawActor(t), Seq: rapid.Uint64Min(1).Draw(t, "seq")})
	}
	if rapid.IntRange(0, 3).Draw(t, "sealed") == 0 {
		a := drawActor(t)
		v = v.With(kv.SealOf(a.Node, a.Boot))
	}
	return v
}

func drawVersion(t *rapid.T) kv.Version {
	v := kv.Version{
		Dot: kv.Dot{Actor: drawActor(t), Seq: rapid.Uint64Min(1).Draw(t, "seq")},
		HLC: kv.HLC(rapid.Uint64().Draw(t, "hlc")), ExpiresMS: rapid.Int64Min(0).Draw(t, "expires"),
	}
	if rapid.Bool().Draw(t, "tombstone") {
		v.Flags = kv.Tombstone | rapid.SampledFrom([]kv.Flags{0, kv.Reap}).Draw(t, "reap")
	} else {
		v.Value = rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(t, "value")
	}
	v.Sum = v.ValueSum()
	return v
}

func drawEntry(t *rapid.T) cache.Entry {
	e := cache.Entry{Session: rapid.Uint64().Draw(t, "session"), Object: kv.Object{Ctx: drawVV(t)}}
	for range rapid.IntRange(0, 4).Draw(t, "versions") {
		e.Object.Versions = append(e.Object.Versions, drawVersion(t))
	}
	return e
}

func TestEntryReadsBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		actors, e := &ids{}, drawEntry(t)
		for _, inline := range []bool{true, false} {
			b := cache.AppendEntry(nil, actors, e, inline)
			got, checks, err := cache.ParseEntry(b, actors)
			require.NoError(t, err)
			require.Equal(t, e.Session, got.Session)
			require.Equal(t, e.Object.Ctx, got.Object.Ctx)
			require.Len(t, got.Object.Versions, len(e.Object.Versions))
			for i, v := range e.Object.Versions {
				g := got.Object.Versions[i]
				if inline {
					require.Equal(t, string(v.Value), string(g.Value))
				} else {
					require.Nil(t, g.Value)
					require.Equal(t, cache.Check{Bytes: len(v.Value), Sum: v.ValueSum()}, checks[i])
				}
				g.Value = v.Value
				require.Equal(t, v, g)
			}
			for n := range b { // every prefix is refused or is itself an entry's end
				_, _, err := cache.ParseEntry(b[:n], actors)
				require.ErrorIs(t, err, cache.ErrRecord)
			}
		}
	})
}

func TestVersionReadsBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		v := drawVersion(t)
		key := rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "key")
		k, got, err := cache.ParseVersion(cache.AppendVersion(nil, key, v))
		require.NoError(t, err)
		require.Equal(t, string(key), string(k))
		require.Equal(t, string(v.Value), string(got.Value))
		require.Equal(t, v.HLC, got.HLC)
		require.Equal(t, v.ExpiresMS, got.ExpiresMS)
		require.Equal(t, v.Flags, got.Flags)
	})
}

func TestACopyOfTheFormatWithoutFencesIsRead(t *testing.T) {
	t.Parallel()
	actors := &ids{}
	c := cache.Copy{Actor: kv.Actor{Node: 1, Boot: 2, Rand: 3}, Trust: kv.Whole, Count: 4, Clock: kv.ClockOf(kv.Span{Actor: kv.Actor{Node: 1, Boot: 1}, Base: 5})}
	b := cache.AppendCopy(nil, actors, c)
	old := append([]byte{1}, b[1:len(b)-5]...) // without the empty list before the checksum
	old = binary.LittleEndian.AppendUint32(old, crc32.Checksum(old, crc32.MakeTable(crc32.Castagnoli)))
	got, err := cache.ParseCopy(old, actors)
	require.NoError(t, err)
	require.True(t, c.Clock.Equal(got.Clock))
	c.Clock, got.Clock = kv.Clock{}, kv.Clock{}
	require.Equal(t, c, got)
	old = append([]byte{3}, b[1:len(b)-4]...)
	old = binary.LittleEndian.AppendUint32(old, crc32.Checksum(old, crc32.MakeTable(crc32.Castagnoli)))
	_, err = cache.ParseCopy(old, actors)
	require.ErrorIs(t, err, cache.ErrRecord, "of a later version")
}

func TestCopyReadsBackAndDamageIsFound(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		actors := &ids{}
		c := cache.Copy{Actor: drawActor(t), Trust: kv.Whole, Floor: drawVV(t), Fence: drawVV(t), Count: rapid.Uint64().Draw(t, "count")}
		copy(c.Sum[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "sum"))
		for range rapid.IntRange(0, 12).Draw(t, "dots") {
			from := rapid.Uint64Range(1, 60).Draw(t, "from")
			c.Clock.AddRun(drawActor(t), kv.Run{From: from, To: from + rapid.Uint64Range(0, 9).Draw(t, "length")})
		}
		if rapid.Bool().Draw(t, "sealed") {
			a := drawActor(t)
			c.Clock.Seal(kv.SealOf(a.Node, a.Boot))
		}
		b := cache.AppendCopy(nil, actors, c)
		got, err := cache.ParseCopy(b, actors)
		require.NoError(t, err)
		require.True(t, c.Clock.Equal(got.Clock))
		c.Clock, got.Clock = kv.Clock{}, kv.Clock{}
		require.Equal(t, c, got)

		at := rapid.IntRange(0, len(b)-1).Draw(t, "damaged byte")
		b[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "damaged bit")
		_, err = cache.ParseCopy(b, actors)
		require.ErrorIs(t, err, cache.ErrRecord)
		_, err = cache.ParseCopy(b[:at], actors)
		require.ErrorIs(t, err, cache.ErrRecord)
	})
}

func TestKnownReadsBackAndDamageIsFound(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		actors := &ids{}
		k := cache.Known{Peer: rapid.String().Draw(t, "peer"), Actor: drawActor(t), Lost: rapid.Bool().Draw(t, "lost")}
		for range rapid.IntRange(0, 12).Draw(t, "dots") {
			from := rapid.Uint64Range(1, 60).Draw(t, "from")
			k.Clock.AddRun(drawActor(t), kv.Run{From: from, To: from + rapid.Uint64Range(0, 9).Draw(t, "length")})
		}
		b := cache.AppendKnown(nil, actors, k)
		got, err := cache.ParseKnown(b, actors)
		require.NoError(t, err)
		require.True(t, k.Clock.Equal(got.Clock))
		k.Clock, got.Clock = kv.Clock{}, kv.Clock{}
		require.Equal(t, k, got)

		at := rapid.IntRange(0, len(b)-1).Draw(t, "damaged byte")
		b[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "damaged bit")
		_, err = cache.ParseKnown(b, actors)
		require.ErrorIs(t, err, cache.ErrRecord)
		_, err = cache.ParseKnown(b[:at], actors)
		require.ErrorIs(t, err, cache.ErrRecord)
	})
}

func TestUnknownActorIsDamage(t *testing.T) {
	t.Parallel()
	known := &ids{}
	v := kv.VV{{Actor: kv.Actor{Node: 1}, Seq: 3}}
	b := cache.AppendVV(nil, known, v)
	got, err := cache.ParseVV(b, known)
	require.NoError(t, err)
	require.Equal(t, v, got)
	_, err = cache.ParseVV(b, &ids{})
	require.ErrorIs(t, err, cache.ErrRecord)
}

func FuzzParseRecords(f *testing.F) {
	actors := &ids{list: []kv.Actor{{Node: 1}, {Node: 2}}}
	v := kv.Version{Dot: kv.Dot{Actor: kv.Actor{Node: 2}, Seq: 7}, Value: []byte("value"), ExpiresMS: 9}
	f.Add(cache.AppendEntry(nil, actors, cache.Entry{Object: kv.Object{Versions: []kv.Version{v}}, Session: 4}, true))
	f.Add(cache.AppendVersion(nil, []byte("key"), v))
	f.Add(cache.AppendCopy(nil, actors, cache.Copy{}))
	f.Add(cache.AppendKnown(nil, actors, cache.Known{Peer: "n1", Clock: kv.ClockOf(kv.Span{Actor: kv.Actor{Node: 2}, Base: 3})}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, _, err := cache.ParseEntry(b, actors); err == nil {
			require.LessOrEqual(t, len(e.Object.Versions), len(b))
		}
		if k, w, err := cache.ParseVersion(b); err == nil {
			require.LessOrEqual(t, len(k)+len(w.Value), len(b))
		}
		_, _ = cache.ParseCopy(b, actors)
		_, _ = cache.ParseKnown(b, actors)
		_, _ = cache.ParseVV(b, actors)
	})
}
