package node_test

import (
	"bufio"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/fault"
	"edged.dev/edged/node"
)

// TestWhileTheDiskSyncsNoDoorKeepsAClientWaiting: a write whose sync takes longer than
// its deadline is answered by it, that nobody knows, at either door; and it takes effect
// once the disk is back.
func TestWhileTheDiskSyncsNoDoorKeepsAClientWaiting(t *testing.T) {
	t.Parallel()
	l := newLab(t, "n1")
	opts := node.Options{Exit: func(code int) { t.Errorf("the process would end with %d", code) }, Fault: &fault.Set{}}
	n1 := l.startWith(l.config("n1"), opts).ready()
	conn, err := net.Dial("tcp", n1.ports.RESP)
	require.NoError(t, err)
	defer conn.Close()
	replies := bufio.NewReader(conn)
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
	reached, release := opts.Fault.Hold("cache.commit") // which ends with a sync
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
