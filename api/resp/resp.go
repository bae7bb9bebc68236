// Package resp is the front door for Redis clients: RESP2 and RESP3 over TCP.
//
// Each connection has one goroutine. It takes every whole command that the
// buffer holds, starts their requests, and sends the replies in the order of
// the commands with one write. Writes of such a batch are in flight together,
// so that sixteen of them wait for one commit group; a command on a key that is
// in flight waits for it first.
package resp

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"edged.dev/edged/api"
)

// Config is what a server needs.
type Config struct {
	Store api.Store
	// Now is the time by which relative expiries are made absolute.
	Now func() time.Time
	// Password is asked for by AUTH and HELLO; empty asks for none.
	Password string
	// Version is edged's own, told by HELLO and INFO.
	Version string
	// Info returns sections to be shown by INFO before the server's own; nil
	// has none. It is called from many goroutines.
	Info func() []Section
	// Limits bound what clients may take; the zero value is DefaultLimits.
	Limits Limits
}

// Section is one part of INFO.
type Section struct {
	Name   string // such as "Keyspace"
	Fields []Field
}

// Field is one line of INFO: name:value.
type Field struct{ Name, Value string }

func (c *Config) validate() error {
	l := c.Limits
	switch {
	case c.Store == nil:
		return errors.New("no store")
	case c.Now == nil:
		return errors.New("no clock")
	case l.Connections < 1:
		return fmt.Errorf("connections is %d; want at least 1", l.Connections)
	case l.BufferBytes < 1:
		return fmt.Errorf("buffer bytes is %d; want at least 1", l.BufferBytes)
	case min(l.CommandTimeout, l.IdleTimeout, l.EarlyTimeout, l.WriteTimeout, l.RequestTimeout, l.DrainTimeout) <= 0:
		return errors.New("every timeout must be above 0")
	}
	return nil
}

// Server answers Redis clients. Its methods are safe for concurrent use.
type Server struct {
	cfg      Config
	commands map[string]*command
	seed     maphash.Seed
	started  time.Time
	stats    counters
	buffered atomic.Int64 // bytes of buffers beyond their base size
	lastID   atomic.Int64
	draining atomic.Bool

	mu    sync.Mutex
	conns map[*conn]struct{}

	wg sync.WaitGroup
}

// New returns a server that serves nothing yet.
func New(cfg Config) (*Server, error) {
	if cfg.Limits == (Limits{}) {
		cfg.Limits = DefaultLimits()
	}
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("configure resp server: %w", err)
	}
	return &Server{
		cfg: cfg, commands: commandTable(), seed: maphash.MakeSeed(), started: cfg.Now(),
		conns: map[*conn]struct{}{},
	}, nil
}

// Serve accepts connections until ctx ends, which is no error, or the listener
// fails. It then lets every connection answer the commands that it has read,
// closes them and returns after the last. It closes ln. A server serves once.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	nudged := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(nudged)
		s.drain()
		ln.Close() // its error would be about a socket that goes away anyway
	})
	err := s.accept(ctx, ln)
	if stop() {
		s.drain()
		ln.Close()
	} else {
		<-nudged
	}
	late := time.AfterFunc(s.cfg.Limits.DrainTimeout, s.closeAll)
	s.wg.Wait()
	late.Stop()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("accept resp connection: %w", err)
}

// accept returns the error that ended the listener.
func (s *Server) accept(ctx context.Context, ln net.Listener) error {
	for {
		nc, err := ln.Accept()
		if err != nil {
			if passing(err) && ctx.Err() == nil {
				pause(ctx, acceptPause)
				continue
			}
			return err
		}
		s.stats.accepted.Add(1)
		c := s.admit(nc)
		if c == nil {
			continue
		}
		s.wg.Go(func() {
			defer s.forget(c)
			c.serve(context.WithoutCancel(ctx))
		})
	}
}

// admit registers a connection, or refuses it and returns nil.
func (s *Server) admit(nc net.Conn) *conn {
	s.mu.Lock()
	full := len(s.conns) >= s.cfg.Limits.Connections
	var c *conn
	if !full {
		c = newConn(s, nc)
		s.conns[c] = struct{}{}
	}
	s.mu.Unlock()
	if !full {
		return c
	}
	s.stats.reject("connections")
	// A fresh socket's buffer takes this line at once, and the deadline is for
	// one that does not; its errors concern a client that is sent away anyway.
	_ = nc.SetWriteDeadline(time.Now().Add(acceptPause))
	_, _ = nc.Write([]byte("-ERR max number of clients reached\r\n"))
	nc.Close()
	return nil
}

func (s *Server) forget(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	s.buffered.Add(-c.charged)
	c.nc.Close() // everything that matters was flushed, or could not be
}

// drain wakes every connection that waits for a command.
func (s *Server) drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining.Store(true)
	for c := range s.conns {
		_ = c.nc.SetReadDeadline(past) // fails only for a connection that is closed
	}
}

func (s *Server) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.nc.Close()
	}
}

func (s *Server) open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

var past = time.Unix(1, 0)

// passing reports whether accept may well succeed a moment later: descriptors
// or buffers are short, or the client left before it was accepted.
func passing(err error) bool {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
