package replica_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/replica/core"
)

const soleKeys = 64 // some for every partition

// soleNodes are nodes of a cluster that keeps one copy of each partition. The first has
// founded it and runs, sole member as yet, with every key.
func soleNodes(t *testing.T, names ...string) *cluster {
	c := newCluster(t, names...)
	c.w, c.width = 1, 1
	c.found("n1")
	c.nodes["n1"].start()
	c.nodes["n1"].replica.SetLayout(c.layout("n1"))
	c.wait("n1 serves", func() bool { return c.isLive("n1") })
	for i := range soleKeys {
		c.set("n1", soleKey(i), "v")
	}
	return c
}

func soleKey(i int) string { return fmt.Sprint("k", i) }

// answered requires that every answer to a read is a value, whoever serves its key now,
// and returns how many there were.
func (c *cluster) answered(value string, names ...string) (found int) {
	c.t.Helper()
	for i := range soleKeys {
		for _, name := range names {
			resp, err := c.do(name, kv.Request{Op: kv.OpGet, Key: []byte(soleKey(i))})
			if err != nil {
				require.Equal(c.t, kv.CodeUnavailable, kv.CodeOf(err), "%v", err)
				continue
			}
			require.True(c.t, resp.Found, "%s says that %s is not there", name, soleKey(i))
			require.Equal(c.t, value, string(resp.Value))
			found++
		}
	}
	return found
}

// TestASoleOwnerThatJoinsServesNothingEmpty lets a node take over the only copies of
// some partitions, while the former owner does not know yet, and when it does.
func TestASoleOwnerThatJoinsServesNothingEmpty(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := soleNodes(t, "n1", "n2")
		n1, n2 := c.nodes["n1"], c.nodes["n2"]
		n2.start()
		c.wires.connect("n1", "n2")
		require.Equal(t, soleKeys, c.answered("v", "n1"), "it serves all by the layout it knows")
		c.answered("v", "n2")
		time.Sleep(10 * time.Second)
		require.False(t, c.isLive("n2"), "what n1 acknowledges meanwhile, n2 would not have")
		for i := range soleKeys {
			c.set("n1", soleKey(i), "w")
		}

		n1.replica.SetLayout(c.layout("n1", "n2"))
		for i := range soleKeys {
			resp, err := c.do("n1", kv.Request{Op: kv.OpSet, Key: []byte(soleKey(i)), Value: []byte("x"), NX: true})
			require.True(t, err != nil || !resp.Changed, "an empty copy decided that %s is not there", soleKey(i))
		}
		c.answered("w", "n1", "n2")
		c.wait("each serves its own", func() bool { return c.isLive("n1", "n2") })
		for i := range soleKeys {
			for _, name := range c.names {
				value, _ := c.get(name, soleKey(i))
				require.Equal(t, "w", value)
			}
		}
	})
}

// TestASoleCopyThatIsLostIsServedByAnOperatorsWord wipes one of two disks.
func TestASoleCopyThatIsLostIsServedByAnOperatorsWord(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := soleNodes(t, "n1", "n2")
		n1, n2 := c.nodes["n1"], c.nodes["n2"]
		n2.start()
		c.wires.connect("n1", "n2")
		l := c.layout("n1", "n2")
		n1.replica.SetLayout(l)
		c.wait("each serves its own", func() bool { return c.isLive("n1", "n2") })
		for i := range soleKeys {
			c.set("n1", soleKey(i), "w") // n1 still keeps what it was displaced from, without this
		}
		time.Sleep(2 * time.Duration(core.OfferEvery))
		n2.kill()
		n2.wipe()
		n2.start()
		require.NotEmpty(t, n2.replica.Losses())
		c.wires.connect("n1", "n2")
		time.Sleep(20 * time.Second)
		require.False(t, c.isLive("n2"))
		found := c.answered("w", "n1", "n2")
		require.Positive(t, found, "what n1 owns is there")
		require.Less(t, found, 2*soleKeys)

		losses := n2.replica.Losses()
		require.Len(t, losses, len(l.OwnedBy("n2")))
		for _, lost := range losses {
			require.Empty(t, lost.Refused)
			require.NoError(t, n2.replica.AcceptLoss(t.Context(), lost.Partition))
		}
		c.wait("n2 serves", func() bool { return c.isLive("n2") })
		c.set("n1", soleKey(0), "again")
		value, _ := c.get("n2", soleKey(0))
		require.Equal(t, "again", value)
	})
}

// TestTwoJoinAnEmptyClusterOfOneCopy needs no operator.
func TestTwoJoinAnEmptyClusterOfOneCopy(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		c.w, c.width = 1, 1
		n1 := c.nodes["n1"]
		n1.start()
		n1.replica.SetLayout(c.layout("n1")) // it founds, and is displaced at once
		c.nodes["n2"].start()
		c.nodes["n3"].start()
		c.mesh()
		n1.replica.SetLayout(c.layout(c.names...))
		c.live(c.names...)
	})
}

// displacedUnderWay writes a key at its sole owner, n1, and has the layout that gives
// the key to n2 come while the write is being committed.
func displacedUnderWay(c *cluster) (key string, resp *kv.Response) {
	n1, l := c.nodes["n1"], c.layout("n1", "n2")
	for i := range soleKeys {
		if l.Owns("n2", uint32(partOf(soleKey(i)))) {
			key = soleKey(i)
		}
	}
	require.NotEmpty(c.t, key)
	n1.store.Between(func() {
		n1.store.Between(nil)
		n1.replica.SetLayout(l)
	})
	return key, c.set("n1", key, "w")
}

// TestAWriteOfASoleOwnerThatIsDisplacedUnderWayIsAtTheNextOne has a layout come while a
// write is being committed: who owns the key now may have this copy's clock already.
func TestAWriteOfASoleOwnerThatIsDisplacedUnderWayIsAtTheNextOne(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := soleNodes(t, "n1", "n2")
		c.nodes["n2"].start()
		c.wires.connect("n1", "n2")
		time.Sleep(time.Second)
		key, resp := displacedUnderWay(c)
		require.Equal(t, 1, resp.Copies)
		require.Equal(t, "w", c.nodes["n2"].holds(key), "acknowledged, and not at its owner")
	})
}

// TestAWriteOfASoleOwnerThatTheNextOneDoesNotHaveSaysSo has the next owner out of reach:
// the answer promises no copy of an owner, and has what a read there must not miss.
func TestAWriteOfASoleOwnerThatTheNextOneDoesNotHaveSaysSo(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := soleNodes(t, "n1", "n2")
		_, resp := displacedUnderWay(c)
		require.Zero(t, resp.Copies)
		require.True(t, resp.Partial)
		require.NotEmpty(t, resp.Fence, "a later read over this connection may miss the write")
	})
}

// soleClockLost kills the nodes of a cluster of one copy, both with copies of what n2
// owns, damages the record of n2's clocks, and lets fn do something to n1.
func soleClockLost(t *testing.T, fn func(n1 *member)) (c *cluster, owned []uint32) {
	c = soleNodes(t, "n1", "n2")
	n1, n2 := c.nodes["n1"], c.nodes["n2"]
	n2.start()
	c.wires.connect("n1", "n2")
	l := c.layout("n1", "n2")
	n1.replica.SetLayout(l)
	c.wait("each serves its own", func() bool { return c.isLive("n1", "n2") })
	n1.kill()
	n2.kill()
	fn(n1)
	n2.spoilRecords()
	n2.start()
	owned = l.OwnedBy("n2")
	require.NotEmpty(t, owned)
	return c, owned
}

// servesNone requires that n2 serves none of the partitions after a while.
func (c *cluster) servesNone(owned []uint32, why string) {
	c.t.Helper()
	time.Sleep(20 * time.Second)
	for _, p := range owned {
		require.False(c.t, c.part("n2", kv.Partition(p)).State.Serves(), why)
	}
}

// TestASoleCopyThatLostItsClockServesWhatItHolds damages the clock's record at the only
// member that holds anything: it waits for the other to say that it does not.
func TestASoleCopyThatLostItsClockServesWhatItHolds(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, owned := soleClockLost(t, (*member).wipe)
		n2 := c.nodes["n2"]
		c.servesNone(owned, "n1 may have what is not here")
		c.nodes["n1"].start()
		c.wires.connect("n1", "n2")
		c.wait("n2 serves", func() bool { return c.isLive("n2") })
		for i := range soleKeys {
			if p := partOf(soleKey(i)); slices.Contains(owned, uint32(p)) {
				require.Equal(t, "v", n2.holds(soleKey(i)))
				require.Equal(t, kv.Whole, n2.set.Shard(p).Trust())
			}
		}
		require.Empty(t, n2.replica.Losses())
	})
}

// TestASoleCopyThatLostItsClockDoesNotGoByAnotherThatDid damages both copies' records: the
// other's clock does not say what it holds.
func TestASoleCopyThatLostItsClockDoesNotGoByAnotherThatDid(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, owned := soleClockLost(t, (*member).spoilRecords)
		n2 := c.nodes["n2"]
		c.nodes["n1"].start()
		c.wires.connect("n1", "n2")
		c.servesNone(owned, "n1 may have what is not here")
		for _, p := range owned {
			require.NoError(t, n2.replica.AcceptLoss(t.Context(), kv.Partition(p)))
		}
		c.wait("n2 serves", func() bool { return c.isLive("n2") })
	})
}
