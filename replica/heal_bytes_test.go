package replica_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/internal/sim"
	"edged.dev/edged/merkle"
	"edged.dev/edged/partition"
	"edged.dev/edged/partition/state"
	"edged.dev/edged/replica"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// pair is two copies of one partition with the same 4,000 objects.
func pair(t *testing.T) (sets [2]*partition.Set, stores [2]*sim.Store) {
	for i := range sets {
		stores[i] = sim.NewStore()
		var err error
		sets[i], err = partition.Open(partition.Config{
			Store: stores[i], Partitions: 1, DigestKey: merkle.KeyOf([]byte("cluster")), Sync: true, Boot: 1, Node: kv.NodeID(i + 1),
			Rand: func() uint32 { return 1 }, Fail: func(err error) { t.Error(err) },
		})
		require.NoError(t, err)
		sets[i].Add(0)
	}
	for i := range 4000 {
		sets[0].Shard(0).Write(fmt.Appendf(nil, "key-%06d", i), func(kv.Object) (*partition.Mutation, error) {
			return &partition.Mutation{Version: kv.Version{Value: make([]byte, 100)}}, nil
		}, func(ch *state.Change, err error) {
			require.NoError(t, err)
			require.NoError(t, sets[1].Shard(0).Apply(state.Received{Key: ch.Keys[0].Key, Object: ch.Filled(0)}, nil))
		})
	}
	for _, s := range sets {
		_, err := s.Committer().CommitGroup()
		require.NoError(t, err)
	}
	require.Equal(t, sets[0].Shard(0).Status().Digest, sets[1].Shard(0).Status().Digest)
	return sets, stores
}

// What one lost object among 4,000 costs: round trips and bytes, both ways.
func TestHealingCostsWhatDiffers(t *testing.T) {
	t.Parallel()
	sets, stores := pair(t)
	lost := []byte("key-001234")
	var b cache.Batch
	b.Delete(cache.AppendEntryKey(nil, 0, kv.OrderOf(kv.Hash(lost), 1), lost))
	require.NoError(t, stores[1].Scan([]byte("d"), []byte("e"), func(rec, value []byte) (bool, error) {
		if key, _, _ := cache.ParseVersion(value); string(key) == string(lost) {
			b.Delete(rec)
		}
		return true, nil
	}))
	require.Equal(t, 2, b.Len())
	require.NoError(t, stores[1].Commit(&b, true))

	trips, bytes := 0, 0
	h := replica.Healer{
		Self: "b", Shard: sets[1].Shard(0), Salt: 9,
		Ask: func(ctx context.Context, _ string, request []byte) (resp []byte, err error) {
			switch typ, _ := wire.TypeOf(request); typ {
			case wire.TypeTree:
				resp, err = replica.AnswerTree(ctx, sets[0], request)
			case wire.TypeHeld:
				resp, err = replica.AnswerHeld(ctx, sets[0], request)
			default:
				o, base, readErr := sets[0].Shard(0).Read(lost)
				resp, err = wire.Object{Object: o.Filled(base)}.Append(nil), readErr
			}
			trips++
			bytes += len(request) + len(resp)
			return resp, err
		},
		Wait: func(context.Context, <-chan struct{}) error {
			_, err := sets[1].Committer().CommitGroup()
			return err
		},
	}
	out := h.Heal(t.Context(), core.Heal{Owners: []string{"a"}, All: true})
	require.True(t, out.Fit && !out.Failed, "%+v", out)
	require.Equal(t, 1, out.Changed)
	require.Equal(t, sets[0].Shard(0).Status().Digest, sets[1].Shard(0).Status().Digest)
	t.Logf("%d round trips, %d bytes", trips, bytes)
	require.LessOrEqual(t, trips, 8, "the root, three steps down, items, keys, votes, the value")
	require.LessOrEqual(t, bytes, 1200)
}
