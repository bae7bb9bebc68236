package partition_test

import (
	"fmt"
	"testing"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
	"edged.dev/edged/partition/state"

	"github.com/stretchr/testify/require"
)

// expiring writes a value that expires, and returns it as it leaves the node.
func (n *node) expiring(key, value string, at int64, covers state.Covers) state.Received {
	n.t.Helper()
	var change *state.Change
	n.Write([]byte(key), func(kv.Object) (*mutation, error) {
		return &mutation{Version: kv.Version{HLC: 1, Value: []byte(value), ExpiresMS: at}, Covers: covers}, nil
	}, func(ch *state.Change, err error) {
		require.NoError(n.t, err)
		change = ch
	})
	n.commit()
	return state.Received{Key: []byte(key), Object: change.Filled(0), From: n.id}
}

// reap removes what has expired of a key, and returns it as it leaves the node;
// nil if nothing was left to do.
func (n *node) reap(key string, now int64) *state.Received {
	n.t.Helper()
	var out *state.Received
	calls := 0
	n.Reap([]byte(key), expiredAt(now), func(ch *state.Change, err error) {
		calls++
		require.NoError(n.t, err)
		if ch != nil {
			out = &state.Received{Key: []byte(key), Object: ch.Filled(0), From: n.id}
		}
	})
	n.commit()
	require.Equal(n.t, 1, calls)
	return out
}

func expiredAt(now int64) func(kv.Object) ([]kv.Dot, kv.HLC) {
	return func(held kv.Object) (dots []kv.Dot, _ kv.HLC) {
		for _, v := range held.Versions {
			if !v.Tombstone() && v.Expired(now) {
				dots = append(dots, v.Dot)
			}
		}
		return dots, kv.HLCAt(now)
	}
}

// due lists what the index has up to a time, in its order, a step of the given
// size after the other.
func (n *node) due(now int64, step int) (keys []string) {
	n.t.Helper()
	var place partition.ExpiryPlace
	for done := false; !done; {
		var due []partition.Due
		var err error
		due, place, done, err = n.set.Expired(place, now, step)
		require.NoError(n.t, err)
		for _, d := range due {
			require.Equal(n.t, part, d.Partition)
			keys = append(keys, string(d.Key))
		}
	}
	return keys
}

// indexed holds the index against the versions of the copy.
func (n *node) indexed() {
	n.t.Helper()
	want, got := map[string]int{}, map[string]int{}
	_, err := n.Dump(func(v partition.DumpedVersion) error {
		if v.ExpiresMS != 0 && !v.Tombstone() {
			want[fmt.Sprint(v.ExpiresMS, v.Dot.Seq, string(v.Key))]++
		}
		return nil
	})
	require.NoError(n.t, err)
	lower, upper := cache.ExpiryRange(1 << 47)
	require.NoError(n.t, n.store.Scan(lower, upper, func(rec, _ []byte) (bool, error) {
		if e, ok := cache.ParseExpiryKey(rec); ok && e.Partition == part {
			got[fmt.Sprint(e.AtMS, e.Seq, string(e.Key))]++
		}
		return true, nil
	}))
	require.Equal(n.t, want, got)
}

func TestExpiriesAreIndexedWithTheirVersions(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	held := state.Covers{Held: true}
	b.get(a.expiring("late", "1", 300, held))
	b.get(a.expiring("early", "2", 100, held))
	b.get(a.expiring("between", "3", 200, held))
	b.get(a.put("never", "4"))
	for _, n := range []*node{a, b} {
		n.indexed()
		for _, step := range []int{1, 2, 3, 100} {
			require.Equal(t, []string{"early", "between", "late"}, n.due(300, step))
			require.Equal(t, []string{"early", "between"}, n.due(299, step))
		}
		require.Empty(t, n.due(99, 1))
	}
	a.expiring("early", "again", 400, held)
	a.put("between", "kept")
	a.put("late", "")
	a.indexed()
	require.Equal(t, []string{"early"}, a.due(1000, 10))
	catchUp(b, a)
	b.indexed()
	require.Equal(t, []string{"early"}, b.due(1000, 10))
	b.crash()
	b.indexed()
}

func TestWalkThroughExpiriesStandsStillWhenTimeIsSetBack(t *testing.T) {
	t.Parallel()
	a := newNode(t, 1)
	a.expiring("k", "v", 100, state.Covers{})
	due, place, done, err := a.set.Expired(partition.ExpiryPlace{}, 200, 10)
	require.NoError(t, err)
	require.True(t, done)
	require.Len(t, due, 1)
	due, again, done, err := a.set.Expired(place, 50, 10)
	require.NoError(t, err)
	require.True(t, done)
	require.Empty(t, due)
	require.Equal(t, place, again)
	due, _, _, err = a.set.Expired(partition.ExpiryPlace{}, 200, 10)
	require.NoError(t, err)
	require.Len(t, due, 1, "begun anew it finds what was left")
}

func TestReapIsOneOperationForAllCopies(t *testing.T) {
	t.Parallel()
	a, b, c := newNode(t, 1), newNode(t, 2), newNode(t, 3)
	v := a.expiring("k", "v", 100, state.Covers{Held: true})
	b.get(v)
	c.get(v)
	require.Nil(t, a.reap("k", 99))
	gone := a.reap("k", 100)
	require.NotNil(t, gone)
	require.Equal(t, []string{"-"}, a.values("k"))
	require.Zero(t, a.Count())
	a.indexed()
	require.Nil(t, a.reap("k", 100), "once is enough")
	b.get(*gone)
	require.Equal(t, []string{"-"}, b.values("k"))
	b.get(v)
	require.Equal(t, []string{"-"}, b.values("k"), "a late copy of what went is dead")
	requireEqual(t, a, b)
	require.Equal(t, []string{"v"}, c.values("k"), "no copy changes by its own clock")
	catchUp(c, b)
	requireEqual(t, a, c)
	for _, n := range []*node{a, b, c} {
		n.indexed()
		n.crash()
		n.indexed()
		require.Equal(t, []string{"-"}, n.values("k"))
	}
}

func TestReapLeavesAWriteBesideIt(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	b.get(a.expiring("k", "expired", 100, state.Covers{Held: true}))
	gone := a.reap("k", 100)
	beside := b.put("k", "beside")
	a.get(beside)
	b.get(*gone)
	require.ElementsMatch(t, []string{"-", "beside"}, a.values("k"))
	require.ElementsMatch(t, []string{"-", "beside"}, b.values("k"))
	requireEqual(t, a, b)
}

// What stays beside a version that goes travels with its value, though Reap reads
// values only where it must.
func TestReapKeepsTheValuesOfSiblings(t *testing.T) {
	t.Parallel()
	a, b, c := newNode(t, 1), newNode(t, 2), newNode(t, 3)
	a.expiring("k", "expired", 100, state.Covers{Held: true})
	a.get(b.put("k", "sibling"))
	a.crash() // nothing is in memory
	gone := a.reap("k", 100)
	require.ElementsMatch(t, []string{"-", "sibling"}, a.values("k"))
	c.get(*gone)
	require.ElementsMatch(t, []string{"-", "sibling"}, c.values("k"))
	a.crash()
	require.ElementsMatch(t, []string{"-", "sibling"}, a.values("k"))
	a.digest()
}

// A context is a vector: a version whose actor has a lower one there that lives on
// must wait for it.
func TestReapWaitsForALowerVersionOfItsActor(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	b.get(a.expiring("k", "lives", 200, state.Covers{}))
	b.get(a.expiring("k", "expired", 100, state.Covers{}))
	require.Nil(t, a.reap("k", 100))
	require.Equal(t, []string{"lives", "expired"}, a.values("k"))
	b.get(*a.reap("k", 200))
	require.Equal(t, []string{"-"}, a.values("k"), "one tombstone for both")
	requireEqual(t, a, b)
}

func TestReapGoesOverALowerTombstoneOfItsActor(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	b.get(a.put("k", ""))
	b.get(a.expiring("k", "expired", 100, state.Covers{}))
	require.Equal(t, []string{"-", "expired"}, a.values("k"))
	b.get(*a.reap("k", 100))
	require.Equal(t, []string{"-"}, b.values("k"))
	requireEqual(t, a, b)
}

func TestReapIsNotRefusedByAFullDisk(t *testing.T) {
	t.Parallel()
	a := newNode(t, 1)
	a.expiring("k", "v", 100, state.Covers{})
	a.full = true
	require.NotNil(t, a.reap("k", 100))
	require.Equal(t, []string{"-"}, a.values("k"))
}

// A crash behind each commit finds version and index in step, whatever is planned.
func TestCrashLeavesNoExpiryWithoutItsVersion(t *testing.T) {
	t.Parallel()
	a := newNode(t, 1)
	a.expiring("k", "v", 100, state.Covers{})
	a.Reap([]byte("k"), expiredAt(100), func(*state.Change, error) { t.Error("published by a process that is gone") })
	a.crash()
	a.indexed()
	require.Equal(t, []string{"k"}, a.due(100, 1), "what was planned and lost is due again")
	a.Reap([]byte("k"), expiredAt(100), func(*state.Change, error) { t.Error("published by a process that is gone") })
	a.store.FailNext(true)
	_, err := a.set.Committer().CommitGroup()
	require.Error(t, err)
	a.crash()
	a.indexed()
	require.Empty(t, a.due(100, 1))
	require.Equal(t, []string{"-"}, a.values("k"))
}

func TestDirectoryWithoutTheIndexGetsOne(t *testing.T) {
	t.Parallel()
	a := newNode(t, 1)
	const many = 5000 // more than one batch
	for i := range many {
		a.Write(fmt.Append(nil, "late", i), func(kv.Object) (*mutation, error) {
			return &mutation{Version: kv.Version{ExpiresMS: 5000}}, nil
		}, func(*state.Change, error) {})
	}
	a.expiring("k", "one", 100, state.Covers{})
	a.expiring("k", "two", 200, state.Covers{})
	a.expiring("l", "three", 150, state.Covers{})
	a.put("l", "")
	var b cache.Batch
	lower, upper := cache.PrefixRange('x')
	require.NoError(t, a.store.Scan(lower, upper, func(rec, _ []byte) (bool, error) {
		b.Delete(rec)
		return true, nil
	}))
	require.Equal(t, many+3, b.Len(), "two expiries and the mark")
	require.NoError(t, a.store.Commit(&b, true))
	a.crash()
	a.indexed()
	require.Equal(t, []string{"k", "k"}, a.due(1000, 1))
	require.Equal(t, []string{"k"}, a.due(100, 10))
	_, found, err := a.store.Get(nil, cache.ExpiryIndexKey())
	require.NoError(t, err)
	require.True(t, found)
}

func TestQuarantineKeepsTheIndexOfWhatItKeeps(t *testing.T) {
	t.Parallel()
	a := newNode(t, 1)
	a.expiring("k", "v", 100, state.Covers{})
	a.expiring("bad", "v", 100, state.Covers{})
	a.set.Add(kv.System).Write([]byte("s"), func(kv.Object) (*mutation, error) {
		return &mutation{Version: kv.Version{Value: []byte("kept"), ExpiresMS: 50}}, nil
	}, func(*state.Change, error) {})
	a.commit()
	a.spoilRecord()
	a.spoilValue("bad")
	a.open()
	require.Equal(t, []kv.Partition{part}, a.set.Quarantined())
	due, _, done, err := a.set.Expired(partition.ExpiryPlace{}, 1000, 10)
	require.NoError(t, err)
	require.True(t, done)
	require.Equal(t, []partition.Due{{Partition: kv.System, Key: []byte("s")}, {Partition: part, Key: []byte("k")}}, due)
}
