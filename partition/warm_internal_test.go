package partition

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The oldest tree makes room, at the limit for none and one over it for one.
func TestWarmTreesStayWithinTheirMemory(t *testing.T) {
	t.Parallel()
	var w warmSet
	shards := make([]*Shard, 4)
	for i := range shards {
		shards[i] = &Shard{warm: &warmTree{}}
	}
	w.make(shards[0], maxWarmBytes/2)
	w.make(shards[1], maxWarmBytes/2)
	require.Equal(t, int64(maxWarmBytes), w.bytes)
	require.NotNil(t, shards[0].warm, "at the limit")
	w.make(shards[1], maxWarmBytes/2)
	require.Equal(t, int64(maxWarmBytes), w.bytes, "the same again is not more")
	w.make(shards[2], 1)
	require.Nil(t, shards[0].warm, "one over")
	require.NotNil(t, shards[1].warm)
	require.Equal(t, int64(maxWarmBytes/2+1), w.bytes)
}
