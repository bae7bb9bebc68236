package partition_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
	"edged.dev/edged/partition/state"
)

// seal runs both rounds over all the owners.
func seal(t *testing.T, over kv.Dot, owners ...*node) {
	t.Helper()
	for _, n := range owners {
		require.NoError(t, n.Fence(over, nil))
		n.commit()
	}
	found := owners[0].Former(over)
	for _, n := range owners {
		require.Equal(t, found, n.Former(over))
	}
	for _, n := range owners {
		require.NoError(t, n.Seal(over, found.Sum, nil))
		n.commit()
		require.True(t, n.Former(over).Sealed)
	}
}

// former returns the seal over a node's processes before the present one.
func former(n *node) kv.Dot { return kv.SealOf(n.id, n.boot-1) }

func TestSealMakesOneEntryOfFormerProcesses(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	for i := range 5 {
		b.get(a.put(fmt.Sprint("k", i), "v"))
		a.crash()
	}
	lost := a.put("lost", "of a process that told nobody")
	a.put("k0", "")
	catchUp(b, a)
	a.crash()
	require.Equal(t, 6, clockLen(a))
	seal(t, former(a), a, b)
	require.Equal(t, 1, clockLen(a))
	require.Equal(t, []string{"v"}, a.values("k1"))
	requireEqual(t, a, b)
	require.True(t, covers(a, lost.Object.Versions[0].Dot.Actor, 99), "whatever it issued counts as seen")

	b.get(a.put("k1", "w"))
	require.Equal(t, []string{"w"}, b.values("k1"))
	require.Equal(t, 2, clockLen(b))
	a.crash() // the seal is durable
	require.Equal(t, 2, clockLen(a))
	seal(t, former(a), a, b)
	require.Equal(t, 1, clockLen(b), "the next seal takes the one before in")
	requireEqual(t, a, b)
}

func clockLen(n *node) int {
	c := n.Clock()
	return c.Len()
}

func TestSealedIsRefusedAndNotJoined(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	b.get(a.put("k", "first"))
	late := a.plan("k", "late", state.Covers{Held: true})
	a.commit()
	a = newNode(t, 3) // its disk is gone; what it sent is on its way
	catchUp(a, b)
	over := kv.SealOf(1, math.MaxUint32)
	seal(t, over, a, b)

	r := state.Received{Key: []byte("k"), Object: (*late).Filled(0), From: 1}
	require.ErrorIs(t, b.Apply(r, nil), partition.ErrSealed)
	require.Equal(t, []string{"first"}, b.values("k"), "what it supersedes stays")
	requireEqual(t, a, b)

	held := b.write("k", "beside", state.Covers{})
	a.get(held)
	require.Equal(t, []string{"first", "beside"}, a.values("k"), "what is held of a sealed process travels on")
}

func TestFenceRefusesWhatComesLateAndLetsSessionsPass(t *testing.T) {
	t.Parallel()
	a, b, c := newNode(t, 1), newNode(t, 2), newNode(t, 3)
	first := a.put("k", "first")
	b.get(first)
	c.get(first)
	second := a.put("k", "second")
	b.get(second)
	a.crash()
	over := former(a)
	require.NoError(t, c.Fence(over, nil))
	c.commit()
	require.ErrorIs(t, c.Apply(second, nil), partition.ErrSealed)
	c.crash()
	require.ErrorIs(t, c.Apply(second, nil), partition.ErrSealed, "the promise is durable")
	c.get(first) // it has that

	require.NoError(t, b.Fence(over, nil))
	b.commit()
	require.NotEqual(t, b.Former(over), c.Former(over))
	catchUp(c, b)
	require.Equal(t, []string{"second"}, c.values("k"), "what an owner has comes by a session")
	require.Equal(t, b.Former(over), c.Former(over))
}

func TestSealTakesEqualCopiesThatHavePromised(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	b.get(a.put("k", "v"))
	a.crash()
	over := former(a)
	found := b.Former(over)
	require.ErrorIs(t, b.Seal(over, found.Sum, nil), partition.ErrUnlike, "nothing was promised")
	require.NoError(t, b.Fence(over, nil))
	require.ErrorIs(t, b.Seal(over, found.Sum+1, nil), partition.ErrUnlike, "something else was found")
	require.ErrorIs(t, a.Seal(kv.SealOf(a.id, a.boot), found.Sum, nil), partition.ErrSealsLiving)
	require.ErrorIs(t, a.Fence(kv.SealOf(a.id, math.MaxUint32), nil), partition.ErrSealsLiving)
	require.NoError(t, b.Seal(over, found.Sum, nil))
	require.NoError(t, b.Seal(over, found.Sum+1, nil), "again is nothing to do")
}

// What a copy without its clock has seen is not known: it promises nothing before it
// claims again what it holds, and a promise that it gave went with its record.
func TestACopyWithoutItsClockPromisesNothing(t *testing.T) {
	t.Parallel()
	a, b, c := newNode(t, 1), newNode(t, 2), newNode(t, 3)
	for _, k := range []string{"kept", "gone"} {
		r := a.put(k, "v")
		b.get(r)
		c.get(r)
	}
	a.crash()
	over := former(a)
	for _, n := range []*node{a, b, c} {
		require.NoError(t, n.Fence(over, nil))
		n.commit()
	}
	found := b.Former(over)
	c.spoilRecord()
	c.crash()
	require.True(t, c.Former(over).None, "as if it held nothing")
	require.ErrorIs(t, c.Fence(over, nil), partition.ErrQuarantined)
	require.ErrorIs(t, c.Seal(over, found.Sum, nil), partition.ErrQuarantined)
	for _, n := range []*node{a, b} { // on its word of before
		require.NoError(t, n.Seal(over, found.Sum, nil))
		n.commit()
	}
	b.get(a.put("gone", ""))
	collected, err := a.Collect(partition.Collection{Horizon: math.MaxUint64, Limit: 9})
	require.NoError(t, err)
	require.Equal(t, 1, collected.Forced)
	a.commit()

	s := beginHolding(c, a)
	require.True(t, s.out.Both())
	live(s)
	s.finish()
	require.Equal(t, []string{"v"}, c.values("kept"), "what lives of a sealed process is kept")
	require.Empty(t, c.values("gone"))
	require.True(t, c.Former(over).Sealed)
	require.ErrorIs(t, c.Fence(former(b), nil), partition.ErrQuarantined, "the clock is a donor's, and there may be more")
	unclaimed, err := c.Unclaimed()
	require.NoError(t, err)
	require.Zero(t, unclaimed.Len(), "the seal claims what it covers")
	require.Zero(t, c.adopt())
	require.Equal(t, a.Clock().String(), c.Clock().String())
	require.Equal(t, a.digest(), c.digest())
	require.NoError(t, c.Fence(former(b), nil))
}

// The first donor of a copy without its clock has missed the seal. The second one tells
// which dots live, and what the copy alone holds stays.
func TestACopyWithoutItsClockLearnsASealFromTheSecondDonor(t *testing.T) {
	t.Parallel()
	a, b, c := newNode(t, 1), newNode(t, 2), newNode(t, 3)
	for _, k := range []string{"kept", "gone"} {
		r := a.put(k, "v")
		b.get(r)
		c.get(r)
	}
	c.put("alone", "c's")
	a.crash()
	over := former(a)
	for _, n := range []*node{a, b, c} {
		require.NoError(t, n.Fence(over, nil))
		n.commit()
	}
	require.NoError(t, a.Seal(over, a.Former(over).Sum, nil)) // b and c are cut off
	a.commit()
	a.put("gone", "")
	collected, err := a.Collect(partition.Collection{Horizon: math.MaxUint64, Limit: 9})
	require.NoError(t, err)
	require.Equal(t, 1, collected.Forced)
	a.commit()
	c.loseRecord()
	c.crash()

	beginHolding(c, b).finish()
	require.False(t, c.Former(over).Sealed)
	require.Equal(t, []string{"v"}, c.values("gone"), "b does not know better")
	s := beginHolding(c, a)
	require.False(t, s.out.Both(), "by its clock, from now on")
	require.True(t, s.out.Below(), "it has not the seal")
	live(s)
	s.finish()
	require.True(t, c.Former(over).Sealed)
	require.Equal(t, []string{"v"}, c.values("kept"))
	require.Empty(t, c.values("gone"))
	unclaimed, err := c.Unclaimed()
	require.NoError(t, err)
	require.EqualValues(t, 1, unclaimed.Dots())
	require.EqualValues(t, 1, c.adopt())
	require.Equal(t, []string{"c's"}, c.values("alone"))
	require.Equal(t, []string{"alone"}, catchUp(a, c).sent)
	require.Equal(t, a.Clock().String(), c.Clock().String())
	require.Equal(t, a.digest(), c.digest())
}

func TestASessionDoesNotSealItsReceiver(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	b.get(a.put("k", "v"))
	s := begin(a, b)
	for s.scan(1) {
	}
	clock, floor, _, ended := s.out.End()
	require.True(t, ended)
	clock.Seal(kv.SealOf(a.id, a.boot))
	require.ErrorIs(t, s.in.End(clock, floor, nil), partition.ErrSealsLiving)
}

func TestACopyThatMissedTheSealLearnsItByASession(t *testing.T) {
	t.Parallel()
	a, b, c := newNode(t, 1), newNode(t, 2), newNode(t, 3)
	for _, k := range []string{"gone", "kept", "other"} {
		r := a.put(k, "v")
		b.get(r)
		c.get(r)
	}
	a.crash()
	over := former(a)
	found := c.Former(over)
	for _, n := range []*node{a, b, c} {
		require.NoError(t, n.Fence(over, nil))
		n.commit()
	}
	for _, n := range []*node{a, b} { // c is cut off before the second round reaches it
		require.NoError(t, n.Seal(over, found.Sum, nil))
		n.commit()
	}
	b.get(a.put("gone", ""))
	collected, err := a.Collect(partition.Collection{Horizon: math.MaxUint64, Limit: 9})
	require.NoError(t, err)
	require.Equal(t, 1, collected.Forced)
	a.commit()

	s := begin(c, a)
	require.True(t, s.out.Below(), "it has not the seal")
	live(s)
	s.finish()
	require.Empty(t, c.values("gone"), "what died meanwhile is told by the live dots of sealed processes too")
	require.Equal(t, []string{"v"}, c.values("kept"))
	require.True(t, c.Former(over).Sealed)
	require.Equal(t, a.Clock().String(), c.Clock().String())
	require.Equal(t, a.digest(), c.digest())

	fresh := newNode(t, 4)
	s = begin(fresh, a)
	live(s)
	s.finish()
	require.ElementsMatch(t, []string{"kept", "other"}, s.sent, "a new copy gets what sealed processes wrote")
	require.Equal(t, a.Clock().String(), fresh.Clock().String())
	require.Equal(t, a.digest(), fresh.digest())
}

// live sends which dots live, as the step L2 does.
func live(s *session) {
	s.t.Helper()
	for s.scan(1) {
	}
	for s.tail() {
	}
	require.True(s.t, s.out.NeedsLive())
	s.use()
	clock, dots, err := s.out.LiveDots()
	require.NoError(s.t, err)
	require.NoError(s.t, s.in.Live(clock, dots, false))
}

func TestATombstoneOfASealedProcessIsCollected(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	b.get(a.put("k", "v"))
	b.get(a.put("k", ""))
	a.crash()
	seal(t, former(a), a, b)
	clock := a.Clock()
	got, err := a.Collect(partition.Collection{Stable: clock.Base(), Limit: 9})
	require.NoError(t, err)
	require.Equal(t, 1, got.Stable)
	a.commit()
	require.Empty(t, a.Status().Floor, "the seal is the floor")
	require.Empty(t, catchUp(b, a).sent)
	require.Equal(t, a.digest(), b.digest())
}

func TestTheCopyRecordDoesNotGrowByRestarts(t *testing.T) {
	t.Parallel()
	record := func(restarts int) int {
		a, b := newNode(t, 1), newNode(t, 2)
		for range restarts {
			b.get(a.put("k", "v"))
			a.crash()
			seal(t, former(a), a, b)
		}
		b.get(a.put("k", "v"))
		rec, found, err := b.store.Get(nil, cache.AppendCopyKey(nil, part))
		require.NoError(t, err)
		require.True(t, found)
		return len(rec)
	}
	once, often := record(1), record(50)
	t.Logf("%d bytes after one restart, %d after fifty", once, often)
	require.LessOrEqual(t, often, once+2, "actors are told by number, which gets longer")
}
