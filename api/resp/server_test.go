package resp_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"edged.dev/edged/api/apitest"
	"edged.dev/edged/api/resp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is a time that stands still until a test moves it.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.UnixMilli(1_700_000_000_000)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// fixture is a server on loopback over a store in memory.
type fixture struct {
	t      testing.TB
	clock  *clock
	store  *apitest.Store
	server *resp.Server
	addr   string
	stop   context.CancelFunc
	served chan error
}

func start(t testing.TB, change ...func(*resp.Config)) *fixture {
	t.Helper()
	f := &fixture{t: t, clock: newClock(), served: make(chan error, 1)}
	f.store = apitest.New(f.clock.now)
	cfg := resp.Config{Store: f.store, Now: f.clock.now, Version: "test", Limits: resp.DefaultLimits()}
	for _, fn := range change {
		fn(&cfg)
	}
	var err error
	f.server, err = resp.New(cfg)
	require.NoError(t, err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	f.addr = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	f.stop = cancel
	go func() { f.served <- f.server.Serve(ctx, ln) }()
	t.Cleanup(func() {
		f.stop()
		require.NoError(t, <-f.served)
		f.served <- nil
	})
	return f
}

func limited(fn func(*resp.Limits)) func(*resp.Config) {
	return func(c *resp.Config) { fn(&c.Limits) }
}

func protected(c *resp.Config) { c.Password = "secret" }

// client speaks raw bytes.
type client struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

func (f *fixture) dial() *client {
	f.t.Helper()
	nc, err := net.Dial("tcp", f.addr)
	require.NoError(f.t, err)
	f.t.Cleanup(func() { nc.Close() })
	require.NoError(f.t, nc.SetDeadline(time.Now().Add(20*time.Second)))
	return &client{f.t, nc, bufio.NewReader(nc)}
}

func (c *client) send(raw string) {
	c.t.Helper()
	_, err := io.WriteString(c.Conn, raw)
	require.NoError(c.t, err)
}

// try sends to a server that may close before it has everything.
func (c *client) try(raw string) { _, _ = io.WriteString(c.Conn, raw) }

// expect reads exactly the bytes of want.
func (c *client) expect(want string) {
	c.t.Helper()
	got := make([]byte, len(want))
	n, err := io.ReadFull(c.r, got)
	require.NoError(c.t, err, "got %q, want %q", got[:n], want)
	require.Equal(c.t, want, string(got))
}

// do sends a command and expects a reply's raw bytes.
func (c *client) do(want string, args ...string) {
	c.t.Helper()
	c.send(command(args...))
	c.expect(want)
}

// line reads one line of a reply.
func (c *client) line() string {
	c.t.Helper()
	s, err := c.r.ReadString('\n')
	require.NoError(c.t, err)
	return strings.TrimSuffix(s, "\r\n")
}

// gone expects the server to have closed the connection.
func (c *client) gone() {
	c.t.Helper()
	rest, err := io.ReadAll(c.r)
	require.NoError(c.t, err)
	require.Empty(c.t, string(rest))
}

func command(args ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	return b.String()
}

func bulk(s string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(s), s) }

func TestSetGetPing(t *testing.T) {
	t.Parallel()
	c := start(t).dial()
	c.do("+PONG\r\n", "PING")
	c.do("+OK\r\n", "SET", "k", "hello")
	c.do(bulk("hello"), "GET", "k")
	c.do("$-1\r\n", "GET", "missing")
	c.send("get k\r\n")
	c.expect(bulk("hello"))
}
