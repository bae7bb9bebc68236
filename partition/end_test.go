package partition_test

import (
	"bytes"
	"fmt"
	"testing"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
	"edged.dev/edged/partition/state"

	"github.com/stretchr/testify/require"
)

// The donors of these tests are made up: one that has seen a dot and has nothing
// left of it, not even a tombstone, as after a collection.

func endOf(a kv.Actor, upTo uint64) kv.Clock { return kv.ClockOf(kv.Span{Actor: a, Base: upTo}) }

func TestEndDropsWhatTheDonorSawDie(t *testing.T) {
	t.Parallel()
	type way func(b *node, r state.Received) (begin func() *session)
	for name, arrives := range map[string]way{
		"held above the base when it began": func(b *node, r state.Received) func() *session {
			b.get(r)
			return func() *session { return forged(b) }
		},
		"planned when it began": func(b *node, r state.Received) func() *session {
			require.NoError(b.t, b.Apply(r, nil))
			return func() *session { return forged(b) }
		},
		"came by another way since": func(b *node, r state.Received) func() *session {
			s := forged(b)
			b.get(r)
			return func() *session { return s }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := newNode(t, 1), newNode(t, 2)
			b.put("mine", "stays")
			a.put("hole", "keeps the base below")
			r := a.put("k", "dead")
			s := arrives(b, r)()
			require.NoError(t, s.in.End(endOf(a.Actor(), 2), nil, nil))
			b.commit()
			require.Empty(t, b.values("k"))
			require.Equal(t, []string{"stays"}, b.values("mine"))
			require.EqualValues(t, 1, b.Count())
			b.digest()
			b.get(r)
			require.Empty(t, b.values("k"), "a late copy stays dead")
			b.crash()
			require.Empty(t, b.values("k"))
			b.digest()
		})
	}
}

// So with more than a session keeps the keys of.
func TestEndDropsWhatTheDonorSawDieOfMuchThatCameMeanwhile(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	a.put("hole", "keeps the base below")
	s := forged(b)
	const writes = 2500
	for i := range writes {
		b.get(a.put(fmt.Sprint("k", i), "v"))
	}
	b.plan("k7", "planned beside", state.Covers{})
	s.in.Keep(kv.ClockOf(kv.Span{Actor: a.Actor(), Runs: []kv.Run{{From: 102, To: 1101}}}))
	require.NoError(t, s.in.End(endOf(a.Actor(), 2001), nil, nil))
	b.commit()
	require.EqualValues(t, 1000+500+1, b.Count(), "kept, beyond the donor's clock, and its own")
	require.Equal(t, []string{"planned beside"}, b.values("k7"))
	require.Empty(t, b.values("k1999"))
	require.Equal(t, []string{"v"}, b.values("k2000"))
	b.digest()
}

func forged(b *node) *session {
	b.sessions++
	in, _ := b.Begin(b.sessions, 9)
	return &session{t: b.t, to: b, in: in}
}

func TestEndSparesWhatItMust(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	b.get(a.put("base", "below the base that was reported"))
	a.put("hole", "")
	b.get(a.put("kept", "v"))
	s := forged(b)
	sent := a.put("sent", "v")
	require.NoError(t, s.in.Apply(sent.Key, sent.Object, partition.Batch{Base: sent.Object.Ctx}, nil))
	s.in.Keep(kv.ClockOf(kv.Span{Actor: a.Actor(), Runs: []kv.Run{{From: 3, To: 3}}}))
	b.get(a.put("newer", "beyond the donor's clock"))
	b.plan("own", "v", state.Covers{Held: true})
	require.NoError(t, s.in.End(endOf(a.Actor(), 4), nil, nil))
	b.commit()
	for _, k := range []string{"base", "kept", "sent", "newer", "own"} {
		require.Len(t, b.values(k), 1, k)
	}
	require.True(t, covers(b, a.Actor(), 5))
	b.digest()
}

// The end may bring actors of whom nothing is stored; their ids must be in the
// same group as the clock that names them.
func TestEndWithUnknownActorsSurvivesACrash(t *testing.T) {
	t.Parallel()
	b := newNode(t, 2)
	b.put("k", "v")
	s := forged(b)
	stranger := kv.Actor{Node: 77, Boot: 3, Rand: 5}
	require.NoError(t, s.in.End(endOf(stranger, 9), kv.VV{{Actor: kv.Actor{Node: 78}, Seq: 4}}, nil))
	b.commit()
	b.crash()
	require.Empty(t, b.set.Quarantined())
	require.True(t, covers(b, stranger, 9))
	require.Equal(t, kv.VV{{Actor: kv.Actor{Node: 78}, Seq: 4}}, b.Status().Floor)
	require.Equal(t, []string{"v"}, b.values("k"))
}

func TestSessionLeavesNoRecord(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	for _, k := range []string{"x", "y", "z"} {
		a.put(k, "1")
	}
	s := begin(b, a)
	s.scan(1)
	b.commit()
	require.Len(t, records(b, 's'), 1)
	s.finish()
	require.Empty(t, records(b, 's'))
	require.Empty(t, records(b, 'c'), "and no object is complex any more")
}

func records(n *node, kind byte) (keys []string) {
	n.t.Helper()
	lower, upper := cache.Range(kind, part, 0)
	require.NoError(n.t, n.store.Scan(lower, upper, func(key, _ []byte) (bool, error) {
		keys = append(keys, string(key))
		return true, nil
	}))
	return keys
}

func TestEndWaitsForWhatItsSnapshotsShowed(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	a.put("k", "old")
	s := begin(b, a)
	looks := 0
	a.store.Between(func() { // visible in the store, not published yet
		looks++
		s.use()
		for s.scan(1) {
		}
		require.False(t, s.end())
	})
	a.put("k", "new")
	a.store.Between(nil)
	require.Equal(t, 1, looks)
	s.finish()
	require.Equal(t, []string{"new"}, b.values("k"))
	requireEqual(t, a, b)
}

// What is planned on top of a change that is in flight outlives its publishing.
func TestChangesInFlightFollowEachOther(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	a.plan("k", "first", state.Covers{Held: true})
	a.store.Between(func() { a.plan("k", "second", state.Covers{Held: true}) })
	done, err := a.set.Committer().CommitGroup()
	a.store.Between(nil)
	require.NoError(t, err)
	require.Equal(t, 1, done)
	require.Equal(t, []string{"first"}, a.values("k"), "only that is published")
	third := a.put("k", "third")
	require.Equal(t, []string{"third"}, a.values("k"))
	b.get(third)
	require.Equal(t, []string{"third"}, b.values("k"))
	catchUp(b, a)
	requireEqual(t, a, b)
}

// A queue over the bound of a group is committed in several, in order.
func TestGroupsAreBounded(t *testing.T) {
	t.Parallel()
	a := newNode(t, 1)
	big := string(bytes.Repeat([]byte("x"), 3<<20))
	for range 4 {
		a.plan("k", big, state.Covers{})
	}
	sizes := []int{}
	for {
		n, err := a.set.Committer().CommitGroup()
		require.NoError(t, err)
		if n == 0 {
			break
		}
		sizes = append(sizes, n)
		a.digest()
	}
	require.Equal(t, []int{2, 2}, sizes)
	require.EqualValues(t, 4, a.Count())
}

// hooked is a tier that calls back when an object of a partition is put into it, which
// is while that partition publishes.
type hooked struct {
	*cache.Tier
	at   kv.Partition
	hook func()
}

func (h *hooked) Put(p uint32, hash uint64, key, record []byte) bool {
	if kv.Partition(p) == h.at {
		h.hook()
	}
	return h.Tier.Put(p, hash, key, record)
}

// Under relaxed durability a clock that a session's end has published is not durable
// yet. A donor that ends at this moment, while the rest of the group is published, must
// not let it leave the node before it is (R4).
func TestAClockThatIsPublishedIsSyncedBeforeItLeaves(t *testing.T) {
	t.Parallel()
	memory, err := cache.NewTier(1 << 20)
	require.NoError(t, err)
	a, b := newNode(t, 1), newNode(t, 2)
	told := false
	a.relaxed, a.tier = true, &hooked{Tier: memory, at: kv.System}
	a.open()
	s := begin(b, a)
	for s.scan(1) || s.tail() {
	}
	a.tier.(*hooked).hook = func() {
		clock, _, mustSync, ended := s.out.End()
		require.True(t, ended)
		require.True(t, mustSync)
		require.NoError(t, a.set.Committer().SyncApplied())
		durable := a.Clock()
		require.True(t, durable.Covers(clock))
		told = true
	}
	stranger := kv.Actor{Node: 77, Boot: 3, Rand: 5}
	require.NoError(t, forged(a).in.End(endOf(stranger, 9), nil, nil))
	a.set.Add(kv.System).Write([]byte("k"), func(kv.Object) (*partition.Mutation, error) {
		return &partition.Mutation{Version: kv.Version{Value: []byte("v")}}, nil
	}, func(_ *state.Change, err error) { require.NoError(t, err) })
	a.commit()
	require.True(t, told)
	require.True(t, covers(a, stranger, 9))
}
