package testcluster

import (
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// A node that is down keeps its port: nobody is given it, and the node may have it back.
func TestAPortIsHeldForWhoHadIt(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().(*net.TCPAddr)
	require.NoError(t, l.Close())
	release, err := hold(addr.String())
	require.NoError(t, err)
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer func() { require.NoError(t, syscall.Close(fd)) }()
	taken := &syscall.SockaddrInet4{Port: addr.Port, Addr: [4]byte{127, 0, 0, 1}}
	require.ErrorIs(t, syscall.Bind(fd, taken), syscall.EADDRINUSE)
	l, err = net.Listen("tcp", addr.String())
	require.NoError(t, err, "the node starts again")
	require.NoError(t, l.Close())
	release()
	require.NoError(t, syscall.Bind(fd, taken))
}
