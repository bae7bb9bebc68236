package cluster

import (
	"context"
	"errors"
	"log"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"
)

var errStopped = errors.New("gossip has stopped")

// bridge makes a PacketLink memberlist's transport.
type bridge struct {
	link      PacketLink
	advertise netip.AddrPort
	packets   chan *memberlist.Packet
	streams   chan net.Conn
	// life ends with Shutdown. It is kept here because memberlist, which calls
	// DialTimeout, hands no context on.
	life context.Context
	stop context.CancelFunc
}

var _ memberlist.Transport = (*bridge)(nil)

func newBridge(link PacketLink, advertise netip.AddrPort) *bridge {
	life, stop := context.WithCancel(context.Background())
	return &bridge{
		link: link, advertise: advertise,
		packets: make(chan *memberlist.Packet, packetQueue),
		streams: make(chan net.Conn, streamQueue),
		life:    life, stop: stop,
	}
}

// receive moves packets from the link to memberlist; a full queue drops.
func (b *bridge) receive(ctx context.Context) error {
	for {
		data, from, err := b.link.Receive(ctx)
		if err != nil {
			return ignoreEnd(ctx, err)
		}
		select {
		case b.packets <- &memberlist.Packet{Buf: data, From: from, Timestamp: time.Now()}:
		default:
		}
	}
}

// accept moves streams from the link to memberlist, and closes those that
// memberlist will not come to.
func (b *bridge) accept(ctx context.Context) error {
	for {
		conn, err := b.link.Accept(ctx)
		if err != nil {
			b.closeWaiting()
			return ignoreEnd(ctx, err)
		}
		select {
		case b.streams <- conn:
		case <-ctx.Done():
			_ = conn.Close()
		}
	}
}

func (b *bridge) closeWaiting() {
	for {
		select {
		case conn := <-b.streams:
			_ = conn.Close()
		default:
			return
		}
	}
}

func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// FinalAdvertiseAddr is the address that others are told.
func (b *bridge) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return b.advertise.Addr().AsSlice(), int(b.advertise.Port()), nil
}

// WriteTo sends a packet, or loses it. What the link cannot send is lost as
// well: memberlist takes an error for a sign that this node is at fault.
func (b *bridge) WriteTo(packet []byte, addr string) (time.Time, error) {
	if b.life.Err() != nil {
		return time.Time{}, errStopped
	}
	_ = b.link.Send(addr, packet)
	return time.Now(), nil
}

// PacketCh has the packets received.
func (b *bridge) PacketCh() <-chan *memberlist.Packet { return b.packets }

// StreamCh has the streams accepted.
func (b *bridge) StreamCh() <-chan net.Conn { return b.streams }

// DialTimeout opens a stream. It ends early when gossip stops.
func (b *bridge) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(b.life, timeout)
	defer cancel()
	return b.link.Dial(ctx, addr)
}

// Shutdown refuses everything from now on.
func (b *bridge) Shutdown() error {
	b.stop()
	return nil
}

// delegate gives memberlist this node's meta and wants nothing of it.
type delegate struct{ meta []byte }

func (d delegate) NodeMeta(limit int) []byte {
	return d.meta[:min(limit, len(d.meta))]
}

func (delegate) NotifyMsg([]byte)                {}
func (delegate) GetBroadcasts(_, _ int) [][]byte { return nil }
func (delegate) LocalState(bool) []byte          { return nil }
func (delegate) MergeRemoteState([]byte, bool)   {}

// debugLogger gives memberlist's lines to debug.
func debugLogger(debug func(string)) *log.Logger {
	return log.New(lines{debug}, "", 0)
}

type lines struct{ debug func(string) }

func (l lines) Write(b []byte) (int, error) {
	if l.debug != nil {
		l.debug(strings.TrimSuffix(string(b), "\n"))
	}
	return len(b), nil
}
