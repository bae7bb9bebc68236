package replica_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/transport/wire"
)

// hellos collects the sizes of the HELLOs that are sent, and how they were taken.
func (c *cluster) hellos(sizes *[]int) {
	c.wires.with(func(w *wires) {
		w.seen = func(_ string, frame []byte) {
			if typ, _ := wire.TypeOf(frame); typ == wire.TypeHello {
				*sizes = append(*sizes, len(frame))
			}
		}
	})
}

// A node that was level with its peers, and is back, tells them only what changed
// since; one that has lost what it knew of that tells everything.
func TestAReturnLeansOnWhatWasLastEqual(t *testing.T) {
	for _, forgets := range []bool{false, true} {
		t.Run(fmt.Sprintf("the peers forget %v", forgets), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newCluster(t, "n1", "n2", "n3")
				c.up()
				for i := range 200 {
					c.set(c.names[i%3], fmt.Sprintf("k%d", i), "v")
				}
				c.equal(c.names...)
				time.Sleep(15 * time.Second) // virtual: a tick finds all level
				c.nodes["n3"].kill()
				c.set("n1", "k1", "w")
				if forgets { // killed before it had written down what was level
					for _, name := range []string{"n1", "n2"} {
						c.nodes[name].set.KeepCheckpoint("n3", nil)
						c.nodes[name].kill()
						c.nodes[name].start()
					}
					c.wires.connect("n1", "n2")
					c.live("n1", "n2")
				}
				var sizes []int
				c.hellos(&sizes)
				c.nodes["n3"].start()
				c.wires.connect("n1", "n3")
				c.wires.connect("n2", "n3")
				c.live("n3")
				c.equal(c.names...)
				require.NotEmpty(t, sizes)
				if forgets { // who is asked, is asked again, with everything
					require.Zero(t, len(sizes)%2)
					require.Less(t, sizes[0], sizes[1])
				} else {
					require.LessOrEqual(t, len(sizes), 2)
				}
				require.Equal(t, "w", c.nodes["n3"].holds("k1"))
			})
		})
	}
}
