package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"edged.dev/edged/api/admin"
	"edged.dev/edged/cluster"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/internal/layout"
	"edged.dev/edged/partition"
	"edged.dev/edged/replica"
	"edged.dev/edged/transport"
	"edged.dev/edged/transport/wire"
)

// links joins the transport and the replica: it is the one's handler and server,
// and the other's Peers. Before there is a replica it notes who is there.
type links struct {
	node      *Node
	transport *transport.Transport

	mu      sync.Mutex
	replica *replica.Replica
	cond    chan uint32 // partitions told by peers, while learning
	boot    chan uint32 // boot numbers told by peers, while learning
	twin    chan string // who told of a twin, while standing by
	hung    sync.Map    // *transport.Peer that the replica has hung up on, until it is down
}

var (
	_ replica.Peers     = (*links)(nil)
	_ transport.Handler = (*links)(nil)
	_ transport.Server  = (*links)(nil)
)

func newLinks(n *Node) (*links, error) {
	l := &links{node: n, cond: make(chan uint32, 16), boot: make(chan uint32, 16), twin: make(chan string, 16)}
	cfg := transport.Config{
		Identity: n.id, Node: uint64(n.self.Node), Boot: n.self.Boot, Listen: n.cfg.NodeListen,
		StatelessResetKey: n.self.resetKey(), Handler: l, Server: l, Copies: uint8(n.cfg.ClusterCopies),
		Partitions: func() uint32 { return n.self.Partitions },
	}
	if n.cfg.NodeAdvertise != "" {
		cfg.Addresses = []string{n.cfg.NodeAdvertise}
	}
	var err error
	l.transport, err = transport.New(cfg)
	return l, err
}

func (l *links) use(r *replica.Replica) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.replica = r
}

func (l *links) to() *replica.Replica {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.replica
}

// Conn implements transport.Handler.
func (l *links) Conn(remote wire.Conn) wire.ConnAck {
	ack := wire.ConnAck{Code: wire.ConnOK, Partitions: l.node.self.Partitions}
	if s := l.node.system; s != nil {
		if m, ok := s.member(remote.Name); ok && m.Status == layout.Forgotten && m.Node == remote.Node {
			ack.Code = wire.ConnForgotten
		}
		if s.displaced(remote.Name, kv.NodeID(remote.Node)) {
			ack.Code = wire.ConnFenced
		}
	}
	if ack.Code == wire.ConnOK {
		l.judgeLife(remote, &ack)
	}
	if joins := remote.Attempt > 0 && remote.Partitions == 0; ack.Code == wire.ConnOK && joins && l.node.self.Partitions > 0 && l.otherCopies(remote.Copies) {
		ack.Code = wire.ConnCopies
	}
	return ack
}

// otherCopies reports whether a node is set to keep another number of copies of each
// partition than this one. The two then see different owners of the same partitions.
func (l *links) otherCopies(copies uint8) bool {
	return copies != 0 && int(copies) != l.node.cfg.ClusterCopies
}

// copiesDiffer says so of every connected peer of which it holds.
func (l *links) copiesDiffer() []string {
	var out []string
	for _, p := range l.transport.Peers() {
		if info := p.Info(); l.otherCopies(info.Copies) {
			out = append(out, fmt.Sprintf("%s is set to keep %d copies of each partition, and %s %d: they see different owners; give all nodes one cluster.copies",
				info.Name, info.Copies, l.node.id.Name, l.node.cfg.ClusterCopies))
		}
	}
	slices.Sort(out)
	return out
}

// Refused implements transport.Handler.
func (l *links) Refused(ack wire.ConnAck) {
	n := l.node
	level := slog.LevelError
	if n.standing.Load() || ack.Code == wire.ConnNobody {
		level = slog.LevelDebug // it was told, and asks again and again
	}
	n.log.Log(context.Background(), level, "a node refused this one", slog.String("peer", ack.Self.Name), slog.String("code", ack.Code.String()))
	switch ack.Code {
	case wire.ConnBootConflict:
		n.conflict(ack)
	case wire.ConnTwin:
		n.twin(ack)
	case wire.ConnFenced:
		n.fence(fmt.Errorf("refused by %s: another data directory has joined as %s since, and this one is fenced", ack.Self.Name, n.id.Name))
	case wire.ConnCopies:
		n.fence(fmt.Errorf("%w: %s is a member of a cluster that keeps %d copies of each partition, and cluster.copies is %d here: give this node the cluster's",
			ErrConfig, ack.Self.Name, ack.Self.Copies, n.cfg.ClusterCopies))
	case wire.ConnForgotten:
		n.fence(fmt.Errorf("refused by %s: %w", ack.Self.Name, forgotten(n.id.Name)))
	}
}

// PeerUp implements transport.Handler.
func (l *links) PeerUp(p *transport.Peer) {
	info := p.Info()
	if l.otherCopies(info.Copies) {
		text := fmt.Sprintf("%s is set to keep %d copies of each partition, and this node %d: they see different owners of the same partitions; give all nodes one cluster.copies",
			info.Name, info.Copies, l.node.cfg.ClusterCopies)
		l.node.log.Error("cluster.copies differs", slog.String("peer", info.Name), slog.Int("there", int(info.Copies)), slog.Int("here", l.node.cfg.ClusterCopies))
		l.node.events.emit(admin.Event{Kind: "alarm", Node: info.Name, Text: text})
	}
	l.node.log.Info("connected", slog.String("peer", info.Name), slog.Any("address", info.Addr), slog.Uint64("boot", uint64(info.Boot)))
	if r := l.to(); r != nil {
		r.PeerUp(info.Name, kv.NodeID(info.Node), info.Boot)
		return
	}
	if info.Partitions > 0 {
		select {
		case l.cond <- info.Partitions:
		default: // enough have told
		}
	}
}

// PeerDown implements transport.Handler.
func (l *links) PeerDown(p *transport.Peer, cause error) {
	info := p.Info()
	l.node.log.Info("disconnected", slog.String("peer", info.Name), slog.Any("cause", cause))
	_, told := l.hung.LoadAndDelete(p)
	r := l.to()
	switch b, byUs := transport.BreachOf(cause); {
	case b == wire.NoBreach || told:
	case !byUs:
		l.hungUpOn(info.Name, b, cause)
	case r != nil: // the transport's own finding
		r.Breached(info.Name, &wire.BreachError{Breach: b, Err: cause})
	}
	if r != nil {
		r.PeerDown(info.Name, info.Boot)
	}
}

// Frame implements transport.Handler.
func (l *links) Frame(p *transport.Peer, kind transport.Kind, frame []byte) {
	r := l.to()
	if r == nil {
		return
	}
	name := p.Name()
	if kind == transport.Control {
		r.ControlFrame(name, frame)
		return
	}
	err := r.LiveFrame(name, slices.Clone(frame))
	switch {
	case errors.Is(err, partition.ErrSealed): // late, and no fault of the peer's: a session brings what it still has to tell
		l.node.log.Warn("late write refused", slog.String("peer", name), slog.Any("error", err))
		p.Close(transport.CloseRefused, "a write of a process that is gone and sealed")
	case err != nil:
		l.node.badFrames.Add(1)
		l.node.log.Error("live frame refused", slog.String("peer", name), slog.Any("error", err))
		p.Close(transport.CloseByHandler, "live frame refused") // unless the replica hung up
	}
}

// Serve implements transport.Server.
func (l *links) Serve(ctx context.Context, p *transport.Peer, request []byte) ([]byte, error) {
	r := l.to()
	if r == nil {
		return nil, errors.New("this node has not begun yet")
	}
	return r.Serve(ctx, p.Name(), request)
}

// Lane implements transport.Server.
func (l *links) Lane(ctx context.Context, p *transport.Peer, rd io.Reader) {
	if r := l.to(); r != nil {
		r.Lane(ctx, p.Name(), rd)
	}
}

// SendControl implements replica.Peers.
func (l *links) SendControl(name string, frame []byte) error {
	return l.send(name, transport.Control, frame)
}

// SendLive implements replica.Peers.
func (l *links) SendLive(name string, frame []byte) error {
	return l.send(name, transport.Live, frame)
}

func (l *links) send(name string, kind transport.Kind, frame []byte) error {
	p := l.transport.Peer(name)
	if p == nil {
		return fmt.Errorf("send to %s: %w", name, transport.ErrPeerDown)
	}
	return p.Send(kind, frame)
}

// Call implements replica.Peers.
func (l *links) Call(ctx context.Context, name string, request []byte) ([]byte, error) {
	p := l.transport.Peer(name)
	if p == nil {
		return nil, fmt.Errorf("call %s: %w", name, replica.ErrNotSent)
	}
	resp, err := p.Call(ctx, request)
	if errors.Is(err, transport.ErrNotSent) {
		return nil, fmt.Errorf("call %s: %w: %w", name, replica.ErrNotSent, err)
	}
	return resp, err
}

// Hangup implements replica.Peers.
func (l *links) Hangup(name string, b wire.Breach, why string) {
	p := l.transport.Peer(name)
	if p == nil {
		return
	}
	select {
	case <-p.Done(): // its end may have been told already
	default:
		l.hung.Store(p, true)
		p.Hangup(b, why)
	}
}

// hungUpOn tells of a peer that closed the connection for what this node did.
func (l *links) hungUpOn(name string, b wire.Breach, cause error) {
	n := l.node
	n.hungUpOn.Add(1)
	n.log.Error("a peer holds that this node broke the protocol, and hung up", slog.String("peer", name), slog.String("breach", b.String()), slog.Any("cause", cause))
	n.events.emit(admin.Event{Kind: "alarm", Node: name, Text: fmt.Sprintf("%s holds that this node broke the protocol (%s), and hung up", name, b)})
}

// OpenLane implements replica.Peers.
func (l *links) OpenLane(ctx context.Context, name string) (replica.LaneStream, error) {
	p := l.transport.Peer(name)
	if p == nil {
		return nil, fmt.Errorf("open lane to %s: %w", name, transport.ErrPeerDown)
	}
	lane, err := p.OpenLane(ctx)
	if err != nil {
		return nil, err
	}
	return lane, nil
}

// reconnectEvery spaces the looks for members that are not connected.
const reconnectEvery = 250 * time.Millisecond

// keepConnected dials every member and every address to join by that is not
// connected; a returning node so begins its own sync, and nothing hangs on the
// others noticing it.
func (n *Node) keepConnected(ctx context.Context) error {
	tick := time.NewTicker(reconnectEvery)
	defer tick.Stop()
	var dials sync.WaitGroup
	defer dials.Wait()
	var mu sync.Mutex
	busy := map[string]bool{}
	for {
		for _, addr := range n.addressesToDial() {
			mu.Lock()
			taken := busy[addr]
			busy[addr] = true
			mu.Unlock()
			if taken {
				continue
			}
			dials.Go(func() {
				dialCtx, cancel := context.WithTimeout(ctx, 2*time.Second)
				defer cancel()
				n.dialed(addr, n.links.transport.Connect(dialCtx, addr))
				mu.Lock()
				delete(busy, addr)
				mu.Unlock()
			})
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-n.system.redial:
		}
	}
}

// addressesToDial returns where members are that are not connected, and, while
// nobody is, where to look for any.
func (n *Node) addressesToDial() []string {
	var out []string
	l := n.replica.Layout()
	if l != nil {
		for _, m := range l.Members() {
			if m.Name != n.id.Name && m.Status == layout.Active && n.links.transport.Peer(m.Name) == nil {
				out = append(out, m.Addresses...)
			}
		}
	}
	for _, m := range n.gossip.Members() {
		if m.Name != n.id.Name && n.links.transport.Peer(m.Name) == nil {
			out = append(out, m.Addresses...)
		}
	}
	if len(n.links.transport.Peers()) == 0 {
		out = append(out, n.cfg.ClusterJoin...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// onGossip dials at once whom gossip tells of.
func (n *Node) onGossip(e cluster.Event) {
	n.log.Debug("gossip", slog.String("event", e.Kind.String()), slog.String("node", e.Member.Name))
	_, member := n.system.member(e.Member.Name)
	n.events.gossip(e, member)
	n.system.dialSoon()
}

// dialed tells of a dial that failed: quietly of a node that is not there, loudly,
// once for each address, of one that would not have this node or is not trusted.
func (n *Node) dialed(addr string, err error) {
	if err == nil {
		return
	}
	var refused *transport.RefusedError
	if !errors.As(err, &refused) && !errors.Is(err, transport.ErrUntrusted) {
		n.log.Debug("dial", slog.String("address", addr), slog.Any("error", err))
		return
	}
	n.refusals.Add(1)
	if _, told := n.refusedBy.LoadOrStore(addr, true); !told {
		n.log.Warn("no connection: certificates or clusters do not fit", slog.String("address", addr), slog.Any("error", err))
	}
}
