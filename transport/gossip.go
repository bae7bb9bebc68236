package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/quic-go/quic-go"
)

// Gossip carries the membership protocol over the connections between nodes: its
// packets as datagrams, its streams as streams. Addresses are host:port.
type Gossip struct {
	t       *Transport
	packets chan gossipPacket
	streams chan net.Conn
}

type gossipPacket struct {
	data []byte
	from net.Addr
}

func newGossip(t *Transport) *Gossip {
	return &Gossip{
		t:       t,
		packets: make(chan gossipPacket, gossipQueue),
		streams: make(chan net.Conn, gossipStreams),
	}
}

// Addr is the bound address.
func (g *Gossip) Addr() net.Addr { return g.t.Addr() }

// Send sends a packet to the node at addr, or loses it, and never waits. Without
// a connection it is lost and a dial begins, no sooner after a failed one than its
// back-off. b is copied.
func (g *Gossip) Send(addr string, b []byte) error {
	if len(b) > maxGossipBytes {
		return fmt.Errorf("send packet of %d bytes: %w", len(b), ErrTooLarge)
	}
	p := g.t.route(addr)
	if p == nil {
		_, err := g.t.startDial(addr, false)
		return err
	}
	select {
	case p.packets <- append([]byte(nil), b...):
	default: // full: lost, as on a busy link
	}
	return nil
}

// Receive returns the next packet, which the caller owns, and where it came from.
func (g *Gossip) Receive(ctx context.Context) ([]byte, net.Addr, error) {
	select {
	case p := <-g.packets:
		return p.data, p.from, nil
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
}

// Dial opens a stream to the node at addr, connecting first if need be.
func (g *Gossip) Dial(ctx context.Context, addr string) (net.Conn, error) {
	if err := g.t.Connect(ctx, addr); err != nil {
		return nil, err
	}
	p := g.t.route(addr)
	if p == nil {
		return nil, fmt.Errorf("open gossip stream to %s: %w", addr, ErrPeerDown)
	}
	s, err := p.conn.OpenStreamSync(ctx)
	if err != nil {
		return nil, fmt.Errorf("open gossip stream to %s: %w", addr, err)
	}
	if _, err := s.Write([]byte{streamGossip}); err != nil {
		endStream(s, streamAborted)
		return nil, fmt.Errorf("open gossip stream to %s: %w", addr, err)
	}
	return &gossipConn{Stream: s, peer: p}, nil
}

// Accept returns the next stream that a peer opened.
func (g *Gossip) Accept(ctx context.Context) (net.Conn, error) {
	select {
	case c := <-g.streams:
		return c, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// offer hands a stream to Accept, or refuses it when too many wait.
func (g *Gossip) offer(c *gossipConn) {
	select {
	case g.streams <- c:
	default:
		endStream(c.Stream, streamRefused)
	}
}

func (g *Gossip) deliver(data []byte, from net.Addr) {
	select {
	case g.packets <- gossipPacket{data, from}:
	default: // full: lost
	}
}

// gossipConn is a gossip stream as a net.Conn.
type gossipConn struct {
	*quic.Stream
	peer *Peer
}

// LocalAddr is the bound address.
func (c *gossipConn) LocalAddr() net.Addr { return c.peer.t.Addr() }

// RemoteAddr is where the peer's packets come from.
func (c *gossipConn) RemoteAddr() net.Addr { return c.peer.info.Addr }

// Close ends the stream both ways; what was written before still arrives, unless
// the peer has closed its end, and then it is not wanted.
func (c *gossipConn) Close() error {
	c.CancelRead(streamDone)
	_ = c.Stream.Close()
	return nil
}

// sendPackets sends what Gossip.Send queued. It is apart from Send because
// quic-go's datagram queue waits when it is full.
func (p *Peer) sendPackets() {
	for {
		select {
		case <-p.Done():
			return
		case b := <-p.packets:
			err := p.conn.SendDatagram(b)
			var tooLarge *quic.DatagramTooLargeError
			if errors.As(err, &tooLarge) {
				p.sendPacketStream(b)
			}
		}
	}
}

// sendPacketStream sends a packet that is larger than the path's datagrams; one
// that does not fit the stream credit is lost.
func (p *Peer) sendPacketStream(b []byte) {
	s, err := p.conn.OpenUniStream()
	if err != nil {
		return
	}
	_ = s.SetWriteDeadline(time.Now().Add(time.Second))
	if _, err := s.Write(append([]byte{streamPacket}, b...)); err != nil {
		s.CancelWrite(streamAborted)
		return
	}
	_ = s.Close()
}

func (p *Peer) receivePackets() {
	for {
		b, err := p.conn.ReceiveDatagram(p.conn.Context())
		if err != nil {
			return
		}
		p.t.gossip.deliver(b, p.info.Addr)
	}
}

func (p *Peer) takePacket(s *quic.ReceiveStream) {
	_ = s.SetReadDeadline(time.Now().Add(kindTimeout))
	b, err := io.ReadAll(io.LimitReader(s, maxGossipBytes+1))
	if err == nil && len(b) <= maxGossipBytes {
		p.t.gossip.deliver(b, p.info.Addr)
	}
}
