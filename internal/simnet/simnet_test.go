package simnet_test

import (
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/simnet"
)

const (
	addrA = "10.0.0.1:1"
	addrB = "10.0.0.2:2"
)

func listen(t *testing.T, n *simnet.Network, addr string) *simnet.Socket {
	t.Helper()
	s, err := n.Listen(addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func send(t *testing.T, from *simnet.Socket, to net.Addr, payload string) {
	t.Helper()
	_, err := from.WriteTo([]byte(payload), to)
	require.NoError(t, err)
}

// read returns the next payload within a second of network time, "" for none.
func read(t *testing.T, s *simnet.Socket) string {
	t.Helper()
	require.NoError(t, s.SetReadDeadline(time.Now().Add(time.Second)))
	buf := make([]byte, 2000)
	n, _, err := s.ReadFrom(buf)
	if err != nil {
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		return ""
	}
	return string(buf[:n])
}

func TestPacketTakesTheLatencyAndKeepsOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(1, simnet.Link{Latency: 50 * time.Millisecond})
		a, b := listen(t, n, addrA), listen(t, n, addrB)
		start := time.Now()
		send(t, a, b.LocalAddr(), "one")
		send(t, a, b.LocalAddr(), "two")
		require.Equal(t, "one", read(t, b))
		require.Equal(t, 50*time.Millisecond, time.Since(start))
		require.Equal(t, "two", read(t, b))
		require.Equal(t, 50*time.Millisecond, time.Since(start))
		require.Empty(t, read(t, b))
	})
}

func TestRateSpacesPackets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(1, simnet.Link{BytesPerSecond: 1000})
		a, b := listen(t, n, addrA), listen(t, n, addrB)
		start := time.Now()
		send(t, a, b.LocalAddr(), string(make([]byte, 100)))
		send(t, a, b.LocalAddr(), string(make([]byte, 100)))
		require.Len(t, read(t, b), 100)
		require.Len(t, read(t, b), 100)
		require.Equal(t, 200*time.Millisecond, time.Since(start))
	})
}

func TestCutsStopPacketsUntilHealed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(1, simnet.Link{})
		a, b := listen(t, n, addrA), listen(t, n, addrB)
		n.Block(addrA, addrB)
		send(t, a, b.LocalAddr(), "lost")
		require.Empty(t, read(t, b))
		n.Unblock(addrA, addrB)
		n.Isolate(addrB)
		send(t, a, b.LocalAddr(), "lost")
		require.Empty(t, read(t, b))
		n.Rejoin(addrB)
		send(t, a, b.LocalAddr(), "back")
		require.Equal(t, "back", read(t, b))
		send(t, a, b.LocalAddr(), string(make([]byte, simnet.MTU+1)))
		require.Empty(t, read(t, b), "larger than the path")
	})
}

func TestLossAndDuplicationFollowTheirShares(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(7, simnet.Link{})
		a, b := listen(t, n, addrA), listen(t, n, addrB)
		count := func(l simnet.Link) (got int) {
			n.SetLink(addrA, addrB, l)
			for range 500 {
				send(t, a, b.LocalAddr(), "x")
			}
			for read(t, b) != "" {
				got++
			}
			return got
		}
		require.InDelta(t, 350, count(simnet.Link{Loss: 0.3}), 50)
		require.InDelta(t, 600, count(simnet.Link{Duplicate: 0.2}), 50)
	})
}

func TestCrashFreesTheAddressAndSilencesTheOldSocket(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(1, simnet.Link{})
		a, b := listen(t, n, addrA), listen(t, n, addrB)
		_, err := n.Listen(addrA)
		require.Error(t, err, "the address is taken")
		n.Crash(addrA)
		again := listen(t, n, addrA)
		send(t, a, b.LocalAddr(), "from the dead")
		require.Empty(t, read(t, b))
		send(t, b, again.LocalAddr(), "to the living")
		require.Equal(t, "to the living", read(t, again))
		require.NoError(t, a.Close())
		send(t, b, again.LocalAddr(), "still there")
		require.Equal(t, "still there", read(t, again))
	})
}

func TestAliasLeadsToTheSameSocket(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(1, simnet.Link{})
		a, b := listen(t, n, addrA), listen(t, n, addrB)
		n.Alias("10.0.0.9:9", b)
		send(t, a, &net.UDPAddr{IP: net.IPv4(10, 0, 0, 9), Port: 9}, "there")
		require.Equal(t, "there", read(t, b))
	})
}

func TestCloseEndsAWaitingRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := listen(t, simnet.New(1, simnet.Link{}), "10.0.0.1:0")
		ended := make(chan error)
		go func() {
			_, _, err := s.ReadFrom(make([]byte, 10))
			ended <- err
		}()
		synctest.Wait()
		require.NoError(t, s.Close())
		require.ErrorIs(t, <-ended, net.ErrClosed)
	})
}
