package replica_test

import (
	"crypto/rand"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/replica"
)

// All that a node streams keeps to its rate, and a rate that is changed meanwhile
// is felt at once.
// A sync that takes long is watched while it runs.
func TestSyncBytesAreCountedAsTheyMove(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2")
		c.nodes["n1"].cfg = func(cfg *replica.Config) { cfg.SyncRate = func() int64 { return 100_000 } }
		c.up()
		value := make([]byte, 20_000)
		for i := range 50 { // a megabyte that does not compress
			_, err := rand.Read(value)
			require.NoError(t, err)
			c.set("n1", fmt.Sprintf("k%d", i), string(value))
		}
		c.nodes["n2"].kill()
		c.nodes["n2"].wipe()
		c.nodes["n2"].start()
		sent := c.nodes["n1"].replica.Stats().SyncBytesOut.Load()
		c.wires.connect("n1", "n2")
		time.Sleep(5 * time.Second)
		got := c.nodes["n2"].replica.Stats().SyncBytesIn.Load()
		require.Greater(t, got, int64(300_000), "five of ten seconds")
		require.Less(t, got, int64(700_000))
		require.Greater(t, c.nodes["n1"].replica.Stats().SyncBytesOut.Load()-sent, int64(300_000))
		c.live("n2")
		require.Less(t, c.nodes["n2"].replica.Stats().SyncBytesIn.Load(), int64(1_100_000), "each byte once")
		c.equal("n1", "n2")
	})
}

func TestStreamsKeepToTheRate(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2")
		var rate atomic.Int64
		c.nodes["n1"].cfg = func(cfg *replica.Config) { cfg.SyncRate = rate.Load }
		c.up()
		value := make([]byte, 20_000)
		for i := range 100 { // two megabytes that do not compress
			_, err := rand.Read(value)
			require.NoError(t, err)
			c.set("n1", fmt.Sprintf("k%d", i), string(value))
		}
		back := func() time.Duration {
			c.nodes["n2"].kill()
			c.nodes["n2"].wipe()
			c.nodes["n2"].start()
			began := time.Now()
			c.wires.connect("n1", "n2")
			c.live("n2")
			return time.Since(began)
		}
		require.Less(t, back(), 3*time.Second, "without a limit")
		rate.Store(100_000)
		took := back()
		require.Greater(t, took, 17*time.Second)
		require.Less(t, took, 25*time.Second)
		time.AfterFunc(5*time.Second, func() { rate.Store(0) })
		require.Less(t, back(), 9*time.Second, "the limit went after five seconds")
		c.equal("n1", "n2")
	})
}
