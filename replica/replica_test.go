package replica_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
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

func TestWriteIsOnWOwnersBeforeItIsAnswered(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		c.up()
		for _, at := range c.names {
			key := "from-" + at
			resp := c.set(at, key, at)
			require.GreaterOrEqual(t, resp.Copies, 2)
			require.Equal(t, 3, resp.Wanted)
			require.False(t, resp.Partial)
			held := 0
			for _, name := range c.names {
				if c.nodes[name].holds(key) == at {
					held++
				}
			}
			require.GreaterOrEqual(t, held, 2)
			for _, name := range c.names {
				value, found := c.get(name, key)
				require.True(t, found)
				require.Equal(t, at, value)
			}
		}
		c.equal(c.names...)
	})
}

func TestWriteIsUnknownWhenNobodyAcknowledges(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		c.up()
		key := c.keyFirstAt("n1")
		c.wires.with(func(w *wires) { w.live = func(string, string) liveFate { return swallow } })
		began := time.Now()
		_, err := c.do("n1", kv.Request{Op: kv.OpSet, Key: []byte(key), Value: []byte("v")})
		require.Equal(t, kv.CodeUnknown, kv.CodeOf(err), "%v", err)
		require.LessOrEqual(t, time.Since(began), 2100*time.Millisecond)
		// What was swallowed is found by the tick.
		c.wires.with(func(w *wires) { w.live = nil })
		c.equal(c.names...)
		require.Equal(t, "v", c.nodes["n3"].holds(key))
	})
}

func TestWriteTakesWhatCopiesItCanGetWhenPeersGo(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		c.up()
		key := c.keyFirstAt("n1")
		c.wires.with(func(w *wires) { w.live = func(string, string) liveFate { return swallow } })
		go func() { // within the write's deadline both others go
			time.Sleep(500 * time.Millisecond)
			c.wires.disconnect("n1", "n2")
			c.wires.disconnect("n1", "n3")
		}()
		resp, err := c.do("n1", kv.Request{Op: kv.OpSet, Key: []byte(key), Value: []byte("v")})
		require.NoError(t, err)
		require.Equal(t, 1, resp.Copies)
		time.Sleep(time.Second)
		c.wires.with(func(w *wires) { w.live = nil })
		c.wires.connect("n1", "n2")
		c.wires.connect("n1", "n3")
		c.equal(c.names...)
		require.Equal(t, "v", c.nodes["n2"].holds(key))
	})
}

// TestLateAckAcknowledgesNothing feeds ACKs of an earlier connection, and of an
// earlier process, into a connection on which every write is lost.
func TestLateAckAcknowledgesNothing(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart %v", restart), func(t *testing.T) {
			inBubble(t, func(t *testing.T) { lateAck(t, restart) })
		})
	}
}

func lateAck(t *testing.T, restart bool) {
	c := newCluster(t, "n1", "n2")
	c.up()
	key := c.keyFirstAt("n1")
	var late []byte
	c.wires.with(func(w *wires) {
		w.seen = func(kind string, frame []byte) {
			if typ, _ := wire.TypeOf(frame); kind == "live" && typ == wire.TypeAck {
				late = slices.Clone(frame)
			}
		}
	})
	for i := range 20 {
		c.set("n1", key, fmt.Sprint(i))
	}
	c.wires.with(func(w *wires) {
		w.seen = nil
		w.live = func(string, string) liveFate { return swallow }
	})
	if restart {
		c.nodes["n1"].kill()
		c.nodes["n1"].start()
	} else {
		c.wires.disconnect("n1", "n2")
	}
	c.wires.connect("n1", "n2")
	c.live("n1", "n2")
	go func() {
		time.Sleep(100 * time.Millisecond)
		require.NoError(t, c.nodes["n1"].replica.LiveFrame("n2", slices.Clone(late)))
	}()
	_, err := c.do("n1", kv.Request{Op: kv.OpSet, Key: []byte(key), Value: []byte("lost")})
	require.Equal(t, kv.CodeUnknown, kv.CodeOf(err), "%v", err)
}

// TestReconnectInTheMiddleOfAWrite holds that no write waits for a connection that
// is gone.
func TestReconnectInTheMiddleOfAWrite(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2")
		c.up()
		key := c.keyFirstAt("n1")
		c.set("n1", key, "v")
		c.wires.with(func(w *wires) {
			w.live = func(from, _ string) liveFate {
				if from == "n1" {
					return swallow
				}
				return deliver
			}
		})
		go func() {
			time.Sleep(100 * time.Millisecond)
			c.wires.disconnect("n1", "n2")
			c.wires.connect("n1", "n2")
		}()
		began := time.Now()
		resp, err := c.do("n1", kv.Request{Op: kv.OpSet, Key: []byte(key), Value: []byte("lost")})
		require.NoError(t, err)
		require.Equal(t, 1, resp.Copies, "nobody else can acknowledge any more")
		require.Less(t, time.Since(began), 200*time.Millisecond)
		c.wires.with(func(w *wires) { w.live = nil })
		c.equal("n1", "n2") // the new connection finds it
	})
}

func TestForwardIsRetriedOnlyWhenItWasNotSent(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		c.up()
		key := c.keyFirstAt("n2")
		var forwards atomic.Int64
		fail := func(with error) func(from, to string, typ wire.Type) error {
			forwards.Store(0)
			return func(_, to string, typ wire.Type) error {
				if typ != wire.TypeForward || to != "n2" {
					return nil
				}
				forwards.Add(1)
				return with
			}
		}
		c.wires.with(func(w *wires) { w.call = fail(fmt.Errorf("no stream: %w", replica.ErrNotSent)) })
		resp := c.set("n1", key, "elsewhere")
		require.True(t, resp.Partial || resp.Copies >= 2)
		require.Equal(t, int64(1), forwards.Load())

		c.wires.with(func(w *wires) { w.call, w.reply = nil, fail(errors.New("the answer was lost")) })
		_, err := c.do("n1", kv.Request{Op: kv.OpSet, Key: []byte(key), Value: []byte("once")})
		require.Equal(t, kv.CodeUnknown, kv.CodeOf(err), "%v", err)
		require.Equal(t, int64(1), forwards.Load(), "a write that was sent is not sent again")
		require.Equal(t, "once", c.nodes["n2"].holds(key))
	})
}

func TestLostLiveFramesAreHealedSoonAfterTheQueueWasFull(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		c.up()
		key := c.keyFirstAt("n1")
		c.wires.with(func(w *wires) {
			w.live = func(from, to string) liveFate {
				if from == "n1" && to == "n3" {
					return refuse
				}
				return deliver
			}
		})
		for i := range 10 {
			resp := c.set("n1", key, fmt.Sprint(i))
			require.Equal(t, 2, resp.Copies)
		}
		require.Empty(t, c.nodes["n3"].holds(key))
		c.wires.with(func(w *wires) { w.live = nil })
		began := time.Now()
		c.equal(c.names...)
		require.Less(t, time.Since(began), 2*time.Second, "the tick is due at once")
		require.Equal(t, "9", c.nodes["n3"].holds(key))
	})
}

func TestRejoinIsCompleteFromTheFirstAnswer(t *testing.T) {
	for _, wiped := range []bool{false, true} {
		t.Run(fmt.Sprintf("wiped %v", wiped), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newCluster(t, "n1", "n2", "n3")
				c.up()
				for i := range 100 {
					c.set("n1", fmt.Sprintf("k%d", i), "old")
				}
				c.nodes["n3"].kill()
				for i := range 100 {
					if i%3 == 0 {
						_, err := c.do("n2", kv.Request{Op: kv.OpDelete, Key: []byte(fmt.Sprintf("k%d", i))})
						require.NoError(t, err)
						continue
					}
					c.set("n1", fmt.Sprintf("k%d", i), "new")
				}
				if wiped {
					c.nodes["n3"].wipe()
				}
				c.nodes["n3"].start()
				c.wires.connect("n1", "n3")
				c.wires.connect("n2", "n3")
				for i := range 100 {
					value, found := c.get("n3", fmt.Sprintf("k%d", i))
					require.Equal(t, i%3 != 0, found, "k%d", i)
					if found {
						require.Equal(t, "new", value)
					}
				}
				c.live("n3")
				c.equal(c.names...)
				c.wait("verified", func() bool {
					for p := range c.nodes["n3"].replica.Parts() {
						if p.Self && !p.Verified {
							return false
						}
					}
					return true
				})
			})
		})
	}
}

// cutAfter ends a lane after some bytes.
type cutAfter struct {
	io.WriteCloser
	left int
}

func (c *cutAfter) Write(b []byte) (int, error) {
	if c.left -= len(b); c.left < 0 {
		_ = c.Close()
		return 0, io.ErrClosedPipe
	}
	return c.WriteCloser.Write(b)
}

// TestLaneIsCutAnywhere cuts the first lanes ever later; the rest comes all the
// same, and no session is left behind.
func TestLaneIsCutAnywhere(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2")
		c.up()
		for i := range 60 {
			c.set("n1", fmt.Sprintf("k%d", i), strings.Repeat("v", 20))
		}
		c.nodes["n2"].kill()
		var lanes atomic.Int64
		c.wires.with(func(w *wires) {
			w.lane = func(_, _ string, wr io.WriteCloser) io.WriteCloser {
				return &cutAfter{wr, int(lanes.Add(1)-1) * 36}
			}
		})
		c.nodes["n2"].wipe()
		c.nodes["n2"].start()
		c.wires.connect("n1", "n2")
		c.live("n2")
		c.equal("n1", "n2")
		require.Greater(t, lanes.Load(), int64(10))
	})
}

// TestLaneThatNeverComes holds that a donor that answers HELLO and opens no lane
// is given up, and asked again.
func TestLaneThatNeverComes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2")
		c.up()
		c.set("n1", "k", "v")
		c.nodes["n2"].kill()
		c.nodes["n2"].wipe()
		var lanes atomic.Int64
		c.wires.with(func(w *wires) {
			w.lane = func(_, _ string, wr io.WriteCloser) io.WriteCloser {
				if lanes.Add(1) <= 2 {
					return discard{}
				}
				return wr
			}
		})
		c.nodes["n2"].start()
		c.wires.connect("n1", "n2")
		c.live("n2")
		require.Equal(t, "v", c.nodes["n2"].holds("k"))
		require.Greater(t, lanes.Load(), int64(2))
	})
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) Close() error                { return nil }

func TestSessionsUnderTrafficEndEqual(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		c.up()
		for i := range 200 {
			c.set("n1", fmt.Sprintf("k%d", i), "old")
		}
		c.nodes["n3"].kill()
		for i := range 200 {
			c.set("n2", fmt.Sprintf("k%d", i), "new")
		}
		c.nodes["n3"].wipe()
		c.nodes["n3"].start()
		c.wires.connect("n1", "n3")
		c.wires.connect("n2", "n3")
		for i := range 300 {
			c.set(c.names[i%3], fmt.Sprintf("k%d", i%50), fmt.Sprint(i))
			time.Sleep(time.Millisecond)
		}
		c.live(c.names...)
		c.equal(c.names...)
	})
}

// TestRollBackIsNoticed restores an older disk under a node.
func TestRollBackIsNoticed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		c.up()
		c.nodes["n3"].kill()
		older := c.nodes["n3"].store.Backup()
		c.nodes["n3"].start()
		c.wires.connect("n1", "n3")
		c.wires.connect("n2", "n3")
		c.live("n3")
		key := c.keyFirstAt("n3")
		c.set("n3", key, "v")
		c.equal(c.names...)
		c.nodes["n3"].kill()
		c.nodes["n3"].store.Restore(older)
		c.nodes["n3"].start()
		c.wires.connect("n1", "n3")
		c.wires.connect("n2", "n3")
		c.live("n3")
		c.equal(c.names...)
		require.Equal(t, "v", c.nodes["n3"].holds(key))
	})
}

// TestRollBackIsNoticedByDonorsThatRestarted restores an older disk under a node
// while the others are down: what they knew of it must be on their disks.
func TestRollBackIsNoticedByDonorsThatRestarted(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		var alarms atomic.Int64
		c.nodes["n3"].cfg = func(cfg *replica.Config) {
			cfg.Events.Note = func(n core.Note) {
				if n.Kind == "alarm" && strings.Contains(n.Text, "rolled back") {
					alarms.Add(1)
				}
			}
		}
		c.up()
		c.nodes["n3"].kill()
		older := c.nodes["n3"].store.Backup()
		c.back("n3")
		c.live(c.names...)
		key := c.keyFirstAt("n1")
		c.set("n1", key, "v") // n3 acknowledges it
		c.equal(c.names...)
		time.Sleep(2 * time.Second) // virtual: what is known is kept in time
		for _, name := range c.names {
			c.nodes[name].kill()
		}
		for _, name := range c.names[:2] {
			c.nodes[name].start()
		}
		require.Zero(t, alarms.Load())
		c.nodes["n3"].store.Restore(older)
		c.nodes["n3"].start()
		p := partOf(key)
		require.Equal(t, kv.Whole, c.nodes["n3"].set.Shard(p).Trust(), "so its record says")
		c.wires.connect("n1", "n3") // the two others hold the write, too; what matters is what they remember
		c.wait("told", func() bool { return alarms.Load() > 0 })
		c.wait("suspect", func() bool { return c.nodes["n3"].set.Shard(p).Trust() == kv.Suspect })
		c.wires.connect("n1", "n2")
		c.wires.connect("n2", "n3")
		c.live(c.names...)
		c.equal(c.names...)
		require.Equal(t, "v", c.nodes["n3"].holds(key))
		before := alarms.Load()
		for _, name := range []string{"n1", "n3"} {
			c.nodes[name].kill()
			c.back(name)
			c.live(c.names...)
		}
		require.Equal(t, before, alarms.Load(), "it knows, and is not told again")
	})
}

// back starts a node again and connects it to the others, which are up.
func (c *cluster) back(name string) {
	c.nodes[name].start()
	for _, other := range c.names {
		if other != name {
			c.wires.connect(name, other)
		}
	}
}

// Two nodes hold themselves to be first: one has come back and reaches a third alone,
// which reaches the other and knows better. What the newcomer writes is not
// acknowledged in full by that third alone, for the other goes by what it holds.
func TestAWriteThatTheFirstOwnerLacksIsNotPromised(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		c.up()
		key := c.keyFirstAt("n3")
		c.set("n1", key, "old")
		c.equal(c.names...)
		c.nodes["n2"].kill()
		c.nodes["n2"].start()
		c.wires.connect("n1", "n2")
		c.live("n2")
		put, err := c.do("n2", kv.Request{Op: kv.OpSet, Key: []byte(key), Value: []byte("beside")})
		require.NoError(t, err)
		require.Equal(t, 1, put.Copies, "n1 knows that n3 is first, and n3 has not got it")
		require.True(t, put.Partial)
		del, err := c.do("n3", kv.Request{Op: kv.OpDelete, Key: []byte(key)})
		require.NoError(t, err)
		require.Equal(t, 2, del.Copies)
		require.False(t, del.Partial)

		c.wires.connect("n2", "n3")
		c.equal(c.names...)
		c.wait("promised in full", func() bool { // equal copies come before equal views
			put = c.set("n2", key, "again")
			return put.Copies >= 2 && !put.Partial
		})
		c.equal(c.names...)
		for _, name := range c.names {
			require.Equal(t, "again", c.nodes[name].holds(key))
		}
	})
}

// A write that went by the lead alone is acknowledged when that lead is over: an owner
// that was out of sight, and may have been first for the others, has connected meanwhile.
func TestAWriteWhoseLeadEndedUnderWayIsPartial(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		c.up()
		key := c.keyFirstAt("n3")
		c.wait("lead", func() bool { return c.part("n3", partOf(key)).Lead })
		require.False(t, c.set("n3", key, "by the lead").Partial)
		c.wires.with(func(w *wires) {
			w.live = func(_, to string) liveFate {
				if to == "n3" {
					return swallow
				}
				return 0
			}
		})
		term := c.part("n3", partOf(key)).Term
		type answer struct {
			resp *kv.Response
			err  error
		}
		answered := make(chan answer, 1)
		req := kv.Request{Op: kv.OpSet, Key: []byte(key), Value: []byte("under way"), Meta: true}
		c.nodes["n3"].replica.Start(t.Context(), &req, func(resp *kv.Response, err error) { answered <- answer{resp, err} })
		c.wait("replicated", func() bool { return c.nodes["n2"].holds(key) == "under way" })
		c.wires.disconnect("n1", "n3")
		c.wires.connect("n1", "n3")
		c.wait("another lead", func() bool { p := c.part("n3", partOf(key)); return p.Lead && p.Term != term })
		c.wires.with(func(w *wires) { w.live = nil })
		require.False(t, c.set("n3", key, "next").Partial, "its lead is the new one")
		a := <-answered // an acknowledgement tells of all before it
		require.NoError(t, a.err)
		require.Equal(t, 2, a.resp.Copies)
		require.True(t, a.resp.Partial)
	})
}

func TestSplitHeals(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		c.up()
		key := c.keyFirstAt("n3")
		c.isolate("n3", partOf(key))
		resp := c.set("n3", key, "alone")
		require.Equal(t, 1, resp.Copies)
		require.Equal(t, kv.Isolated, resp.State)
		c.set("n1", key, "together")
		c.wires.connect("n1", "n3")
		c.wires.connect("n2", "n3")
		c.live(c.names...)
		c.equal(c.names...)
		resp, err := c.do("n1", kv.Request{Op: kv.OpGet, Key: []byte(key), Siblings: true})
		require.NoError(t, err)
		require.Len(t, resp.Siblings, 2)
	})
}

// A PING that found no room in the queue was not sent, and is answered by nobody.
func TestAPeerOwesNoAnswerToWhatWasNotSent(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		c.up()
		n2 := c.nodes["n2"].replica
		require.False(t, n2.Quiet("n1"))
		c.wires.with(func(w *wires) { w.full = func(from, to string) bool { return from == "n2" && to == "n1" } })
		time.Sleep(time.Duration(core.PingEvery + 2*replica.QuietAfter))
		require.False(t, n2.Quiet("n1"))
		c.wires.with(func(w *wires) {
			w.full, w.dead = nil, func(from, to string) bool { return from == "n1" || to == "n1" }
		})
		time.Sleep(time.Duration(core.PingEvery + 2*replica.QuietAfter))
		require.True(t, n2.Quiet("n1"))
	})
}

// A node that has died without a word owes the answer to a PING soon. What was sent to it
// by then is unknown; later writes are not sent, and done by whoever takes over.
func TestWritesToANodeThatDiedAreUnknownOnlyUntilItOwesAnAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		c.up()
		key := c.keyFirstAt("n1")
		c.set("n2", key, "before")
		c.wires.with(func(w *wires) { w.dead = func(from, to string) bool { return from == "n1" || to == "n1" } })
		const every, writes = 50 * time.Millisecond, 40
		outcomes := make([]chan error, writes)
		var over sync.WaitGroup
		for i := range outcomes {
			outcomes[i] = make(chan error, 1)
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			over.Add(1)
			req := &kv.Request{Op: kv.OpSet, Key: []byte(key), Value: fmt.Append(nil, i)}
			c.nodes["n2"].replica.Start(ctx, req, func(_ *kv.Response, err error) {
				cancel()
				outcomes[i] <- err
				over.Done()
			})
			time.Sleep(every)
		}
		over.Wait()
		owes := core.PingEvery + replica.QuietAfter
		for i, ch := range outcomes {
			err := <-ch
			if int64(i)*int64(every) <= owes {
				continue
			}
			require.NoError(t, err, "begun %v after it died", time.Duration(i)*every)
		}
	})
}
