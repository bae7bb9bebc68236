package testcluster_test

import (
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/testcluster"
)

// A disk that is restored from an old copy lies about what its node had: it
// lacks writes that the node acknowledged, and holds what was deleted since. The
// others remember, though they were started anew meanwhile, and the node serves
// nothing before it is level. What it writes then are dots of a new actor.
func TestADiskRestoredFromAnOldCopyIsNoticed(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	binary, err := testcluster.Build(ctx, t.TempDir())
	require.NoError(t, err)
	c := testcluster.ForTest(ctx, t, testcluster.Options{Binary: binary})
	n3 := c.Node(2)
	through := func(n *testcluster.Node, do func(pipe redis.Pipeliner, i int)) {
		client := redis.NewClient(&redis.Options{Addr: n.Ports().RESP, MaxRetries: -1})
		defer client.Close()
		_, err := client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for i := range 200 {
				do(pipe, i)
			}
			return nil
		})
		require.NoError(t, err)
	}
	through(c.Node(0), func(pipe redis.Pipeliner, i int) { pipe.Set(ctx, fmt.Sprintf("old:%d", i), "v", 0) })
	require.NoError(t, n3.WaitVerified(ctx))
	require.NoError(t, n3.Stop(ctx))
	require.NoError(t, n3.SaveDisk())
	start(t, n3)

	through(n3, func(pipe redis.Pipeliner, i int) {
		pipe.Set(ctx, fmt.Sprintf("new:%d", i), "v", 0)
		pipe.Del(ctx, fmt.Sprintf("old:%d", i))
	})
	require.NoError(t, n3.WaitVerified(ctx))
	seen := dots{}
	seen.add(t, c.Nodes()...)
	require.NoError(t, n3.Kill())
	require.NoError(t, c.Node(0).Stop(ctx)) // has kept what it knew when it ends
	start(t, c.Node(0))
	require.NoError(t, c.Node(1).Kill())
	start(t, c.Node(1))
	require.NoError(t, n3.RestoreDisk())
	start(t, n3)
	require.Contains(t, n3.Tail(), "it was rolled back")
	through(n3, func(pipe redis.Pipeliner, i int) { pipe.Set(ctx, fmt.Sprintf("later:%d", i), "v", 0) })
	require.NoError(t, n3.WaitVerified(ctx))
	seen.add(t, c.Nodes()...)
	for _, n := range c.Nodes() {
		var fresh, gone []*redis.IntCmd
		through(n, func(pipe redis.Pipeliner, i int) {
			fresh = append(fresh, pipe.Exists(ctx, fmt.Sprintf("new:%d", i), fmt.Sprintf("later:%d", i)))
			gone = append(gone, pipe.Exists(ctx, fmt.Sprintf("old:%d", i)))
		})
		for i := range fresh {
			require.Equal(t, int64(2), fresh[i].Val(), "%s lost new:%d or later:%[2]d", n.Name(), i)
			require.Zero(t, gone[i].Val(), "%s has deleted old:%d again", n.Name(), i)
		}
	}
}

// start starts a node again and waits until it serves.
func start(t *testing.T, n *testcluster.Node) {
	t.Helper()
	_, err := n.Start(t.Context())
	require.NoError(t, err)
	require.NoError(t, n.WaitPorts(t.Context()))
	require.NoError(t, n.WaitReady(t.Context()))
}
