package state_test

import (
	"fmt"
	"testing"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/merkle"
	"edged.dev/edged/partition/state"

	"github.com/stretchr/testify/require"
)

func actor(n int) kv.Actor { return kv.Actor{Node: kv.NodeID(n), Boot: 1, Rand: 1} }

func dot(n int, seq uint64) kv.Dot { return kv.Dot{Actor: actor(n), Seq: seq} }

func newCopy(n int) *state.Copy {
	return state.New(0, actor(n), merkle.KeyOf([]byte("k")), state.Published{}, nil)
}

func publish(c *state.Copy, changes ...*state.Change) { c.Publish(c.Stage(changes), changes, true) }

func value(s string) kv.Version { return kv.Version{Value: []byte(s)} }

// entry returns the last state of the one key of changes.
func entry(ch *state.Change) state.Entry { return ch.Keys[0].After }

func TestPlannedIsNotPublished(t *testing.T) {
	t.Parallel()
	c := newCopy(1)
	first, d := c.PlanWrite([]byte("k"), state.Entry{}, state.Covers{}, value("a"))
	second, e := c.PlanWrite([]byte("k"), entry(first), state.Covers{Held: true}, value("b"))
	require.Equal(t, dot(1, 1), d)
	require.Equal(t, dot(1, 2), e)
	require.Empty(t, c.NowBase())
	require.EqualValues(t, 2, c.PlannedBase().Get(actor(1)))

	staged := c.Stage([]*state.Change{first})
	require.Empty(t, c.NowBase(), "staging changes nothing")
	c.Publish(staged, []*state.Change{first}, false)
	require.EqualValues(t, 1, c.NowBase().Get(actor(1)))
	require.False(t, c.Synced().Has(d), "published is not durable")
	c.Sync(c.Point())
	require.True(t, c.Synced().Has(d))
	publish(c, second)
	require.EqualValues(t, 1, c.Now().Digest.Count, "the second write superseded the first")
}

func TestReapRemovesExactlyWhatIsListed(t *testing.T) {
	t.Parallel()
	c := newCopy(1)
	var e state.Entry
	for _, v := range []string{"one", "two", "three"} {
		ch, _ := c.PlanWrite([]byte("k"), e, state.Covers{}, value(v))
		publish(c, ch)
		e = entry(ch)
	}
	require.Len(t, e.Object.Versions, 3)
	require.Nil(t, c.PlanReap([]byte("k"), e, []kv.Dot{dot(1, 2)}, 1),
		"a context is a vector: it would cover the lower dot too, which is not listed")
	require.Nil(t, c.PlanReap([]byte("k"), e, []kv.Dot{dot(2, 1)}, 1), "not held")
	ch := c.PlanReap([]byte("k"), e, []kv.Dot{dot(1, 1), dot(1, 2)}, 1)
	require.NotNil(t, ch)
	publish(c, ch)
	left := entry(ch).Object.Versions
	require.Len(t, left, 2)
	require.Equal(t, dot(1, 3), left[0].Dot)
	require.True(t, left[1].Tombstone())
	require.NotZero(t, left[1].Flags&kv.Reap)
	require.EqualValues(t, 1, c.Now().Digest.Count)
}

func TestEmptyValueAndTombstoneDiffer(t *testing.T) {
	t.Parallel()
	c := newCopy(1)
	ch, _ := c.PlanWrite([]byte("k"), state.Entry{}, state.Covers{}, kv.Version{})
	publish(c, ch)
	require.EqualValues(t, 1, c.Now().Digest.Count)
	require.NotNil(t, entry(ch).Object.Versions[0].Value)
	del, _ := c.PlanWrite([]byte("k"), entry(ch), state.Covers{Held: true}, kv.Version{Flags: kv.Tombstone})
	publish(c, del)
	require.True(t, c.Now().Digest.IsZero())
}

func TestTokenBeyondTheClockIsKeptUntilTheClockCoversIt(t *testing.T) {
	t.Parallel()
	c := newCopy(1)
	token := kv.VV{{Actor: actor(2), Seq: 2}}
	ch, _ := c.PlanWrite([]byte("k"), state.Entry{}, state.Covers{Ctx: token}, value("v"))
	publish(c, ch)
	require.Equal(t, token, entry(ch).Object.Ctx)
	require.Equal(t, []string{"k"}, c.Beyond())

	in := c.Begin(1, 9)
	end := c.PlanEnd(in, kv.ClockOf(kv.Span{Actor: actor(2), Base: 2}), nil, nil)
	publish(c, end)
	require.Empty(t, c.Beyond(), "nothing is beyond the clock any more")
	again, _ := c.PlanWrite([]byte("k"), entry(ch), state.Covers{Held: true}, value("w"))
	require.Empty(t, entry(again).Object.Ctx, "and the next write forgets it")
}

func TestSessionRecordIsTheFirstBasesAlone(t *testing.T) {
	t.Parallel()
	c := newCopy(1)
	in := c.Begin(7, 9)
	first, later := kv.VV{{Actor: actor(2), Seq: 5}}, kv.VV{{Actor: actor(2), Seq: 6}, {Actor: actor(3), Seq: 1}}
	apply := func(key string, seq uint64, base kv.VV) *state.Change {
		v := value(key)
		v.Dot = dot(2, seq)
		o := kv.Object{Versions: []kv.Version{v}}.Filled(base)
		ch := c.PlanApply(state.Received{Key: []byte(key), Object: o, In: in, Base: base}, state.Entry{})
		publish(c, ch)
		return ch
	}
	a := apply("a", 4, first)
	require.EqualValues(t, 7, a.AddSession)
	require.Equal(t, first, a.SessionBase)
	require.EqualValues(t, 7, entry(a).Session)
	require.Empty(t, entry(a).Object.Ctx, "all of it is in the record")

	b := apply("b", 6, later)
	require.Zero(t, b.AddSession, "the record never grows")
	require.Equal(t, kv.VV{{Actor: actor(3), Seq: 1}}, entry(b).Object.Ctx, "what its own base adds it keeps itself")
	require.True(t, c.Leans())
	require.EqualValues(t, 5, c.Load(entry(a)).Ctx.Get(actor(2)))

	end := c.PlanEnd(in, kv.ClockOf(kv.Span{Actor: actor(2), Base: 6}, kv.Span{Actor: actor(3), Base: 1}), nil, nil)
	require.Equal(t, []uint64{7}, end.DropSession)
	publish(c, end)
	require.False(t, c.Leans())
	require.Empty(t, c.Load(entry(a)).Ctx)
}

func TestDonorRemembersOnlySoManyKeys(t *testing.T) {
	t.Parallel()
	c := newCopy(1)
	d := c.Open(9, kv.Clock{})
	for i := range state.MaxDirty {
		d.Dirty(fmt.Sprint(i))
	}
	require.False(t, d.Overflowed(), "at the limit")
	d.Dirty("0")
	require.False(t, d.Overflowed(), "again is not more")
	d.Dirty("one over")
	require.True(t, d.Overflowed())
	require.Equal(t, []string{"0", "1"}, d.TakeDirty(2), "the longest marked first")
	require.False(t, d.Clean())
	require.Len(t, d.TakeDirty(state.MaxDirty), state.MaxDirty-2)
	require.True(t, d.Clean())
}

func TestClosedDonorIsNotMarked(t *testing.T) {
	t.Parallel()
	c := newCopy(1)
	open, closed := c.Open(9, kv.Clock{}), c.Open(9, kv.Clock{})
	c.Close(closed)
	ch, _ := c.PlanWrite([]byte("k"), state.Entry{}, state.Covers{}, value("v"))
	require.True(t, open.Clean(), "planning marks nothing: the end would claim what the stream has not carried")
	publish(c, ch)
	require.False(t, open.Clean())
	require.True(t, closed.Clean())
}

// What comes by other ways while a session runs is named by its keys while that is
// little; past it the dot index has the keys, once they are in the store.
func TestASessionKeepsFewKeysOfWhatCameMeanwhile(t *testing.T) {
	t.Parallel()
	const most = 1024 // maxNoted
	end := kv.ClockOf(kv.Span{Actor: actor(1), Base: 3 * most})
	for _, tc := range []struct{ writes, keys int }{{most, most}, {most + 1, 0}, {3 * most, most - 2}} {
		c := newCopy(1)
		in := c.Begin(1, 2)
		for i := range tc.writes {
			ch, _ := c.PlanWrite(fmt.Append(nil, i), state.Entry{}, state.Covers{}, value("v"))
			publish(c, ch)
		}
		keys, dots := in.Suspects(end)
		require.Len(t, keys, tc.keys)
		n, _ := kv.Dots(dots)
		require.EqualValues(t, tc.writes-tc.keys, n)
	}
	// What is planned and not published yet is in no index.
	c := newCopy(1)
	in := c.Begin(1, 2)
	first, _ := c.PlanWrite([]byte("first"), state.Entry{}, state.Covers{}, value("v"))
	var rest []*state.Change
	for i := range most {
		ch, _ := c.PlanWrite(fmt.Append(nil, i), state.Entry{}, state.Covers{}, value("v"))
		rest = append(rest, ch)
	}
	publish(c, first)
	keys, dots := in.Suspects(end)
	require.Len(t, keys, most)
	require.Equal(t, []kv.Span{{Actor: actor(1), Runs: []kv.Run{{From: 1, To: 1}}}}, dots)
	publish(c, rest...)
	keys, dots = in.Suspects(kv.ClockOf(kv.Span{Actor: actor(1), Base: 2}))
	require.Len(t, keys, 1)
	require.Len(t, dots, 1)
}
