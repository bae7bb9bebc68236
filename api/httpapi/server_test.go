package httpapi_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/api/httpapi"
)

// listen serves a handler on loopback until the test ends or stop is called,
// which waits for Serve to return.
func listen(t *testing.T, h http.Handler, change ...func(*httpapi.ServerConfig)) (addr string, stop func()) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	cfg := httpapi.ServerConfig{Handler: h, Limits: httpapi.DefaultServerLimits(), ErrorLog: log.New(io.Discard, "", 0)}
	for _, fn := range change {
		fn(&cfg)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- httpapi.Serve(ctx, ln, cfg) }()
	stop = func() {
		t.Helper()
		cancel()
		select {
		case err := <-served:
			require.NoError(t, err)
			served <- nil
		case <-time.After(20 * time.Second):
			require.Fail(t, "the server did not end")
		}
	}
	t.Cleanup(stop)
	return ln.Addr().String(), stop
}

// dial opens a connection to speak raw bytes over.
func dial(t *testing.T, addr string) (net.Conn, *bufio.Reader) {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { nc.Close() })
	require.NoError(t, nc.SetDeadline(time.Now().Add(20*time.Second)))
	return nc, bufio.NewReader(nc)
}

func say(t *testing.T, nc net.Conn, format string, args ...any) {
	t.Helper()
	_, err := fmt.Fprintf(nc, format, args...)
	require.NoError(t, err)
}

func status(t *testing.T, r *bufio.Reader) int {
	t.Helper()
	resp, err := http.ReadResponse(r, nil)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, resp.Body)
	require.NoError(t, err)
	return resp.StatusCode
}

func TestValuesOverARealConnection(t *testing.T) {
	t.Parallel()
	d := open(t)
	addr, _ := listen(t, d.kv)
	nc, r := dial(t, addr)
	say(t, nc, "PUT /v1/kv/a//../b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
	require.Equal(t, 204, status(t, r))
	say(t, nc, "GET /v1/kv/a//../b HTTP/1.1\r\nHost: x\r\n\r\n")
	require.Equal(t, 200, status(t, r))
	say(t, nc, "HEAD /v1/kv/a//../b HTTP/1.1\r\nHost: x\r\n\r\n")
	head, err := http.ReadResponse(r, &http.Request{Method: "HEAD"})
	require.NoError(t, err)
	require.NoError(t, head.Body.Close())
	require.Equal(t, "3", head.Header.Get("Content-Length"))
	require.NotEmpty(t, head.Header.Get("ETag"))
	say(t, nc, "HEAD /v1/kv/none HTTP/1.1\r\nHost: x\r\n\r\n")
	head, err = http.ReadResponse(r, &http.Request{Method: "HEAD"})
	require.NoError(t, err)
	require.NoError(t, head.Body.Close())
	require.Equal(t, 404, head.StatusCode)
}

func TestHeadersAtTheLimitAndOneOver(t *testing.T) {
	t.Parallel()
	d := open(t)
	addr, _ := listen(t, d.kv)
	for over, want := range map[int]int{0: 404, 1: 431} {
		nc, r := dial(t, addr)
		head := "GET /v1/kv/k HTTP/1.1\r\nHost: x\r\nX-Filler: %s\r\n\r\n"
		_, err := fmt.Fprintf(nc, head, strings.Repeat("f", 16<<10-(len(head)-len("%s"))+over))
		require.NoError(t, err)
		line, err := r.ReadString('\n') // the body may be lost to a reset: the last byte is not read
		require.NoError(t, err)
		require.Contains(t, line, fmt.Sprint("HTTP/1.1 ", want))
	}
}

func TestSlowHeadersMeetTheirDeadline(t *testing.T) {
	t.Parallel()
	d := open(t)
	addr, _ := listen(t, d.kv, func(c *httpapi.ServerConfig) { c.Limits.HeaderTimeout = 50 * time.Millisecond })
	nc, r := dial(t, addr)
	say(t, nc, "GET /v1/kv/k HTTP/1.1\r\nHost:")
	_, err := io.Copy(io.Discard, r)
	require.NoError(t, err, "the server closes the connection")
}

func TestSlowBodiesMeetTheirDeadline(t *testing.T) {
	t.Parallel()
	d := open(t)
	addr, _ := listen(t, d.kv, func(c *httpapi.ServerConfig) { c.Limits.ReadTimeout = 50 * time.Millisecond })
	nc, r := dial(t, addr)
	say(t, nc, "PUT /v1/kv/k HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
	require.Equal(t, 400, status(t, r))
	_, found := d.store.Value("k")
	require.False(t, found)
}

func TestConnectionsHaveALimit(t *testing.T) {
	t.Parallel()
	d := open(t)
	var refused atomic.Int32
	addr, _ := listen(t, d.kv, func(c *httpapi.ServerConfig) {
		c.Limits.Connections = 1
		c.Refused = func() { refused.Add(1) }
	})
	nc, r := dial(t, addr)
	say(t, nc, "GET /v1/kv/k HTTP/1.1\r\nHost: x\r\n\r\n")
	require.Equal(t, 404, status(t, r))
	_, second := dial(t, addr)
	require.Equal(t, 503, status(t, second))
	require.EqualValues(t, 1, refused.Load())
	require.NoError(t, nc.Close())
	require.Eventually(t, func() bool {
		nc, r := dial(t, addr)
		defer nc.Close()
		say(t, nc, "GET /v1/kv/k HTTP/1.1\r\nHost: x\r\n\r\n")
		return status(t, r) == 404
	}, 5*time.Second, time.Millisecond)
}

func TestServeFinishesWhatHasBegun(t *testing.T) {
	t.Parallel()
	d := open(t)
	addr, stop := listen(t, d.kv)
	nc, r := dial(t, addr)
	d.store.Hold()
	say(t, nc, "PUT /v1/kv/k HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nv")
	require.NoError(t, d.store.WaitStarted(t.Context(), 1))
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		stop()
	}()
	require.Eventually(t, func() bool {
		nc, err := net.Dial("tcp", addr)
		if err == nil {
			nc.Close()
		}
		return err != nil
	}, 5*time.Second, time.Millisecond)
	d.store.Release()
	require.Equal(t, 204, status(t, r))
	<-stopped
}

func TestServeTellsWhatIsWrong(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, ln.Close())
	require.ErrorIs(t, httpapi.Serve(t.Context(), ln, httpapi.ServerConfig{Handler: http.NotFoundHandler()}), net.ErrClosed)
	ln, err = net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.ErrorContains(t, httpapi.Serve(t.Context(), ln, httpapi.ServerConfig{Limits: httpapi.ServerLimits{Connections: 1}}), "configure http server")
}
