package replica_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/replica"
	"edged.dev/edged/transport/wire"
)

// skewed sets a node's wall clock off by so much, from its next start on.
func (m *member) skewed(by time.Duration) {
	m.cfg = func(cfg *replica.Config) {
		cfg.WallMS = func() int64 { return time.Now().Add(by).UnixMilli() }
	}
}

// jumping lets a node's wall clock be set while it runs.
func (m *member) jumping() (set func(by time.Duration)) {
	var off atomic.Int64
	m.cfg = func(cfg *replica.Config) {
		cfg.WallMS = func() int64 { return time.Now().UnixMilli() + off.Load() }
	}
	return func(by time.Duration) { off.Store(by.Milliseconds()) }
}

// expiring writes a value that expires a while from now, by the true time.
func (c *cluster) expiring(name, key string, in time.Duration) {
	c.t.Helper()
	_, err := c.do(name, kv.Request{
		Op: kv.OpSet, Key: []byte(key), Value: []byte("v"), ExpiresMS: time.Now().Add(in).UnixMilli(),
	})
	require.NoError(c.t, err)
}

// values counts what a node's copies hold, tombstones left out: those are given up
// in time.
func (m *member) values() (n int) {
	m.c.t.Helper()
	for p := range kv.Partition(testPartitions) {
		n += int(m.set.Add(p).Count())
	}
	return n
}

// dots counts the writes and deletes that a node's copies have seen.
func (m *member) dots() (n int) {
	m.c.t.Helper()
	for p := range kv.Partition(testPartitions) {
		clock := m.set.Add(p).Clock()
		for _, s := range clock.Spans() {
			require.Empty(m.c.t, s.Runs)
			n += int(s.Base)
		}
	}
	return n
}

// gone waits until no node holds a value.
func (c *cluster) gone(names ...string) {
	c.t.Helper()
	c.wait("gone", func() bool {
		for _, name := range names {
			if c.nodes[name].values() > 0 {
				return false
			}
		}
		return true
	})
}

func (c *cluster) reaped() (n int64) {
	for _, m := range c.nodes {
		if m.replica != nil {
			n += m.replica.Stats().Reaped.Load()
		}
	}
	return n
}

// Clocks minutes apart: what expires is removed once, by cluster time, from every
// copy, and then nothing is repaired any more.
func TestExpiredVersionsAreRemovedOnceWhateverTheClocks(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		c.nodes["n1"].skewed(7 * time.Minute)
		c.nodes["n3"].skewed(-4 * time.Minute)
		c.up()
		const keys = 600 // more than two batches
		for i := range keys {
			c.expiring(c.names[i%3], fmt.Sprint("k", i), 20*time.Second)
		}
		c.set("n1", "lasts", "v")
		last := time.Now().Add(20 * time.Second)
		time.Sleep(18 * time.Second)
		require.Zero(t, c.reaped(), "neither n1's clock nor anybody's own counts")
		require.Equal(t, keys+1, c.nodes["n2"].values())
		c.wait("removed", func() bool { return c.reaped() == keys })
		require.Less(t, time.Since(last), 2*time.Second, "about a second behind the expiry")
		c.equal(c.names...)
		for _, name := range c.names {
			require.Equal(t, 1, c.nodes[name].values())
			require.Equal(t, 2*keys+1, c.nodes[name].dots(), "one tombstone for each version")
			n, err := c.nodes[name].replica.Count(t.Context())
			require.NoError(t, err)
			require.EqualValues(t, 1, n)
		}
		sent := c.sentLive()
		time.Sleep(2 * time.Minute)
		require.EqualValues(t, keys, c.reaped())
		require.Equal(t, sent, c.sentLive(), "nothing is removed or repaired again")
		c.equal(c.names...)
	})
}

func (c *cluster) sentLive() (n int64) {
	for _, m := range c.nodes {
		n += m.replica.Stats().LiveSent.Load() + m.replica.Stats().EntriesOut.Load()
	}
	return n
}

func TestWhoSucceedsTheFirstOwnerRemovesWhatExpired(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		c.up()
		key := c.keyFirstAt("n1")
		c.expiring("n1", key, 5*time.Second)
		c.equal(c.names...)
		c.nodes["n1"].kill()
		c.gone("n2", "n3")
		require.EqualValues(t, 1, c.reaped())
		c.nodes["n1"].start()
		c.wires.connect("n1", "n2")
		c.wires.connect("n1", "n3")
		c.live(c.names...)
		c.gone(c.names...)
		c.equal(c.names...)
		require.EqualValues(t, 1, c.reaped(), "who comes back removes nothing of its own")
	})
}

// A clock that is set forward by an hour, or back, is contradicted at once: nothing is
// hidden and nothing removed until the next PONG comes, nor for ever after.
func TestAClockThatJumpsHidesAndRemovesNothing(t *testing.T) {
	for _, tc := range []struct {
		names []string
		by    time.Duration
	}{
		{[]string{"n1", "n2", "n3"}, time.Hour},
		{[]string{"n1", "n2", "n3"}, -time.Hour},
		{[]string{"n1", "n2"}, time.Hour},
	} {
		t.Run(fmt.Sprint(len(tc.names), " nodes ", tc.by), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newCluster(t, tc.names...)
				set := c.nodes["n1"].jumping()
				c.up()
				key := c.keyFirstAt("n1")
				c.expiring("n1", key, time.Minute)
				set(tc.by)
				if len(tc.names) > 2 {
					require.InDelta(t, time.Now().UnixMilli(), c.nodes["n1"].replica.NowMS(), 2)
					_, found := c.get("n1", key)
					require.True(t, found)
				}
				time.Sleep(3 * time.Second)
				require.Zero(t, c.reaped())
				require.Equal(t, 1, c.nodes["n1"].values())
				set(0)
				time.Sleep(time.Minute + 2*time.Second)
				c.gone(tc.names...)
				require.EqualValues(t, 1, c.reaped())
			})
		})
	}
}

// Of two clocks neither is right: what one of them still serves is not removed.
func TestOfTwoClocksTheEarlierOneRemoves(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2")
		c.nodes["n1"].skewed(10 * time.Minute)
		c.up()
		key := c.keyFirstAt("n1")
		// The true time is n2's; for n1 it is over in a minute.
		c.expiring("n2", key, 11*time.Minute)
		time.Sleep(5 * time.Minute)
		require.Zero(t, c.reaped())
		require.Equal(t, 1, c.nodes["n1"].values())
		time.Sleep(6*time.Minute + time.Second)
		c.gone(c.names...)
		require.EqualValues(t, 1, c.reaped())
		c.equal(c.names...)
	})
}

// A peer that has not told its clock may contradict this node's.
func TestNothingIsRemovedBeforeTheClocksAreKnown(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1")
		c.nodes["n1"].skewed(time.Hour)
		c.up()
		c.expiring("n1", "k", time.Hour+time.Second)
		r := c.nodes["n1"].replica
		r.PeerUp("n2", 2, 1) // it answers no PING
		time.Sleep(time.Minute)
		require.Zero(t, c.reaped())
		pong := wire.Pong{Stamp: int64(time.Since(c.began)), WallMS: time.Now().UnixMilli()}
		r.ControlFrame("n2", pong.Append(nil))
		time.Sleep(time.Minute)
		require.Zero(t, c.reaped(), "by n2's clock it is an hour until then")
		r.PeerDown("n2", 1)
		c.gone("n1")
		require.EqualValues(t, 1, c.reaped())
	})
}

func TestWriteBesideARemovalSurvives(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		c.up()
		key := c.keyFirstAt("n1")
		c.expiring("n1", key, 3*time.Second)
		c.equal(c.names...)
		// n3 alone takes a write while n1 removes what it would have overwritten.
		c.wires.disconnect("n3", "n1")
		c.wires.disconnect("n3", "n2")
		c.wait("removed", func() bool { return c.reaped() == 1 })
		c.isolated("n3", partOf(key))
		c.set("n3", key, "beside")
		c.wires.connect("n3", "n1")
		c.wires.connect("n3", "n2")
		c.equal(c.names...)
		for _, name := range c.names {
			require.Equal(t, "beside", c.nodes[name].holds(key))
		}
	})
}

// What a peer says of the time counts if it did not take too long to come, and its
// hybrid time if it is not too far ahead.
func TestHowFarAPeersClockIsBelieved(t *testing.T) {
	for _, tc := range []struct {
		trip          time.Duration
		ahead         time.Duration
		believed, hlc bool
	}{
		{time.Second, time.Minute, true, true},
		{time.Second + 1, time.Minute, false, true},
		{0, time.Minute + time.Millisecond, true, false},
	} {
		t.Run(fmt.Sprint(tc.trip, " ", tc.ahead), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newCluster(t, "n1")
				c.up()
				r := c.nodes["n1"].replica
				r.PeerUp("n2", 2, 1)
				r.PeerUp("n3", 3, 1)
				time.Sleep(5 * time.Second)
				now := time.Now()
				for _, name := range []string{"n2", "n3"} {
					pong := wire.Pong{
						Stamp: int64(now.Sub(c.began) - tc.trip), WallMS: now.Add(time.Hour).UnixMilli(),
						HLC: kv.HLCAt(now.Add(tc.ahead).UnixMilli()),
					}
					r.ControlFrame(name, pong.Append(nil))
				}
				require.Equal(t, tc.believed, r.NowMS() > now.Add(time.Minute).UnixMilli())
				r.PeerDown("n2", 1)
				r.PeerDown("n3", 1)
				c.set("n1", "k", "v")
				o, _, err := c.nodes["n1"].set.Shard(partOf("k")).Read([]byte("k"))
				require.NoError(t, err)
				require.Equal(t, tc.hlc, o.Versions[0].HLC.MS() >= now.Add(time.Minute).UnixMilli())
			})
		})
	}
}
