package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"edged.dev/edged/transport/wire"
)

// PeerInfo is who is at the other end of a connection.
type PeerInfo struct {
	Name       string
	Node       uint64
	Boot       uint32
	Nonce      uint64
	Addr       net.Addr // where its packets come from
	Addresses  []string // where it says it is reached, host:port, best first
	Partitions uint32   // its P when the connection began; 0 while it is no member
	Copies     uint8    // that it is set to keep of each partition; 0: it does not say
}

// Peer is one connection with another node, from PeerUp to PeerDown. Its methods
// may be called by any goroutine, also after it is down.
type Peer struct {
	t    *Transport
	info PeerInfo
	conn *quic.Conn

	// Where the connection stands among those of its pair; see admit.
	dialed  bool
	attempt uint64
	holds   uint64
	upAt    time.Time

	after <-chan struct{} // closed when the name's earlier connection is quiet; may be nil
	quiet chan struct{}   // closed after PeerDown
	onUp  func()          // called after PeerUp; may be nil

	control       *frameQueue
	live          *frameQueue
	controlStream *quic.Stream
	liveStream    chan *quic.Stream // has the live stream once it is there
	hasLive       atomic.Bool       // the live stream was taken in

	packets chan []byte   // gossip packets to send
	calls   chan struct{} // one element a call in flight
	lanes   chan struct{} // one a lane being written
	reading chan struct{} // one a lane being read
}

func (t *Transport) newPeer(conn *quic.Conn, remote wire.Conn, control *quic.Stream) *Peer {
	control.SetPriority(0, true)
	return &Peer{
		t:    t,
		conn: conn,
		info: PeerInfo{
			Name: remote.Name, Node: remote.Node, Boot: remote.Boot, Nonce: remote.Nonce,
			Addr: conn.RemoteAddr(), Addresses: remote.Addresses, Copies: remote.Copies,
		},
		quiet:         make(chan struct{}),
		control:       newFrameQueue(controlQueueBytes, MaxControlFrameBytes),
		live:          newFrameQueue(liveQueueBytes, MaxFrameBytes),
		controlStream: control,
		liveStream:    make(chan *quic.Stream, 1),
		packets:       make(chan []byte, gossipQueue),
		calls:         make(chan struct{}, maxCalls),
		lanes:         make(chan struct{}, maxLanes),
		reading:       make(chan struct{}, maxLanes),
	}
}

// Info is who the peer is. The addresses are a copy.
func (p *Peer) Info() PeerInfo {
	info := p.info
	info.Addresses = slices.Clone(info.Addresses)
	return info
}

// Name is the peer's name, as its certificate has it.
func (p *Peer) Name() string { return p.info.Name }

// Send queues a frame on the control or the live stream and returns: ErrQueueFull
// if the peer reads too slowly, ErrTooLarge, or ErrPeerDown. After ErrQueueFull
// on live the frame is lost to this stream, and the peer needs a sync. frame is
// copied.
func (p *Peer) Send(kind Kind, frame []byte) error {
	if p.conn.Context().Err() != nil {
		return ErrPeerDown
	}
	if kind == Control {
		return p.control.push(frame)
	}
	return p.live.push(frame)
}

// Done is closed when the connection has ended.
func (p *Peer) Done() <-chan struct{} { return p.conn.Context().Done() }

// Close ends the connection; the peer is told code and reason.
func (p *Peer) Close(code CloseCode, reason string) {
	_ = p.conn.CloseWithError(quic.ApplicationErrorCode(code), shortText(reason))
}

// Hangup ends the connection to a peer that broke the protocol, which is told how.
func (p *Peer) Hangup(b wire.Breach, why string) { p.Close(CloseBreach+CloseCode(b), why) }

// routes are the addresses that lead to the peer.
func (p *Peer) routes() []netip.AddrPort {
	routes := []netip.AddrPort{addrPort(p.conn.RemoteAddr())}
	for _, a := range p.info.Addresses {
		if at, err := parseAddr(a); err == nil {
			routes = append(routes, at)
		}
	}
	return routes
}

// serve runs an admitted connection to its end. It returns when every goroutine
// of it has.
func (t *Transport) serve(ctx context.Context, p *Peer) {
	if p.after != nil {
		<-p.after // the name's earlier connection is closed, and will be quiet soon
	}
	stop := context.AfterFunc(ctx, func() { p.Close(CloseShutdown, "node stops") })
	defer stop()
	t.cfg.Handler.PeerUp(p)
	if p.onUp != nil {
		p.onUp()
	}
	var frames, rest sync.WaitGroup
	frames.Go(func() { p.readFrames(Control, p.controlStream, MaxControlFrameBytes) })
	frames.Go(p.runLive)
	rest.Go(func() { p.writeFrames(p.control, p.controlStream) })
	rest.Go(func() { p.acceptStreams(&rest) })
	rest.Go(func() { p.acceptLanes(&rest) })
	rest.Go(p.receivePackets)
	rest.Go(p.sendPackets)

	<-p.Done()
	t.drop(p)
	p.control.end()
	p.live.end()
	frames.Wait()
	t.cfg.Handler.PeerDown(p, context.Cause(p.conn.Context()))
	t.hush(p)
	rest.Wait()
}

// runLive reads and writes the live stream once it is there.
func (p *Peer) runLive() {
	select {
	case <-p.Done():
	case s := <-p.liveStream:
		s.SetPriority(2, true)
		var writer sync.WaitGroup
		writer.Go(func() { p.writeFrames(p.live, s) })
		p.readFrames(Live, s, MaxFrameBytes)
		writer.Wait()
	}
}

// readFrames hands the frames of a long stream to the handler, in order.
func (p *Peer) readFrames(kind Kind, s *quic.Stream, limit int) {
	var buf []byte
	for {
		frame, err := readFrame(s, buf, limit)
		if err != nil {
			p.fail(kind.String()+" stream", err)
			return
		}
		p.t.cfg.Handler.Frame(p, kind, frame)
		buf = frame
		if cap(buf) > keepBufferBytes {
			buf = nil
		}
	}
}

func (p *Peer) writeFrames(q *frameQueue, s *quic.Stream) {
	if err := q.drain(p.Done(), s); err != nil {
		p.fail("write", err)
	}
}

// fail ends a connection whose long streams do not work; the first reason stays.
func (p *Peer) fail(what string, err error) {
	if errors.Is(err, ErrTooLarge) {
		p.Hangup(wire.BreachOversized, what+": "+err.Error())
		return
	}
	p.Close(CloseProtocol, what+": "+err.Error())
}

// acceptStreams takes in the peer's two-way streams.
func (p *Peer) acceptStreams(rest *sync.WaitGroup) {
	for {
		s, err := p.conn.AcceptStream(p.conn.Context())
		if err != nil {
			return
		}
		rest.Go(func() { p.takeStream(s) })
	}
}

func (p *Peer) takeStream(s *quic.Stream) {
	kind, err := readKind(s)
	if err != nil {
		endStream(s, streamAborted)
		return
	}
	switch {
	case kind == streamCall:
		p.serveCall(s)
	case kind == streamGossip:
		p.t.gossip.offer(&gossipConn{Stream: s, peer: p})
	case kind == streamLive && !p.dialed && p.hasLive.CompareAndSwap(false, true):
		p.liveStream <- s
	default:
		endStream(s, streamRefused)
		p.Hangup(wire.BreachMalformed, "unexpected kind of stream")
	}
}

// readKind reads a stream's first byte.
func readKind(s interface {
	io.Reader
	SetReadDeadline(time.Time) error
},
) (byte, error) {
	_ = s.SetReadDeadline(time.Now().Add(kindTimeout))
	var kind [1]byte
	if _, err := io.ReadFull(s, kind[:]); err != nil {
		return 0, err
	}
	return kind[0], s.SetReadDeadline(time.Time{})
}

// endStream lets go of both directions of a stream. A stream that is not read to
// its end keeps its credit until it is cancelled, so every two-way stream ends
// here or in gossipConn.Close, which do the same.
func endStream(s *quic.Stream, code quic.StreamErrorCode) {
	s.CancelRead(code)
	s.CancelWrite(code)
}
