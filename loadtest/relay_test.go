package main

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestNetProfileReadsWhatItWrites(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]netProfile{
		"rtt=40ms,rate=100Mbit":         {rtt: 40 * time.Millisecond, rate: 100e6},
		"rtt=2s":                        {rtt: maxRTT},
		"rate=64kbit":                   {rate: minRate},
		"rate=100Gbit":                  {rate: maxRate},
		"loss=50%":                      {loss: maxLoss},
		"rtt=1ms,rate=1.5Mbit,loss=.1%": {rtt: time.Millisecond, rate: 1.5e6, loss: 0.001},
	} {
		var got, again netProfile
		require.NoError(t, got.Set(text), text)
		require.InDelta(t, want.loss, got.loss, 1e-12)
		got.loss = want.loss
		require.Equal(t, want, got, text)
		require.NoError(t, again.Set(got.String()), got.String())
		require.InDelta(t, got.rate, again.rate, 1e-3)
		require.Equal(t, got.rtt, again.rtt)
	}
	for text, says := range map[string]string{
		"":             "want rtt, rate or loss",
		"rtt=40":       "missing unit",
		"rtt=2001ms":   "want 0s to 2s",
		"rtt=-1ms":     "want 0s to 2s",
		"rate=100":     "such as 100Mbit",
		"rate=63kbit":  "such as 100Mbit",
		"rate=101Gbit": "such as 100Mbit",
		"rate=NaNMbit": "such as 100Mbit",
		"loss=51%":     "want 0% to 50%",
		"loss=1":       "want 0% to 50%",
		"loss=NaN%":    "want 0% to 50%",
		"jitter=3ms":   "want rtt, rate or loss",
	} {
		p := netProfile{rtt: 7}
		require.ErrorContains(t, p.Set(text), says, text)
		require.Equal(t, netProfile{rtt: 7}, p, "as it was")
	}
}

// 1 Mbit/s carries 125 bytes in a millisecond.
func TestLinkPacesDelaysAndDropsWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	l := newRelayLink(netProfile{rtt: 40 * time.Millisecond, rate: 1e6}, rand.New(rand.NewPCG(1, 1)), &relayGate{}, &relayGate{})
	now := time.Unix(100, 0)
	for i := 1; i <= 3; i++ {
		at, ok := l.schedule(now, 125)
		require.True(t, ok)
		require.Equal(t, now.Add(20*time.Millisecond+time.Duration(i)*time.Millisecond), at)
	}
	require.InDelta(t, minQueueBytes, l.profile.queueBytes(), 1e-9)
	_, ok := l.schedule(now, minQueueBytes-375+1)
	require.False(t, ok, "one byte more than fits")
	_, ok = l.schedule(now, minQueueBytes-375)
	require.True(t, ok, "as much as fits")
	later := now.Add(time.Minute)
	at, ok := l.schedule(later, 125)
	require.True(t, ok)
	require.Equal(t, later.Add(21*time.Millisecond), at, "an idle link saves nothing up")
	require.InDelta(t, 625_000, netProfile{rate: 100e6}.queueBytes(), 1e-6)
}

func TestLinkLosesItsShare(t *testing.T) {
	t.Parallel()
	l := newRelayLink(netProfile{loss: 0.1}, rand.New(rand.NewPCG(1, 1)), &relayGate{}, &relayGate{})
	lost := 0
	for range 10_000 {
		if _, ok := l.schedule(time.Time{}, 100); !ok {
			lost++
		}
	}
	require.InDelta(t, 1000, lost, 100)
}

// relayEnds starts a relay between two sockets, which stand for nodes.
func relayEnds(t *testing.T, p netProfile) (*relay, [2]*net.UDPConn) {
	t.Helper()
	r, err := startRelay(2, p, 1)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.close()) })
	var out [2]*net.UDPConn
	for i := range out {
		at, err := netip.ParseAddrPort(r.routes()[i].Listen)
		require.NoError(t, err)
		out[i], err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
		require.NoError(t, err)
		t.Cleanup(func() { out[i].Close() })
	}
	return r, out
}

// receive reads a datagram and says from where it came.
func receive(t *testing.T, c *net.UDPConn) (string, netip.AddrPort) {
	t.Helper()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
	buf := make([]byte, 1500)
	n, from, err := c.ReadFromUDPAddrPort(buf)
	require.NoError(t, err)
	return string(buf[:n]), from
}

// What node 0 sends to node 1's address arrives there, and the answer comes back
// from that address; a stranger's datagram arrives nowhere.
func TestRelayCarriesBothWaysAndHidesWhoSent(t *testing.T) {
	t.Parallel()
	begun := time.Now()
	r, ends := relayEnds(t, netProfile{rtt: 20 * time.Millisecond})
	front, err := netip.ParseAddrPort(r.routes()[1].Advertise)
	require.NoError(t, err)
	stranger, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer stranger.Close()
	_, err = stranger.WriteToUDPAddrPort([]byte("let me in"), front)
	require.NoError(t, err)
	_, err = ends[0].WriteToUDPAddrPort([]byte("hello"), front)
	require.NoError(t, err)
	text, from := receive(t, ends[1])
	require.Equal(t, "hello", text)
	require.NotEqual(t, r.nodes[0], from)
	_, err = ends[1].WriteToUDPAddrPort([]byte("good day"), from)
	require.NoError(t, err)
	text, from = receive(t, ends[0])
	require.Equal(t, "good day", text)
	require.Equal(t, front, from)
	require.GreaterOrEqual(t, time.Since(begun), 20*time.Millisecond)
	require.Eventually(t, func() bool { return r.gates[1].counts() == wireCount{in: 5, out: 8} }, 10*time.Second, time.Millisecond)
	require.Equal(t, wireCount{in: 8, out: 5}, r.gates[0].counts())
}

func TestRelayCutsAtTheByte(t *testing.T) {
	t.Parallel()
	r, ends := relayEnds(t, netProfile{})
	front, err := netip.ParseAddrPort(r.routes()[1].Advertise)
	require.NoError(t, err)
	send := func(text string) {
		_, err := ends[0].WriteToUDPAddrPort([]byte(text), front)
		require.NoError(t, err)
	}
	reached := r.gates[1].cutAfter(10)
	send("12345")
	text, _ := receive(t, ends[1])
	require.Equal(t, "12345", text)
	select {
	case <-reached:
		require.Fail(t, "cut at 5 bytes of 10")
	default:
	}
	send("67890")
	text, _ = receive(t, ends[1])
	require.Equal(t, "67890", text, "the one that reaches the limit still arrives")
	<-reached
	send("lost")
	require.Eventually(t, func() bool { return r.links[0][1].dropped.Load() == 1 }, 10*time.Second, time.Millisecond)
	require.Equal(t, uint64(10), r.gates[1].counts().in)
	r.gates[1].heal()
	send("healed")
	text, _ = receive(t, ends[1])
	require.Equal(t, "healed", text)
}

func TestInterruptedIsHeldAgainstItsBound(t *testing.T) {
	t.Parallel()
	c := cutCost(100_000, 150_000, 2)
	require.Equal(t, uint64(150_000), c.Bound)
	require.True(t, c.Met)
	require.InDelta(t, 1.5, c.Ratio, 1e-9)
	require.InDelta(t, 25_000, c.Extra, 1e-9)
	require.False(t, cutCost(100_000, 150_001, 2).Met, "one byte over")
	c = cutCost(100_000, 101_000, 0)
	require.Zero(t, c.Extra, "it was faster than the first cut")
	require.True(t, c.Met)
}
