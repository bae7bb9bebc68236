package replica_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/internal/repair"
	"edged.dev/edged/replica"
	"edged.dev/edged/transport/wire"
)

// laneTap keeps what was written to lanes, and the tables that they lean on.
type laneTap struct {
	mu    sync.Mutex
	codec *wire.Codec
	asked [][]wire.CopyClock // by HELLO
	told  [][]wire.CopyClock // by HELLO_ACK
	lanes []*bytes.Buffer
}

// see takes the tables of HELLOs, which have no checkpoint to lean on here, and of
// their answers.
func (tap *laneTap) see(_ string, frame []byte) {
	tap.mu.Lock()
	defer tap.mu.Unlock()
	if h, err := wire.ParseHello(frame, tap.codec, nil); err == nil {
		tap.asked = append(tap.asked, h.Copies)
	}
	for _, asked := range tap.asked {
		if a, err := wire.ParseHelloAck(frame, tap.codec, asked); err == nil {
			tap.told = append(tap.told, a.Copies)
		}
	}
}

// reader returns a reader of a lane behind its head.
func (tap *laneTap) reader(t *testing.T, lane []byte) *wire.LaneReader {
	t.Helper()
	for _, told := range append(tap.told, nil) {
		rd := tap.codec.LaneReader(bytes.NewReader(lane))
		if _, err := rd.Next(); err == nil && rd.Lean(told) == nil {
			return rd
		}
	}
	require.FailNow(t, "a lane leans on a table that was not told")
	return nil
}

type tapped struct {
	io.WriteCloser
	tap *laneTap
	to  *bytes.Buffer
}

func (w tapped) Write(b []byte) (int, error) {
	w.tap.mu.Lock()
	w.to.Write(b)
	w.tap.mu.Unlock()
	return w.WriteCloser.Write(b)
}

func tapLanes(c *cluster) *laneTap {
	codec, err := wire.NewCodec()
	require.NoError(c.t, err)
	tap := &laneTap{codec: codec}
	c.wires.with(func(w *wires) {
		w.seen = tap.see
		w.lane = func(_, _ string, wr io.WriteCloser) io.WriteCloser {
			tap.mu.Lock()
			defer tap.mu.Unlock()
			tap.lanes = append(tap.lanes, &bytes.Buffer{})
			return tapped{wr, tap, tap.lanes[len(tap.lanes)-1]}
		}
	})
	return tap
}

// read returns the partitions that lanes began, in order, and the keys of each.
func (tap *laneTap) read(t *testing.T) (parts []kv.Partition, keys map[kv.Partition][]string) {
	t.Helper()
	tap.mu.Lock()
	defer tap.mu.Unlock()
	keys = map[kv.Partition][]string{}
	for _, lane := range tap.lanes {
		rd := tap.reader(t, lane.Bytes())
		for {
			rec, err := rd.Next()
			if err != nil {
				break
			}
			switch rec.Type {
			case wire.TypeBegin:
				parts = append(parts, rec.Begin.Partition)
			case wire.TypeBatch:
				p := parts[len(parts)-1]
				for _, o := range rec.Batch.Copies {
					keys[p] = append(keys[p], string(o.Key))
				}
			}
		}
		rd.Close()
	}
	return parts, keys
}

// wiped is a cluster of two, of which n2 has lost its disk, that holds n keys of
// each prefix. It returns after cfg is in force and before n2 is back.
func wiped(t *testing.T, value int, n int, prefixes ...string) *cluster {
	t.Helper()
	c := newCluster(t, "n1", "n2")
	c.up()
	text := make([]byte, value)
	for i := range n {
		for _, p := range prefixes {
			_, err := rand.Read(text) // it does not compress
			require.NoError(t, err)
			c.set("n1", fmt.Sprintf("%s%d", p, i), string(text))
		}
	}
	c.nodes["n2"].kill()
	c.nodes["n2"].wipe()
	return c
}

// comeBack starts n2, with a policy that answers so, if there is one.
func comeBack(c *cluster, answer func(repair.Input) []repair.Step) time.Duration {
	n2 := c.nodes["n2"]
	n2.cfg = func(cfg *replica.Config) { cfg.Planner = &planner{answer: answer} }
	n2.start()
	n2.replica.PlansRepair(answer != nil)
	began := time.Now()
	c.wires.connect("n1", "n2")
	c.live("n2")
	return time.Since(began)
}

// syncing answers a step for every range, as change makes it.
func syncing(change func(repair.Range, *repair.Step)) func(repair.Input) []repair.Step {
	return func(in repair.Input) (out []repair.Step) {
		for i, r := range in.Ranges {
			s := repair.Step{Range: uint32(i), Strategy: repair.Sync}
			change(r, &s)
			out = append(out, s)
		}
		return out
	}
}

func TestThePlansRateIsKept(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := wiped(t, 20_000, 100, "k") // two megabytes
		took := comeBack(c, syncing(func(_ repair.Range, s *repair.Step) { s.RateKiBps = 256 }))
		require.Greater(t, took, 7*time.Second)
		require.Less(t, took, 10*time.Second)
		c.equal("n1", "n2")
	})
}

// A policy that would have nothing streamed is held to the least rate.
func TestThePlansRateHasAFloor(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := wiped(t, 20_000, 100, "k")
		took := comeBack(c, syncing(func(_ repair.Range, s *repair.Step) { s.RateKiBps = 1 }))
		require.Greater(t, took, 14*time.Second)
		require.Less(t, took, 20*time.Second)
		c.equal("n1", "n2")
	})
}

func TestThePlansOrderIsKept(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := wiped(t, 20, 100, "cold/", "hot/", "k")
		tap := tapLanes(c)
		comeBack(c, syncing(func(r repair.Range, s *repair.Step) {
			s.Priority = uint16(r.Partition)
			s.Rules = []repair.Rule{{Prefix: "hot/"}, {Last: true, Prefix: "cold/"}}
		}))
		parts, keys := tap.read(t)
		require.Len(t, parts, testPartitions)
		require.True(t, slices.IsSortedFunc(parts, func(a, b kv.Partition) int { return int(b) - int(a) }), parts)
		class := func(key string) int { return strings.Index("hkc", key[:1]) }
		total := 0
		for _, p := range parts {
			total += len(keys[p])
			require.True(t, slices.IsSortedFunc(keys[p], func(a, b string) int { return class(a) - class(b) }), keys[p])
		}
		require.Equal(t, 300, total)
		c.equal("n1", "n2")
	})
}

// Without a policy it is what is read that goes first.
func TestWhatIsReadGoesFirst(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2")
		c.up()
		var keys []string // of one partition, enough that their order counts
		for i := 0; len(keys) < 600; i++ {
			if key := fmt.Sprintf("k%d", i); partOf(key) == 9 {
				c.set("n1", key, "v")
				keys = append(keys, key)
			}
		}
		c.set("n1", "warm", "v")
		require.NotEqual(t, kv.Partition(9), partOf("warm"))
		c.nodes["n2"].kill()
		c.nodes["n2"].wipe()
		hot := []string{keys[599], keys[300]}
		for range 1000 {
			c.get("n1", hot[0])
			c.get("n1", hot[0])
			c.get("n1", hot[1])
			c.get("n1", "warm")
		}
		time.Sleep(2 * time.Second) // virtual: rates are taken each second
		tap := tapLanes(c)
		comeBack(c, nil)
		parts, sent := tap.read(t)
		require.Equal(t, []kv.Partition{9, partOf("warm")}, parts[:2])
		require.Equal(t, hot, sent[9][:2])
		require.Len(t, sent[9], 600)
		c.equal("n1", "n2")
	})
}
