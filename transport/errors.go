package transport

import (
	"errors"
	"fmt"

	"github.com/quic-go/quic-go"

	"edged.dev/edged/transport/wire"
)

// Errors of calls and queues.
var (
	// ErrNotSent says that nothing of a call was handed to the peer: it may be
	// made elsewhere.
	ErrNotSent = errors.New("not sent")
	// ErrNoAnswer says that a call was sent, or may have been, and no answer came:
	// its outcome is unknown.
	ErrNoAnswer = errors.New("sent, no answer")
	// ErrQueueFull says that the peer reads too slowly for what it is sent. The
	// frame was not queued.
	ErrQueueFull = errors.New("queue full")
	// ErrTooLarge says that a frame, request or response is over its limit.
	ErrTooLarge = errors.New("frame too large")
	// ErrPeerDown says that the connection to the peer has ended.
	ErrPeerDown = errors.New("peer down")
	// ErrClosed says that the transport has stopped.
	ErrClosed = errors.New("transport closed")
	// ErrSelf says that an address leads to this node itself.
	ErrSelf = errors.New("address is this node's own")
	// ErrUntrusted says that one side does not take the other's certificate: it is
	// of another cluster, or lapsed.
	ErrUntrusted = errors.New("certificate not accepted")
	// ErrBusy says that too many addresses are being dialed.
	ErrBusy = errors.New("too many dials")
)

// RemoteError is a call's answer that is an error: the peer's Serve returned it.
type RemoteError struct{ Message string }

// Error returns the peer's message.
func (e *RemoteError) Error() string { return "peer answered: " + e.Message }

// RefusedError says that a peer would not have us, or we it, and why.
type RefusedError struct {
	Ack wire.ConnAck // its Self is the peer
	By  string       // "peer" or "us"
}

// Error names the code and the peer.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("connection with %q refused by %s: %s", e.Ack.Self.Name, e.By, e.Ack.Code)
}

// CloseCode is the application error code a connection is closed with. Part of
// the protocol: append only.
type CloseCode uint64

// Why a connection was closed.
const (
	CloseShutdown     CloseCode = iota // the node stops
	CloseDuplicate                     // another connection of the same pair stays
	CloseReplaced                      // a later life of the node has connected
	CloseStale                         // an earlier life of the node tried to
	CloseWrongCluster                  // CONN and certificate differ, or the cluster does
	CloseRefused                       // CONN was answered with a refusal
	CloseProtocol                      // the peer broke the protocol
	CloseSelf                          // the node reached itself
	CloseByHandler                     // the node asked for it
)

// CloseBreach is the code of the first breach of the protocol, and the others follow
// it in the order of wire.Breach: a connection closed with one of them tells what
// the peer is held to have done.
const CloseBreach CloseCode = 0x100

// BreachOf returns the breach that a connection was closed for, and whether it was this
// node that closed it.
func BreachOf(cause error) (b wire.Breach, byUs bool) {
	var app *quic.ApplicationError
	if !errors.As(cause, &app) {
		return wire.NoBreach, false
	}
	n := CloseCode(app.ErrorCode) - CloseBreach
	if CloseCode(app.ErrorCode) < CloseBreach || n >= CloseCode(wire.Breaches) {
		return wire.NoBreach, false
	}
	return wire.Breach(n), !app.Remote
}

// Codes of a cancelled stream.
const (
	streamDone    quic.StreamErrorCode = 0 // nothing more is wanted
	streamRefused quic.StreamErrorCode = 1 // a call was refused before it began
	streamAborted quic.StreamErrorCode = 2 // its owner gave up
)
