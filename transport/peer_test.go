package transport_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/simnet"
	"edged.dev/edged/transport"
)

func TestFramesArriveWholeAndInOrder(t *testing.T) {
	t.Parallel()
	link := simnet.Link{Latency: 5 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.02, Duplicate: 0.02}
	inBed(t, link, func(t *testing.T, b *bed) {
		var got [2][]int
		a, _ := pair(b, func(n *node, _ *transport.Config) {
			n.frame = func(kind transport.Kind, frame []byte) {
				require.True(t, bytes.Equal(pattern(len(frame)), frame))
				got[kind] = append(got[kind], len(frame)) // one goroutine a stream
			}
		})
		p := a.peer("n2")
		sizes := []int{0, 1, 17, 4 << 10, 100 << 10, transport.MaxControlFrameBytes}
		for _, n := range sizes {
			require.NoError(t, p.Send(transport.Control, pattern(n)))
		}
		sizes = append(sizes, 3<<20, transport.MaxFrameBytes)
		for _, n := range sizes {
			require.NoError(t, p.Send(transport.Live, pattern(n)))
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		require.Equal(t, sizes[:6], got[transport.Control])
		require.Equal(t, sizes, got[transport.Live])
	})
}

func TestAcceptingSideSendsToo(t *testing.T) {
	t.Parallel()
	inBed(t, lan, func(t *testing.T, b *bed) {
		a, z := pair(b, nil)
		p := z.peer("n1")
		for i := range 100 {
			require.NoError(t, p.Send(transport.Live, fmt.Append(nil, i)))
		}
		time.Sleep(time.Second)
		_, _, _, frames := a.told()
		require.Len(t, frames, 100)
		require.Equal(t, "live 99", frames[99])
	})
}

func TestFrameOverItsLimitIsRefusedBeforeItIsSent(t *testing.T) {
	t.Parallel()
	inBed(t, lan, func(t *testing.T, b *bed) {
		a, _ := pair(b, nil)
		p := a.peer("n2")
		require.ErrorIs(t, p.Send(transport.Control, make([]byte, transport.MaxControlFrameBytes+1)), transport.ErrTooLarge)
		require.ErrorIs(t, p.Send(transport.Live, make([]byte, transport.MaxFrameBytes+1)), transport.ErrTooLarge)
		_, err := p.Call(t.Context(), make([]byte, transport.MaxFrameBytes+1))
		require.ErrorIs(t, err, transport.ErrTooLarge)
		require.ErrorIs(t, err, transport.ErrNotSent)
	})
}

// TestStuckLiveStreamFillsItsQueueAndNothingElse: a peer whose handler hangs on a
// live frame, and whose lanes hang too, still hears control frames and answers.
func TestStuckLiveStreamFillsItsQueueAndNothingElse(t *testing.T) {
	t.Parallel()
	inBed(t, lan, func(t *testing.T, b *bed) {
		release := make(chan struct{})
		var control []string
		a, _ := pair(b, func(n *node, _ *transport.Config) {
			n.frame = func(kind transport.Kind, frame []byte) {
				if kind == transport.Live {
					<-release
					return
				}
				control = append(control, string(frame))
			}
			n.lane = func(io.Reader) { <-release }
			n.serve = func(context.Context, []byte) ([]byte, error) { return []byte("here"), nil }
		})
		p := a.peer("n2")
		var lanes sync.WaitGroup
		for range 2 {
			l, err := p.OpenLane(t.Context())
			require.NoError(t, err)
			lanes.Go(func() {
				_, _ = l.Write(make([]byte, 4<<20))
				_ = l.Close()
			})
		}
		var err error
		sent := 0
		for ; err == nil && sent < 1000; sent++ {
			err = p.Send(transport.Live, make([]byte, 256<<10))
			time.Sleep(10 * time.Millisecond)
		}
		require.ErrorIs(t, err, transport.ErrQueueFull)
		require.InDelta(t, 64, sent, 8, "16 MiB and what the window took")

		require.NoError(t, p.Send(transport.Control, []byte("alive?")))
		answer, err := p.Call(t.Context(), nil)
		require.NoError(t, err)
		require.Equal(t, "here", string(answer))
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, []string{"alive?"}, control)

		close(release)
		lanes.Wait()
		time.Sleep(10 * time.Second)
		require.NoError(t, p.Send(transport.Live, []byte("again")), "it recovers")
	})
}

func TestPeerDownComesAfterTheLastFrameAndBeforeTheNextLife(t *testing.T) {
	t.Parallel()
	inBed(t, lan, func(t *testing.T, b *bed) {
		release := make(chan struct{})
		var order []string
		a, z := pair(b, func(n *node, _ *transport.Config) {
			n.frame = func(transport.Kind, []byte) {
				<-release
				order = append(order, "frame")
			}
			n.down = func(*transport.Peer) { order = append(order, "down") }
		})
		require.NoError(t, a.peer("n2").Send(transport.Live, []byte("slow")))
		time.Sleep(time.Second)
		b.net.Crash(a.addr)
		again := b.start("n1", a.addr, 2, nil)
		again.connect(z)
		time.Sleep(time.Second)
		ups, downs, _, _ := z.told()
		require.Equal(t, []int{1, 0}, []int{ups, downs}, "the old life's frame is still being handled")
		close(release)
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, []string{"frame", "down"}, order)
		ups, downs, _, _ = z.told()
		require.Equal(t, []int{2, 1}, []int{ups, downs})
	})
}

func TestCallsAreAnsweredSideBySide(t *testing.T) {
	t.Parallel()
	inBed(t, lan, func(t *testing.T, b *bed) {
		echo := func(n *node, _ *transport.Config) {
			n.serve = func(_ context.Context, request []byte) ([]byte, error) {
				time.Sleep(10 * time.Millisecond)
				return append([]byte("re "), request...), nil
			}
		}
		a, z := b.start("n1", "10.0.0.1:7383", 1, echo), b.start("n2", "10.0.0.2:7383", 1, echo)
		a.connect(z)
		synctest.Wait()
		var calls sync.WaitGroup
		for i := range 600 { // more than there are streams
			from, to := a, "n2"
			if i%2 == 1 {
				from, to = z, "n1"
			}
			calls.Go(func() {
				request := bytes.Repeat(fmt.Append(nil, i), 1+i*20)
				answer, err := from.peer(to).Call(t.Context(), request)
				require.NoError(t, err)
				require.Equal(t, "re "+string(request), string(answer))
			})
		}
		calls.Wait()
	})
}

func TestLargestCallPasses(t *testing.T) {
	t.Parallel()
	inBed(t, lan, func(t *testing.T, b *bed) {
		a, _ := pair(b, func(n *node, _ *transport.Config) {
			n.serve = func(_ context.Context, request []byte) ([]byte, error) { return request, nil }
		})
		want := pattern(transport.MaxFrameBytes)
		answer, err := a.peer("n2").Call(t.Context(), want)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, answer))
	})
}

func TestCallErrorsTellWhatBecameOfIt(t *testing.T) {
	t.Parallel()
	inBed(t, lan, func(t *testing.T, b *bed) {
		left := make(chan time.Duration, 1)
		gone := make(chan error, 1)
		a, z := pair(b, func(n *node, _ *transport.Config) {
			n.serve = func(ctx context.Context, request []byte) ([]byte, error) {
				if string(request) == "fail" {
					return nil, errors.New("no such thing")
				}
				deadline, ok := ctx.Deadline()
				if ok {
					left <- time.Until(deadline)
				}
				<-ctx.Done()
				gone <- ctx.Err()
				return nil, ctx.Err()
			}
		})
		p := a.peer("n2")
		var remote *transport.RemoteError
		_, err := p.Call(t.Context(), []byte("fail"))
		require.ErrorAs(t, err, &remote)
		require.Equal(t, "no such thing", remote.Message)

		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		_, err = p.Call(ctx, []byte("wait"))
		cancel()
		require.ErrorIs(t, err, transport.ErrNoAnswer)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.InDelta(t, 2, (<-left).Seconds(), 0.05, "the peer is told what is left")
		require.Error(t, <-gone)

		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		_, err = p.Call(ctx, []byte("give up"))
		require.ErrorIs(t, err, transport.ErrNoAnswer)
		require.Error(t, <-gone, "the peer's ctx ends with the caller's")

		_, err = p.Call(ctx, []byte("too late"))
		require.ErrorIs(t, err, transport.ErrNotSent)

		time.AfterFunc(time.Second, func() { b.net.Crash(z.addr) })
		_, err = p.Call(t.Context(), []byte("die"))
		require.ErrorIs(t, err, transport.ErrNoAnswer)
		_, err = p.Call(t.Context(), []byte("dead"))
		require.ErrorIs(t, err, transport.ErrNotSent)
		require.ErrorIs(t, p.Send(transport.Live, nil), transport.ErrPeerDown)
	})
}

func TestAbandonedCallsGiveTheirStreamsBack(t *testing.T) {
	t.Parallel()
	inBed(t, lan, func(t *testing.T, b *bed) {
		a, _ := pair(b, func(n *node, _ *transport.Config) {
			n.serve = func(ctx context.Context, request []byte) ([]byte, error) {
				if len(request) == 0 {
					<-ctx.Done()
				}
				return pattern(50 << 10), nil
			}
		})
		p := a.peer("n2")
		for range 600 {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
			_, err := p.Call(ctx, nil)
			cancel()
			require.Error(t, err)
		}
		answer, err := p.Call(t.Context(), []byte("x"))
		require.NoError(t, err)
		require.Len(t, answer, 50<<10)
	})
}

func TestLaneCarriesBytesToItsEnd(t *testing.T) {
	t.Parallel()
	inBed(t, lan, func(t *testing.T, b *bed) {
		type end struct {
			n   int
			err error
		}
		ends := make(chan end, 10)
		a, _ := pair(b, func(n *node, _ *transport.Config) {
			n.lane = func(r io.Reader) {
				data, err := io.ReadAll(r)
				ends <- end{len(data), err}
			}
		})
		p := a.peer("n2")
		for range 10 { // one after another, more than may be open
			l, err := p.OpenLane(t.Context())
			require.NoError(t, err)
			_, err = l.Write(pattern(3 << 20))
			require.NoError(t, err)
			require.NoError(t, l.Close())
			require.Equal(t, end{n: 3 << 20}, <-ends)
		}
		ctx, cancel := context.WithCancel(t.Context())
		l, err := p.OpenLane(ctx)
		require.NoError(t, err)
		_, err = l.Write(pattern(100))
		require.NoError(t, err)
		time.Sleep(time.Second)
		cancel()
		require.Error(t, (<-ends).err, "cut off is not the end")
		_, err = l.Write(nil)
		require.Error(t, err)

		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var open []io.Closer
		for {
			l, err := p.OpenLane(ctx)
			if err != nil {
				require.ErrorIs(t, err, context.DeadlineExceeded)
				break
			}
			open = append(open, l)
		}
		require.Len(t, open, 9)
	})
}

func TestLaneNotReadToItsEndLetsGo(t *testing.T) {
	t.Parallel()
	inBed(t, lan, func(t *testing.T, b *bed) {
		a, _ := pair(b, func(n *node, _ *transport.Config) {
			n.lane = func(r io.Reader) { _, _ = r.Read(make([]byte, 10)) }
		})
		for range 40 { // more than there is credit for
			l, err := a.peer("n2").OpenLane(t.Context())
			require.NoError(t, err)
			_, err = l.Write(make([]byte, 2<<20))
			require.Error(t, err, "the reader has gone")
			_ = l.Close()
		}
	})
}

func TestGossipPacketsAndStreams(t *testing.T) {
	t.Parallel()
	inBed(t, lan, func(t *testing.T, b *bed) {
		a := b.start("n1", "10.0.0.1:7383", 1, nil)
		z := b.start("n2", "10.0.0.2:7383", 1, nil)
		start := time.Now()
		require.NoError(t, a.Gossip().Send(z.addr, []byte("lost, but it dials")))
		require.Zero(t, time.Since(start), "it never waits")
		time.Sleep(time.Second)
		require.NotNil(t, a.Peer("n2"))
		sizes := []int{1, 1200, 1243, 1400, 20000} // the last two fit no datagram
		for _, n := range sizes {
			require.NoError(t, a.Gossip().Send(z.addr, pattern(n)))
		}
		require.ErrorIs(t, a.Gossip().Send(z.addr, make([]byte, 65<<10)), transport.ErrTooLarge)
		var got []int
		for range sizes {
			data, from, err := z.Gossip().Receive(t.Context())
			require.NoError(t, err)
			require.Equal(t, pattern(len(data)), data)
			require.Equal(t, a.addr, from.String())
			got = append(got, len(data))
		}
		slices.Sort(got)
		require.Equal(t, sizes, got)

		conn, err := z.Gossip().Dial(t.Context(), a.addr)
		require.NoError(t, err)
		_, err = conn.Write([]byte("hello"))
		require.NoError(t, err)
		back, err := a.Gossip().Accept(t.Context())
		require.NoError(t, err)
		require.Equal(t, z.addr, back.RemoteAddr().String())
		require.Equal(t, a.addr, back.LocalAddr().String())
		buf := make([]byte, 5)
		_, err = io.ReadFull(back, buf)
		require.NoError(t, err)
		require.Equal(t, "hello", string(buf))
		require.NoError(t, back.Close())
		_, err = conn.Read(buf)
		require.Equal(t, io.EOF, err)
		require.NoError(t, conn.Close())
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, _, err = a.Gossip().Receive(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

func TestGossipBacksOffFromTheDead(t *testing.T) {
	t.Parallel()
	inBed(t, lan, func(t *testing.T, b *bed) {
		a := b.start("n1", "10.0.0.1:7383", 1, nil)
		before := a.BytesOut()
		for range 600 {
			require.NoError(t, a.Gossip().Send("10.0.0.9:7383", []byte("x")))
			time.Sleep(100 * time.Millisecond)
		}
		perDial := int64(6 * 1280) // a handshake's packets over three seconds
		require.Less(t, a.BytesOut()-before, 20*perDial, "a minute has room for some twelve dials")
		require.Positive(t, a.BytesOut()-before)
	})
}
