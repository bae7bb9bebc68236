package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/sync/errgroup"

	"edged.dev/edged/transport/wire"
)

// Transport is a node's end of all its connections. Its methods may be called by
// any goroutine.
type Transport struct {
	cfg        Config
	addresses  []string
	socket     net.PacketConn
	quic       *quic.Transport
	counter    counter
	conns      atomic.Int64
	attempts   atomic.Uint64
	rejected   atomic.Int64
	handshakes *bucket
	serving    budget
	gossip     *Gossip
	dialWake   chan struct{} // pending has something

	mu      sync.Mutex
	closed  bool
	peers   map[string]*Peer         // the living connection of each name
	tails   map[string]chan struct{} // closed when the last connection of a name is quiet
	routes  map[netip.AddrPort]*Peer // every address that leads to a living connection
	dials   map[string]*dialing      // by address, in flight or waiting
	backoff map[string]*backoff      // by address, of background dials
	pending []*dialing               // not yet started
}

// New binds the socket of cfg. Nothing is sent or received before Run, which
// must be called once, also to close the socket.
func New(cfg Config) (*Transport, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("new transport: %w", err)
	}
	socket := cfg.Socket
	if socket == nil {
		bound, err := net.ListenPacket("udp", cfg.Listen)
		if err != nil {
			return nil, fmt.Errorf("bind node port: %w", err)
		}
		socket = bound
	}
	for cfg.Nonce == 0 {
		cfg.Nonce = binary.LittleEndian.Uint64(randomBytes(8))
	}
	t := &Transport{
		cfg:        cfg,
		handshakes: newBucket(handshakesPerSecond, time.Now()),
		serving:    budget{limit: maxServeBytes},
		dialWake:   make(chan struct{}, 1),
		peers:      map[string]*Peer{},
		tails:      map[string]chan struct{}{},
		routes:     map[netip.AddrPort]*Peer{},
		dials:      map[string]*dialing{},
		backoff:    map[string]*backoff{},
	}
	t.addresses = reachableAt(cfg.Addresses, socket.LocalAddr())
	t.socket = countSocket(socket, &t.counter)
	key := quic.StatelessResetKey(cfg.StatelessResetKey)
	t.quic = &quic.Transport{
		Conn:                t.socket,
		StatelessResetKey:   &key,
		ConnContext:         t.admitConn,
		VerifySourceAddress: t.doubtSource,
	}
	t.gossip = newGossip(t)
	return t, nil
}

// reachableAt puts the bound port where an address has port 0.
func reachableAt(addresses []string, bound net.Addr) []string {
	at := addrPort(bound)
	if len(addresses) == 0 && at.IsValid() && !at.Addr().IsUnspecified() {
		return []string{at.String()}
	}
	addresses = slices.Clone(addresses)
	for i, a := range addresses {
		if host, port, err := net.SplitHostPort(a); err == nil && port == "0" {
			addresses[i] = net.JoinHostPort(host, strconv.Itoa(int(at.Port())))
		}
	}
	return addresses
}

// addrPort is the canonical form of a UDP address, as routes are keyed by.
func addrPort(a net.Addr) netip.AddrPort {
	udp, ok := a.(*net.UDPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	at := udp.AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

// Run accepts, dials and serves connections until ctx ends, then closes them and
// the socket. It returns nil after an orderly end.
func (t *Transport) Run(ctx context.Context) error {
	listener, err := t.quic.Listen(t.cfg.Identity.tlsConfig(&t.rejected), t.quicConfig())
	if err != nil {
		t.close()
		return fmt.Errorf("listen on node port: %w", errors.Join(err, t.socket.Close()))
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return t.acceptLoop(ctx, g, listener) })
	g.Go(func() error { return t.dialLoop(ctx, g) })
	g.Go(func() error {
		<-ctx.Done()
		t.close()
		return nil
	})
	err = g.Wait()
	_ = listener.Close()
	_ = t.quic.Close()
	_ = t.socket.Close()
	if err != nil {
		return fmt.Errorf("run transport: %w", err)
	}
	return nil
}

// close ends every connection and every waiting dial, and lets none begin.
func (t *Transport) close() {
	t.mu.Lock()
	t.closed = true
	peers := make([]*Peer, 0, len(t.peers))
	for _, p := range t.peers {
		peers = append(peers, p)
	}
	pending := t.pending
	t.pending = nil
	t.mu.Unlock()
	for _, d := range pending {
		t.finishDial(d, ErrClosed)
	}
	for _, p := range peers {
		p.Close(CloseShutdown, "node stops")
	}
}

// Addr is the bound address.
func (t *Transport) Addr() net.Addr { return t.socket.LocalAddr() }

// Addresses are where peers are told to reach this node.
func (t *Transport) Addresses() []string { return slices.Clone(t.addresses) }

// BytesIn is the UDP payload bytes received so far, all of them.
func (t *Transport) BytesIn() int64 { return t.counter.in.Load() }

// BytesOut is the UDP payload bytes sent so far, all of them.
func (t *Transport) BytesOut() int64 { return t.counter.out.Load() }

// Rejected counts the connections not made because a certificate, a cluster, a
// name or a version was wrong, or the handler would not have the peer.
func (t *Transport) Rejected() int64 { return t.rejected.Load() }

// Gossip is the membership protocol's way over these connections.
func (t *Transport) Gossip() *Gossip { return t.gossip }

// Peer returns the living connection with the node of that name, or nil.
func (t *Transport) Peer(name string) *Peer {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.peers[name]
}

// Peers returns the living connections, in no order.
func (t *Transport) Peers() []*Peer {
	t.mu.Lock()
	defer t.mu.Unlock()
	peers := make([]*Peer, 0, len(t.peers))
	for _, p := range t.peers {
		peers = append(peers, p)
	}
	return peers
}

func (t *Transport) acceptLoop(ctx context.Context, g *errgroup.Group, listener *quic.Listener) error {
	for {
		conn, err := listener.Accept(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept connection: %w", err)
		}
		g.Go(func() error {
			if p := t.welcome(ctx, conn); p != nil {
				t.serve(ctx, p)
			}
			return nil
		})
	}
}

// admitConn is asked for every connection that a stranger begins.
func (t *Transport) admitConn(ctx context.Context, _ *quic.ClientInfo) (context.Context, error) {
	if ok, _ := t.handshakes.take(time.Now()); !ok {
		return nil, errors.New("too many handshakes")
	}
	if !t.countConn() {
		return nil, errors.New("too many connections")
	}
	context.AfterFunc(ctx, t.uncountConn)
	return ctx, nil
}

// doubtSource makes a stranger prove its address when handshakes come at a rate
// that half empties the bucket.
func (t *Transport) doubtSource(net.Addr) bool { return t.handshakes.fill(time.Now()) < 0.5 }

func (t *Transport) countConn() bool {
	if t.conns.Add(1) > maxConns {
		t.conns.Add(-1)
		return false
	}
	return true
}

func (t *Transport) uncountConn() { t.conns.Add(-1) }

func (t *Transport) quicConfig() *quic.Config {
	c := &quic.Config{
		HandshakeIdleTimeout:           dialTimeout,
		MaxIdleTimeout:                 idleTimeout,
		KeepAlivePeriod:                keepAlive,
		InitialStreamReceiveWindow:     streamWindow,
		MaxStreamReceiveWindow:         streamWindow,
		InitialConnectionReceiveWindow: connWindow,
		MaxConnectionReceiveWindow:     connWindow,
		MaxIncomingStreams:             maxStreams,
		MaxIncomingUniStreams:          maxUniStreams,
		EnableDatagrams:                true,
		Allow0RTT:                      false,
		// Probes of 1.4 KB would be most of what a connection costs: see docs/RATIONALE.md.
		DisablePathMTUDiscovery: true,
	}
	c.GetConfigForClient = func(*quic.ClientInfo) (*quic.Config, error) { return t.sized(c), nil }
	return c
}

// sized returns c with the windows that are left for one more connection.
func (t *Transport) sized(c *quic.Config) *quic.Config {
	if t.conns.Load() <= fullWindowConns {
		return c
	}
	small := c.Clone()
	small.InitialStreamReceiveWindow /= smallWindowShare
	small.MaxStreamReceiveWindow /= smallWindowShare
	small.InitialConnectionReceiveWindow /= smallWindowShare
	small.MaxConnectionReceiveWindow /= smallWindowShare
	return small
}

// self is what this node says of itself.
func (t *Transport) self() wire.Conn {
	return wire.Conn{
		Version: wire.Version, Cluster: t.cfg.Identity.Cluster, Name: t.cfg.Identity.Name,
		Node: t.cfg.Node, Boot: t.cfg.Boot, Nonce: t.cfg.Nonce, Addresses: t.addresses,
		Copies: t.cfg.Copies,
	}
}
