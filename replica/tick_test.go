package replica_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/transport/wire"
)

// A tick between peers in sync takes at most 64 bytes, question and answer, and
// brings nothing else with it.
func TestATickInSyncTakes64Bytes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		c.up()
		for _, k := range []string{"a", "b", "c"} {
			c.set("n1", k, "v")
		}
		c.equal("n1", "n2", "n3")
		time.Sleep(30 * time.Second)

		var mu sync.Mutex
		bytes, ticks := 0, 0
		c.wires.with(func(w *wires) {
			w.seen = func(kind string, frame []byte) {
				mu.Lock()
				defer mu.Unlock()
				typ, err := wire.TypeOf(frame)
				require.NoError(t, err)
				switch {
				case kind != "call" && kind != "answer":
				case typ == wire.TypeTick:
					ticks++
					bytes += len(frame)
				case typ == wire.TypeTickAck:
					bytes += len(frame)
				case typ == wire.TypeClocks, typ == wire.TypeClocksAck: // of the lead, and no part of a tick
				default:
					t.Errorf("a frame of type %d while all is in sync", typ)
				}
			}
		})
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		require.GreaterOrEqual(t, ticks, 3*4, "every pair ticks")
		t.Logf("%d ticks, %d bytes each", ticks, bytes/ticks)
		require.LessOrEqual(t, bytes, 64*ticks)
	})
}
