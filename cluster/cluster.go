// Package cluster is who is in the gossip and who is alive, by SWIM; it is the
// only importer of memberlist.
//
// Gossip is advice. It finds addresses, brings nodes together and tells sooner
// than a timeout that one has gone; it never moves data, and a node that gossip
// calls dead may be well. What must be sure is asked over a connection.
//
// A node gossips under a name of its own for each life, node@boot, so that a
// restart is a new member at once, on any address; of a node's lives the highest
// boot counts. Peers ever seen are remembered, and those not alive are tried
// every two seconds, because SWIM by itself gives up on the dead and a long
// partition would never heal.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/sync/errgroup"
)

// PacketLink is the way between nodes that gossip takes. Addresses are host:port.
type PacketLink interface {
	// Send sends a packet or loses it; it never waits. b is not kept.
	Send(addr string, b []byte) error
	// Receive returns the next packet, owned by the caller, and its source.
	Receive(ctx context.Context) ([]byte, net.Addr, error)
	// Dial opens a stream to the node at addr.
	Dial(ctx context.Context, addr string) (net.Conn, error)
	// Accept returns the next stream that a peer opened.
	Accept(ctx context.Context) (net.Conn, error)
	// Addr is the bound address.
	Addr() net.Addr
}

// Member is one node as gossip knows it.
type Member struct {
	Name      string
	Node      uint64
	Boot      uint32
	Addresses []string // host:port, best first
	Alive     bool
}

// EventKind is what happened to a member.
type EventKind uint8

// What may happen to a member.
const (
	Joined  EventKind = iota // it is alive and was not, or lives again under a higher boot
	Left                     // it left or is held to be dead
	Updated                  // its name or addresses changed
)

// String names the kind.
func (k EventKind) String() string {
	return [...]string{"joined", "left", "updated"}[k]
}

// Event tells of one member.
type Event struct {
	Kind   EventKind
	Member Member
}

// Config says who a node is in gossip and whom it looks for.
type Config struct {
	Cluster   string   // the cluster ID; gossip of another one is dropped
	Name      string   // the node's name
	Node      uint64   // the data directory's ID
	Boot      uint32   // counts the starts of the data directory
	Addresses []string // where peers reach this node, host:port, best first

	Link  PacketLink // required
	Join  []string   // addresses to look for others at, besides those remembered
	Peers PeerStore  // where peers are remembered; nil remembers for this life only

	// OnEvent is told of members other than this node, one event after another and
	// never under a lock. What follows on an event not yet told is folded into it.
	OnEvent func(Event)
	// Debug is given memberlist's own lines; nil drops them.
	Debug func(line string)
}

func (c *Config) validate() error {
	switch {
	case c.Cluster == "" || len(c.Cluster) > memberlist.LabelMaxSize:
		return fmt.Errorf("cluster ID %q does not fit", c.Cluster)
	case c.Name == "" || len(c.Name) > maxNameBytes:
		return fmt.Errorf("name %q has not 1 to %d bytes", c.Name, maxNameBytes)
	case c.Link == nil:
		return errors.New("no link")
	case len(c.Addresses) == 0:
		return errors.New("no address that peers could reach this node at")
	}
	_, err := encodeMeta(c.Name, c.Addresses)
	return err
}

// Cluster is a node's view of the others. Its methods may be called by any
// goroutine.
type Cluster struct {
	cfg       Config
	advertise netip.AddrPort
	view      *view
	remember  *memory

	mu   sync.Mutex
	list *memberlist.Memberlist // while Run runs
}

// New returns a cluster that does nothing until Run. It loads the remembered
// peers.
func New(cfg Config) (*Cluster, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("new cluster: %w", err)
	}
	at, err := advertised(cfg.Addresses, cfg.Link.Addr())
	if err != nil {
		return nil, fmt.Errorf("new cluster: %w", err)
	}
	remember, err := newMemory(cfg.Peers, cfg.Node)
	if err != nil {
		return nil, fmt.Errorf("new cluster: %w", err)
	}
	return &Cluster{cfg: cfg, advertise: at, view: newView(cfg.Node), remember: remember}, nil
}

// advertised is the address that memberlist spreads: an IP and port. The first
// address that is one serves; behind names alone, the bound address does if it is
// a definite one.
func advertised(addresses []string, bound net.Addr) (netip.AddrPort, error) {
	for _, a := range addresses {
		if at, err := netip.ParseAddrPort(a); err == nil && !at.Addr().IsUnspecified() {
			return at, nil
		}
	}
	at, err := netip.ParseAddrPort(bound.String())
	if err != nil || at.Addr().IsUnspecified() {
		return netip.AddrPort{}, fmt.Errorf("no IP address among %q, and bound to %s: name one to be reached at", addresses, bound)
	}
	return at, nil
}

// Run gossips until ctx ends, then says that it leaves. It may be called once.
func (c *Cluster) Run(ctx context.Context) error {
	bridge := newBridge(c.cfg.Link, c.advertise)
	list, err := memberlist.Create(c.listConfig(bridge))
	if err != nil {
		bridge.stop()
		return fmt.Errorf("start gossip: %w", err)
	}
	c.setList(list)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return bridge.receive(ctx) })
	g.Go(func() error { return bridge.accept(ctx) })
	g.Go(func() error { return c.view.deliver(ctx, c.told) })
	g.Go(func() error { return c.rejoinLoop(ctx, list) })
	g.Go(func() error {
		<-ctx.Done()
		c.setList(nil)
		_ = list.Leave(leaveTimeout) // best effort: peers find out by themselves
		return list.Shutdown()
	})
	if err := g.Wait(); err != nil {
		return fmt.Errorf("run gossip: %w", err)
	}
	return nil
}

func (c *Cluster) setList(list *memberlist.Memberlist) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = list
}

// told passes an event on, and remembers the member: after the callback, which
// need not wait for a disk.
func (c *Cluster) told(e Event) {
	if c.cfg.OnEvent != nil {
		c.cfg.OnEvent(e)
	}
	if e.Kind != Left {
		// A peer that is not saved is only looked for less well after a restart, and
		// the next save has it.
		_ = c.remember.note(e.Member)
	}
}

// Members returns all nodes that gossip knows in this life, this node left out,
// by node ID.
func (c *Cluster) Members() []Member { return c.view.members() }

// Join looks for nodes at addresses now, and returns how many answered; an error
// says that none did. It may take some seconds an address.
func (c *Cluster) Join(ctx context.Context, addrs []string) (int, error) {
	c.mu.Lock()
	list := c.list
	c.mu.Unlock()
	if list == nil {
		return 0, errors.New("join: gossip is not running")
	}
	joined := 0
	var errs error
	for _, a := range addrs {
		n, err := join(ctx, list, a)
		joined += n
		errs = errors.Join(errs, err)
	}
	if joined > 0 {
		return joined, nil
	}
	return 0, errs
}

// join tries one address. A name is looked up here, because memberlist's own
// look-up asks for more than is needed and does not end with ctx.
func join(ctx context.Context, list *memberlist.Memberlist, addr string) (int, error) {
	if _, err := netip.ParseAddrPort(addr); err == nil {
		return list.Join([]string{addr})
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return 0, fmt.Errorf("join %s: %w", addr, err)
	}
	lookup, cancel := context.WithTimeout(ctx, streamTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupHost(lookup, host)
	if err != nil {
		return 0, fmt.Errorf("join %s: %w", addr, err)
	}
	at := make([]string, 0, len(ips))
	for _, ip := range ips[:min(len(ips), maxAddresses)] {
		at = append(at, net.JoinHostPort(ip, port))
	}
	return list.Join(at)
}

// Forget stops looking for a node that the operator has removed.
func (c *Cluster) Forget(node uint64) error { return c.remember.forget(node) }

func (c *Cluster) listConfig(bridge *bridge) *memberlist.Config {
	l := memberlist.DefaultLANConfig()
	l.Name = memberName(c.cfg.Node, c.cfg.Boot)
	l.Label = c.cfg.Cluster
	l.Transport = bridge
	l.AdvertiseAddr, l.AdvertisePort = c.advertise.Addr().String(), int(c.advertise.Port())
	l.BindAddr, l.BindPort = l.AdvertiseAddr, l.AdvertisePort
	l.TCPTimeout = streamTimeout
	l.PushPullInterval = pushPullInterval
	l.UDPBufferSize = packetBytes
	l.EnableCompression = false // what travels is small and already inside QUIC
	l.Logger = debugLogger(c.cfg.Debug)
	meta, _ := encodeMeta(c.cfg.Name, c.cfg.Addresses) // validate has tried it
	l.Delegate = delegate{meta: meta}
	l.Events = c.view
	return l
}

// rejoinLoop looks for every node that should be there and is not.
func (c *Cluster) rejoinLoop(ctx context.Context, list *memberlist.Memberlist) error {
	tick := time.NewTicker(rejoinInterval)
	defer tick.Stop()
	for {
		c.rejoin(ctx, list)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// rejoin tries each missing node once, a few at a time. A node with several
// addresses is tried at each.
func (c *Cluster) rejoin(ctx context.Context, list *memberlist.Memberlist) {
	var g errgroup.Group
	g.SetLimit(rejoinAtOnce)
	for _, addrs := range c.missing() {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error {
			for _, a := range addrs {
				if n, _ := join(ctx, list, a); n > 0 || ctx.Err() != nil {
					return nil
				}
			}
			return nil
		})
	}
	_ = g.Wait()
}

// missing lists what to look for: the addresses of each remembered node that is
// not alive, and each join address that is nobody's.
func (c *Cluster) missing() [][]string {
	alive, known := map[string]bool{c.cfg.Name: true}, c.cfg.Addresses
	for _, m := range c.view.members() {
		if m.Alive {
			alive[m.Name] = true
			known = append(slices.Clone(known), m.Addresses...)
		}
	}
	var missing [][]string
	for _, p := range c.remember.peers() {
		if !alive[p.Name] {
			missing = append(missing, p.Addresses)
		}
	}
	for _, a := range c.cfg.Join {
		_, err := netip.ParseAddrPort(a)
		named := err != nil // whose it is cannot be told: look while alone
		if named && len(alive) > 1 || slices.Contains(known, a) {
			continue
		}
		missing = append(missing, []string{a})
	}
	return missing
}
