package cluster_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"edged.dev/edged/cluster"
	"edged.dev/edged/internal/simnet"
	"edged.dev/edged/transport"
	"edged.dev/edged/transport/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var _ cluster.PacketLink = (*transport.Gossip)(nil)

// bed is a CA and a simulated network; nodes on it run the real transport and the
// real memberlist.
type bed struct {
	t   *testing.T
	dir string
	net *simnet.Network
}

// inBed runs a test in virtual time.
func inBed(t *testing.T, link simnet.Link, test func(t *testing.T, b *bed)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bed{t: t, dir: t.TempDir(), net: simnet.New(1, link)}
		require.NoError(t, transport.InitCA(filepath.Join(b.dir, "ca")))
		// memberlist.Shutdown returns before its loops do.
		t.Cleanup(func() { time.Sleep(time.Minute) })
		test(t, b)
	})
}

// node is one life of a node.
type node struct {
	*cluster.Cluster
	t       *testing.T
	net     *simnet.Network
	name    string
	addr    string
	link    *transport.Transport
	stops   []context.CancelFunc
	stopped []chan error

	mu     sync.Mutex
	events []string
}

// start runs a life of the node name at addr. Its peers are remembered in a file
// that its next life reads.
func (b *bed) start(name, addr string, boot uint32, join ...string) *node {
	b.t.Helper()
	dir := filepath.Join(b.dir, name)
	require.NoError(b.t, os.MkdirAll(dir, 0o700))
	keys, err := os.MkdirTemp(b.dir, name)
	require.NoError(b.t, err)
	require.NoError(b.t, transport.Issue(filepath.Join(b.dir, "ca"), name, keys, 24*time.Hour))
	id, err := transport.LoadIdentity(keys)
	require.NoError(b.t, err)
	socket, err := b.net.Listen(addr)
	require.NoError(b.t, err)
	nodeID := uint64(name[len(name)-1])
	tr, err := transport.New(transport.Config{
		Identity: id, Node: nodeID, Boot: boot, Socket: socket,
		StatelessResetKey: [32]byte{byte(nodeID)}, Handler: open{}, Server: open{},
	})
	require.NoError(b.t, err)
	n := &node{t: b.t, net: b.net, name: name, addr: addr, link: tr}
	n.Cluster, err = cluster.New(cluster.Config{
		Cluster: id.Cluster, Name: name, Node: nodeID, Boot: boot, Addresses: tr.Addresses(),
		Link: tr.Gossip(), Join: join, Peers: cluster.FileStore(filepath.Join(dir, "peers.json")),
		OnEvent: n.note,
	})
	require.NoError(b.t, err)
	n.run(tr.Run)
	n.run(n.Run)
	b.t.Cleanup(n.halt)
	return n
}

func (n *node) run(f func(context.Context) error) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	n.stops = append(n.stops, stop)
	n.stopped = append(n.stopped, done)
}

// halt stops gossip, then the transport, and waits for both.
func (n *node) halt() {
	for i := len(n.stops) - 1; i >= 0; i-- {
		n.stops[i]()
		require.NoError(n.t, <-n.stopped[i])
	}
	n.stops, n.stopped = nil, nil
}

// crash ends the life as kill -9 does: nothing more of it is seen.
func (n *node) crash() {
	n.net.Crash(n.addr)
	n.halt()
}

func (n *node) note(e cluster.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events = append(n.events, fmt.Sprintf("%s %s@%d", e.Kind, e.Member.Name, e.Member.Boot))
}

func (n *node) told() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.events)
}

// alive lists the members held alive, as name@boot.
func (n *node) alive() []string {
	var names []string
	for _, m := range n.Members() {
		if m.Alive {
			names = append(names, fmt.Sprintf("%s@%d", m.Name, m.Boot))
		}
	}
	return names
}

// sees waits until a node's living members are want, and returns how long it took.
func (n *node) sees(limit time.Duration, want ...string) time.Duration {
	n.t.Helper()
	start := time.Now()
	for !slices.Equal(n.alive(), want) {
		if time.Since(start) > limit {
			require.Equal(n.t, want, n.alive(), "as %s sees it after %v", n.name, limit)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return time.Since(start)
}

// open lets everyone in and serves nothing.
type open struct{}

func (open) Conn(wire.Conn) wire.ConnAck                   { return wire.ConnAck{} }
func (open) Refused(wire.ConnAck)                          {}
func (open) PeerUp(*transport.Peer)                        {}
func (open) PeerDown(*transport.Peer, error)               {}
func (open) Frame(*transport.Peer, transport.Kind, []byte) {}
func (open) Lane(context.Context, *transport.Peer, io.Reader) {
}

func (open) Serve(context.Context, *transport.Peer, []byte) ([]byte, error) {
	return nil, io.EOF
}

const (
	addr1 = "10.0.0.1:7383"
	addr2 = "10.0.0.2:7383"
	addr3 = "10.0.0.3:7383"
)

var lan = simnet.Link{Latency: time.Millisecond}

func three(b *bed) (n1, n2, n3 *node) {
	b.t.Helper()
	n1 = b.start("n1", addr1, 1)
	n2 = b.start("n2", addr2, 1, addr1)
	n3 = b.start("n3", addr3, 1, addr1)
	n1.sees(time.Second, "n2@1", "n3@1")
	n2.sees(time.Second, "n1@1", "n3@1")
	n3.sees(time.Second, "n1@1", "n2@1")
	return n1, n2, n3
}

func TestNodesFindEachOtherThroughOne(t *testing.T) {
	t.Parallel()
	inBed(t, lan, func(t *testing.T, b *bed) {
		n1, n2, _ := three(b)
		require.ElementsMatch(t, []string{"joined n2@1", "joined n3@1"}, n1.told())
		m := n1.Members()[0]
		require.Equal(t, cluster.Member{Name: "n2", Node: '2', Boot: 1, Addresses: []string{addr2}, Alive: true}, m)
		synctest.Wait()
		saved, err := cluster.FileStore(filepath.Join(b.dir, "n2", "peers.json")).Load()
		require.NoError(t, err)
		require.Len(t, saved, 2)
		require.Equal(t, cluster.Peer{Name: "n1", Node: '1', Boot: 1, Addresses: []string{addr1}}, saved[0])
		// A pair connects with its first packet, which a probe sends within rounds.
		for range 100 {
			if len(n2.link.Peers()) == 2 {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		require.Len(t, n2.link.Peers(), 2, "gossip has connected all pairs")
	})
}

// TestLongPartitionHeals cuts a node off for longer than memberlist keeps the
// dead (30 s), after which it would never look for it again.
func TestLongPartitionHeals(t *testing.T) {
	t.Parallel()
	inBed(t, lan, func(t *testing.T, b *bed) {
		n1, n2, n3 := three(b)
		b.net.Isolate(n3.addr)
		n1.sees(time.Minute, "n2@1")
		n3.sees(time.Minute)
		time.Sleep(10 * time.Minute)
		require.Contains(t, n1.told(), "left n3@1")
		b.net.Rejoin(n3.addr)
		require.Less(t, n1.sees(10*time.Second, "n2@1", "n3@1"), 6*time.Second)
		n2.sees(time.Second, "n1@1", "n3@1")
		n3.sees(time.Second, "n1@1", "n2@1")
	})
}

func TestRestartShowsAtOnceAsTheNewBoot(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{addr3, "10.0.0.9:9000"} {
		t.Run(addr, func(t *testing.T) {
			inBed(t, lan, func(t *testing.T, b *bed) {
				n1, n2, n3 := three(b)
				b.net.Crash(n3.addr)
				time.Sleep(50 * time.Millisecond)
				b.start("n3", addr, 2) // no join list: it remembers
				require.Less(t, n1.sees(time.Second, "n2@1", "n3@2"), 300*time.Millisecond)
				require.Less(t, n2.sees(time.Second, "n1@1", "n3@2"), 300*time.Millisecond)
				time.Sleep(time.Minute)
				require.Equal(t, []string{"n2@1", "n3@2"}, n1.alive(), "the old life's end is not the node's")
				require.NotContains(t, n1.told(), "left n3@1")
				require.NotContains(t, n1.told(), "left n3@2")
				require.Equal(t, addr, n1.Members()[1].Addresses[0])
			})
		})
	}
}

func TestAllRestartAtOnce(t *testing.T) {
	t.Parallel()
	inBed(t, lan, func(t *testing.T, b *bed) {
		n1, n2, n3 := three(b)
		synctest.Wait()
		for _, n := range []*node{n1, n2, n3} {
			b.net.Crash(n.addr)
		}
		m1, m2, m3 := b.start("n1", addr1, 2), b.start("n2", addr2, 2), b.start("n3", addr3, 2)
		m1.sees(5*time.Second, "n2@2", "n3@2")
		m2.sees(5*time.Second, "n1@2", "n3@2")
		m3.sees(5*time.Second, "n1@2", "n2@2")
	})
}

func TestStoppingNodeIsSeenToLeave(t *testing.T) {
	t.Parallel()
	inBed(t, lan, func(t *testing.T, b *bed) {
		n1, n2, n3 := three(b)
		start := time.Now()
		n3.halt()
		require.LessOrEqual(t, time.Since(start), 600*time.Millisecond)
		n1.sees(time.Second, "n2@1")
		n2.sees(time.Second, "n1@1")
	})
}

func TestJoinOnRequest(t *testing.T) {
	t.Parallel()
	inBed(t, lan, func(t *testing.T, b *bed) {
		n1, n2 := b.start("n1", addr1, 1), b.start("n2", addr2, 1)
		synctest.Wait()
		got, err := n1.Join(t.Context(), []string{"10.0.0.99:1", addr2})
		require.NoError(t, err)
		require.Equal(t, 1, got)
		n2.sees(time.Second, "n1@1")
		_, err = n1.Join(t.Context(), []string{"no port"})
		require.Error(t, err)
		n1.halt()
		_, err = n1.Join(t.Context(), []string{addr2})
		require.ErrorContains(t, err, "not running")
	})
}

func TestForgottenNodeIsNotLookedFor(t *testing.T) {
	t.Parallel()
	inBed(t, lan, func(t *testing.T, b *bed) {
		n1, _, n3 := three(b)
		n3.crash()
		n1.sees(time.Minute, "n2@1")
		require.NoError(t, n1.Forget('3'))
		saved, err := cluster.FileStore(filepath.Join(b.dir, "n1", "peers.json")).Load()
		require.NoError(t, err)
		require.Len(t, saved, 1)
	})
}

func TestLossyNetworkKeepsItsMembers(t *testing.T) {
	t.Parallel()
	inBed(t, simnet.Link{Latency: 20 * time.Millisecond, Jitter: 10 * time.Millisecond, Loss: 0.05, Duplicate: 0.02}, func(t *testing.T, b *bed) {
		n1 := b.start("n1", addr1, 1)
		n2 := b.start("n2", addr2, 1, addr1)
		n1.sees(10*time.Second, "n2@1")
		n2.sees(10*time.Second, "n1@1")
		time.Sleep(2 * time.Minute)
		require.Equal(t, []string{"joined n2@1"}, n1.told())
	})
}
