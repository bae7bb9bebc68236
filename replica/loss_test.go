package replica_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
)

// TestAllCopiesNewServeOnlyByAnOperatorsWord wipes every owner at once.
func TestAllCopiesNewServeOnlyByAnOperatorsWord(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		c.up()
		c.set("n1", "k", "v")
		c.equal(c.names...)
		for _, name := range c.names {
			c.nodes[name].kill()
			c.nodes[name].wipe()
		}
		p := partOf("k")
		c.nodes["n1"].start()
		c.nodes["n2"].start()
		c.wires.connect("n1", "n2")
		refused := func(name, why string) {
			t.Helper()
			require.ErrorContains(t, c.nodes[name].replica.AcceptLoss(t.Context(), p), why)
		}
		refused("n1", "has not reported") // it has just connected
		time.Sleep(20 * time.Second)
		nobody := func(names ...string) {
			t.Helper()
			for _, name := range names {
				_, err := c.do(name, kv.Request{Op: kv.OpGet, Key: []byte("k")})
				require.Error(t, err, "%s must not say that it is not found", name)
				_, err = c.do(name, kv.Request{Op: kv.OpSet, Key: []byte("k"), Value: []byte("w")})
				require.Error(t, err)
			}
		}
		nobody("n1", "n2")
		l := c.nodes["n1"].replica.Loss(p)
		require.Empty(t, l.Refused, "an owner that is away is given up, too")
		require.Len(t, l.Copies, 2)
		for _, x := range l.Copies {
			require.Equal(t, x.Name == "n2", x.Reached)
			require.Equal(t, kv.New, x.Trust)
		}
		c.back("n3")
		time.Sleep(20 * time.Second)
		nobody(c.names...)
		require.Len(t, c.nodes["n2"].replica.Losses(), testPartitions)

		require.NoError(t, c.nodes["n2"].replica.AcceptLoss(t.Context(), p))
		c.wait("served by all", func() bool {
			for _, name := range c.names {
				if x, _ := c.nodes[name].replica.Part(p); x.State != kv.Live || c.nodes[name].set.Shard(p).Trust() != kv.Whole {
					return false
				}
			}
			return true
		})
		_, found := c.get("n1", "k")
		require.False(t, found)
		require.GreaterOrEqual(t, c.set("n1", "k", "w").Copies, 2)
		refused("n1", "serves")
		require.Len(t, c.nodes["n2"].replica.Losses(), testPartitions-1, "one partition was given up, and no other")
		other := (p + 1) % testPartitions
		require.Equal(t, kv.New, c.nodes["n2"].set.Shard(other).Trust())
	})
}

// TestAnOwnerWithACopyIsNotGivenUp has one owner of three that is not new.
func TestAnOwnerWithACopyIsNotGivenUp(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		c.up()
		for _, name := range c.names {
			c.nodes[name].kill()
		}
		c.nodes["n1"].wipe()
		c.nodes["n2"].wipe()
		c.nodes["n1"].start()
		c.nodes["n2"].start()
		c.wires.connect("n1", "n2")
		time.Sleep(10 * time.Second)
		require.NotEmpty(t, c.nodes["n1"].replica.Losses())
		c.back("n3")
		c.wait("reported", func() bool {
			l := c.nodes["n1"].replica.Loss(3)
			return l.Refused != ""
		})
		c.live(c.names...)
	})
}

// TestWhoWasGivenUpMayComeBack accepts a loss while an owner is away that has it
// all: what it holds is there again when it is, and what was written meanwhile too.
func TestWhoWasGivenUpMayComeBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		c.up()
		c.set("n1", "k", "v")
		c.equal(c.names...)
		for _, name := range c.names {
			c.nodes[name].kill()
		}
		p := partOf("k")
		for _, name := range []string{"n1", "n2"} {
			c.nodes[name].wipe()
			c.nodes[name].start()
		}
		c.wires.connect("n1", "n2")
		time.Sleep(10 * time.Second)
		for _, l := range c.nodes["n1"].replica.Losses() {
			require.NoError(t, c.nodes["n1"].replica.AcceptLoss(t.Context(), l.Partition))
		}
		c.wait("served", func() bool { x, _ := c.nodes["n1"].replica.Part(p); return x.State == kv.Degraded })
		_, found := c.get("n2", "k")
		require.False(t, found)
		c.back("n3")
		c.live(c.names...)
		c.equal(c.names...)
		value, _ := c.get("n1", "k")
		require.Equal(t, "v", value)
	})
}
