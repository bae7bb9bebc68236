// Package httpapi is the front door over HTTP/1.1: the keys and values of the
// cluster for its users, and the admin API of one node for its operator. The
// two are handlers of their own, to be served on addresses of their own.
package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

// ServerConfig is what Serve needs.
type ServerConfig struct {
	Handler http.Handler
	// Limits bound what clients may take; the zero value is
	// DefaultServerLimits.
	Limits ServerLimits
	// ErrorLog gets what net/http has to say of broken connections; nil is
	// Go's default log.
	ErrorLog *log.Logger
	// Refused is called for every connection over the limit; nil is not.
	Refused func()
}

// Serve answers requests on ln until ctx ends, which is no error, or the
// listener fails. Requests that have begun are then finished; streams end. It
// closes ln and returns after the last of its goroutines, but for handlers that
// outlast the limit's DrainTimeout: their connections are closed under them.
func Serve(ctx context.Context, ln net.Listener, cfg ServerConfig) error {
	l := cfg.Limits
	if l == (ServerLimits{}) {
		l = DefaultServerLimits()
	}
	if l.Connections < 1 || min(l.HeaderTimeout, l.ReadTimeout, l.WriteTimeout, l.IdleTimeout, l.DrainTimeout) <= 0 {
		return errors.Join(errors.New("configure http server: connections must be at least 1, every timeout above 0"), ln.Close())
	}
	draining := make(chan struct{})
	base := context.WithValue(context.WithoutCancel(ctx), drainKey{}, draining)
	srv := &http.Server{
		Handler:           cfg.Handler,
		MaxHeaderBytes:    maxHeaderBytes - headerSlop,
		ReadHeaderTimeout: l.HeaderTimeout,
		ReadTimeout:       l.ReadTimeout,
		WriteTimeout:      l.WriteTimeout,
		IdleTimeout:       l.IdleTimeout,
		ErrorLog:          cfg.ErrorLog,
		BaseContext:       func(net.Listener) context.Context { return base },
	}
	served := make(chan error, 1)
	limited := &limitListener{Listener: ln, slots: make(chan struct{}, l.Connections), refused: cfg.Refused}
	go func() { served <- srv.Serve(limited) }()
	var err error
	select {
	case err = <-served:
		close(draining)
		return errors.Join(fmt.Errorf("serve http: %w", err), srv.Close())
	case <-ctx.Done():
	}
	close(draining)
	late, cancel := context.WithTimeout(base, l.DrainTimeout)
	defer cancel()
	if err = srv.Shutdown(late); errors.Is(err, context.DeadlineExceeded) {
		err = srv.Close() // what is still running had its time
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve http: %w", err)
	}
	if err != nil {
		return fmt.Errorf("shut down http server: %w", err)
	}
	return nil
}

type drainKey struct{}

// draining is closed when the server of the request drains; it never is where
// Serve does not run the handler.
func draining(ctx context.Context) <-chan struct{} {
	ch, _ := ctx.Value(drainKey{}).(chan struct{}) // a nil channel blocks for ever
	return ch
}

// untilDrain returns a context that also ends when the server of the request drains,
// for what waits and may be asked of another node as well.
func untilDrain(ctx context.Context) (context.Context, context.CancelFunc) {
	drains := draining(ctx)
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		select {
		case <-drains:
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// limitListener refuses the connections over its limit, rather than let them
// wait unseen.
type limitListener struct {
	net.Listener
	slots   chan struct{}
	refused func()
}

// Accept returns the next connection that is within the limit.
func (l *limitListener) Accept() (net.Conn, error) {
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.slots <- struct{}{}:
			return &slotConn{Conn: nc, free: sync.OnceFunc(func() { <-l.slots })}, nil
		default:
		}
		if l.refused != nil {
			l.refused()
		}
		// The client is sent away whether or not it takes these bytes.
		_ = nc.SetWriteDeadline(time.Now().Add(refusePause))
		_, _ = nc.Write([]byte("HTTP/1.1 503 Service Unavailable\r\nRetry-After: " + retryAfterSeconds + "\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"))
		nc.Close()
	}
}

// slotConn gives its slot back when it is closed.
type slotConn struct {
	net.Conn
	free func()
}

// Close closes the connection.
func (c *slotConn) Close() error {
	err := c.Conn.Close()
	c.free()
	return err
}
