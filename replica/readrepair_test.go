package replica_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
)

// A read of three copies that finds them apart mends them behind its answer, long
// before the tick would: the reader's own as well as another's.
func TestAReadMendsTheCopiesThatItFoundApart(t *testing.T) {
	for lacking, writer := range map[string]string{"n1": "n2", "n2": "n1"} {
		t.Run(lacking+" lacks it", func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newCluster(t, "n1", "n2", "n3")
				c.up()
				key := c.keyFirstAt(writer)
				c.set(writer, key, "old")
				c.equal(c.names...)
				c.wires.with(func(w *wires) {
					w.live = func(_, to string) liveFate {
						if to == lacking {
							return swallow
						}
						return deliver
					}
				})
				c.set(writer, key, "new")
				c.wires.with(func(w *wires) { w.live = nil })
				require.Equal(t, "old", c.nodes[lacking].holds(key))
				resp, err := c.do("n1", kv.Request{Op: kv.OpGet, Key: []byte(key), R: 3})
				require.NoError(t, err)
				require.Equal(t, "new", string(resp.Value))
				time.Sleep(100 * time.Millisecond) // virtual
				require.Equal(t, "new", c.nodes[lacking].holds(key))
				require.EqualValues(t, 1, c.nodes["n1"].replica.Stats().ReadRepairs.Load())
				c.equal(c.names...)
				_, err = c.do("n1", kv.Request{Op: kv.OpGet, Key: []byte(key), R: 3})
				require.NoError(t, err)
				require.EqualValues(t, 1, c.nodes["n1"].replica.Stats().ReadRepairs.Load(), "nothing was left to mend")
			})
		})
	}
}
