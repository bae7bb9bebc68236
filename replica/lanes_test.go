package replica_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/replica"
	"edged.dev/edged/transport/wire"
)

// laned is a cluster whose nodes stream over up to so many lanes what is worth them,
// which is little, which hold so many keys with values of so many bytes, and the
// last of which have lost their disks.
func laned(t *testing.T, lanes, lost, keys, bytes int, names ...string) *cluster {
	t.Helper()
	c := newCluster(t, names...)
	for _, m := range c.nodes {
		m.cfg = func(cfg *replica.Config) { cfg.Lanes = lanes }
	}
	c.up()
	value := make([]byte, bytes)
	for i := range keys {
		_, err := rand.Read(value) // it does not compress
		require.NoError(t, err)
		c.set("n1", fmt.Sprintf("k%d", i), string(value))
	}
	c.equal(names...)
	for i, name := range names {
		if i < len(names)-lost {
			c.nodes[name].replica.WorthALane(1 << 10)
			continue
		}
		c.nodes[name].kill()
		c.nodes[name].wipe()
	}
	return c
}

// heads returns what the lanes say that they are, and the partitions of each.
func (tap *laneTap) heads(t *testing.T) (heads []wire.LaneRecord, parts [][]kv.Partition) {
	t.Helper()
	tap.mu.Lock()
	defer tap.mu.Unlock()
	for _, lane := range tap.lanes {
		head, err := tap.codec.LaneReader(bytes.NewReader(lane.Bytes())).Next()
		require.NoError(t, err)
		rd := tap.reader(t, lane.Bytes())
		heads, parts = append(heads, head), append(parts, nil)
		for rec, err := rd.Next(); err == nil; rec, err = rd.Next() {
			if rec.Type == wire.TypeBegin {
				parts[len(parts)-1] = append(parts[len(parts)-1], rec.Begin.Partition)
			}
		}
		rd.Close()
	}
	return heads, parts
}

func TestLanesFor(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		dots uint64
		want int
	}{{0, 1}, {1, 1}, {21845, 1}, {21846, 2}, {76458, 6}, {76459, 7}, {87382, 8}, {1 << 40, 8}} {
		require.Equal(t, tc.want, replica.LanesFor(tc.dots), "%d versions", tc.dots)
	}
}

func TestLevelFor(t *testing.T) {
	t.Parallel()
	const far = 20 * time.Millisecond
	for _, tc := range []struct {
		dots uint64
		rtt  time.Duration
		want wire.LaneLevel
	}{
		{1024, 0, wire.LaneBest},
		{1024, far, wire.LaneBest},
		{1025, 0, wire.LaneDefault},
		{1025, far - 1, wire.LaneDefault},
		{1025, far, wire.LaneBetter},
		{1 << 40, far, wire.LaneBetter},
	} {
		require.Equal(t, tc.want, replica.LevelFor(tc.dots, tc.rtt), "%d versions, %s", tc.dots, tc.rtt)
	}
}

// Over a far link nothing is lost by the level, which its receiver is not told.
func TestAFarPeerIsStreamedToAtAnotherLevel(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		written := map[time.Duration]*atomic.Int64{}
		for _, rtt := range []time.Duration{0, time.Second} {
			c := newCluster(t, "n1", "n2")
			c.up()
			c.records(1100)
			c.equal(c.names...)
			c.nodes["n2"].kill()
			c.nodes["n2"].wipe()
			written[rtt] = &atomic.Int64{}
			c.wires.with(func(w *wires) {
				w.rtt = rtt
				w.lane = func(_, _ string, wr io.WriteCloser) io.WriteCloser { return &metered{wr, written[rtt]} }
			})
			c.nodes["n2"].start()
			c.wires.connect("n1", "n2")
			c.live("n2")
			c.equal(c.names...)
		}
		require.Less(t, written[time.Second].Load(), written[0].Load())
	})
}

func TestLanesShareASession(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := laned(t, 4, 1, 300, 20, "n1", "n2")
		tap := tapLanes(c)
		c.nodes["n2"].start()
		c.wires.connect("n1", "n2")
		c.live("n2")
		c.equal("n1", "n2")
		heads, parts := tap.heads(t)
		require.Len(t, heads, 4)
		seen, of := map[kv.Partition]int{}, map[uint8]bool{}
		for i, h := range heads {
			require.Equal(t, heads[0].Session, h.Session)
			require.Equal(t, uint8(4), h.Lanes)
			require.False(t, of[h.Lane], "lane %d twice", h.Lane)
			of[h.Lane] = true
			for _, p := range parts[i] {
				seen[p]++
			}
		}
		require.Len(t, seen, testPartitions)
		for p, n := range seen {
			require.Equal(t, 1, n, "partition %d has one lane", p)
		}
		st := c.nodes["n2"].replica.Stats()
		require.Equal(t, int64(4), st.LanesIn.Load())
		require.Zero(t, st.LanesCut.Load()+st.SessionsCut.Load())
	})
}

// counted counts the lanes that are open.
type counted struct {
	io.WriteCloser
	open *atomic.Int64
	once sync.Once
}

func (c *counted) Write(b []byte) (int, error) {
	time.Sleep(50 * time.Millisecond) // so that the sessions meet
	return c.WriteCloser.Write(b)
}

func (c *counted) Close() error {
	c.once.Do(func() { c.open.Add(-1) })
	return c.WriteCloser.Close()
}

// The bound is on the node: what one session has another has not, but for one.
func TestLanesAreBoundedOverAllSessions(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := laned(t, 3, 2, 300, 20, "n1", "n2", "n3")
		var open, most atomic.Int64
		c.wires.with(func(w *wires) {
			w.lane = func(from, _ string, wr io.WriteCloser) io.WriteCloser {
				if from != "n1" {
					return wr
				}
				for now := open.Add(1); ; {
					if was := most.Load(); now <= was || most.CompareAndSwap(was, now) {
						break
					}
				}
				return &counted{WriteCloser: wr, open: &open}
			}
		})
		for _, name := range []string{"n2", "n3"} {
			c.nodes[name].start()
		}
		c.mesh()
		c.live("n2", "n3")
		c.equal(c.names...)
		require.Equal(t, int64(4), most.Load())
		require.Zero(t, open.Load())
	})
}

// A lane that cannot be opened is none of the session's: nobody waits for it.
func TestALaneThatCannotBeOpenedIsNotWaitedFor(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := laned(t, 4, 1, 300, 20, "n1", "n2")
		tap := tapLanes(c)
		var opened atomic.Int64
		c.wires.with(func(w *wires) {
			inner := w.lane
			w.lane = func(from, to string, wr io.WriteCloser) io.WriteCloser {
				if opened.Add(1) > 2 {
					return nil
				}
				return inner(from, to, wr)
			}
		})
		c.nodes["n2"].start()
		began := time.Now()
		c.wires.connect("n1", "n2")
		c.live("n2")
		require.Less(t, time.Since(began), time.Second, "virtual")
		c.equal("n1", "n2")
		require.EqualValues(t, 3, opened.Load(), "one session")
		heads, parts := tap.heads(t)
		require.Len(t, heads, 2)
		require.EqualValues(t, 2, heads[0].Lanes)
		require.Equal(t, testPartitions, len(parts[0])+len(parts[1]))
		st := c.nodes["n2"].replica.Stats()
		require.Zero(t, st.LanesCut.Load()+st.SessionsCut.Load())
	})
}

// laneFails fails from a number of bytes on. Its writes take a while, so that the
// lanes of a session go side by side whatever the order they are run in.
type laneFails struct {
	io.WriteCloser
	left int
	cut  func()
}

func (f *laneFails) Write(b []byte) (int, error) {
	time.Sleep(time.Millisecond) // virtual
	if f.left -= len(b); f.left < 0 {
		f.cut()
		return 0, errDown
	}
	return f.WriteCloser.Write(b)
}

// A lane that breaks off loses its partition to any other donor, and the rest of
// what it had taken to the other lanes; the session goes on.
func TestALaneThatIsCutLeavesItsPartitionsToOthers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := laned(t, 2, 1, 300, 8<<10, "n1", "n2", "n3")
		tap := tapLanes(c)
		var n1Lanes, cuts atomic.Int64
		c.wires.with(func(w *wires) {
			inner := w.lane
			w.lane = func(from, to string, wr io.WriteCloser) io.WriteCloser {
				wr = inner(from, to, wr)
				left := math.MaxInt
				if from == "n1" && n1Lanes.Add(1) == 2 {
					left = 100 << 10
				}
				return &laneFails{wr, left, func() { cuts.Add(1) }}
			}
		})
		c.nodes["n3"].start()
		c.wires.connect("n1", "n3")
		c.wires.connect("n2", "n3")
		c.live("n3")
		c.equal(c.names...)
		require.Positive(t, cuts.Load())
		heads, parts := tap.heads(t)
		session, seen := heads[0].Session, map[kv.Partition]int{}
		again := 0
		for i, h := range heads {
			for _, p := range parts[i] {
				if seen[p]++; seen[p] > 1 {
					again++
					require.NotEqual(t, session, h.Session)
				}
			}
		}
		require.Len(t, seen, testPartitions)
		require.LessOrEqual(t, again, 2, "what was in the chunk that was cut, and no more: %v", parts)
		require.NotZero(t, again)
		st := c.nodes["n3"].replica.Stats()
		require.Equal(t, int64(1), st.LanesCut.Load())
		require.Zero(t, st.SessionsCut.Load())
	})
}

// badLane writes a lane.
func badLane(t *testing.T, write func(w *wire.LaneWriter)) io.Reader {
	t.Helper()
	var out bytes.Buffer
	w, err := wire.NewLaneWriter(&out, wire.LanePlain)
	require.NoError(t, err)
	write(w)
	require.NoError(t, w.Close())
	return &out
}

// A lane that is not one of the session's, or says what no lane says, ends the
// session: nothing is stored of it, and what is missing is fetched by another.
func TestALaneThatIsNotTheSessionsIsABreach(t *testing.T) {
	object := kv.Object{Versions: []kv.Version{{Dot: kv.Dot{Actor: kv.Actor{Node: 1, Boot: 1, Rand: 1}, Seq: 1}, Value: []byte("bad")}}}
	batch := func(key string) wire.Batch {
		return wire.Batch{Copies: []wire.Copy{{Key: []byte(key), Object: object}}}
	}
	for name, tc := range map[string]struct {
		from  string // "" is n1
		ends  bool   // the session
		write func(w *wire.LaneWriter, session uint64)
	}{
		"of another session": {write: func(w *wire.LaneWriter, session uint64) { _ = w.HeadOf(session+1, 1, 2, nil) }},
		"of another peer":    {from: "n3", write: func(w *wire.LaneWriter, session uint64) { _ = w.HeadOf(session, 1, 2, nil) }},
		"without a head":     {write: func(w *wire.LaneWriter, _ uint64) { _ = w.Begin(wire.Begin{Partition: 3}) }},
		"of other lanes":     {ends: true, write: func(w *wire.LaneWriter, session uint64) { _ = w.HeadOf(session, 1, 3, nil) }},
		"that came before":   {ends: true, write: func(w *wire.LaneWriter, session uint64) { _ = w.HeadOf(session, 0, 2, nil) }},
		"two heads": {ends: true, write: func(w *wire.LaneWriter, session uint64) {
			_ = w.HeadOf(session, 1, 2, nil)
			_ = w.Begin(wire.Begin{Partition: 3})
			_ = w.HeadOf(session, 1, 2, nil)
		}},
		"no partition": {ends: true, write: func(w *wire.LaneWriter, session uint64) {
			_ = w.HeadOf(session, 1, 2, nil)
			_ = w.Batch(batch("k0"))
		}},
		"a partition that was not asked for": {ends: true, write: func(w *wire.LaneWriter, session uint64) {
			_ = w.HeadOf(session, 1, 2, nil)
			_ = w.Begin(wire.Begin{Partition: testPartitions})
		}},
		"a partition in a partition": {ends: true, write: func(w *wire.LaneWriter, session uint64) {
			_ = w.HeadOf(session, 1, 2, nil)
			_ = w.Begin(wire.Begin{Partition: 3})
			_ = w.Begin(wire.Begin{Partition: 4})
		}},
		"a partition that has ended": {ends: true, write: func(w *wire.LaneWriter, session uint64) {
			_ = w.HeadOf(session, 1, 2, nil)
			for range 2 {
				_ = w.Begin(wire.Begin{Partition: 3})
				_ = w.End(wire.End{})
			}
		}},
		"another lane's partition": {ends: true, write: func(w *wire.LaneWriter, session uint64) {
			_ = w.HeadOf(session, 1, 2, nil)
			_ = w.Begin(wire.Begin{Partition: 5})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := laned(t, 2, 1, 100, 20, "n1", "n2")
				var session atomic.Uint64
				release := make(chan struct{})
				free := sync.OnceFunc(func() { close(release) })
				t.Cleanup(free)
				c.wires.with(func(w *wires) {
					w.onHangup = func(string, string) {} // the connection stays, for the session that follows
					w.seen = func(_ string, frame []byte) {
						if typ, _ := wire.TypeOf(frame); typ != wire.TypeHello {
							return
						}
						codec, err := wire.NewCodec()
						require.NoError(t, err)
						if h, err := wire.ParseHello(frame, codec, func(uint64) []wire.CopyClock { return nil }); err == nil && len(h.Wants) > 0 {
							session.CompareAndSwap(0, h.Session)
						}
					}
					w.lane = func(_, _ string, wr io.WriteCloser) io.WriteCloser {
						<-release
						return wr
					}
				})
				n2 := c.nodes["n2"]
				n2.start()
				c.wires.connect("n1", "n2")
				time.Sleep(time.Second) // virtual
				synctest.Wait()
				require.NotZero(t, session.Load())
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				rd, wr := io.Pipe() // the session's first lane, which streams partition 5
				first, err := wire.NewLaneWriter(wr, wire.LanePlain)
				require.NoError(t, err)
				over := make(chan struct{})
				go func() {
					n2.replica.Lane(ctx, "n1", rd)
					_ = rd.Close()
					close(over)
				}()
				require.NoError(t, first.HeadOf(session.Load(), 0, 2, nil))
				require.NoError(t, first.Begin(wire.Begin{Partition: 5}))
				require.NoError(t, first.Flush())
				synctest.Wait()
				before := n2.replica.Stats()
				require.Zero(t, before.LanesRefused.Load())
				require.Zero(t, before.SessionsCut.Load())
				from := tc.from
				if from == "" {
					from = "n1"
				}
				n2.replica.Lane(ctx, from, badLane(t, func(w *wire.LaneWriter) { tc.write(w, session.Load()) }))
				synctest.Wait()
				if name != "without a head" {
					require.Equal(t, int64(1), n2.replica.Stats().LanesRefused.Load())
				}
				require.Equal(t, tc.ends, n2.replica.Stats().SessionsCut.Load() == 1, "the session is over")
				_ = wr.Close()
				<-over
				require.Empty(t, n2.holds("k0"))
				free()
				c.live("n2")
				c.equal("n1", "n2")
			})
		})
	}
}

// A receiver whose disk is slow is not taken for stalled; it holds what its donor keeps
// under way, which waits, and goes on afterwards.
func TestLanesWaitForASlowReceiver(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := laned(t, 2, 1, 300, 20_000, "n1", "n2") // six megabytes
		var written atomic.Int64
		c.wires.with(func(w *wires) {
			w.lane = func(_, _ string, wr io.WriteCloser) io.WriteCloser { return &metered{wr, &written} }
		})
		n2 := c.nodes["n2"]
		n2.start()
		release := make(chan struct{})
		free := sync.OnceFunc(func() { close(release) })
		t.Cleanup(free)
		n2.store.Between(func() { <-release })
		c.wires.connect("n1", "n2")
		time.Sleep(30 * time.Second) // virtual: six times as long as a lane may stall
		synctest.Wait()
		now, most, limit := n2.replica.AppliesHeld()
		require.Positive(t, now)
		require.LessOrEqual(t, most, limit)
		require.Less(t, written.Load(), int64(4*(wire.ChunkBytes+20_000)), "two chunks a lane at most: the donor waits")
		require.Zero(t, n2.replica.Stats().SessionsCut.Load()+n2.replica.Stats().LanesCut.Load())
		_, found := c.get("n1", "k0")
		require.True(t, found, "and holds up nobody")
		free()
		c.live("n2")
		c.equal("n1", "n2")
		now, most, _ = n2.replica.AppliesHeld()
		require.Zero(t, now)
		require.LessOrEqual(t, most, limit)
	})
}

// metered counts what a lane's stream took.
type metered struct {
	io.WriteCloser
	n *atomic.Int64
}

func (m *metered) Write(b []byte) (int, error) {
	n, err := m.WriteCloser.Write(b)
	m.n.Add(int64(n))
	return n, err
}

// What is larger than the queue has it alone.
func TestTheApplyQueueIsBounded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		q := replica.NewApplyQueue()
		require.NoError(t, q.Admit(t.Context(), q.Limit-1))
		require.NoError(t, q.Admit(t.Context(), 1), "at the limit")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, q.Admit(ctx, 1), context.DeadlineExceeded, "one over")
		time.AfterFunc(time.Second, func() { q.Wrote(1) })
		require.NoError(t, q.Admit(t.Context(), 1))
		q.Wrote(q.Limit)
		require.NoError(t, q.Admit(t.Context(), 10*q.Limit))
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, q.Admit(ctx, 1), context.DeadlineExceeded)
	})
}
