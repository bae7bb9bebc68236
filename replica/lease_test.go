package replica_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/replica"
	"edged.dev/edged/transport/wire"
)

// A process that stood still while a write looked around for what others hold goes by
// its own copy no more when it goes on: what the write is told, and what it depends on,
// may be of long ago.
func TestAWriteThatLooksIsNotDecidedBehindALapsedLease(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		var stood atomic.Int64
		c.nodes["n1"].cfg = func(cfg *replica.Config) {
			cfg.Boottime = func() int64 { return int64(time.Since(c.began)) + stood.Load() }
		}
		c.wires.call = func(from, _ string, kind wire.Type) error {
			switch {
			case from == "n1" && kind == wire.TypeClocks: // so that it never has the lead
				return errors.New("lost")
			case from == "n1" && kind == wire.TypeRead:
				stood.Store(int64(time.Minute))
				c.wires.disconnect("n1", "n2")
				c.wires.disconnect("n1", "n3")
				return errors.New("connection lost")
			}
			return nil
		}
		c.up()
		key := c.keyFirstAt("n1")
		resp, err := c.do("n1", kv.Request{Op: kv.OpIncr, Key: []byte(key), Delta: 1})
		require.NoError(t, err)
		require.Equal(t, kv.Isolated, resp.State, "it was cut off, and says so")
	})
}
