package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/quic-go/quic-go"

	"edged.dev/edged/transport/wire"
)

// The first byte of a stream says what it is. Part of the protocol.
const (
	streamControl byte = 1 + iota // two-way, one, opened by the dialer
	streamLive                    // two-way, one, opened by the dialer
	streamCall                    // two-way
	streamGossip                  // two-way
	streamLane                    // one-way
	streamPacket                  // one-way: a gossip packet too large for a datagram
)

// fault is why a greeting failed, with the code to close by.
type fault struct {
	code CloseCode
	err  error
}

func (f *fault) Error() string { return f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

func failed(code CloseCode, format string, args ...any) error {
	return &fault{code, fmt.Errorf(format, args...)}
}

// closedAs says whether err is a close with the given code, by either side.
func closedAs(err error, code CloseCode) bool {
	var app *quic.ApplicationError
	if errors.As(err, &app) {
		return CloseCode(app.ErrorCode) == code
	}
	var f *fault
	return errors.As(err, &f) && f.code == code
}

// hangUp closes conn for err.
func hangUp(conn *quic.Conn, err error) {
	code := CloseProtocol
	var f *fault
	if errors.As(err, &f) {
		code = f.code
	}
	_ = conn.CloseWithError(quic.ApplicationErrorCode(code), shortText(err.Error()))
}

// shortText keeps a reason within one packet.
func shortText(s string) string { return s[:min(len(s), 200)] }

// reach dials addr and greets who answers. The returned peer is not served yet;
// a nil one without error says that another connection with that node stays.
func (t *Transport) reach(ctx context.Context, addr string) (*Peer, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	to, err := resolve(ctx, addr)
	if err != nil {
		return nil, err
	}
	if !t.countConn() {
		return nil, errors.New("too many connections")
	}
	conn, err := t.quic.Dial(ctx, net.UDPAddrFromAddrPort(to), t.cfg.Identity.tlsConfig(&t.rejected), t.sized(t.quicConfig()))
	if err != nil {
		t.uncountConn()
		return nil, explain(err)
	}
	context.AfterFunc(conn.Context(), t.uncountConn)
	p, err := t.greet(ctx, conn)
	if err == nil {
		t.addRoute(addr, p.info.Name)
		return p, nil
	}
	hangUp(conn, err)
	switch {
	case closedAs(err, CloseSelf):
		return nil, ErrSelf
	case closedAs(err, CloseDuplicate), closedAs(err, CloseReplaced) && t.Peer(peerName(conn)) != nil:
		// Another connection with that node stays: it turned this one away, or took
		// its place before the answer was here.
		t.addRoute(addr, peerName(conn))
		return nil, nil
	}
	return nil, fmt.Errorf("greet: %w", explain(err))
}

// explain names the one failure of a handshake that a person has to mend.
func explain(err error) error {
	var t *quic.TransportError
	if errors.As(err, &t) && t.ErrorCode.IsCryptoError() {
		return fmt.Errorf("%w: %w", ErrUntrusted, err)
	}
	return err
}

// greet says CONN on a dialed connection and takes in the answer.
func (t *Transport) greet(ctx context.Context, conn *quic.Conn) (*Peer, error) {
	control, err := conn.OpenStreamSync(ctx)
	if err != nil {
		return nil, err
	}
	defer limitStream(ctx, control)()
	hello := t.self()
	hello.Attempt = t.attempts.Add(1)
	if t.cfg.Partitions != nil {
		hello.Partitions = t.cfg.Partitions()
	}
	if holds := t.Peer(peerName(conn)); holds != nil {
		hello.Holds = holds.info.Nonce
	}
	body, err := hello.Append([]byte{byte(wire.TypeConn)})
	if err != nil {
		return nil, err
	}
	if _, err := control.Write(appendFrame([]byte{streamControl}, body)); err != nil {
		return nil, err
	}
	frame, err := readFrame(control, nil, wire.MaxConnBytes+1)
	if err != nil {
		return nil, err
	}
	if len(frame) == 0 || wire.Type(frame[0]) != wire.TypeConnAck {
		return nil, failed(CloseProtocol, "answer is not CONN_ACK")
	}
	ack, err := wire.ParseConnAck(frame[1:])
	if err != nil {
		return nil, failed(CloseProtocol, "%w", err)
	}
	if err := t.judgeAck(conn, ack); err != nil {
		return nil, err
	}
	live, err := conn.OpenStreamSync(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := live.Write([]byte{streamLive}); err != nil {
		return nil, err
	}
	p := t.newPeer(conn, ack.Self, control)
	p.dialed, p.attempt, p.info.Partitions = true, hello.Attempt, ack.Partitions
	p.liveStream <- live
	if err := t.install(p); err != nil {
		return nil, err
	}
	return p, nil
}

// judgeAck says whether the answering side is one to talk to.
func (t *Transport) judgeAck(conn *quic.Conn, ack wire.ConnAck) error {
	if ack.Code != wire.ConnOK {
		t.cfg.Handler.Refused(ack)
		return &fault{CloseRefused, &RefusedError{Ack: ack, By: "peer"}}
	}
	verdict := t.judge(conn, ack.Self)
	if verdict.Code == wire.ConnOK {
		return nil
	}
	verdict.Self = ack.Self
	return &fault{closeCodeOf(verdict.Code), &RefusedError{Ack: verdict, By: "us"}}
}

func closeCodeOf(code wire.ConnCode) CloseCode {
	if code == wire.ConnWrongCluster {
		return CloseWrongCluster
	}
	return CloseRefused
}

// judge checks what a peer says of itself against its certificate, then asks the
// handler.
func (t *Transport) judge(conn *quic.Conn, remote wire.Conn) (verdict wire.ConnAck) {
	switch {
	case remote.Cluster != t.cfg.Identity.Cluster || remote.Name != peerName(conn):
		verdict.Code = wire.ConnWrongCluster
	case remote.Version != wire.Version:
		verdict.Code = wire.ConnVersion
	default:
		verdict = t.cfg.Handler.Conn(remote)
	}
	if verdict.Code != wire.ConnOK {
		t.rejected.Add(1)
	}
	return verdict
}

// peerName is the name in the peer's certificate, verified in the handshake.
func peerName(conn *quic.Conn) string {
	certs := conn.ConnectionState().TLS.PeerCertificates
	if len(certs) == 0 {
		return ""
	}
	_, name, err := sanOf(certs[0])
	if err != nil {
		return ""
	}
	return name
}

// welcome takes in CONN on an accepted connection and answers it. It returns nil
// after closing a connection that is not to be.
func (t *Transport) welcome(ctx context.Context, conn *quic.Conn) *Peer {
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	p, err := t.answer(ctx, conn)
	if err != nil {
		hangUp(conn, err)
		return nil
	}
	return p
}

func (t *Transport) answer(ctx context.Context, conn *quic.Conn) (*Peer, error) {
	control, err := conn.AcceptStream(ctx)
	if err != nil {
		return nil, err
	}
	defer limitStream(ctx, control)()
	remote, err := readConn(control)
	if err != nil {
		return nil, err
	}
	if remote.Nonce == t.cfg.Nonce {
		return nil, &fault{CloseSelf, ErrSelf}
	}
	ack := t.judge(conn, remote)
	ack.Self = t.self()
	body, err := ack.Append([]byte{byte(wire.TypeConnAck)})
	if err != nil {
		return nil, err
	}
	if ack.Code != wire.ConnOK {
		return nil, refuse(ctx, conn, control, ack, body)
	}
	p := t.newPeer(conn, remote, control)
	p.attempt, p.holds, p.info.Partitions = remote.Attempt, remote.Holds, remote.Partitions
	if err := t.install(p); err != nil {
		return nil, err
	}
	// From here on p is in the registry and must be served, also to be ended.
	if _, err := control.Write(appendFrame(nil, body)); err != nil {
		hangUp(conn, err)
	}
	return p, nil
}

func readConn(control *quic.Stream) (wire.Conn, error) {
	var kind [1]byte
	if _, err := io.ReadFull(control, kind[:]); err != nil {
		return wire.Conn{}, err
	}
	frame, err := readFrame(control, nil, wire.MaxConnBytes+1)
	if err != nil {
		return wire.Conn{}, err
	}
	if kind[0] != streamControl || len(frame) == 0 || wire.Type(frame[0]) != wire.TypeConn {
		return wire.Conn{}, failed(CloseProtocol, "connection does not begin with CONN")
	}
	remote, err := wire.ParseConn(frame[1:])
	if err != nil {
		return wire.Conn{}, failed(CloseProtocol, "%w", err)
	}
	return remote, nil
}

// refuse answers with a refusal and gives the peer time to read it: closing at
// once could overtake the answer.
func refuse(ctx context.Context, conn *quic.Conn, control *quic.Stream, ack wire.ConnAck, body []byte) error {
	if _, err := control.Write(appendFrame(nil, body)); err == nil {
		_ = control.Close()
		timer := time.NewTimer(refusalTimeout)
		defer timer.Stop()
		select {
		case <-conn.Context().Done():
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return failed(closeCodeOf(ack.Code), "refused: %s", ack.Code)
}

// install admits p and closes the connection that loses by it.
func (t *Transport) install(p *Peer) error {
	replaced, code, ok := t.admit(p, time.Now())
	if !ok {
		return failed(code, "another connection with %s stays", p.info.Name)
	}
	if replaced != nil {
		replaced.Close(code, "replaced by a later connection")
	}
	return nil
}

// limitStream ends a stream's reads and writes when ctx does, until the returned
// function is called.
func limitStream(ctx context.Context, s *quic.Stream) func() {
	deadline, _ := ctx.Deadline()
	_ = s.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { _ = s.SetDeadline(time.Unix(1, 0)) })
	return func() {
		if stop() {
			_ = s.SetDeadline(time.Time{})
		}
	}
}

func resolve(ctx context.Context, addr string) (netip.AddrPort, error) {
	if at, err := parseAddr(addr); err == nil {
		return at, nil
	}
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "udp", service)
	if err != nil {
		return netip.AddrPort{}, err
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if len(ips) == 0 {
		return netip.AddrPort{}, fmt.Errorf("%s has no address", host)
	}
	return netip.AddrPortFrom(ips[0].Unmap(), uint16(port)), nil
}
