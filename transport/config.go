package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"edged.dev/edged/transport/wire"
)

// Kind is which of a connection's two long streams a frame is on.
type Kind uint8

// The long streams. They are apart so that a backlog of objects on a slow link
// delays no sign of life.
const (
	Control Kind = iota // small and urgent: at most MaxControlFrameBytes
	Live                // replicated writes: at most MaxFrameBytes
)

// String names the kind.
func (k Kind) String() string {
	if k == Control {
		return "control"
	}
	return "live"
}

// Handler is told of connections and their frames. Its methods must not wait on
// the transport. PeerUp comes before everything else of a connection; PeerDown
// comes once its frames have ended, and before the PeerUp of the next connection
// with a node of that name.
type Handler interface {
	// Conn decides whether to talk to a node: the accepting side calls it with the
	// CONN that came, the dialing side with the Self of a CONN_ACK that said OK. Of
	// the answer Code, Partitions and Boot are used. Certificate, cluster and
	// version are checked before.
	Conn(remote wire.Conn) wire.ConnAck
	// Refused tells that a peer would not have us.
	Refused(ack wire.ConnAck)
	// PeerUp tells of a new connection, ready to send on.
	PeerUp(p *Peer)
	// PeerDown tells that a connection has ended and why.
	PeerDown(p *Peer, cause error)
	// Frame has one frame of a long stream; calls for one stream come one after
	// another, in the order sent. The slice is valid during the call only.
	Frame(p *Peer, kind Kind, frame []byte)
}

// Server answers what peers ask for. Both methods run on goroutines of their
// own; ctx ends with the call's deadline, the caller's interest, or the
// connection, and they may outlive PeerDown by as long as they ignore it.
type Server interface {
	// Serve answers a call. It owns request; the response may not change until the
	// next call of Serve returns it. An error reaches the caller as *RemoteError.
	Serve(ctx context.Context, p *Peer, request []byte) ([]byte, error)
	// Lane reads a lane that the peer opened. io.EOF says that the peer closed it,
	// not that it said all it had to: that must stand in the bytes.
	Lane(ctx context.Context, p *Peer, r io.Reader)
}

// Config says who a transport is and whom it tells.
type Config struct {
	Identity Identity // required
	Node     uint64   // the data directory's ID
	Boot     uint32   // counts the starts of the data directory
	Nonce    uint64   // random per process; 0 draws one

	// Copies is how many copies of each partition this node is set to keep, told to
	// every peer.
	Copies uint8
	// Partitions is this node's P, told to the peers it dials; nil or 0 while it is
	// no member. Those that dial it get what Handler.Conn returns.
	Partitions func() uint32

	Listen string         // UDP host:port to bind; port 0 picks one. Unused with Socket
	Socket net.PacketConn // a bound socket, for tests; the transport closes it

	// Addresses are where peers reach this node, host:port, best first; port 0
	// stands for the bound port. Default: the bound address, if it is a definite one.
	Addresses []string

	// StatelessResetKey is kept in the data directory: with it a restarted node
	// tells its peers at once that their connections are gone.
	StatelessResetKey [32]byte

	Handler Handler // required
	Server  Server  // required
}

func (c *Config) validate() error {
	switch {
	case c.Identity.roots == nil:
		return errors.New("no identity")
	case c.Handler == nil || c.Server == nil:
		return errors.New("no handler or no server")
	case c.Listen == "" && c.Socket == nil:
		return errors.New("no address to listen on")
	case c.StatelessResetKey == [32]byte{}:
		return errors.New("no stateless reset key")
	case len(c.Addresses) > wire.MaxAddresses:
		return fmt.Errorf("%d addresses, at most %d", len(c.Addresses), wire.MaxAddresses)
	}
	for _, a := range c.Addresses {
		if _, _, err := net.SplitHostPort(a); err != nil {
			return fmt.Errorf("address %q: %w", a, err)
		}
		if len(a) > wire.MaxAddressBytes-len("65535") {
			return fmt.Errorf("address %q is too long", a)
		}
	}
	return nil
}
