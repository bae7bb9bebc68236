package partition_test

import (
	"math"
	"testing"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
	"edged.dev/edged/partition/state"

	"github.com/stretchr/testify/require"
)

// committing runs the committer while fn runs.
func (n *node) committing(fn func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	for {
		select {
		case <-done:
			return
		default:
			_, err := n.set.Committer().CommitGroup()
			require.NoError(n.t, err)
		}
	}
}

func TestADroppedCopyIsForgottenWithItsActor(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	tier, err := cache.NewTier(1 << 20)
	require.NoError(t, err)
	b.tier = tier
	b.open()
	b.get(a.put("k", "v"))
	b.put("own", "1")
	require.Equal(t, []string{"v"}, b.values("k"))
	b.KeepKnown([]partition.Known{{Partition: part, Peer: "n1", Actor: a.Actor(), Clock: a.Clock()}}, nil)
	b.commit()
	old, was, others := b.Shard, b.Actor(), b.set.Add(kv.System).Actor()
	in, _ := old.Begin(77, a.id)
	out, err := old.Open(a.id, kv.Clock{})
	require.NoError(t, err)
	planned := make(chan error, 1)
	old.Write([]byte("late"), func(kv.Object) (*mutation, error) {
		return &mutation{Version: kv.Version{Value: []byte("planned before")}}, nil
	}, func(_ *state.Change, err error) { planned <- err })

	b.committing(func() { require.NoError(t, b.set.Drop(part)) })
	require.NoError(t, <-planned, "what was planned is published first")
	require.Nil(t, b.set.Shard(part))
	require.NoError(t, b.set.Drop(part), "there is nothing to drop any more")

	old.Write([]byte("k"), nil, func(_ *state.Change, err error) { require.ErrorIs(t, err, partition.ErrDropped) })
	require.ErrorIs(t, old.Apply(a.put("k", "w"), nil), partition.ErrDropped)
	old.Reap([]byte("k"), nil, func(_ *state.Change, err error) { require.ErrorIs(t, err, partition.ErrDropped) })
	_, err = old.Mend([]byte("k"), kv.Version{}, nil)
	require.ErrorIs(t, err, partition.ErrDropped)
	collected, err := old.Collect(partition.Collection{Horizon: math.MaxUint64, Limit: 9})
	require.NoError(t, err)
	require.Zero(t, collected.Forced)
	require.ErrorIs(t, in.Apply([]byte("k"), kv.Object{}, partition.Batch{}, nil), partition.ErrDropped)
	require.ErrorIs(t, in.End(a.Clock(), nil, nil), partition.ErrDropped)
	_, err = out.Dirty(1)
	require.ErrorIs(t, err, partition.ErrDropped)
	_, _, _, ended := out.End()
	require.False(t, ended)
	_, _, err = old.Read([]byte("k"))
	require.ErrorIs(t, err, partition.ErrDropped)
	told := 0
	old.SetTrust(kv.Whole, func() { told++ })
	old.KeepKnown(nil, func() { told++ })
	require.Equal(t, 2, told, "who waits is told")

	b.Shard = b.set.Add(part)
	is := b.Actor()
	require.Equal(t, kv.Actor{Node: was.Node, Boot: was.Boot, Rand: is.Rand}, is)
	require.NotEqual(t, was.Rand, is.Rand, "an actor ends with its copy")
	require.Equal(t, was.Rand, others.Rand, "one for all first copies")
	require.Equal(t, kv.New, b.Trust())
	clock := b.Clock()
	require.Zero(t, clock.Len())
	for _, key := range []string{"k", "own", "late"} {
		require.Empty(t, b.values(key))
	}
	b.put("own", "2")
	catchUp(b, a)
	catchUp(a, b)
	requireEqual(t, a, b)
	require.Equal(t, []string{"2"}, b.values("own"))

	b.committing(func() { require.NoError(t, b.set.Drop(part)) })
	require.NotContains(t, []uint32{was.Rand, is.Rand}, b.set.Add(part).Actor().Rand)
	kept, err := b.set.Known()
	require.NoError(t, err)
	require.Empty(t, kept, "what peers held would be held against the next copy")
	b.crash()
	require.Empty(t, b.set.Quarantined())
	clock = b.Clock()
	require.Zero(t, clock.Len())
}

func TestADropThatIsCutShortIsQuarantined(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	n.put("k", "v")
	n.store.FailNext(true)
	n.committing(func() { require.Error(t, n.set.Drop(part), "the process ends behind the first of its commits") })
	n.crash()
	require.Equal(t, []kv.Partition{part}, n.set.Quarantined())
	require.Empty(t, n.values("k"))
	clock := n.Clock()
	require.Zero(t, clock.Len())
}
