package replica_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/replica"
)

// TestL2CostsLittleMoreThanL1 holds the lanes of two returns after the same writes
// against each other (what is asked and answered is alike): in one the other nodes have forgotten deletes in every
// partition, so that the node is told which of its versions still live (L2), in the
// other nothing was deleted (L1). The goal is 2.5 bits more for each entry of a
// partition that differs. Half of all versions were overwritten, which is where
// telling the live ones costs the most.
func TestL2CostsLittleMoreThanL1(t *testing.T) {
	if testing.Short() {
		t.Skip("bytes of 40,000 writes are counted: a minute and a half under the race detector, for which there is nothing in it")
	}
	inBubble(t, func(t *testing.T) {
		const keys = 390 * testPartitions // 100,000 in 256 partitions
		l1, entries, steps := returnBytes(t, keys, false)
		require.Equal(t, map[string]int{"L1": testPartitions}, steps)
		l2, _, steps := returnBytes(t, keys, true)
		require.Equal(t, map[string]int{"L2": testPartitions}, steps)
		bits := float64(8*(l2-l1)) / float64(entries)
		t.Logf("L1 %d bytes, L2 %d: %.2f bits more for each of %d entries", l1, l2, bits, entries)
		require.Positive(t, bits, "the live dots were told")
		require.LessOrEqual(t, bits, 2.5)
	})
}

// returnBytes is what is streamed to a node that returns, how many entries there are in
// the end, and the steps that the partitions took.
func returnBytes(t *testing.T, keys int, below bool) (bytes int64, entries uint64, steps map[string]int) {
	t.Helper()
	c := newCluster(t, "n1", "n2", "n3")
	defer c.close()
	for _, m := range c.nodes {
		m.cfg = func(cfg *replica.Config) { cfg.Horizon = time.Minute }
	}
	c.up()
	doomed := map[kv.Partition]string{}
	for i := 0; len(doomed) < testPartitions; i++ {
		key := fmt.Sprintf("doomed-%d", i)
		doomed[partOf(key)] = key
	}
	for p := range kv.Partition(testPartitions) {
		c.set("n1", doomed[p], "old")
	}
	rng := rand.New(rand.NewPCG(1, 2))
	twice := rng.Perm(2 * keys)
	c.setMany("n1", 2*keys, func(i int) string { return fmt.Sprintf("k%d", twice[i]/2) })
	c.equal(c.names...)
	time.Sleep(30 * time.Second) // virtual: what is level is noted by all
	c.nodes["n3"].kill()
	for p := range kv.Partition(testPartitions) {
		if below {
			c.del("n1", doomed[p])
		}
	}
	c.setMany("n1", keys/20, func(i int) string { return fmt.Sprintf("k%d", i) })
	time.Sleep(time.Minute) // virtual: past the horizon
	c.collected("n1", "n2")
	var streamed atomic.Int64
	c.wires.with(func(w *wires) {
		w.lane = func(_, to string, lane io.WriteCloser) io.WriteCloser {
			require.Equal(t, "n3", to)
			return &countedLane{lane, &streamed}
		}
	})
	c.nodes["n3"].start()
	c.wires.connect("n1", "n3")
	c.wires.connect("n2", "n3")
	c.live("n3")
	c.equal(c.names...)
	steps = map[string]int{}
	for p := range c.nodes["n3"].replica.Parts() {
		if p.Self && p.Partition != kv.System {
			steps[p.Path]++
			entries += c.nodes["n3"].set.Add(p.Partition).Status().Digest.Count
		}
	}
	return streamed.Load(), entries, steps
}

// countedLane counts what is written to a lane.
type countedLane struct {
	io.WriteCloser
	bytes *atomic.Int64
}

func (l *countedLane) Write(b []byte) (int, error) {
	l.bytes.Add(int64(len(b)))
	return l.WriteCloser.Write(b)
}

// setMany sets keys one after another and waits for all answers.
func (c *cluster) setMany(name string, n int, key func(i int) string) {
	c.t.Helper()
	answers := make(chan error, n)
	for i := range n {
		req := kv.Request{Op: kv.OpSet, Key: []byte(key(i)), Value: fmt.Appendf(nil, "value %d", i)}
		c.nodes[name].replica.Start(c.t.Context(), &req, func(_ *kv.Response, err error) { answers <- err })
	}
	for range n {
		require.NoError(c.t, <-answers)
	}
}
