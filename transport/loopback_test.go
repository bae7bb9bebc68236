package transport_test

import (
	"bytes"
	"context"
	"io"
	"log"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"edged.dev/edged/transport"
)

// onLoopback runs a node on a kernel socket.
func onLoopback(t testing.TB, dir, name, listen string, boot uint32) *node {
	t.Helper()
	out := t.TempDir()
	require.NoError(t, transport.Issue(filepath.Join(dir, "ca"), name, out, time.Hour))
	id, err := transport.LoadIdentity(out)
	require.NoError(t, err)
	n := &node{t: t, done: make(chan error, 1)}
	n.serve = func(_ context.Context, request []byte) ([]byte, error) { return request, nil }
	n.lane = func(r io.Reader) { _, _ = io.Copy(io.Discard, r) }
	n.Transport, err = transport.New(transport.Config{
		Identity: id, Node: uint64(name[1]), Boot: boot, Listen: listen,
		StatelessResetKey: [32]byte{name[1]}, Handler: n, Server: n,
	})
	require.NoError(t, err)
	n.addr = n.Addr().String()
	n.run()
	t.Cleanup(n.halt)
	return n
}

func loopbackPair(t testing.TB) (dir string, a, z *node) {
	t.Helper()
	dir = t.TempDir()
	require.NoError(t, transport.InitCA(filepath.Join(dir, "ca")))
	a = onLoopback(t, dir, "n1", "127.0.0.1:0", 1)
	z = onLoopback(t, dir, "n2", "127.0.0.1:0", 1)
	a.connect(z)
	return dir, a, z
}

// TestKernelSocketCountsItsBytesInSilence moves bytes and compares both ends'
// counters. It is not parallel: it listens in on the standard logger.
func TestKernelSocketCountsItsBytesInSilence(t *testing.T) {
	var said bytes.Buffer
	log.SetOutput(&said)
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
	_, a, z := loopbackPair(t)
	want := pattern(3 << 20)
	answer, err := a.peer("n2").Call(t.Context(), want)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, answer))
	a.halt()
	z.halt()
	require.Empty(t, said.String(), "nothing complains of buffer sizes")
	for _, n := range []int64{a.BytesIn(), a.BytesOut(), z.BytesIn(), z.BytesOut()} {
		require.Greater(t, n, int64(3<<20))
		require.Less(t, n, int64(4<<20), "each direction carries the 3 MiB once")
	}
	require.LessOrEqual(t, z.BytesIn(), a.BytesOut())
	require.LessOrEqual(t, a.BytesIn(), z.BytesOut())
}

func TestRestartOnTheSamePortIsQuick(t *testing.T) {
	dir, a, z := loopbackPair(t)
	addr := z.addr
	z.halt()
	again := onLoopback(t, dir, "n2", addr, 2)
	start := time.Now()
	again.connect(a)
	require.Less(t, time.Since(start), 2*time.Second)
	require.Eventually(t, func() bool {
		p := a.Peer("n2")
		return p != nil && p.Info().Boot == 2
	}, 5*time.Second, time.Millisecond)
}

// TestSmallCallsInParallel: an answer may overtake the end of its request.
func TestSmallCallsInParallel(t *testing.T) {
	_, a, _ := loopbackPair(t)
	p := a.peer("n2")
	var callers errgroup.Group
	for range 16 {
		callers.Go(func() error {
			for range 300 {
				if _, err := p.Call(t.Context(), []byte("small")); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, callers.Wait())
}

func TestTakenPortIsAnError(t *testing.T) {
	_, a, _ := loopbackPair(t)
	out := filepath.Join(t.TempDir(), "self")
	id, err := transport.SelfIdentity(out, "n9")
	require.NoError(t, err)
	n := &node{}
	cfg := transport.Config{Identity: id, Listen: a.addr, StatelessResetKey: [32]byte{1}, Handler: n, Server: n}
	_, err = transport.New(cfg)
	require.ErrorContains(t, err, "bind node port")
	cfg.Listen, cfg.StatelessResetKey = "127.0.0.1:0", [32]byte{}
	_, err = transport.New(cfg)
	require.ErrorContains(t, err, "reset key")
	cfg.StatelessResetKey, cfg.Addresses = [32]byte{1}, []string{"no port"}
	_, err = transport.New(cfg)
	require.ErrorContains(t, err, "address")
}

func BenchmarkCall(b *testing.B) {
	a := benchPair(b)
	p := a.Peer("n2")
	request := pattern(200)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := p.Call(b.Context(), request); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkLane(b *testing.B) {
	a := benchPair(b)
	l, err := a.Peer("n2").OpenLane(b.Context())
	require.NoError(b, err)
	chunk := pattern(64 << 10)
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		_, err := l.Write(chunk)
		require.NoError(b, err)
	}
	require.NoError(b, l.Close())
}

func benchPair(b *testing.B) *node {
	b.Helper()
	_, a, _ := loopbackPair(b)
	return a
}

// What a connection costs beside what it carries is its handshake, of some 11 KB both
// ways: a node that returns pays it for each of its peers, as often as it is cut off.
func TestAConnectionCostsLittleMoreThanItsHandshake(t *testing.T) {
	_, a, z := loopbackPair(t)
	for range 20 { // round trips, in which more would be said if there were more to say
		for _, p := range []*transport.Peer{a.peer("n2"), z.peer("n1")} {
			_, err := p.Call(t.Context(), []byte("?"))
			require.NoError(t, err)
		}
	}
	cost := a.BytesIn() + a.BytesOut()
	t.Logf("%d bytes", cost)
	require.Less(t, cost, int64(20<<10), "to look for the path's MTU would take 11.5 KB more")
}
