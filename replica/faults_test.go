package replica_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/replica"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// TestPauseIsNoticedBeforeTheFirstAnswer lets a node's clock leap, as after a
// SIGSTOP, while others wrote what did not reach it.
func TestPauseIsNoticedBeforeTheFirstAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		var leap atomic.Int64
		c.nodes["n3"].cfg = func(cfg *replica.Config) {
			clock := cfg.Boottime
			cfg.Boottime = func() int64 { return clock() + leap.Load() }
		}
		c.up()
		key := c.keyFirstAt("n1")
		c.set("n1", key, "old")
		c.equal(c.names...)
		c.wires.with(func(w *wires) {
			w.live = func(_, to string) liveFate {
				if to == "n3" {
					return swallow
				}
				return deliver
			}
		})
		require.GreaterOrEqual(t, c.set("n1", key, "new").Copies, 2)
		require.Equal(t, "old", c.nodes["n3"].holds(key))
		leap.Store(int64(time.Minute))
		value, _ := c.get("n3", key)
		require.Equal(t, "new", value)
	})
}

// leaper is a policy in whose run the process is stopped for a minute.
type leaper struct {
	newest
	leap *atomic.Int64
}

func (l leaper) View(ctx context.Context, key []byte, live []kv.Version) (replica.View, error) {
	l.leap.CompareAndSwap(0, int64(time.Minute))
	return l.newest.View(ctx, key, live)
}

// TestPauseBetweenReadAndAnswer has the lease looked at again at the answer.
func TestPauseBetweenReadAndAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		var leap atomic.Int64
		leap.Store(-1)
		c.nodes["n3"].cfg = func(cfg *replica.Config) {
			clock := cfg.Boottime
			cfg.Boottime = func() int64 { return clock() + max(leap.Load(), 0) }
			cfg.Merger = leaper{leap: &leap}
		}
		c.up()
		key := c.keyFirstAt("n1")
		token := c.tokenOf(key)
		for _, value := range []string{"1", "2"} { // side by side
			_, err := c.do("n1", kv.Request{Op: kv.OpSet, Key: []byte(key), Value: []byte(value), Token: token})
			require.NoError(t, err)
		}
		c.equal(c.names...)
		c.wires.with(func(w *wires) {
			w.live = func(_, to string) liveFate {
				if to == "n3" {
					return swallow
				}
				return deliver
			}
		})
		c.set("n1", key, "new")
		leap.Store(0)
		value, _ := c.get("n3", key)
		require.NotZero(t, leap.Load(), "it was stopped while it answered")
		require.Equal(t, "new", value)
	})
}

// TestAckWaitsForTheDisk holds the others' disks: nothing is acknowledged that is
// not on them.
func TestAckWaitsForTheDisk(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		c.up()
		release := make(chan struct{})
		for _, name := range []string{"n2", "n3"} {
			c.nodes[name].store.Between(func() { <-release })
		}
		_, err := c.do("n1", kv.Request{Op: kv.OpSet, Key: []byte(c.keyFirstAt("n1")), Value: []byte("v")})
		require.Equal(t, kv.CodeUnknown, kv.CodeOf(err), "%v", err)
		close(release)
		c.equal(c.names...)
	})
}

// TestAckThatDidNotGetIntoTheQueueIsSentLater refuses ACKs for a while: no other
// write comes whose ACK would cover the one that waits.
func TestAckThatDidNotGetIntoTheQueueIsSentLater(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2")
		c.up()
		c.wires.with(func(w *wires) {
			w.live = func(from, _ string) liveFate {
				if from == "n2" {
					return refuse
				}
				return deliver
			}
		})
		go func() {
			time.Sleep(300 * time.Millisecond)
			c.wires.with(func(w *wires) { w.live = nil })
		}()
		began := time.Now()
		resp, err := c.do("n1", kv.Request{Op: kv.OpSet, Key: []byte(c.keyFirstAt("n1")), Value: []byte("v")})
		require.NoError(t, err)
		require.Equal(t, 2, resp.Copies)
		require.Less(t, time.Since(began), 400*time.Millisecond)
	})
}

// TestLaneOvertakesTheAnswerToItsHello delays the answers: the lane's end must not
// be told before the answer that it leans on.
func TestLaneOvertakesTheAnswerToItsHello(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2")
		c.up()
		for i := range 50 {
			c.set("n1", fmt.Sprintf("k%d", i), "v")
		}
		c.nodes["n2"].kill()
		c.nodes["n2"].wipe()
		var hellos, done, others atomic.Int64 // HELLOs of n2; DONEs answered; those of no session
		c.wires.with(func(w *wires) {
			w.seen = func(kind string, frame []byte) {
				if typ, _ := wire.TypeOf(frame); kind != "call" || typ != wire.TypeDone {
					return
				}
				if session, err := wire.DoneSession(frame); err == nil && session == 0 {
					others.Add(1)
				}
			}
			w.reply = func(from, _ string, typ wire.Type) error {
				if typ == wire.TypeHello && from == "n2" {
					hellos.Add(1)
					time.Sleep(300 * time.Millisecond)
				}
				if typ == wire.TypeDone {
					done.Add(1)
				}
				return nil
			}
		})
		c.nodes["n2"].start()
		c.wires.connect("n1", "n2")
		c.live("n2")
		require.Equal(t, int64(1), hellos.Load(), "nothing was asked for twice")
		require.Equal(t, int64(1), done.Load()-others.Load(), "one DONE, and it was understood")
		for p := range c.nodes["n2"].replica.Parts() {
			require.True(t, p.Verified || p.Partition == kv.System, "partition %d", p.Partition)
		}
	})
}

// TestSlowEventsHoldUpNothing blocks the one who is told of events.
func TestSlowEventsHoldUpNothing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		block := make(chan struct{})
		var blocked atomic.Bool
		c.nodes["n2"].cfg = func(cfg *replica.Config) {
			cfg.Events.Part = func(core.Part) {
				if blocked.Load() {
					<-block
				}
			}
		}
		c.up()
		blocked.Store(true)
		n2 := c.nodes["n2"].replica
		for i := range 3000 { // each changes what is shown of every partition
			st := wire.State{Version: uint64(i), Parts: make([]wire.Serving, testPartitions)}
			for p := range st.Parts {
				st.Parts[p] = wire.Serving(1 + i%2)
			}
			n2.ControlFrame("n3", st.Append(nil))
		}
		resp, err := c.do("n2", kv.Request{Op: kv.OpGet, Key: []byte("k")})
		require.NoError(t, err)
		require.False(t, resp.Found)
		c.set("n1", "k", "v")
		close(block)
	})
}

func TestLayoutGrows(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3", "n4")
		n1 := c.nodes["n1"]
		n1.start()
		for size := 1; size <= 4; size++ {
			names := c.names[:size]
			for _, name := range names {
				if c.nodes[name].replica == nil {
					c.nodes[name].start()
					for _, other := range names[:size-1] {
						c.wires.connect(other, name)
					}
				}
				c.nodes[name].replica.SetLayout(c.layout(names...))
			}
			c.live(names...)
			for i := range 40 {
				c.set(names[i%size], fmt.Sprintf("k%d-%d", size, i), "v")
			}
			for s := 1; s <= size; s++ {
				for i := range 40 {
					value, found := c.get(names[(i+1)%size], fmt.Sprintf("k%d-%d", s, i))
					require.True(t, found, "k%d-%d with %d nodes", s, i, size)
					require.Equal(t, "v", value)
				}
			}
		}
	})
}

// TestSteadyTrafficSaysNoHello counts what two nodes in step say to each other
// while writes go on all the time.
func TestSteadyTrafficSaysNoHello(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		c.up()
		time.Sleep(20 * time.Second)
		var mu sync.Mutex
		seen := map[wire.Type]int{}
		c.wires.with(func(w *wires) {
			w.call = func(_, _ string, typ wire.Type) error {
				mu.Lock()
				defer mu.Unlock()
				seen[typ]++
				return nil
			}
		})
		for i := range 3000 {
			c.set(c.names[i%3], fmt.Sprintf("k%d", i%100), strconv.Itoa(i))
			time.Sleep(10 * time.Millisecond)
		}
		require.Zero(t, seen[wire.TypeHello])
		require.LessOrEqual(t, seen[wire.TypeTick], 30)
		require.LessOrEqual(t, seen[wire.TypeDone], 60)
		require.LessOrEqual(t, seen[wire.TypeClocks], 12)
	})
}

// TestChaos writes unique values through everything that may go wrong with the
// network and with processes; what was acknowledged by two copies is on all of
// them in the end, superseded or not, and every request was answered once.
func TestChaos(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			inBubble(t, func(t *testing.T) { chaos(t, seed) })
		})
	}
}

type written struct{ key, value string }

func chaos(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 3))
	c := newCluster(t, "n1", "n2", "n3")
	c.up()
	var acked []written
	down := ""
	for i := range 400 {
		at := c.names[rng.IntN(3)]
		if at != down {
			w := written{fmt.Sprintf("k%d-%d", seed, i), strconv.Itoa(i)}
			began := time.Now()
			resp, err := c.do(at, kv.Request{Op: kv.OpSet, Key: []byte(w.key), Value: []byte(w.value)})
			require.LessOrEqual(t, time.Since(began), 2100*time.Millisecond)
			if err == nil && resp.Copies >= 2 {
				acked = append(acked, w)
			}
		}
		if rng.IntN(8) == 0 {
			down = c.fault(rng, down)
		}
		time.Sleep(time.Duration(rng.IntN(200)) * time.Millisecond)
	}
	c.wires.with(func(w *wires) { w.live, w.call, w.reply, w.lane = nil, nil, nil, nil })
	if down != "" {
		c.nodes[down].start()
	}
	for i, a := range c.names {
		for _, b := range c.names[i+1:] {
			c.wires.disconnect(a, b)
			c.wires.connect(a, b)
		}
	}
	c.live(c.names...)
	c.equal(c.names...)
	require.Greater(t, len(acked), 100)
	for _, w := range acked {
		for _, name := range c.names {
			require.Equal(t, w.value, c.nodes[name].holds(w.key), "%s at %s", w.key, name)
		}
	}
	c.wait("no session left", func() bool {
		for _, name := range c.names {
			if in, out := c.nodes[name].replica.OpenSessions(); in+out > 0 {
				return false
			}
		}
		return true
	})
}

// fault does something to the network or to a process, and returns who is down.
func (c *cluster) fault(rng *rand.Rand, down string) string {
	i := rng.IntN(3)
	a, b := c.names[i], c.names[(i+1+rng.IntN(2))%3]
	switch rng.IntN(7) {
	case 0:
		c.wires.disconnect(a, b)
	case 1, 2:
		if a != down && b != down {
			c.wires.disconnect(a, b)
			c.wires.connect(a, b)
		}
	case 3:
		if down != "" {
			c.nodes[down].start()
			for _, name := range c.names {
				if name != down {
					c.wires.connect(name, down)
				}
			}
			return ""
		}
		c.nodes[a].kill()
		return a
	case 4:
		fate := liveFate(rng.IntN(3))
		c.wires.with(func(w *wires) {
			w.live = func(from, to string) liveFate {
				if from == a && to == b {
					return fate
				}
				return deliver
			}
		})
	case 5:
		lost := slices.Contains([]string{"n1", "n3"}, a)
		c.wires.with(func(w *wires) {
			w.reply = func(from, _ string, typ wire.Type) error {
				if lost && from == a && typ != wire.TypeForward {
					return context.DeadlineExceeded
				}
				return nil
			}
		})
	case 6:
		c.wires.with(func(w *wires) { w.live, w.call, w.reply = nil, nil, nil })
	}
	return down
}

// TestStopEndsEverything stops a node with requests and sessions under way; the
// bubble fails if a goroutine is left.
func TestStopEndsEverything(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		c.up()
		c.wires.with(func(w *wires) { w.live = func(string, string) liveFate { return swallow } })
		var answered atomic.Int64
		for i := range 50 {
			req := &kv.Request{Op: kv.OpSet, Key: fmt.Appendf(nil, "k%d", i), Value: []byte(strings.Repeat("v", i))}
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			c.nodes["n1"].replica.Start(ctx, req, func(*kv.Response, error) { answered.Add(1) })
		}
		c.nodes["n1"].kill()
		time.Sleep(5 * time.Second)
		require.Equal(t, int64(50), answered.Load(), "every request is answered once")
	})
}
