package replica_test

import (
	"fmt"
	"io"
	"math/rand/v2"
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

// A window has room for its size beyond what is taken, and for the one chunk that is
// being written whatever that takes.
func TestAWindowHasRoomForItsSizeOrOneChunk(t *testing.T) {
	t.Parallel()
	const size, most = replica.WindowBytes, replica.MaxWindowBytes
	var now int64
	w := replica.NewWindow(0, 1, func() int64 { return now })
	w.Begin()
	require.Equal(t, 10*size, w.Write(10*size), "the first chunk")
	w.Begin()
	require.Zero(t, w.Write(1), "until it is taken")
	require.NoError(t, w.Take(1))
	require.Equal(t, size/2, w.Write(size/2), "the second")
	w.Begin()
	require.Equal(t, size-size/2, w.Write(size), "as much of the third as the window has room for")
	require.Zero(t, w.Write(1), "one over")
	require.NoError(t, w.Take(2))
	require.Equal(t, size, w.Write(size), "the rest of it")
	w.Begin()
	require.NoError(t, w.Take(4), "the fourth began, and was empty")
	require.Equal(t, size, w.Write(size))
	require.Equal(t, wire.BreachReplayed, wire.BreachOf(w.Take(4)), "again")
	require.Equal(t, wire.BreachReplayed, wire.BreachOf(w.Take(3)), "back")
	require.Equal(t, wire.BreachUnasked, wire.BreachOf(w.Take(5)), "ahead")
	w.Begin()
	require.NoError(t, w.Take(5))

	shared := replica.NewWindow(0, 4, func() int64 { return now })
	shared.Begin()
	shared.Write(1)
	shared.Begin()
	require.Equal(t, size/4-1, shared.Write(size), "lanes share it")

	long := func(rtt time.Duration, taken int, after time.Duration) int {
		w := replica.NewWindow(rtt, 1, func() int64 { return now })
		w.Begin()
		w.Write(taken)
		w.Begin()
		w.Write(1)
		w.Begin()
		now += int64(after)
		require.NoError(t, w.Take(1))
		return w.Write(2*most) + 1
	}
	const ms = time.Millisecond
	require.Equal(t, size+2*replica.TakeRate/100, long(10*ms, 1, 0), "and what is written within two round trips")
	require.Equal(t, size+2*replica.TakeRate/100, long(10*ms, replica.TakeRate/100, 20*ms), "by a slow receiver as well")
	require.InDelta(t, size+2*3*replica.TakeRate/100, long(10*ms, 3*replica.TakeRate/100, 10*ms), 2, "by a fast one")
	require.Equal(t, most, long(time.Hour, 1, 0), "at most")
}

// records sets so many keys to values that compress, as most do.
func (c *cluster) records(n int) {
	c.t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		c.set("n1", fmt.Sprintf("record-%d", i), fmt.Sprintf(`{"id":%d,"name":"user-%06d","mail":"%08x@example.org","active":%t,"note":"%016x%016x%016x%016x%016x"}`,
			i, rng.IntN(1e6), rng.Uint32(), i%2 == 0, rng.Uint64(), rng.Uint64(), rng.Uint64(), rng.Uint64(), rng.Uint64()))
	}
}

// What a receiver that dies had got and not written is at most the window, and a
// window's worth is what it may lose.
func TestWhatIsUnderWayIsBounded(t *testing.T) {
	for name, x := range map[string]struct {
		rtt  time.Duration
		most int64
	}{
		"at once":    {0, replica.WindowBytes},
		"a far peer": {2 * time.Millisecond, replica.WindowBytes + 2*replica.TakeRate/500},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newCluster(t, "n1", "n2")
				c.up()
				c.records(1500)
				c.equal(c.names...)
				c.nodes["n2"].kill()
				c.nodes["n2"].wipe()
				var written atomic.Int64
				c.wires.with(func(w *wires) {
					w.rtt = x.rtt
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
				require.LessOrEqual(t, written.Load(), x.most)
				require.Greater(t, written.Load(), x.most*3/4, "and the link is not left idle")
				require.Zero(t, n2.replica.Stats().SessionsCut.Load()+n2.replica.Stats().LanesCut.Load(), "it is the receiver that is slow")
				free()
				c.live("n2")
				c.equal(c.names...)
				require.Greater(t, written.Load(), x.most)
			})
		})
	}
}

// deaf is a receiver that n1 streams to and that is not what it should be: its lanes
// lead nowhere, and what it says of them is the test's.
type deaf struct {
	*cluster
	session uint64
	written atomic.Int64
}

// asks has n3 ask n1 for all there is, over lanes that sink takes the bytes of.
func asks(t *testing.T, sink func(d *deaf) io.WriteCloser) *deaf {
	d := &deaf{cluster: newCluster(t, "n1", "n2", "n3"), session: 77}
	d.up()
	d.records(1500)
	d.equal(d.names...)
	d.wires.with(func(w *wires) {
		w.onHangup = func(string, string) {}
		w.lane = func(_, to string, wr io.WriteCloser) io.WriteCloser {
			if to == "n3" {
				return sink(d)
			}
			return wr
		}
	})
	h := wire.Hello{Session: d.session}
	for p := range kv.Partition(testPartitions) {
		st := d.nodes["n3"].set.Add(p).Status()
		h.Copies = append(h.Copies, wire.CopyClock{Partition: p, Actor: st.Actor, State: kv.CatchingUp, Trust: kv.New})
		h.Wants = append(h.Wants, p)
	}
	codec, err := wire.NewCodec()
	require.NoError(t, err)
	_, err = d.nodes["n1"].replica.Serve(t.Context(), "n3", h.Append(nil, codec, nil))
	require.NoError(t, err)
	synctest.Wait()
	require.Equal(t, 1, d.streams())
	return d
}

// streams is how many sessions n1 streams.
func (d *deaf) streams() int {
	_, out := d.nodes["n1"].replica.OpenSessions()
	return out
}

func (d *deaf) says(taken wire.Taken) {
	d.nodes["n1"].replica.ControlFrame("n3", taken.Append(nil))
	synctest.Wait()
}

func (d *deaf) Write(b []byte) (int, error) {
	d.written.Add(int64(len(b)))
	return len(b), nil
}

func (d *deaf) Close() error { return nil }

// A receiver that takes nothing holds a snapshot for a minute at most.
func TestADonorWaitsForNoReceiverForEver(t *testing.T) {
	for name, sink := range map[string]func(d *deaf) io.WriteCloser{
		"that says nothing": func(d *deaf) io.WriteCloser { return d },
		"that reads nothing": func(*deaf) io.WriteCloser {
			_, wr := io.Pipe()
			return wr
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				d := asks(t, sink)
				time.Sleep(replica.TakeWait - time.Millisecond) // virtual
				synctest.Wait()
				require.Equal(t, 1, d.streams())
				require.LessOrEqual(t, d.written.Load(), int64(replica.WindowBytes))
				time.Sleep(2 * time.Millisecond)
				synctest.Wait()
				require.Zero(t, d.streams())
			})
		})
	}
}

// What cannot be, of a lane that is streamed, is a breach; of another, it came late.
func TestATakenThatIsNotSo(t *testing.T) {
	for name, x := range map[string]struct {
		want wire.Breach
		say  func(d *deaf, t wire.Taken)
	}{
		"more than was sent": {wire.BreachUnasked, func(d *deaf, t wire.Taken) {
			t.Chunks = 1 << 40
			d.says(t)
		}},
		"all there may be": {wire.BreachUnasked, func(d *deaf, t wire.Taken) {
			t.Chunks = 1<<64 - 1
			d.says(t)
		}},
		"again": {wire.BreachReplayed, func(d *deaf, t wire.Taken) {
			d.says(t)
			d.says(t)
		}},
		"none": {wire.BreachReplayed, func(d *deaf, t wire.Taken) {
			t.Chunks = 0
			d.says(t)
		}},
		"of another lane": {wire.NoBreach, func(d *deaf, t wire.Taken) {
			t.Lane = 3
			d.says(t)
		}},
		"of another session": {wire.NoBreach, func(d *deaf, t wire.Taken) {
			t.Session++
			d.says(t)
		}},
		"of another peer's": {wire.NoBreach, func(d *deaf, t wire.Taken) {
			d.nodes["n1"].replica.ControlFrame("n2", t.Append(nil))
		}},
		"as it is": {wire.NoBreach, func(d *deaf, t wire.Taken) {
			was := d.written.Load()
			d.says(t)
			require.Greater(d.t, d.written.Load(), was, "the donor goes on")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				d := asks(t, func(d *deaf) io.WriteCloser { return d })
				x.say(d, wire.Taken{Session: d.session, Chunks: 1})
				d.wires.with(func(w *wires) {
					if x.want == wire.NoBreach {
						require.Empty(t, w.hungUp)
						return
					}
					require.Len(t, w.hungUp, 1)
					require.Equal(t, x.want, w.hungUp[0].breach)
				})
			})
		})
	}
}
