package partition_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/internal/sim"
	"edged.dev/edged/merkle"
	"edged.dev/edged/partition"
	"edged.dev/edged/partition/state"

	"github.com/stretchr/testify/require"
)

func TestOpenReadsBackWhatWasPublished(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	a.put("hole", "1")
	b.get(a.put("k", "a"))
	b.write("k", "b", state.Covers{})
	b.put("gone", "x")
	b.put("gone", "")
	b.write("token", "t", state.Covers{Ctx: a.context("k")})
	b.SetTrust(kv.Whole, nil)
	b.commit()
	before, values := b.Status(), b.values("k")
	b.crash()
	after := b.Status()
	require.NotEqual(t, before.Actor, after.Actor)
	after.Actor = before.Actor
	require.Equal(t, before, after)
	require.Equal(t, values, b.values("k"))
	require.Equal(t, []string{"-"}, b.values("gone"))
	require.NotEmpty(t, after.Beyond)
	b.digest()
	catchUp(b, a)
	catchUp(a, b)
	requireEqual(t, a, b)
}

func TestUncleanStopMakesAWholeCopySuspect(t *testing.T) {
	t.Parallel()
	a := newNode(t, 1)
	a.put("k", "v")
	a.SetTrust(kv.Whole, nil)
	a.commit()
	for suspect, want := range map[bool]kv.Trust{false: kv.Whole, true: kv.Suspect} {
		set, err := partition.Open(partition.Config{
			Store: a.store, Partitions: 1, DigestKey: digestKey(), Sync: true, Boot: 9, Node: 1,
			Rand: func() uint32 { return 9 }, Suspect: suspect,
		})
		require.NoError(t, err)
		require.Equal(t, want, set.Shard(part).Trust())
	}
}

// Everything a run does is replayed with a crash behind each of its commits: what
// is reopened is what was published by then, whole groups and nothing else (I12).
func TestCrashBehindEveryCommitLeavesWholeGroups(t *testing.T) {
	t.Parallel()
	type moment struct {
		backup sim.Backup
		clock  string
		values string
		digest merkle.Digest
	}
	a, b := newNode(t, 1), newNode(t, 2)
	var at []moment
	see := func() {
		at = append(at, moment{b.store.Backup(), b.Clock().String(), describe(b), b.digest()})
	}
	for i, k := range strings.Fields("k l k m k l m") {
		r := a.put(k, strings.Repeat("x", i))
		if i%2 == 0 {
			b.get(r)
			see()
		}
		b.plan(k, "mine", state.Covers{Held: i%3 == 0})
		b.plan(k, "", state.Covers{Ctx: b.context(k)})
		b.plan("also", "mine", state.Covers{Held: true})
		b.commit()
		see()
	}
	s := begin(b, a)
	for s.scan(1) {
		b.commit()
		see()
	}
	b.commit()
	see()
	s.finish()
	see()
	for i, m := range at {
		c := &node{t: t, id: 2, store: sim.NewStore(), boot: 100}
		c.store.Restore(m.backup)
		c.open()
		require.Equal(t, m.clock, c.Clock().String(), "moment %d", i)
		require.Equal(t, m.values, describe(c), "moment %d", i)
		require.Equal(t, m.digest, c.digest(), "moment %d", i)
		catchUp(c, a)
		catchUp(a, c)
		requireEqual(t, a, c)
	}
}

// describe lists all objects of a copy with their contexts.
func describe(n *node) string {
	n.t.Helper()
	var b strings.Builder
	_, done, err := n.Shard.Scan(0, 1000, func(key []byte, o kv.Object) {
		b.Write(key)
		for _, v := range o.Versions {
			b.WriteString(" " + v.Dot.String())
		}
		for _, d := range o.Ctx {
			b.WriteString(" <" + d.String())
		}
		b.WriteString("\n")
	})
	require.NoError(n.t, err)
	require.True(n.t, done)
	return b.String()
}

func TestCommitThatFailsPublishesNothing(t *testing.T) {
	t.Parallel()
	a := newNode(t, 1)
	a.put("k", "v1")
	ch := a.plan("k", "v2", state.Covers{Held: true})
	a.store.FailNext(true)
	_, err := a.set.Committer().CommitGroup()
	require.ErrorIs(t, err, sim.ErrCrash)
	require.Nil(t, *ch)
	require.False(t, covers(a, a.Actor(), 2))
	dead := a.Actor()
	a.crash()
	require.Equal(t, []string{"v2"}, a.values("k"), "the disk had it all the same")
	require.True(t, covers(a, dead, 2))
	a.digest()
}

// slowSync is a store whose Sync waits to be let go.
type slowSync struct {
	*sim.Store
	leave chan struct{}
}

func (s *slowSync) Sync() error {
	<-s.leave
	return s.Store.Sync()
}

func TestSyncAppliedReturnsWhenItIsDurable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &slowSync{sim.NewStore(), make(chan struct{})}
		set, err := partition.Open(partition.Config{
			Store: store, Partitions: 1, DigestKey: digestKey(), Boot: 1, Node: 1, Rand: func() uint32 { return 1 },
		})
		require.NoError(t, err)
		n := &node{t: t, id: 1, set: set, Shard: set.Add(part), relaxed: true}
		n.put("k", "v")
		require.False(t, covers(n, n.Actor(), 1), "published is not durable (R4)")

		done := make(chan error, 2)
		for range 2 {
			go func() { done <- set.Committer().SyncApplied() }()
		}
		synctest.Wait()
		require.Empty(t, done, "neither may return while the sync runs")
		close(store.leave)
		require.NoError(t, <-done)
		require.NoError(t, <-done)
		require.True(t, covers(n, n.Actor(), 1))
	})
}
