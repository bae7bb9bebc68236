package replica_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
	"edged.dev/edged/replica"
)

func (c *cluster) limited(bytes int64) {
	for _, m := range c.nodes {
		m.cfg = func(cfg *replica.Config) { cfg.StoreLimit = bytes }
	}
}

func (c *cluster) evicted() (n int64) {
	for _, m := range c.nodes {
		n += m.replica.Stats().Evicted.Load()
	}
	return n
}

// weighed is what the values of a node's copies take.
func (m *member) weighed() (total int64) {
	m.c.t.Helper()
	for p := range kv.Partition(testPartitions) {
		_, done, err := m.set.Add(p).Weigh(0, 100_000, func(w partition.Weight) { total += w.Bytes })
		require.NoError(m.c.t, err)
		require.True(m.c.t, done)
	}
	return total
}

func TestTheOldestValuesAreEvictedFromAllCopies(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		const each = int64(1000 + 2*len("old-000") + 64)
		const limit = 400 * each
		c.limited(limit)
		c.up()
		value := strings.Repeat("v", 1000)
		write := func(kind string, n int) {
			for i := range n {
				c.set(c.names[i%3], fmt.Sprintf("%s-%03d", kind, i), value)
			}
		}
		write("old", 300)
		time.Sleep(10 * time.Minute)
		write("new", 100)
		time.Sleep(time.Minute)
		require.Zero(t, c.evicted(), "at its limit a store keeps everything")

		write("big", 40)
		c.wait("evicted", func() bool { return c.nodes["n1"].weighed() <= limit })
		time.Sleep(5 * time.Second) // the pass goes on
		c.equal(c.names...)
		// 40 too many and up to a sixteenth of the limit, 25, for a pass may end once
		// another node's has made room; and a few more, for each partition rounds up.
		evicted := c.evicted()
		require.GreaterOrEqual(t, evicted, int64(40))
		require.LessOrEqual(t, evicted, int64(65+testPartitions))
		for _, m := range c.nodes {
			require.EqualValues(t, 440-evicted, m.values())
			require.EqualValues(t, 440+evicted, m.dots(), "one tombstone for each version")
			for i := range 100 {
				require.Equal(t, value, m.holds(fmt.Sprintf("new-%03d", i)))
			}
			for i := range 40 {
				require.Equal(t, value, m.holds(fmt.Sprintf("big-%03d", i)))
			}
		}
		sent := c.sentLive()
		time.Sleep(3 * time.Minute)
		require.Equal(t, evicted, c.evicted(), "once is enough")
		require.Equal(t, sent, c.sentLive(), "nothing is repaired back")
		require.Zero(t, c.reaped())
	})
}

func TestWhatIsWrittenMeanwhileIsNotEvicted(t *testing.T) {
	t.Parallel()
	choose := replica.Untouched(5)
	dot := func(seq uint64) kv.Dot { return kv.Dot{Seq: seq} }
	o := kv.Object{Versions: []kv.Version{
		{Dot: dot(1), HLC: 9, Flags: kv.Tombstone}, {Dot: dot(2), HLC: 3}, {Dot: dot(3), HLC: 5},
	}}
	require.Equal(t, []kv.Dot{dot(2), dot(3)}, choose(o))
	o.Versions = append(o.Versions, kv.Version{Dot: dot(4), HLC: 6})
	require.Empty(t, choose(o))
}

func TestAgesGrowWithTime(t *testing.T) {
	t.Parallel()
	at := func(ms uint64) int {
		return replica.AgeOf(partition.Weight{Newest: 0}, int64(ms))
	}
	last := 0
	for _, ms := range []uint64{0, 1, 15, 16, 17, 31, 32, 33, 34, 1000, 1100, 60_000, 3600_000, 1 << 47, 1 << 62, math.MaxInt64} {
		age := at(ms)
		require.GreaterOrEqual(t, age, last, "%d ms", ms)
		last = age
	}
	require.Less(t, last, replica.AgeSteps)
	require.Equal(t, at(32), at(33))
	require.Less(t, at(33), at(34))
	require.Zero(t, replica.AgeOf(partition.Weight{Newest: kv.HLCAt(99)}, 50), "a time to come is now")
	require.Zero(t, replica.AgeOf(partition.Weight{Warm: true}, 1<<40), "what is in memory goes last")
}

func TestCutTakesTheOldestFirst(t *testing.T) {
	t.Parallel()
	weights := map[int]int64{3: 10, 7: 20, 900: 30}
	for bytes, want := range map[int64][2]int64{
		1: {900, 1}, 30: {900, 30}, 31: {7, 1}, 50: {7, 20}, 51: {3, 1}, 60: {3, 10}, 61: {0, 1},
	} {
		age, some := replica.Cut(weights, bytes)
		require.Equal(t, want, [2]int64{int64(age), some}, "%d bytes", bytes)
	}
}
