package resp_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/api/resp"
	"edged.dev/edged/internal/kv"
)

// limitCase is what just passes a limit and what just does not.
type limitCase struct {
	name, limit     string
	passes, reply   string
	refused, answer string
	stays           bool // the connection does
}

func limitCases() []limitCase {
	pings := func(n int) string {
		return command(append([]string{"EXISTS"}, strings.Fields(strings.Repeat("k ", n-1))...)...)
	}
	inline := func(n int) string { return "ECHO " + strings.Repeat("x", n-len("ECHO \r\n")) + "\r\n" }
	return []limitCase{
		{
			name: "inline", limit: "inline",
			passes: inline(64 << 10), reply: bulk(strings.Repeat("x", 64<<10-len("ECHO \r\n"))),
			refused: inline(64<<10 + 2), answer: "-ERR Protocol error: too big inline request\r\n",
		},
		{
			name: "arguments", limit: "args",
			passes: pings(1024), reply: ":0\r\n",
			refused: pings(1025), answer: "-ERR Protocol error: invalid multibulk length (the limit is 1024 arguments)\r\n",
		},
		{
			name: "inline arguments", limit: "args",
			passes: "EXISTS" + strings.Repeat(" k", 1023) + "\r\n", reply: ":0\r\n",
			refused: "EXISTS" + strings.Repeat(" k", 1024) + "\r\n", answer: "-ERR Protocol error: too many arguments in inline request\r\n",
		},
		{
			name: "value", limit: "bulk",
			passes: command("SET", "k", strings.Repeat("v", kv.MaxValueBytes)), reply: "+OK\r\n",
			refused: command("SET", "k", strings.Repeat("v", kv.MaxValueBytes+1)), answer: "-ERR Protocol error: invalid bulk length (the limit is 1048576 bytes)\r\n",
		},
		{
			name: "header", limit: "header",
			passes: "*00000002\r\n$4\r\nECHO\r\n$1\r\nx\r\n", reply: bulk("x"),
			refused: "*" + strings.Repeat("0", 32) + "\r\n", answer: "-ERR Protocol error: too big mbulk count string\r\n",
		},
		{
			name: "command", limit: "command",
			passes: command("MSET", "a", strings.Repeat("v", 1<<20), "b", strings.Repeat("v", 1<<20)), reply: "+OK\r\n",
			refused: command(append([]string{"EXISTS"}, strings.Split(strings.TrimSuffix(strings.Repeat(strings.Repeat("k", 1<<20)+" ", 16), " "), " ")...)...),
			answer:  "-ERR Protocol error: too big command (the limit is 16777216 bytes)\r\n",
		},
		{
			name: "key", limit: "key", stays: true,
			passes: command("SET", strings.Repeat("k", kv.MaxKeyBytes), "v"), reply: "+OK\r\n",
			refused: command("SET", strings.Repeat("k", kv.MaxKeyBytes+1), "v"), answer: "-ERR key has 1025 bytes; the limit is 1024\r\n",
		},
		{
			name: "empty key", stays: true,
			passes: command("GET", "k"), reply: "$-1\r\n",
			refused: command("GET", ""), answer: "-ERR key is empty; a key has 1 to 1024 bytes\r\n",
		},
	}
}

// TestLimitsHoldAtTheLimitAndOneOver: a breach of the protocol also closes the
// connection, and no other.
func TestLimitsHoldAtTheLimitAndOneOver(t *testing.T) {
	t.Parallel()
	for _, tc := range limitCases() {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			c, other := f.dial(), f.dial()
			c.send(tc.passes)
			c.expect(tc.reply)
			go c.try(tc.refused)
			c.expect(tc.answer)
			if tc.limit != "" {
				require.EqualValues(t, 1, f.server.Stats().Rejected[tc.limit])
			}
			if tc.stays {
				c.do("+PONG\r\n", "PING")
			} else {
				require.EqualValues(t, 1, f.server.Stats().Errors["protocol"])
				_, err := c.r.ReadByte()
				require.Error(t, err, "the connection is closed")
			}
			other.do("+PONG\r\n", "PING")
		})
	}
}

func TestStrangersHaveSmallerLimits(t *testing.T) {
	t.Parallel()
	long := func(n int) string { return strings.Repeat("x", n) }
	for _, tc := range []struct{ name, passes, reply, refused, answer string }{
		{
			"arguments", command(append([]string{"GET"}, strings.Fields(strings.Repeat("k ", 9))...)...), "-ERR wrong number of arguments for 'get' command\r\n",
			command(append([]string{"GET"}, strings.Fields(strings.Repeat("k ", 10))...)...), "-ERR Protocol error: unauthenticated multibulk length\r\n",
		},
		{
			"bulk", command("AUTH", long(16<<10)), "-WRONGPASS invalid username-password pair or user is disabled.\r\n",
			command("AUTH", long(16<<10+1)), "-ERR Protocol error: unauthenticated bulk length\r\n",
		},
		{
			"inline", "GET" + strings.Repeat(" k", 9) + "\r\n", "-ERR wrong number of arguments for 'get' command\r\n",
			"GET" + strings.Repeat(" k", 10) + "\r\n", "-ERR Protocol error: too many arguments in inline request\r\n",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := start(t, protected).dial()
			c.send(tc.passes)
			c.expect(tc.reply)
			c.send(tc.refused)
			c.expect(tc.answer)
			c.gone()
		})
	}
	t.Run("lifted by AUTH", func(t *testing.T) {
		t.Parallel()
		c := start(t, protected).dial()
		c.do("+OK\r\n", "AUTH", "secret")
		c.do("+OK\r\n", "SET", "k", long(16<<10+1))
		c.do("+RESET\r\n", "RESET")
		c.do("-NOAUTH Authentication required.\r\n", "GET", "k")
	})
}

func TestBrokenProtocolIsToldAndClosed(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"*x\r\n":           "invalid multibulk length",
		"*1\n":             "invalid multibulk length",
		"*99999999999\r\n": "invalid multibulk length",
		"*1\r\nx":          "expected '$', got 'x'",
		"*1\r\n\x01":       "expected '$', got '\\x01'",
		"*1\r\n$-1\r\n":    "invalid bulk length",
		"*1\r\n$4x\r\n":    "invalid bulk length",
		"*1\r\n$" + "00000000000000000000000000000000": "too big bulk count string",
		"*1\r\n$4\r\nPINGxx":                           "expected CRLF after a bulk string",
		"ECHO \"open\r\n":                              "unbalanced quotes in request",
		"ECHO \"a\"b\r\n":                              "unbalanced quotes in request",
	} {
		t.Run(fmt.Sprintf("%q", raw), func(t *testing.T) {
			t.Parallel()
			c := start(t).dial()
			c.send(command("PING") + raw)
			c.expect("+PONG\r\n-ERR Protocol error: " + want + "\r\n")
			c.gone()
		})
	}
}

func TestEmptyCommandsAreSkipped(t *testing.T) {
	t.Parallel()
	c := start(t).dial()
	c.send("\r\n*0\r\n*-1\r\n   \r\nPING\r\n")
	c.expect("+PONG\r\n")
}

func TestInlineQuotes(t *testing.T) {
	t.Parallel()
	c := start(t).dial()
	c.send(`ECHO "a\x41\n\"b"` + "\r\n" + `ECHO 'it\'s \n'` + "\n" + `ECHO pre"fix"` + "\r\n" + `ECHO ""` + "\r\n")
	c.expect(bulk("aA\n\"b") + bulk(`it's \n`) + bulk("prefix") + bulk(""))
}

func TestConnectionsHaveALimit(t *testing.T) {
	t.Parallel()
	f := start(t, limited(func(l *resp.Limits) { l.Connections = 2 }))
	a, b := f.dial(), f.dial()
	a.do("+PONG\r\n", "PING")
	b.do("+PONG\r\n", "PING")
	over := f.dial()
	over.expect("-ERR max number of clients reached\r\n")
	over.gone()
	require.EqualValues(t, 1, f.server.Stats().Rejected["connections"])
	a.do("+OK\r\n", "QUIT")
	a.gone()
	require.NoError(t, a.Close())
	require.Eventually(t, func() bool { return f.server.Stats().Open == 1 }, 5*time.Second, time.Millisecond)
	f.dial().do("+PONG\r\n", "PING")
	b.do("+PONG\r\n", "PING")
}

func TestSlowLorisMeetsTheCommandsDeadline(t *testing.T) {
	t.Parallel()
	f := start(t, limited(func(l *resp.Limits) { l.CommandTimeout = 50 * time.Millisecond }))
	slow, idle := f.dial(), f.dial()
	slow.send("*2\r\n$3\r\nGET\r\n$1")
	_, err := slow.r.ReadByte()
	require.ErrorIs(t, err, io.EOF)
	require.EqualValues(t, 1, f.server.Stats().Rejected["deadline"])
	idle.do("+PONG\r\n", "PING") // to send nothing is another thing
}

// TestTrickleDoesNotMoveTheDeadline sends a byte whenever it can: the deadline
// is the command's, not the byte's.
func TestTrickleDoesNotMoveTheDeadline(t *testing.T) {
	t.Parallel()
	f := start(t, limited(func(l *resp.Limits) { l.CommandTimeout = 60 * time.Millisecond }))
	c := f.dial()
	c.send("*2\r\n$4\r\nECHO\r\n$100000\r\n")
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_, _ = io.Copy(io.Discard, c.Conn)
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for begun := time.Now(); ; {
		select {
		case <-closed:
			return
		case <-tick.C:
			require.Less(t, time.Since(begun), 10*time.Second)
			c.try("x")
		}
	}
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	t.Parallel()
	f := start(t, protected, limited(func(l *resp.Limits) { l.EarlyTimeout = 50 * time.Millisecond }))
	known, stranger := f.dial(), f.dial()
	known.do("+OK\r\n", "AUTH", "secret")
	_, err := stranger.r.ReadByte()
	require.ErrorIs(t, err, io.EOF)
	known.do("+PONG\r\n", "PING")
}

func TestBuffersHaveABudget(t *testing.T) {
	t.Parallel()
	f := start(t, limited(func(l *resp.Limits) { l.BufferBytes = 3 << 20 }))
	a := f.dial()
	a.do("+OK\r\n", "SET", "k", strings.Repeat("v", 1<<20))
	half := command("MSET", "a", strings.Repeat("v", 1<<20), "b", strings.Repeat("v", 1<<20), "c", strings.Repeat("v", 1<<20))
	b := f.dial()
	go b.try(half + half)
	require.Contains(t, b.line(), "buffers are full")
	require.EqualValues(t, 1, f.server.Stats().Rejected["buffers"])
	b.Close()
	require.Eventually(t, func() bool { return f.server.Stats().Open == 1 }, 5*time.Second, time.Millisecond)
	a.do("+OK\r\n", "SET", "k", strings.Repeat("w", 1<<20))
}

func TestMGetReplyHasALimit(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.store.Put("k", strings.Repeat("v", 1<<20))
	c := f.dial()
	args := append([]string{"MGET"}, strings.Fields(strings.Repeat("k ", 64))...)
	c.do("-ERR reply is over its limit of 67108864 bytes; ask for fewer keys at once\r\n", args...)
	c.send(command("MGET", "k", "none", "k"))
	c.expect("*3\r\n" + bulk(strings.Repeat("v", 1<<20)) + "$-1\r\n" + bulk(strings.Repeat("v", 1<<20)))
}

// flood has a client ask for more than the sockets hold, and read nothing.
func flood(f *fixture) *client {
	f.store.Put("k", strings.Repeat("v", 1<<20))
	c := f.dial()
	go c.try(strings.Repeat(command("GET", "k"), 200))
	require.Eventually(f.t, func() bool { return f.server.Stats().BytesIn > 0 }, 5*time.Second, time.Millisecond)
	return c
}

func TestClientsThatDoNotReadAreClosed(t *testing.T) {
	t.Parallel()
	f := start(t, limited(func(l *resp.Limits) { l.WriteTimeout = 50 * time.Millisecond }))
	flood(f)
	require.Eventually(t, func() bool { return f.server.Stats().Open == 0 }, 10*time.Second, time.Millisecond)
	require.EqualValues(t, 1, f.server.Stats().Rejected["write-deadline"])
}

func TestDrainHasATimeout(t *testing.T) {
	t.Parallel()
	f := start(t, limited(func(l *resp.Limits) { l.DrainTimeout, l.WriteTimeout = 50*time.Millisecond, time.Hour }))
	flood(f)
	f.stop()
	select {
	case err := <-f.served:
		require.NoError(t, err)
		f.served <- nil
	case <-time.After(10 * time.Second):
		require.Fail(t, "the server did not end")
	}
}

func TestPendingRequestsHaveALimit(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		limit int
		line  func(i int) string
		reply string
	}{
		"writes": {128, func(i int) string { return fmt.Sprintf("SET k%d v\r\n", i) }, "+OK\r\n"},
		"values": {32, func(i int) string { return fmt.Sprintf("GETSET k%d v\r\n", i) }, "$-1\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			c := f.dial()
			f.store.Hold()
			var batch strings.Builder
			for i := range 2 * tc.limit {
				batch.WriteString(tc.line(i))
			}
			c.send(batch.String())
			require.NoError(t, f.store.WaitStarted(t.Context(), tc.limit))
			require.Equal(t, tc.limit, f.store.Held())
			f.store.Release()
			c.expect(strings.Repeat(tc.reply, 2*tc.limit))
		})
	}
}

func TestScanCountHasALimit(t *testing.T) {
	t.Parallel()
	f := start(t)
	for i := range 4097 {
		f.store.Put(fmt.Sprint("k", i), "")
	}
	c := f.dial()
	c.send(command("SCAN", "0", "COUNT", "4097"))
	c.line()
	c.line()
	require.NotEqual(t, "0", c.line())
	require.Equal(t, "*4096", c.line())
}

// shortOfDescriptors is a listener that fails once.
type shortOfDescriptors struct {
	net.Listener
	failed bool
}

func (l *shortOfDescriptors) Accept() (net.Conn, error) {
	if !l.failed {
		l.failed = true
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept", syscall.EMFILE)}
	}
	return l.Listener.Accept()
}

func TestAcceptGoesOnAfterItRanOutOfDescriptors(t *testing.T) {
	t.Parallel()
	f := start(t)
	server, err := resp.New(resp.Config{Store: f.store, Now: f.clock.now})
	require.NoError(t, err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, &shortOfDescriptors{Listener: ln}) }()
	f.addr = ln.Addr().String()
	f.dial().do("+PONG\r\n", "PING")
	cancel()
	require.NoError(t, <-served)
}

func TestNonsensicalConfigIsRefused(t *testing.T) {
	t.Parallel()
	f := start(t)
	for name, cfg := range map[string]resp.Config{
		"no store":                      {Now: f.clock.now},
		"no clock":                      {Store: f.store},
		"connections is 0":              {Store: f.store, Now: f.clock.now, Limits: resp.Limits{BufferBytes: 1}},
		"every timeout must be above 0": {Store: f.store, Now: f.clock.now, Limits: resp.Limits{Connections: 1, BufferBytes: 1}},
	} {
		_, err := resp.New(cfg)
		require.ErrorContains(t, err, name)
	}
}

func TestServeTellsThatItsListenerFailed(t *testing.T) {
	t.Parallel()
	f := start(t)
	server, err := resp.New(resp.Config{Store: f.store, Now: f.clock.now})
	require.NoError(t, err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, ln.Close())
	require.ErrorIs(t, server.Serve(t.Context(), ln), net.ErrClosed)
}
