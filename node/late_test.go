package node_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/fault"
	"edged.dev/edged/node"
)

// lateNode is a node whose disk a test may hold, and which must not end for it.
func lateNode(t *testing.T) (*life, *fault.Set) {
	t.Helper()
	l := newLab(t, "n1")
	opts := node.Options{Exit: func(code int) { t.Errorf("the process would end with %d", code) }, Fault: &fault.Set{}}
	return l.startWith(l.config("n1"), opts).ready(), opts.Fault
}

func dialRESP(t *testing.T, n *life) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", n.ports.RESP)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn, bufio.NewReader(conn)
}

// TestWhileTheDiskSyncsNoDoorKeepsAClientWaiting: a write whose sync takes longer than
// its deadline is answered by it, that nobody knows, at either door; and it takes effect
// once the disk is back.
func TestWhileTheDiskSyncsNoDoorKeepsAClientWaiting(t *testing.T) {
	t.Parallel()
	n1, faults := lateNode(t)
	conn, replies := dialRESP(t, n1)
	ask := func(commands string) {
		_, err := conn.Write([]byte(commands))
		require.NoError(t, err)
	}
	expect := func(want string) {
		t.Helper()
		got, err := replies.ReadString('\n')
		require.NoError(t, err)
		require.Regexp(t, want, got)
	}
	reached, release := faults.Hold("cache.commit") // which ends with a sync
	defer release()
	ask("SET a 1\r\nPING\r\nINCR n\r\n")
	<-reached
	expect("^-UNKNOWN ")
	expect(`^\+PONG`)
	expect("^-UNKNOWN ")
	status, _ := n1.do(http.MethodPut, "b", "2")
	require.Equal(t, http.StatusGatewayTimeout, status)
	release()
	ask("INCR n\r\n")
	expect("^:2")
	for key, want := range map[string]string{"a": "1", "b": "2"} {
		require.Eventually(t, func() bool {
			status, body := n1.do(http.MethodGet, key, "")
			return status == http.StatusOK && body == want
		}, time.Minute, 5*time.Millisecond)
	}
}

// A client whose write finds the store's queue full, since the disk stands still, is
// answered by its deadline like any other.
func TestAFullQueueKeepsNoClientWaiting(t *testing.T) {
	t.Parallel()
	n1, faults := lateNode(t)
	reached, release := faults.Hold("cache.commit")
	defer release()
	first, _ := dialRESP(t, n1)
	_, err := first.Write([]byte("SET a 1\r\n"))
	require.NoError(t, err)
	<-reached
	value := strings.Repeat("v", 1<<20)
	for i := range 36 {
		conn, _ := dialRESP(t, n1)
		_, err := fmt.Fprintf(conn, "*3\r\n$3\r\nSET\r\n$4\r\nb%03d\r\n$%d\r\n%s\r\n", i, len(value), value)
		require.NoError(t, err)
	}
	for range 10 { // until the queue is full: what is in it before is unknown at its deadline
		conn, replies := dialRESP(t, n1)
		began := time.Now()
		_, err = conn.Write([]byte("SET c 1\r\n"))
		require.NoError(t, err)
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(6*time.Second)))
		got, err := replies.ReadString('\n')
		require.NoError(t, err, "after %v", time.Since(began))
		require.Regexp(t, "^-", got)
		if strings.Contains(got, "nothing was written") {
			return
		}
	}
	t.Error("the queue was never full")
}
