package testcluster_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"edged.dev/edged/api/admin"
	"edged.dev/edged/internal/testcluster"
)

const soleKeys = 500

// reads reads every key through a node, and returns how many were found, how many are
// not there by its word, and an error of the others.
func reads(ctx context.Context, client *redis.Client) (found, absent int, err error) {
	cmds, _ := client.Pipelined(context.WithoutCancel(ctx), func(pipe redis.Pipeliner) error {
		for i := range soleKeys {
			pipe.Exists(ctx, fmt.Sprintf("key:%d", i))
		}
		return nil
	})
	for _, cmd := range cmds {
		switch n, cmdErr := cmd.(*redis.IntCmd).Result(); {
		case cmdErr != nil:
			err = cmdErr
		case n == 1:
			found++
		default:
			absent++
		}
	}
	return found, absent, err
}

// Where a partition has one copy, no node says of a key that it is not there: neither
// one that has joined and has not got it yet, nor one that has lost its disk, until an
// operator accepts that.
func TestOneCopyIsNeverServedEmpty(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	binary, err := testcluster.Build(ctx, t.TempDir())
	require.NoError(t, err)
	c, err := testcluster.New(ctx, testcluster.Options{
		Binary: binary, Nodes: 2, Args: []string{"--cluster-copies", "1", "--cluster-write-quorum", "1", "--cluster-partitions", "16"},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	n1, n2 := c.Node(0), c.Node(1)
	start(t, n1)
	client := redis.NewClient(&redis.Options{Addr: n1.Ports().RESP, MaxRetries: -1, ReadTimeout: time.Minute})
	defer client.Close()
	_, err = client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i := range soleKeys {
			pipe.Set(ctx, fmt.Sprintf("key:%d", i), "v", 0)
		}
		return nil
	})
	require.NoError(t, err)

	joining, joined := context.WithCancel(ctx)
	var reader sync.WaitGroup
	gone, rounds := 0, 0
	reader.Go(func() {
		for ; joining.Err() == nil; rounds++ {
			_, absent, _ := reads(ctx, client)
			gone += absent
		}
	})
	start(t, n2)
	joined()
	reader.Wait()
	require.Zero(t, gone, "keys were not there while n2 joined, in %d rounds", rounds)
	found, _, err := reads(ctx, client)
	require.NoError(t, err)
	require.Equal(t, soleKeys, found)

	require.Eventually(t, func() bool { // n1 keeps what n2 took over until it has heard that n2 has it
		status, err := n1.Admin().Status(ctx)
		return err == nil && status.Partitions.StandIn == 0
	}, time.Minute, 20*time.Millisecond)
	require.NoError(t, n2.Kill())
	require.NoError(t, n2.Wipe())
	_, err = n2.Start(ctx)
	require.NoError(t, err)
	require.NoError(t, n2.WaitPorts(ctx))
	var lost int
	require.Eventually(t, func() bool {
		ready, err := n2.Admin().Readyz(ctx)
		losses, lossErr := n2.Admin().Losses(ctx, admin.AllPartitions)
		lost = 0
		for _, l := range losses.Partitions {
			if l.Refused == "" {
				lost++
			}
		}
		return err == nil && lossErr == nil && !ready.Ready && lost > 0 && lost == ready.Partitions.Owned &&
			strings.Contains(strings.Join(ready.Degraded, "; "), "edged accept-loss")
	}, time.Minute, 20*time.Millisecond, "%s", n2.Plight())
	has, absent, err := reads(ctx, client)
	require.Zero(t, absent)
	require.Positive(t, has)
	require.Less(t, has, soleKeys)
	require.ErrorContains(t, err, "LOADING")

	done, err := n2.Admin().AcceptLoss(ctx, admin.AllPartitions)
	require.NoError(t, err)
	require.Len(t, done.Partitions, lost)
	require.NoError(t, n2.WaitReady(ctx))
	_, absent, err = reads(ctx, client)
	require.NoError(t, err)
	require.Equal(t, soleKeys-has, absent)
}
