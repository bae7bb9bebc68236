package testcluster_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/testcluster"
)

// writer writes keys of its own through one node, one after the other, until it is
// told to end, and notes what came of each.
type writer struct {
	node    *testcluster.Node
	name    string
	acked   []string
	failed  []error
	written atomic.Int64 // replies that came
}

func (w *writer) run(ctx context.Context, client *redis.Client) {
	for i := 0; ctx.Err() == nil; i++ {
		key := fmt.Sprintf("%s:%d", w.name, i)
		if err := client.Set(context.WithoutCancel(ctx), key, key, 0).Err(); err != nil {
			w.failed = append(w.failed, err)
		} else {
			w.acked = append(w.acked, key)
		}
		w.written.Add(1)
	}
}

// atLeast waits for so many more replies.
func (w *writer) atLeast(t *testing.T, more int64) {
	t.Helper()
	want := w.written.Load() + more
	require.Eventually(t, func() bool { return w.written.Load() >= want }, time.Minute, time.Millisecond, "%s", w.name)
}

// A node that is told to stop under load tells its peers first: whoever writes through
// the others gets an answer to each write, none of them "unknown", and whoever writes
// through it gets none but its connection closed, and may lose no acknowledged write.
func TestANodeThatStopsUnderLoadLeavesNoWriteUnknown(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	binary, err := testcluster.Build(ctx, t.TempDir())
	require.NoError(t, err)
	c := testcluster.ForTest(ctx, t, testcluster.Options{Binary: binary})
	for _, n := range c.Nodes() {
		require.NoError(t, n.WaitVerified(ctx))
	}
	var acked []string
	for round, stops := range []*testcluster.Node{c.Node(2), c.Node(0), c.Node(1)} {
		var writers []*writer
		var running sync.WaitGroup
		loaded, end := context.WithCancel(ctx)
		for _, n := range c.Nodes() {
			for i := range 4 {
				w := &writer{node: n, name: fmt.Sprintf("%s-%d-%d", n.Name(), i, round)}
				writers = append(writers, w)
				client := redis.NewClient(&redis.Options{Addr: n.Ports().RESP, MaxRetries: -1, PoolSize: 1})
				running.Go(func() {
					defer client.Close()
					w.run(loaded, client)
				})
			}
		}
		for _, w := range writers {
			w.atLeast(t, 20)
		}
		require.NoError(t, stops.Stop(ctx))
		for _, w := range writers {
			if w.node != stops {
				w.atLeast(t, 20)
			}
		}
		end()
		running.Wait()
		for _, w := range writers {
			for _, err := range w.failed {
				require.Same(t, stops, w.node, "%s, though %s stopped: %v", w.name, stops.Name(), err)
				require.False(t, strings.HasPrefix(err.Error(), "UNKNOWN"), "%s: %v", w.name, err)
			}
			acked = append(acked, w.acked...)
		}
		start(t, stops)
	}
	for _, n := range c.Nodes() {
		require.NoError(t, n.WaitVerified(ctx))
		client := redis.NewClient(&redis.Options{Addr: n.Ports().RESP, MaxRetries: -1})
		defer client.Close()
		for from := 0; from < len(acked); from += 500 {
			keys := acked[from:min(from+500, len(acked))]
			found, err := client.Exists(ctx, keys...).Result()
			require.NoError(t, err)
			require.EqualValues(t, len(keys), found, "%s lost acknowledged writes", n.Name())
		}
	}
}
