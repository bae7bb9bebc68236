package testcluster

import (
	"net/netip"
	"syscall"
)

// hold keeps a TCP port for a node that is down: the kernel gives it to no outgoing
// connection and to nobody who asks for any port. Whoever asks for this one may listen
// at it, as Go's listeners do: all are bound by SO_REUSEADDR, and this one never listens.
func hold(addr string) (release func(), err error) {
	at, err := netip.ParseAddrPort(addr)
	if err == nil && !at.Addr().Is4() {
		err = syscall.EAFNOSUPPORT
	}
	if err != nil {
		return nil, err
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()})
	}
	if err != nil {
		_ = syscall.Close(fd)
		return nil, err
	}
	return func() { _ = syscall.Close(fd) }, nil
}
