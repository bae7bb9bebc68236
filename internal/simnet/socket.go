package simnet

import (
	"container/heap"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// Socket is one address of a Network, a net.PacketConn.
type Socket struct {
	net  *Network
	addr netip.AddrPort
	wake chan struct{} // something a reader waits for may have changed
	done chan struct{} // closed by Close

	mu       sync.Mutex
	queue    packetHeap
	seq      uint64
	deadline time.Time
	closed   bool
}

// ReadFrom returns the next packet that has arrived. It gives net.ErrClosed
// after Close and os.ErrDeadlineExceeded after the read deadline.
func (s *Socket) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		p, wait, err := s.poll()
		if err != nil {
			return 0, nil, &net.OpError{Op: "read", Net: "udp", Addr: s.LocalAddr(), Err: err}
		}
		if wait == 0 {
			return copy(b, p.data), net.UDPAddrFromAddrPort(p.from), nil
		}
		s.await(wait)
	}
}

// forever stands for "until woken".
const forever = time.Duration(1<<63 - 1)

// poll returns a packet, or how long to wait for one.
func (s *Socket) poll() (packet, time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	switch {
	case s.closed:
		return packet{}, 0, net.ErrClosed
	case !s.deadline.IsZero() && !now.Before(s.deadline):
		return packet{}, 0, os.ErrDeadlineExceeded
	}
	wait := forever
	if !s.deadline.IsZero() {
		wait = s.deadline.Sub(now)
	}
	if len(s.queue) == 0 {
		return packet{}, wait, nil
	}
	if due := s.queue[0].at.Sub(now); due > 0 {
		return packet{}, min(wait, due), nil
	}
	p := heap.Pop(&s.queue).(packet)
	if len(s.queue) > 0 {
		s.signal() // another reader may be waiting for the next one
	}
	return p, 0, nil
}

func (s *Socket) await(wait time.Duration) {
	var timer <-chan time.Time
	if wait != forever {
		t := time.NewTimer(wait)
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-s.wake:
	case <-s.done:
	case <-timer:
	}
}

func (s *Socket) push(p packet) {
	s.mu.Lock()
	if !s.closed && len(s.queue) < maxQueued {
		s.seq++
		p.seq = s.seq
		heap.Push(&s.queue, p)
	}
	s.mu.Unlock()
	s.signal()
}

func (s *Socket) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// WriteTo sends b; like UDP it says nothing about arrival. b is copied.
func (s *Socket) WriteTo(b []byte, to net.Addr) (int, error) {
	udp, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, fmt.Errorf("write to %s: not a UDP address", to)
	}
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return 0, &net.OpError{Op: "write", Net: "udp", Addr: to, Err: net.ErrClosed}
	}
	at := udp.AddrPort()
	s.net.send(s, netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), b)
	return len(b), nil
}

// Close frees the address and ends reads.
func (s *Socket) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return net.ErrClosed
	}
	s.closed = true
	close(s.done)
	s.mu.Unlock()

	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	if s.net.sockets[s.addr] == s {
		delete(s.net.sockets, s.addr)
	}
	return nil
}

// LocalAddr is the address given to Listen.
func (s *Socket) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(s.addr) }

// SetDeadline sets the read deadline; writes never wait.
func (s *Socket) SetDeadline(t time.Time) error { return s.SetReadDeadline(t) }

// SetReadDeadline ends waiting reads at t; zero is never.
func (s *Socket) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	s.deadline = t
	s.mu.Unlock()
	s.signal()
	return nil
}

// SetWriteDeadline does nothing: writes never wait.
func (s *Socket) SetWriteDeadline(time.Time) error { return nil }
