package transport

import (
	"errors"
	"net"
	"sync/atomic"
	"syscall"

	"golang.org/x/net/ipv4"
)

// counter counts the UDP payload bytes of a socket.
type counter struct{ in, out atomic.Int64 }

// countSocket wraps conn so that its bytes are counted. A *net.UDPConn keeps what
// quic-go can do with one: batched reads, segmentation offload, ECN.
func countSocket(conn net.PacketConn, c *counter) net.PacketConn {
	if udp, ok := conn.(*net.UDPConn); ok {
		return &udpSocket{UDPConn: udp, counter: c, batch: ipv4.NewPacketConn(udp)}
	}
	return &plainSocket{PacketConn: conn, counter: c}
}

// udpSocket is a kernel socket.
//
// quic-go sets the buffer sizes first and complains on the standard logger when
// the kernel grants less. What it grants is all there is, and the README names
// the sysctl, so SyscallConn, by which it looks, is closed to it until then.
type udpSocket struct {
	*net.UDPConn
	counter *counter
	batch   *ipv4.PacketConn

	readSized, writeSized atomic.Bool
}

var errNotSized = errors.New("socket buffers are not set yet")

func (s *udpSocket) SetReadBuffer(int) error {
	s.readSized.Store(true)
	_ = s.UDPConn.SetReadBuffer(socketBufferBytes) // best effort
	return nil
}

func (s *udpSocket) SetWriteBuffer(int) error {
	s.writeSized.Store(true)
	_ = s.UDPConn.SetWriteBuffer(socketBufferBytes) // best effort
	return nil
}

func (s *udpSocket) SyscallConn() (syscall.RawConn, error) {
	if !s.readSized.Load() || !s.writeSized.Load() {
		return nil, errNotSized
	}
	return s.UDPConn.SyscallConn()
}

// ReadBatch is how quic-go reads where the system has recvmmsg.
func (s *udpSocket) ReadBatch(messages []ipv4.Message, flags int) (int, error) {
	n, err := s.batch.ReadBatch(messages, flags)
	for i := range max(n, 0) {
		s.counter.in.Add(int64(messages[i].N))
	}
	return n, err
}

func (s *udpSocket) ReadMsgUDP(b, oob []byte) (n, oobn, flags int, addr *net.UDPAddr, err error) {
	n, oobn, flags, addr, err = s.UDPConn.ReadMsgUDP(b, oob)
	s.counter.in.Add(int64(n))
	return n, oobn, flags, addr, err
}

func (s *udpSocket) WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (n, oobn int, err error) {
	n, oobn, err = s.UDPConn.WriteMsgUDP(b, oob, addr)
	s.counter.out.Add(int64(n))
	return n, oobn, err
}

func (s *udpSocket) ReadFrom(b []byte) (int, net.Addr, error) {
	n, addr, err := s.UDPConn.ReadFrom(b)
	s.counter.in.Add(int64(n))
	return n, addr, err
}

func (s *udpSocket) WriteTo(b []byte, addr net.Addr) (int, error) {
	n, err := s.UDPConn.WriteTo(b, addr)
	s.counter.out.Add(int64(n))
	return n, err
}

// plainSocket is any other net.PacketConn, a test's. The buffer methods are
// there because quic-go asks for them aloud.
type plainSocket struct {
	net.PacketConn
	counter *counter
}

func (s *plainSocket) SetReadBuffer(int) error  { return nil }
func (s *plainSocket) SetWriteBuffer(int) error { return nil }

func (s *plainSocket) ReadFrom(b []byte) (int, net.Addr, error) {
	n, addr, err := s.PacketConn.ReadFrom(b)
	s.counter.in.Add(int64(n))
	return n, addr, err
}

func (s *plainSocket) WriteTo(b []byte, addr net.Addr) (int, error) {
	n, err := s.PacketConn.WriteTo(b, addr)
	s.counter.out.Add(int64(n))
	return n, err
}
