package transport_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/simnet"
	"edged.dev/edged/transport"
	"edged.dev/edged/transport/wire"
)

func TestConnectBringsBothSidesUp(t *testing.T) {
	t.Parallel()
	inBed(t, lan, func(t *testing.T, b *bed) {
		a, z := pair(b, func(_ *node, c *transport.Config) { c.Addresses = []string{"10.0.0.2:0", "node2.example:7383"} })
		b.start("n3", "10.0.0.3:7383", 1, func(_ *node, c *transport.Config) {
			c.Partitions = func() uint32 { return 64 }
		}).connect(z)
		require.Equal(t, uint32(64), z.peer("n3").Info().Partitions, "the dialer tells its P as well")
		info := a.peer("n2").Info()
		require.Equal(t, uint64('2'), info.Node)
		require.Equal(t, uint32(1), info.Boot)
		require.NotZero(t, info.Nonce)
		require.Equal(t, uint32(256), info.Partitions)
		require.Equal(t, udpAddr(t, z.addr).String(), info.Addr.String())
		require.Equal(t, []string{"10.0.0.2:7383", "node2.example:7383"}, info.Addresses)

		require.Equal(t, []string{"10.0.0.1:7383"}, z.peer("n1").Info().Addresses)
		require.NoError(t, z.Connect(t.Context(), a.addr), "already connected")
		ups, downs, _, _ := z.told()
		require.Equal(t, 2, ups)
		require.Zero(t, downs)
	})
}

func TestStrangersAreRefused(t *testing.T) {
	t.Parallel()
	inBed(t, lan, func(t *testing.T, b *bed) {
		z := b.start("n2", "10.0.0.2:7383", 1, nil)
		other := &bed{t: t, dir: t.TempDir(), net: b.net}
		require.NoError(t, transport.InitCA(other.dir+"/ca"))
		foreign := other.start("n1", "10.0.0.1:7383", 1, nil)
		require.ErrorIs(t, foreign.Connect(t.Context(), z.addr), transport.ErrUntrusted, "another cluster's CA")
		require.Positive(t, foreign.Rejected())

		liar := b.start("n3", "10.0.0.3:7383", 1, func(_ *node, c *transport.Config) { c.Identity.Name = "n1" })
		var refusal *transport.RefusedError
		require.ErrorAs(t, liar.Connect(t.Context(), z.addr), &refusal)
		require.Equal(t, wire.ConnWrongCluster, refusal.Ack.Code, "CONN has another name than the certificate")

		astray := b.start("n4", "10.0.0.4:7383", 1, func(_ *node, c *transport.Config) { c.Identity.Cluster = "other" })
		require.Error(t, astray.Connect(t.Context(), z.addr), "CONN has another cluster than the certificate")
		time.Sleep(time.Second)
		require.Empty(t, z.Peers())
		require.Equal(t, int64(1), z.Rejected(), "the others turned away first")
		ups, _, _, _ := z.told()
		require.Zero(t, ups)
	})
}

func TestLapsedCertificateIsRefused(t *testing.T) {
	t.Parallel()
	inBed(t, lan, func(t *testing.T, b *bed) {
		a := b.start("n1", "10.0.0.1:7383", 1, nil)
		time.Sleep(25 * time.Hour)
		z := b.start("n2", "10.0.0.2:7383", 1, nil)
		require.ErrorIs(t, a.Connect(t.Context(), z.addr), transport.ErrUntrusted)
		require.ErrorIs(t, z.Connect(t.Context(), a.addr), transport.ErrUntrusted)
		require.Empty(t, z.Peers())
	})
}

func TestHandlerRefusesWithItsCode(t *testing.T) {
	t.Parallel()
	inBed(t, lan, func(t *testing.T, b *bed) {
		a := b.start("n1", "10.0.0.1:7383", 4, nil)
		z := b.start("n2", "10.0.0.2:7383", 1, func(n *node, _ *transport.Config) {
			n.judge = func(remote wire.Conn) wire.ConnAck {
				return wire.ConnAck{Code: wire.ConnBootConflict, Boot: remote.Boot + 1}
			}
		})
		var refusal *transport.RefusedError
		require.ErrorAs(t, a.Connect(t.Context(), z.addr), &refusal)
		require.Equal(t, wire.ConnBootConflict, refusal.Ack.Code)
		require.Equal(t, "n2", refusal.Ack.Self.Name)
		_, _, refused, _ := a.told()
		require.Len(t, refused, 1)
		require.Equal(t, uint32(5), refused[0].Boot)

		require.ErrorAs(t, z.Connect(t.Context(), a.addr), &refusal, "the dialing side may refuse too")
		require.Equal(t, "us", refusal.By)
		time.Sleep(time.Second)
		require.Empty(t, a.Peers())
		require.Empty(t, z.Peers())
	})
}

func TestOwnAddressIsNoticed(t *testing.T) {
	t.Parallel()
	inBed(t, lan, func(t *testing.T, b *bed) {
		a := b.start("n1", "10.0.0.1:7383", 1, nil)
		require.ErrorIs(t, a.Connect(t.Context(), a.addr), transport.ErrSelf)
	})
}

func TestDialOfADeadAddressEnds(t *testing.T) {
	t.Parallel()
	inBed(t, lan, func(t *testing.T, b *bed) {
		a := b.start("n1", "10.0.0.1:7383", 1, nil)
		start := time.Now()
		require.Error(t, a.Connect(t.Context(), "10.0.0.9:7383"))
		require.Equal(t, 3*time.Second, time.Since(start))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, a.Connect(ctx, "10.0.0.9:7383"), context.DeadlineExceeded, "the caller's deadline holds")
	})
}

// TestSimultaneousDialsLeaveOneConnection tries many offsets between two dials
// over a jittery network.
func TestSimultaneousDialsLeaveOneConnection(t *testing.T) {
	t.Parallel()
	for offset := range 24 {
		t.Run(fmt.Sprint(offset), func(t *testing.T) {
			inBed(t, simnet.Link{Latency: 4 * time.Millisecond, Jitter: 3 * time.Millisecond}, func(t *testing.T, b *bed) {
				a := b.start("n1", "10.0.0.1:7383", 1, nil)
				z := b.start("n2", "10.0.0.2:7383", 1, nil)
				dialed := make(chan error, 2)
				go func() { dialed <- a.Connect(t.Context(), z.addr) }()
				time.Sleep(time.Duration(offset) * time.Millisecond)
				go func() { dialed <- z.Connect(t.Context(), a.addr) }()
				require.NoError(t, <-dialed)
				require.NoError(t, <-dialed)
				time.Sleep(time.Second)

				az, za := a.peer("n2"), z.peer("n1")
				require.NoError(t, az.Send(transport.Control, []byte("ping")))
				require.NoError(t, za.Send(transport.Live, []byte("pong")))
				time.Sleep(time.Second)
				_, _, _, frames := z.told()
				require.Equal(t, []string{"control ping"}, frames, "both hold the same connection")
				_, _, _, frames = a.told()
				require.Equal(t, []string{"live pong"}, frames)
				for _, n := range []*node{a, z} {
					ups, downs, _, _ := n.told()
					require.Equal(t, 1, ups-downs, "what was replaced is down")
				}
			})
		})
	}
}

func TestPeerThatLostTheConnectionGetsANewOne(t *testing.T) {
	t.Parallel()
	inBed(t, lan, func(t *testing.T, b *bed) {
		a, z := pair(b, nil)
		time.Sleep(4 * time.Second)
		b.net.Block(a.addr, z.addr)
		z.peer("n1").Close(transport.CloseByHandler, "lost") // n1 does not hear of it
		time.Sleep(100 * time.Millisecond)
		b.net.Unblock(a.addr, z.addr)
		z.connect(a)
		time.Sleep(time.Second)
		require.NoError(t, a.peer("n2").Send(transport.Control, []byte("new")))
		time.Sleep(time.Second)
		_, _, _, frames := z.told()
		require.Equal(t, []string{"control new"}, frames)
	})
}

func TestSecondAddressOfAPeerDoesNotDisturbTheFirst(t *testing.T) {
	t.Parallel()
	inBed(t, lan, func(t *testing.T, b *bed) {
		a, z := pair(b, nil)
		first := z.peer("n1")
		b.net.Alias("10.0.9.9:9", z.sock)
		require.NoError(t, a.Connect(t.Context(), "10.0.9.9:9"))
		start := time.Now()
		require.NoError(t, a.Connect(t.Context(), "10.0.9.9:9"), "the way is known now")
		require.Zero(t, time.Since(start))
		time.Sleep(time.Second)
		require.Same(t, first, z.peer("n1"))
		ups, downs, _, _ := a.told()
		require.Equal(t, []int{1, 0}, []int{ups, downs})
	})
}

func TestLaterBootReplacesAtOnceAndOrderIsKept(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{"10.0.0.2:7383", "10.0.0.3:7383"} {
		t.Run(addr, func(t *testing.T) {
			inBed(t, lan, func(t *testing.T, b *bed) {
				a, z := pair(b, nil)
				old := a.peer("n2")
				b.net.Crash(z.addr)
				again := b.start("n2", addr, 2, nil)
				start := time.Now()
				again.connect(a)
				require.Less(t, time.Since(start), 100*time.Millisecond)
				synctest.Wait()
				require.Equal(t, uint32(2), a.peer("n2").Info().Boot)
				select {
				case <-old.Done():
				default:
					require.Fail(t, "the old life's connection is still open")
				}
				ups, downs, _, _ := a.told()
				require.Equal(t, []int{2, 1}, []int{ups, downs})
			})
		})
	}
}

func TestEarlierBootIsTurnedAway(t *testing.T) {
	t.Parallel()
	inBed(t, lan, func(t *testing.T, b *bed) {
		a := b.start("n1", "10.0.0.1:7383", 1, nil)
		z := b.start("n2", "10.0.0.2:7383", 7, nil)
		a.connect(z)
		ghost := b.start("n2", "10.0.0.3:7383", 6, nil)
		require.Error(t, ghost.Connect(t.Context(), a.addr))
		time.Sleep(time.Second)
		require.Equal(t, uint32(7), a.peer("n2").Info().Boot)
	})
}

func TestRestartedPeerIsNoticedByItsReset(t *testing.T) {
	t.Parallel()
	inBed(t, lan, func(t *testing.T, b *bed) {
		a, z := pair(b, nil)
		old := a.peer("n2")
		b.net.Crash(z.addr)
		b.start("n2", z.addr, 2, nil)
		require.NoError(t, old.Send(transport.Control, []byte("are you there")))
		start := time.Now()
		<-old.Done()
		require.Less(t, time.Since(start), time.Second, "a stateless reset, not the idle timeout")
	})
}

func TestSilentPeerTimesOut(t *testing.T) {
	t.Parallel()
	inBed(t, lan, func(t *testing.T, b *bed) {
		a, z := pair(b, nil)
		old := a.peer("n2")
		b.net.Isolate(z.addr)
		start := time.Now()
		<-old.Done()
		require.InDelta(t, 10, time.Since(start).Seconds(), 4)
		synctest.Wait()
		require.Nil(t, a.Peer("n2"))
		b.net.Rejoin(z.addr)
		a.connect(z)
	})
}

func TestHandshakesAreLimited(t *testing.T) {
	t.Parallel()
	inBed(t, lan, func(t *testing.T, b *bed) {
		z := b.start("n2", "10.0.0.2:7383", 1, func(n *node, _ *transport.Config) {
			n.judge = func(wire.Conn) wire.ConnAck { return wire.ConnAck{Code: wire.ConnForgotten} }
		})
		a := b.start("n1", "10.0.0.1:7383", 1, nil)
		refused := 0
		start := time.Now()
		for time.Since(start) < 2*time.Second {
			for range 10 {
				go func() { _ = a.Connect(t.Context(), z.addr) }()
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			_ = a.Connect(ctx, z.addr)
			cancel()
		}
		_, _, acks, _ := a.told()
		refused = len(acks)
		require.Positive(t, refused)
		require.LessOrEqual(t, refused, 150, "50 at once and 50 a second")
		time.Sleep(5 * time.Second)
	})
}
