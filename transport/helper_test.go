package transport_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"edged.dev/edged/internal/simnet"
	"edged.dev/edged/transport"
	"edged.dev/edged/transport/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bed is a cluster's CA and a simulated network.
type bed struct {
	t   *testing.T
	dir string
	net *simnet.Network
}

// inBed runs a test in virtual time on a network with the given links.
func inBed(t *testing.T, link simnet.Link, test func(t *testing.T, b *bed)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bed{t: t, dir: t.TempDir(), net: simnet.New(1, link)}
		require.NoError(t, transport.InitCA(filepath.Join(b.dir, "ca")))
		test(t, b)
	})
}

func (b *bed) identity(name string) transport.Identity {
	b.t.Helper()
	out, err := os.MkdirTemp(b.dir, name)
	require.NoError(b.t, err)
	require.NoError(b.t, transport.Issue(filepath.Join(b.dir, "ca"), name, out, 24*time.Hour))
	id, err := transport.LoadIdentity(out)
	require.NoError(b.t, err)
	return id
}

// node is a running transport and all that it told.
type node struct {
	*transport.Transport
	t    testing.TB
	addr string
	sock *simnet.Socket
	stop context.CancelFunc
	done chan error

	serve func(ctx context.Context, request []byte) ([]byte, error)
	lane  func(r io.Reader)
	frame func(kind transport.Kind, frame []byte)
	judge func(remote wire.Conn) wire.ConnAck
	down  func(p *transport.Peer)

	mu      sync.Mutex
	ups     []*transport.Peer
	downs   []error
	refused []wire.ConnAck
	frames  []string
}

// start runs a node at addr; change, if any, alters it before it starts.
func (b *bed) start(name, addr string, boot uint32, change func(*node, *transport.Config)) *node {
	b.t.Helper()
	socket, err := b.net.Listen(addr)
	require.NoError(b.t, err)
	n := &node{t: b.t, addr: addr, sock: socket, done: make(chan error, 1)}
	cfg := transport.Config{
		Identity: b.identity(name), Node: uint64(name[len(name)-1]), Boot: boot, Socket: socket,
		StatelessResetKey: [32]byte{name[len(name)-1]}, Handler: n, Server: n,
	}
	if change != nil {
		change(n, &cfg)
	}
	n.Transport, err = transport.New(cfg)
	require.NoError(b.t, err)
	n.run()
	b.t.Cleanup(n.halt)
	return n
}

func (n *node) run() {
	ctx, stop := context.WithCancel(context.Background())
	n.stop = stop
	go func() { n.done <- n.Run(ctx) }()
}

// halt stops the node and waits for the last of its goroutines.
func (n *node) halt() {
	if n.stop == nil {
		return
	}
	n.stop()
	n.stop = nil
	require.NoError(n.t, <-n.done)
}

func (n *node) connect(to *node) {
	n.t.Helper()
	require.NoError(n.t, n.Connect(n.t.Context(), to.addr))
}

// peer is the living connection with name, which must be there.
func (n *node) peer(name string) *transport.Peer {
	n.t.Helper()
	p := n.Peer(name)
	require.NotNil(n.t, p, "%s is connected", name)
	return p
}

func (n *node) Conn(remote wire.Conn) wire.ConnAck {
	if n.judge != nil {
		return n.judge(remote)
	}
	return wire.ConnAck{Partitions: 256}
}

func (n *node) Refused(ack wire.ConnAck) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.refused = append(n.refused, ack)
}

func (n *node) PeerUp(p *transport.Peer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ups = append(n.ups, p)
}

func (n *node) PeerDown(p *transport.Peer, cause error) {
	if n.down != nil {
		n.down(p)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.downs = append(n.downs, cause)
}

func (n *node) Frame(_ *transport.Peer, kind transport.Kind, frame []byte) {
	if n.frame != nil {
		n.frame(kind, frame)
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.frames = append(n.frames, kind.String()+" "+string(frame))
}

func (n *node) Serve(ctx context.Context, _ *transport.Peer, request []byte) ([]byte, error) {
	if n.serve == nil {
		return nil, errors.New("nothing served")
	}
	return n.serve(ctx, request)
}

func (n *node) Lane(_ context.Context, _ *transport.Peer, r io.Reader) {
	if n.lane != nil {
		n.lane(r)
	}
}

// told returns what the node was told so far.
func (n *node) told() (ups, downs int, refused []wire.ConnAck, frames []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.ups), len(n.downs), n.refused, append([]string(nil), n.frames...)
}

// pair is two connected nodes.
func pair(b *bed, change func(*node, *transport.Config)) (a, z *node) {
	b.t.Helper()
	a = b.start("n1", "10.0.0.1:7383", 1, nil)
	z = b.start("n2", "10.0.0.2:7383", 1, change)
	a.connect(z)
	synctest.Wait()
	return a, z
}

var lan = simnet.Link{Latency: time.Millisecond}

func pattern(n int) []byte { return bytes.Repeat([]byte("0123456789abcdef"), n/16+1)[:n] }

func udpAddr(t *testing.T, addr string) net.Addr {
	t.Helper()
	a, err := net.ResolveUDPAddr("udp", addr)
	require.NoError(t, err)
	return a
}
