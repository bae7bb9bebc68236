package testcluster_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"edged.dev/edged/api/admin"
	"edged.dev/edged/internal/testcluster"
)

// standsBy waits until a node serves nothing since another process has its place.
func standsBy(t *testing.T, n *testcluster.Node) {
	t.Helper()
	require.Eventually(t, func() bool {
		_, err := n.Admin().Status(t.Context())
		var problem *admin.Problem
		return errors.As(err, &problem) && problem.Type == "standby"
	}, time.Minute, 10*time.Millisecond, "%s", n.Tail())
}

// dots holds what nodes hold against each other: a dot is of one key and one value,
// in every copy and for ever (I5).
type dots map[string]string

func (d dots) add(t *testing.T, nodes ...*testcluster.Node) {
	t.Helper()
	for _, n := range nodes {
		require.NoError(t, n.Admin().Dump(t.Context(), admin.AllPartitions, func(line admin.DumpLine) error {
			if v := line.Version; v != nil {
				at, what := fmt.Sprint(v.Partition, v.Dot), fmt.Sprint(string(v.Key), "=", v.ValueXXH3)
				if was, ok := d[at]; ok && was != what {
					return fmt.Errorf("dot %s is of %s, and of %s at %s", at, was, what, n.Name())
				}
				d[at] = what
			}
			return nil
		}))
	}
}

// A disk that is cloned to a second live node: of the two processes one goes on.
// The other takes nothing, stands by, and goes on when the first is gone, without
// a lost write and without a dot that was issued twice.
func TestOneOfTwoProcessesOfOneDiskGoesOn(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	binary, err := testcluster.Build(ctx, t.TempDir())
	require.NoError(t, err)
	c := testcluster.ForTest(ctx, t, testcluster.Options{Binary: binary})
	n3, seen, acked := c.Node(2), dots{}, map[string]string{}
	write := func(n *testcluster.Node, prefix string) {
		t.Helper()
		client := redis.NewClient(&redis.Options{Addr: n.Ports().RESP, MaxRetries: -1})
		defer client.Close()
		for i := range 100 {
			key := fmt.Sprint(prefix, i)
			require.NoError(t, client.Set(ctx, key, "v"+key, 0).Err())
			acked[key] = "v" + key
		}
	}
	write(n3, "before:")
	clone, err := n3.Clone()
	require.NoError(t, err)
	write(n3, "after:")
	_, err = clone.Start(ctx)
	require.NoError(t, err)
	require.NoError(t, clone.WaitPorts(ctx))
	standsBy(t, clone)
	require.Error(t, set(ctx, clone), "it takes no write")
	write(n3, "beside:")
	require.NoError(t, n3.WaitVerified(ctx))
	seen.add(t, c.Nodes()...)

	// The one that serves stands still for so long that the others give its place
	// to the clone: then it is the one that stands by, from its first breath.
	require.NoError(t, n3.Pause())
	require.NoError(t, clone.WaitVerified(ctx))
	write(clone, "clone:")
	_, err = n3.Resume()
	require.NoError(t, err)
	standsBy(t, n3)
	require.Contains(t, n3.Tail(), "BOOT_CONFLICT", "its number is below the clone's: it starts again by itself, and is told of the twin")
	require.Error(t, set(ctx, n3))
	require.NoError(t, clone.WaitVerified(ctx))
	seen.add(t, c.Node(0), c.Node(1), clone)

	require.NoError(t, clone.Kill())
	require.NoError(t, n3.WaitVerified(ctx))
	write(n3, "again:")
	require.NoError(t, n3.WaitVerified(ctx))
	seen.add(t, c.Nodes()...)
	for _, n := range c.Nodes() {
		client := redis.NewClient(&redis.Options{Addr: n.Ports().RESP, MaxRetries: -1})
		for key, value := range acked {
			require.Equal(t, value, client.Get(ctx, key).Val(), "%s at %s", key, n.Name())
		}
		require.NoError(t, client.Close())
	}
}

func set(ctx context.Context, n *testcluster.Node) error {
	client := redis.NewClient(&redis.Options{Addr: n.Ports().RESP, MaxRetries: -1})
	defer client.Close()
	return client.Set(ctx, "k", "of the fenced", 0).Err()
}
