package partition_test

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/internal/sim"
	"edged.dev/edged/partition"
	"edged.dev/edged/partition/state"
)

// ahead is a copy whose store syncs only when it is let, and one session to it.
type ahead struct {
	*node
	disk   *slowSync
	in     *partition.Incoming
	object kv.Object
	dot    kv.Dot
	told   []string
}

func newAhead(t *testing.T) *ahead {
	t.Helper()
	a := &ahead{disk: &slowSync{sim.NewStore(), make(chan struct{})}, dot: kv.Dot{Actor: kv.Actor{Node: 2, Boot: 1, Rand: 1}, Seq: 1}}
	set, err := partition.Open(partition.Config{
		Store: a.disk, Partitions: 1, DigestKey: digestKey(), Sync: true, Boot: 1, Node: 1, Rand: func() uint32 { return 1 },
	})
	require.NoError(t, err)
	a.node = &node{t: t, id: 1, store: a.disk.Store, set: set, Shard: set.Add(part)}
	a.in, _ = a.Begin(7, 2)
	a.object = kv.Object{Versions: []kv.Version{{Dot: a.dot, Value: []byte("v")}}, Ctx: kv.VV{a.dot}}
	return a
}

// bring plans what the session brings, and its end.
func (a *ahead) bring() {
	b := partition.Batch{Base: kv.VV{a.dot}, Logged: func() { a.told = append(a.told, "logged") }}
	require.NoError(a.t, a.in.Apply([]byte("k"), a.object, b, func() { a.told = append(a.told, "published") }))
	require.NoError(a.t, a.in.End(a.end(), nil, func() { a.told = append(a.told, "ended") }))
	require.Empty(a.t, a.told)
}

func (a *ahead) end() kv.Clock {
	return kv.ClockOf(kv.Span{Actor: a.dot.Actor, Base: a.dot.Seq})
}

// commits commits one group beside the caller.
func (a *ahead) commits() chan error {
	done := make(chan error, 1)
	go func() {
		_, err := a.set.Committer().CommitGroup()
		done <- err
	}()
	synctest.Wait()
	return done
}

// What a session brings is with its donor: it is published without a sync, and neither
// its dots nor its end are claimed by a clock that leaves the node before one (R4).
func TestWhatASessionBringsIsPublishedAheadOfItsSync(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAhead(t)
		a.bring()
		require.NoError(t, <-a.commits())
		require.Equal(t, []string{"logged", "published", "ended"}, a.told)
		require.True(t, a.Has(a.dot))
		require.False(t, a.Covers(a.end()))
		require.True(t, a.Status().Leans, "its digest is not of the clock that it tells")

		synced := make(chan error, 1)
		go func() { synced <- a.set.Committer().SyncApplied() }()
		synctest.Wait()
		require.Empty(t, synced)
		require.False(t, a.Covers(a.end()))
		close(a.disk.leave)
		require.NoError(t, <-synced)
		require.True(t, a.Covers(a.end()))
		require.False(t, a.Status().Leans)
	})
}

func TestALossOfPowerTakesWhatASessionBroughtAndItsClaim(t *testing.T) {
	t.Parallel()
	a := newAhead(t)
	close(a.disk.leave)
	a.put("own", "acknowledged")
	a.bring()
	a.commitAhead()
	require.True(t, a.Has(a.dot))
	a.crash()
	require.False(t, a.Has(a.dot))
	require.Empty(t, a.values("k"))
	require.Equal(t, []string{"acknowledged"}, a.values("own"))
}

// What somebody waits for is not answered before it and all that it may lean on is on
// stable storage, in whatever group that came.
func TestWhatIsAcknowledgedWaitsForTheDisk(t *testing.T) {
	t.Parallel()
	for name, plan := range map[string]func(a *ahead, done func()){
		"a write": func(a *ahead, done func()) {
			a.Write([]byte("own"), func(kv.Object) (*partition.Mutation, error) {
				return &partition.Mutation{Version: kv.Version{Value: []byte("w")}}, nil
			}, func(*state.Change, error) { done() })
		},
		"what a peer sends of it": func(a *ahead, done func()) {
			require.NoError(a.t, a.Apply(state.Received{Key: []byte("k"), Object: a.object, From: 2}, done))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newAhead(t)
				a.bring()
				acknowledged := false
				plan(a, func() { acknowledged = true })
				committed := a.commits()
				require.Equal(t, []string{"logged"}, a.told, "more of the session may come")
				require.False(t, acknowledged)
				require.False(t, a.Has(a.dot), "one group is published at once")
				close(a.disk.leave)
				require.NoError(t, <-committed)
				require.True(t, acknowledged)
				require.True(t, a.Covers(a.end()))
			})
			synctest.Test(t, func(t *testing.T) {
				a := newAhead(t)
				a.bring()
				require.NoError(t, <-a.commits())
				acknowledged := false
				plan(a, func() { acknowledged = true })
				committed := a.commits()
				if !acknowledged { // no more to write than what the session brought
					close(a.disk.leave)
				}
				require.NoError(t, <-committed)
				require.True(t, acknowledged)
				a.crash()
				require.True(t, a.Has(a.dot))
				require.Equal(t, []string{"v"}, a.values("k"))
			})
		})
	}
}

// What is there already is not written again, and leans on it all the same, also while a
// sync of others runs.
func TestAPromiseMadeBeforeWaitsForTheDiskAsWell(t *testing.T) {
	t.Parallel()
	for name, meanwhile := range map[string]func(a *ahead){
		"no sync runs": func(*ahead) {},
		"one runs": func(a *ahead) {
			go func() { _ = a.set.Committer().SyncApplied() }()
			synctest.Wait()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newAhead(t)
				over := kv.SealOf(2, 1)
				require.NoError(t, a.Fence(over, nil))
				require.NoError(t, <-a.commits())
				a.bring()
				require.NoError(t, <-a.commits())
				meanwhile(a)
				promised := false
				require.NoError(t, a.Fence(over, func() { promised = true }))
				committed := a.commits()
				require.False(t, promised)
				require.False(t, a.Covers(a.end()))
				close(a.disk.leave)
				require.NoError(t, <-committed)
				require.True(t, promised)
				require.True(t, a.Covers(a.end()))
				a.crash()
				require.True(t, a.Has(a.dot))
			})
		})
	}
}

// A sync that began before a group was published takes nothing back of what the group's
// own sync has brought to stable storage since.
func TestASyncThatWasOvertakenTakesNothingBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAhead(t)
		a.bring()
		require.NoError(t, <-a.commits())
		synced := make(chan error, 1)
		go func() { synced <- a.set.Committer().SyncApplied() }()
		synctest.Wait()
		a.Write([]byte("own"), func(kv.Object) (*partition.Mutation, error) {
			return &partition.Mutation{Version: kv.Version{Value: []byte("w")}}, nil
		}, func(*state.Change, error) {})
		require.NoError(t, <-a.commits())
		own := a.Clock()
		require.True(t, own.Covers(a.end()))
		end := a.end()
		require.False(t, end.Covers(own))
		close(a.disk.leave)
		require.NoError(t, <-synced)
		require.True(t, a.Covers(own))
	})
}
