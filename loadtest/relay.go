package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"edged.dev/edged/internal/testcluster"
)

const (
	// maxDatagram holds any UDP datagram of a node.
	maxDatagram = 64 << 10
	// relayBuffer is asked of the kernel for each socket, so that a burst is
	// dropped by the profile's queue rather than here.
	relayBuffer = 4 << 20
	// relayQueue bounds the datagrams under way in one direction of a pair: more
	// than 10 Gbit/s of full ones fill in the longest round trip are dropped.
	relayQueue = 1 << 16
)

// relay stands between the nodes of a cluster, as the network does. Every node
// has a front, which it tells the others as its address, and for each other node
// a back, from which that one's datagrams seem to come: so both directions of
// whatever connection pass here, whoever began it.
type relay struct {
	profile netProfile
	nodes   []netip.AddrPort       // where they listen
	byAddr  map[netip.AddrPort]int // the same, turned round
	fronts  []*net.UDPConn
	backs   [][]*net.UDPConn // backs[i][j] is node j as node i sees it
	links   [][]*relayLink   // links[i][j] is the way from node i to node j
	gates   []*relayGate     // of each node
	wg      sync.WaitGroup
}

// startRelay relays between so many nodes. close must be called.
func startRelay(nodes int, profile netProfile, seed uint64) (r *relay, err error) {
	r = &relay{profile: profile, byAddr: map[netip.AddrPort]int{}}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("start relay: %w", err), r.close())
		}
	}()
	for i := range nodes {
		front, err := r.socket()
		if err != nil {
			return r, err
		}
		at, err := freeUDP()
		if err != nil {
			return r, err
		}
		r.fronts, r.nodes, r.byAddr[at] = append(r.fronts, front), append(r.nodes, at), i
		r.gates = append(r.gates, &relayGate{})
	}
	for i := range nodes {
		backs, links := make([]*net.UDPConn, nodes), make([]*relayLink, nodes)
		r.backs, r.links = append(r.backs, backs), append(r.links, links)
		for j := range nodes {
			if i == j {
				continue
			}
			if backs[j], err = r.socket(); err != nil {
				return r, err
			}
			links[j] = newRelayLink(profile, rand.New(rand.NewPCG(seed, uint64(i*nodes+j))), r.gates[i], r.gates[j])
		}
	}
	r.run()
	return r, nil
}

func (*relay) socket() (*net.UDPConn, error) {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	return c, errors.Join(c.SetReadBuffer(relayBuffer), c.SetWriteBuffer(relayBuffer))
}

// freeUDP finds a port that was free a moment ago.
func freeUDP() (netip.AddrPort, error) {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return netip.AddrPort{}, err
	}
	return c.LocalAddr().(*net.UDPAddr).AddrPort(), c.Close() //nolint:forcetypeassert // what a UDPConn has
}

// routes are what the nodes must listen on, and what they tell each other.
func (r *relay) routes() []testcluster.Route {
	out := make([]testcluster.Route, len(r.nodes))
	for i := range out {
		out[i] = testcluster.Route{Listen: r.nodes[i].String(), Advertise: r.fronts[i].LocalAddr().String()}
	}
	return out
}

// run starts a goroutine for each socket and each link. They end with close.
func (r *relay) run() {
	for i, front := range r.fronts {
		r.wg.Go(func() {
			r.read(front, func(from netip.AddrPort, b []byte) {
				if j, known := r.byAddr[from]; known && j != i {
					r.links[j][i].send(datagram{via: r.backs[i][j], to: r.nodes[i], bytes: b})
				}
			})
		})
		for j, back := range r.backs[i] {
			if i == j {
				continue
			}
			r.wg.Go(func() {
				r.read(back, func(from netip.AddrPort, b []byte) {
					if from == r.nodes[i] {
						r.links[i][j].send(datagram{via: r.fronts[i], to: r.nodes[j], bytes: b})
					}
				})
			})
			r.wg.Go(r.links[i][j].run)
		}
	}
}

// read hands over each datagram of a socket, which is the receiver's to keep,
// until the socket is closed.
func (*relay) read(c *net.UDPConn, take func(netip.AddrPort, []byte)) {
	buf := make([]byte, maxDatagram)
	for {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil { // another is one datagram's: a node that is not there
			take(netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), append([]byte(nil), buf[:n]...))
		}
	}
}

// close ends the relay and returns when all of it has ended.
func (r *relay) close() error {
	var errs []error
	for _, c := range r.fronts {
		errs = append(errs, c.Close())
	}
	for i := range r.backs {
		for j, c := range r.backs[i] {
			if c != nil {
				errs = append(errs, c.Close())
			}
			if l := r.links[i][j]; l != nil {
				close(l.done)
			}
		}
	}
	r.wg.Wait()
	return errors.Join(errs...)
}

// relayGate is one node's connection to the network.
type relayGate struct {
	cut     atomic.Bool
	in, out atomic.Int64 // bytes that passed
	limit   atomic.Int64 // of in: there the node is cut off; 0 is none
	reached atomic.Pointer[chan struct{}]
}

// counts are the bytes that went to and from the node.
func (g *relayGate) counts() wireCount {
	return wireCount{in: uint64(g.in.Load()), out: uint64(g.out.Load())}
}

// cutAfter cuts the node off when so many more bytes have reached it. The
// channel is closed then.
func (g *relayGate) cutAfter(n int64) <-chan struct{} {
	reached := make(chan struct{})
	g.reached.Store(&reached)
	g.limit.Store(g.in.Load() + n)
	return reached
}

// heal connects the node again, and takes back what cutAfter asked for.
func (g *relayGate) heal() {
	g.limit.Store(0)
	g.cut.Store(false)
}

// received counts what has just gone to the node.
func (g *relayGate) received(n int) {
	in := g.in.Add(int64(n))
	if limit := g.limit.Load(); limit > 0 && in >= limit && g.limit.CompareAndSwap(limit, 0) {
		g.cut.Store(true)
		close(*g.reached.Load())
	}
}

// datagram is one on its way.
type datagram struct {
	via   *net.UDPConn
	to    netip.AddrPort
	bytes []byte
	at    time.Time // when it arrives
}

// relayLink is one direction between two nodes.
type relayLink struct {
	profile  netProfile
	from, to *relayGate
	queue    chan datagram
	done     chan struct{}
	dropped  atomic.Int64 // by loss, a full queue or a cut
	cut      atomic.Bool  // this direction alone

	mu   sync.Mutex
	rand *rand.Rand
	free time.Time // when all that was sent has left
}

func newRelayLink(p netProfile, rnd *rand.Rand, from, to *relayGate) *relayLink {
	return &relayLink{profile: p, from: from, to: to, rand: rnd, queue: make(chan datagram, relayQueue), done: make(chan struct{})}
}

// send takes a datagram, and drops it as the profile says.
func (l *relayLink) send(d datagram) {
	at, ok := l.schedule(time.Now(), len(d.bytes))
	if !ok {
		l.dropped.Add(1)
		return
	}
	d.at = at
	select {
	case l.queue <- d:
	default:
		l.dropped.Add(1)
	}
}

// schedule returns when a datagram that is sent now arrives, if it does.
func (l *relayLink) schedule(now time.Time, bytes int) (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.profile
	if p.loss > 0 && l.rand.Float64() < p.loss {
		return time.Time{}, false
	}
	if p.rate > 0 {
		if l.free.Before(now) {
			l.free = now
		}
		if l.free.Sub(now).Seconds()*p.rate/8+float64(bytes) > p.queueBytes() {
			return time.Time{}, false
		}
		l.free = l.free.Add(time.Duration(float64(bytes) * 8 / p.rate * float64(time.Second)))
		now = l.free
	}
	return now.Add(p.rtt / 2), true
}

// run delivers each datagram at its time, in their order, until done.
func (l *relayLink) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case d := <-l.queue:
			if wait := time.Until(d.at); wait > 0 {
				timer.Reset(wait)
				select {
				case <-timer.C:
				case <-l.done:
					return
				}
			}
			l.deliver(d)
		case <-l.done:
			return
		}
	}
}

func (l *relayLink) deliver(d datagram) {
	if l.cut.Load() || l.from.cut.Load() || l.to.cut.Load() {
		l.dropped.Add(1)
		return
	}
	// A node that is not there, or whose buffer is full, loses it, as on any
	// network.
	if _, err := d.via.WriteToUDPAddrPort(d.bytes, d.to); err == nil {
		l.from.out.Add(int64(len(d.bytes)))
		l.to.received(len(d.bytes))
	}
}
