package partition_test

import (
	"testing"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"

	"github.com/stretchr/testify/require"
)

func TestWhatPeersHoldIsKept(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	n.put("k", "v")
	theirs := kv.ClockOf(kv.Span{Actor: kv.Actor{Node: 7, Boot: 2, Rand: 9}, Base: 4, Runs: []kv.Run{{From: 6, To: 8}}})
	of := func(peer string, lost bool) partition.Known {
		return partition.Known{Partition: part, Peer: peer, Actor: kv.Actor{Node: 7, Boot: 3, Rand: 1}, Clock: theirs, Lost: lost}
	}
	n.KeepKnown([]partition.Known{of("n2", false), of("n3", true)}, nil)
	n.KeepKnown([]partition.Known{of("n2", true)}, nil) // replaces
	n.commit()
	n.KeepKnown([]partition.Known{of("n2", false)}, nil) // and this was not committed
	n.crash()
	n.same(t, map[string]bool{"n2": true, "n3": true}, theirs)

	lower, upper := cache.PrefixRange('s')
	var damage cache.Batch
	require.NoError(t, n.store.Scan(lower, upper, func(key, value []byte) (bool, error) {
		if k, err := cache.ParseKnown(value, everyActor{}); err == nil && k.Peer == "n3" {
			value = append([]byte{}, value...)
			value[len(value)-1] ^= 1
			damage.Set(key, value)
		}
		return true, nil
	}))
	require.Equal(t, 1, damage.Len())
	damage.Set(cache.AppendCopyKey(nil, part), []byte("no copy record"))
	require.NoError(t, n.store.Commit(&damage, true))
	n.open()
	require.Equal(t, []kv.Partition{part}, n.set.Quarantined())
	n.same(t, map[string]bool{"n2": true}, theirs)
}

// everyActor knows every id, so that a record may be looked at without a set.
type everyActor struct{}

func (everyActor) ID(kv.Actor) uint32               { return 0 }
func (everyActor) Actor(id uint32) (kv.Actor, bool) { return kv.Actor{Boot: id}, true }

// same holds what is kept against peers and whether they lost something.
func (n *node) same(t *testing.T, want map[string]bool, clock kv.Clock) {
	t.Helper()
	kept, err := n.set.Known()
	require.NoError(t, err)
	got := map[string]bool{}
	for _, k := range kept {
		require.Equal(t, part, k.Partition)
		require.True(t, clock.Equal(k.Clock))
		require.Equal(t, kv.Actor{Node: 7, Boot: 3, Rand: 1}, k.Actor)
		got[k.Peer] = k.Lost
	}
	require.Equal(t, want, got)
}
