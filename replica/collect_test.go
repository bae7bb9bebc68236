package replica_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
	"edged.dev/edged/replica"
)

// tombstones counts what a node still keeps of deletes.
func (m *member) tombstones() int {
	n := 0
	for p := range kv.Partition(testPartitions) {
		_, err := m.set.Add(p).Dump(func(v partition.DumpedVersion) error {
			if v.Tombstone() {
				n++
			}
			return nil
		})
		require.NoError(m.c.t, err)
	}
	return n
}

func (c *cluster) del(name, key string) {
	c.t.Helper()
	_, err := c.do(name, kv.Request{Op: kv.OpDelete, Key: []byte(key)})
	require.NoError(c.t, err)
}

func (c *cluster) collected(names ...string) {
	c.t.Helper()
	c.wait("collected", func() bool {
		for _, name := range names {
			if c.nodes[name].tombstones() > 0 {
				return false
			}
		}
		return true
	})
}

func TestTombstonesGoOnceAllOwnersHaveThem(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		c.up()
		for i := range 40 {
			c.set("n1", fmt.Sprintf("k%d", i), "v")
		}
		for i := range 20 {
			c.del("n2", fmt.Sprintf("k%d", i))
		}
		require.Positive(t, c.nodes["n1"].tombstones())
		c.collected(c.names...)
		c.equal(c.names...)
		for _, name := range c.names {
			s := c.nodes[name].replica.Stats()
			require.Positive(t, s.Collected.Load())
			require.Zero(t, s.CollectedForced.Load())
		}
		for i := range 40 {
			_, found := c.get("n3", fmt.Sprintf("k%d", i))
			require.Equal(t, i >= 20, found, "k%d", i)
		}
	})
}

// A node is away for longer than deletes are remembered. What it alone wrote is
// kept, what was deleted meanwhile does not come back.
func TestDeletesStayDeletedPastTheHorizon(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		for _, m := range c.nodes {
			m.cfg = func(cfg *replica.Config) { cfg.Horizon = time.Minute }
		}
		c.up()
		for i := range 60 {
			c.set("n1", fmt.Sprintf("k%d", i), "old")
		}
		c.equal(c.names...)
		c.isolate("n3", partOf("alone"))
		c.set("n3", "alone", "mine")
		c.nodes["n3"].kill()
		for i := range 30 {
			c.del("n1", fmt.Sprintf("k%d", i))
		}
		time.Sleep(time.Minute) // virtual: past the horizon
		c.collected("n1", "n2")
		require.Positive(t, c.nodes["n1"].replica.Stats().CollectedForced.Load())

		notes := c.nodes["n3"].tells()
		c.nodes["n3"].start()
		c.wires.connect("n1", "n3")
		c.wires.connect("n2", "n3")
		below := map[string]bool{}
		for i := range 60 {
			_, found := c.get("n3", fmt.Sprintf("k%d", i))
			require.Equal(t, i >= 30, found, "k%d", i)
		}
		c.live("n3")
		for p := range c.nodes["n3"].replica.Parts() {
			below[p.Path] = true
		}
		require.True(t, below["L2"], "%v", below)
		c.wait("alarmed", func() bool { return notes.alarmedOf("would have come back") })
		buried := 0
		for _, n := range notes.of("partition.buried") {
			buried += n.Versions
		}
		require.Equal(t, 30, buried, "each was dropped once")
		require.EqualValues(t, 30, c.nodes["n3"].replica.Stats().Buried.Load())
		require.Zero(t, c.nodes["n1"].replica.Stats().Buried.Load())
		c.equal(c.names...)
		for _, name := range c.names {
			for i := range 60 {
				require.Equal(t, i >= 30, c.nodes[name].holds(fmt.Sprintf("k%d", i)) != "", "k%d at %s", i, name)
			}
			require.Equal(t, "mine", c.nodes[name].holds("alone"))
		}
	})
}

// A sync point is there once all owners hold what there was when it was asked for,
// whatever is written meanwhile; while an owner is away there is none.
func TestASyncPoint(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		c.up()
		level := func(d time.Duration) error {
			ctx, cancel := context.WithTimeout(context.Background(), d)
			defer cancel()
			return c.nodes["n1"].replica.Level(ctx)
		}
		require.NoError(t, level(time.Second))
		c.nodes["n3"].kill()
		c.set("n1", "k", "v")
		require.ErrorContains(t, level(2*time.Second), "n3 does not answer")
		c.nodes["n3"].start()
		c.wires.connect("n1", "n3")
		c.wires.connect("n2", "n3")
		require.NoError(t, level(30*time.Second))
		require.Equal(t, "v", c.nodes["n3"].holds("k"))
	})
}
