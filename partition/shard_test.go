package partition_test

import (
	"testing"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition/state"

	"github.com/stretchr/testify/require"
)

func TestWriteIsPublishedByItsCommit(t *testing.T) {
	t.Parallel()
	a := newNode(t, 1)
	ch := a.plan("k", "v1", state.Covers{Held: true})
	require.Nil(t, *ch, "done is not called before the commit")
	require.Empty(t, a.values("k"))
	require.False(t, covers(a, a.Actor(), 1))
	a.commit()
	require.NotNil(t, *ch)
	require.Equal(t, []string{"v1"}, a.values("k"))
	require.True(t, covers(a, a.Actor(), 1))
	a.put("k", "v2")
	require.Equal(t, []string{"v2"}, a.values("k"))
	a.put("k", "")
	require.Equal(t, []string{"-"}, a.values("k"))
	require.Zero(t, a.Count())
	a.digest()
}

func TestWritesOfOneGroupSeeEachOther(t *testing.T) {
	t.Parallel()
	a := newNode(t, 1)
	a.plan("k", "v1", state.Covers{Held: true})
	a.plan("k", "v2", state.Covers{Held: true})
	a.plan("l", "w", state.Covers{Held: true})
	a.plan("k", "blind", state.Covers{})
	a.commit()
	require.Equal(t, []string{"v2", "blind"}, a.values("k"))
	require.Equal(t, []string{"w"}, a.values("l"))
	require.EqualValues(t, 3, a.Count())
	a.digest()
}

func TestApplyTwiceChangesNothing(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	r := a.put("k", "value")
	for range 3 {
		b.get(r)
		require.Equal(t, []string{"value"}, b.values("k"))
		requireEqual(t, a, b)
	}
	b.crash()
	b.get(r)
	require.Equal(t, []string{"value"}, b.values("k"), "the value is there after a reopen")
	late := a.put("k", "newer")
	b.get(late)
	b.get(r)
	require.Equal(t, []string{"newer"}, b.values("k"), "a late copy of what was overwritten is dead")
	requireEqual(t, a, b)
}

func TestConcurrentWritesAreSiblings(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	fromA, fromB := a.put("k", "a"), b.put("k", "b")
	a.get(fromB)
	b.get(fromA)
	require.Equal(t, []string{"a", "b"}, a.values("k"))
	require.Equal(t, []string{"a", "b"}, b.values("k"))
	requireEqual(t, a, b)
	b.get(a.put("k", "both"))
	require.Equal(t, []string{"both"}, b.values("k"))
	requireEqual(t, a, b)
}

func TestTokenCoversWhatItsReaderSaw(t *testing.T) {
	t.Parallel()
	a, b, c := newNode(t, 1), newNode(t, 2), newNode(t, 3)
	first := a.put("k", "seen")
	b.get(first)
	token := b.context("k")
	b.get(a.write("k", "unseen", state.Covers{}))
	require.Equal(t, []string{"seen", "unseen"}, b.values("k"))

	b.write("k", "new", state.Covers{Ctx: token})
	require.Equal(t, []string{"unseen", "new"}, b.values("k"))

	elsewhere := c.write("k", "elsewhere", state.Covers{Ctx: token})
	require.Equal(t, []string{"elsewhere"}, c.values("k"))
	require.Equal(t, []string{"k"}, c.Status().Beyond, "its context is beyond the clock of a copy that lacks what it covers")
	c.get(first)
	require.Equal(t, []string{"elsewhere"}, c.values("k"))
	a.get(elsewhere)
	require.Equal(t, []string{"unseen", "elsewhere"}, a.values("k"))
}

func TestDeleteLeavesAWriteBesideIt(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	b.get(a.put("k", "old"))
	del, beside := a.put("k", ""), b.put("k", "beside")
	a.get(beside)
	b.get(del)
	require.Equal(t, []string{"-", "beside"}, a.values("k"))
	require.Equal(t, []string{"-", "beside"}, b.values("k"))
	requireEqual(t, a, b)
}

func TestWriteThatDecidesNothingWaitsForWhatItSaw(t *testing.T) {
	t.Parallel()
	a := newNode(t, 1)
	refuse := func(kv.Object) (*mutation, error) { return nil, nil }
	calls := 0
	done := func(ch *state.Change, err error) {
		require.NoError(t, err)
		require.Nil(t, ch)
		calls++
	}
	a.Write([]byte("k"), refuse, done)
	require.Equal(t, 1, calls, "nothing is planned: at once")
	a.plan("k", "v", state.Covers{Held: true})
	a.Write([]byte("k"), refuse, done)
	require.Equal(t, 1, calls, "what it saw is not published yet")
	a.commit()
	require.Equal(t, 2, calls)
	boom := require.New(t)
	a.Write([]byte("k"), func(held kv.Object) (*mutation, error) {
		boom.Len(held.Versions, 1)
		return nil, kv.Errorf(kv.CodeSiblings, "too many")
	}, func(_ *state.Change, err error) { boom.Equal(kv.CodeSiblings, kv.CodeOf(err)) })
}

func TestEmptyValueIsAValue(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	var change *state.Change
	a.Write([]byte("k"), func(kv.Object) (*mutation, error) {
		return &mutation{Version: kv.Version{Value: nil}}, nil
	}, func(ch *state.Change, err error) { change = ch })
	a.commit()
	r := state.Received{Key: []byte("k"), Object: change.Filled(0), From: 1}
	b.get(r)
	b.get(r)
	require.Equal(t, []string{""}, b.values("k"))
	requireEqual(t, a, b)
}

func TestActorsEndWithTheirProcess(t *testing.T) {
	t.Parallel()
	a := newNode(t, 1)
	first := a.put("k", "v1").Object.Versions[0].Dot
	a.plan("k", "lost", state.Covers{Held: true})
	a.crash()
	require.Equal(t, []string{"v1"}, a.values("k"))
	second := a.put("k", "v2").Object.Versions[0].Dot
	require.NotEqual(t, first.Actor, second.Actor, "an actor read from disk issues no dot (R3)")
	require.EqualValues(t, 1, second.Seq)
	require.Equal(t, []string{"v2"}, a.values("k"))
	a.digest()
}
