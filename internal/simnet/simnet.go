// Package simnet is a UDP network inside one process for tests: sockets are
// net.PacketConn, and every pair of addresses may have latency, loss,
// duplication, a rate, or be cut. It starts no goroutine and waits only on
// channels and timers, so under testing/synctest a minute of network time passes
// in no time, and the same seed gives the same fate to the same packets.
package simnet

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// MTU is the largest payload carried, as on an Ethernet path without jumbo
	// frames; a larger packet vanishes, as one with the DF bit would.
	MTU = 1472
	// maxQueued bounds a socket's receive queue, in packets: a few times a
	// default kernel buffer of 212 KiB, so that a slow reader loses packets here
	// as it would there.
	maxQueued = 1024
)

// Link says what one direction between two addresses does to packets.
type Link struct {
	Latency        time.Duration
	Jitter         time.Duration // up to this is added at random; it reorders
	Loss           float64       // share of packets that vanish, 0 to 1
	Duplicate      float64       // share of packets that arrive twice
	BytesPerSecond int64         // 0 is without limit
	Cut            bool          // nothing passes
}

// Network is a set of sockets and the links between them. All methods may be
// called at any time by any goroutine.
type Network struct {
	mu      sync.Mutex
	rng     *rand.Rand
	base    Link
	links   map[pair]Link
	free    map[pair]time.Time // when a rated link has sent what it was given
	sockets map[netip.AddrPort]*Socket
	cut     map[netip.AddrPort]bool
	port    uint16
}

type pair struct{ from, to netip.AddrPort }

// New returns a network whose links all do what base says.
func New(seed uint64, base Link) *Network {
	return &Network{
		rng:     rand.New(rand.NewPCG(seed, seed)),
		base:    base,
		links:   map[pair]Link{},
		free:    map[pair]time.Time{},
		sockets: map[netip.AddrPort]*Socket{},
		cut:     map[netip.AddrPort]bool{},
		port:    40000,
	}
}

// Listen binds a socket to addr, an IP and port; port 0 picks a free one. It
// fails if a living socket has the address.
func (n *Network) Listen(addr string) (*Socket, error) {
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, fmt.Errorf("listen %s: %w", addr, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if at.Port() == 0 {
		n.port++
		at = netip.AddrPortFrom(at.Addr(), n.port)
	}
	if n.sockets[at] != nil {
		return nil, fmt.Errorf("listen %s: address in use", addr)
	}
	s := &Socket{net: n, addr: at, wake: make(chan struct{}, 1), done: make(chan struct{})}
	n.sockets[at] = s
	return s, nil
}

// Alias makes addr lead to s as well, as a second interface would. What s sends
// still comes from its own address.
func (n *Network) Alias(addr string, s *Socket) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sockets[netip.MustParseAddrPort(addr)] = s
}

// SetLink changes what happens to packets from one address to another.
func (n *Network) SetLink(from, to string, l Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.links[pair{netip.MustParseAddrPort(from), netip.MustParseAddrPort(to)}] = l
}

// Block cuts both directions between a and b; Unblock gives them back.
func (n *Network) Block(a, b string) { n.setCut(a, b, true) }

// Unblock undoes Block.
func (n *Network) Unblock(a, b string) { n.setCut(a, b, false) }

func (n *Network) setCut(a, b string, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	at, bt := netip.MustParseAddrPort(a), netip.MustParseAddrPort(b)
	for _, p := range []pair{{at, bt}, {bt, at}} {
		l := n.linkLocked(p)
		l.Cut = cut
		n.links[p] = l
	}
}

// Isolate cuts an address from all others; Rejoin gives it back.
func (n *Network) Isolate(addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[netip.MustParseAddrPort(addr)] = true
}

// Rejoin undoes Isolate.
func (n *Network) Rejoin(addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.cut, netip.MustParseAddrPort(addr))
}

// Crash takes the socket at addr from the network as kill -9 takes a process:
// what its owner sends from now on goes nowhere, nothing reaches it, and the
// address is free at once.
func (n *Network) Crash(addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.sockets, netip.MustParseAddrPort(addr))
}

func (n *Network) linkLocked(p pair) Link {
	if l, ok := n.links[p]; ok {
		return l
	}
	return n.base
}

// send decides a packet's fate and queues it at its destination.
func (n *Network) send(from *Socket, to netip.AddrPort, b []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := pair{from.addr, to}
	l := n.linkLocked(p)
	dst := n.sockets[to]
	alive := n.sockets[from.addr] == from
	if !alive || dst == nil || l.Cut || n.cut[from.addr] || n.cut[to] || len(b) > MTU || n.rng.Float64() < l.Loss {
		return
	}
	at := time.Now()
	if l.BytesPerSecond > 0 {
		at = later(at, n.free[p]).Add(time.Duration(len(b)) * time.Second / time.Duration(l.BytesPerSecond))
		n.free[p] = at
	}
	copies := 1
	if n.rng.Float64() < l.Duplicate {
		copies = 2
	}
	for range copies {
		delay := l.Latency
		if l.Jitter > 0 {
			delay += time.Duration(n.rng.Int64N(int64(l.Jitter)))
		}
		dst.push(packet{at: at.Add(delay), from: from.addr, data: append([]byte(nil), b...)})
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// packet is one datagram on its way, ordered by arrival, then by sending.
type packet struct {
	at   time.Time
	seq  uint64
	from netip.AddrPort
	data []byte
}

type packetHeap []packet

func (h packetHeap) Len() int { return len(h) }

func (h packetHeap) Less(i, j int) bool {
	if h[i].at.Equal(h[j].at) {
		return h[i].seq < h[j].seq
	}
	return h[i].at.Before(h[j].at)
}
func (h packetHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *packetHeap) Push(x any)   { *h = append(*h, x.(packet)) }

func (h *packetHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

var (
	_ heap.Interface = (*packetHeap)(nil)
	_ net.PacketConn = (*Socket)(nil)
)
