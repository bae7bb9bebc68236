package resp

import (
	"maps"
	"sync"
	"sync/atomic"
)

// Stats are a server's totals since New, but for Open.
type Stats struct {
	Open     int    // connections now
	Accepted uint64 // connections, refused ones among them
	BytesIn  uint64
	BytesOut uint64
	// Commands counts calls by lower-case name; every known command is there.
	Commands map[string]uint64
	// Errors counts error replies by kind: protocol, auth, unknown-command,
	// arity, syntax, draining, and the store's codes by their names.
	Errors map[string]uint64
	// Rejected counts what a limit refused, by the limit: connections, inline,
	// args, bulk, header, command, key, reply, keys, buffers, deadline,
	// write-deadline, cross-protocol (an HTTP request).
	Rejected map[string]uint64
}

type counters struct {
	accepted atomic.Uint64
	bytesIn  atomic.Uint64
	bytesOut atomic.Uint64

	mu       sync.Mutex
	errors   map[string]uint64
	rejected map[string]uint64
}

// Both take a lock, for what they count is not of the fast path.
func (c *counters) fail(kind string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.errors == nil {
		c.errors = map[string]uint64{}
	}
	c.errors[kind]++
}

func (c *counters) reject(limit string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rejected == nil {
		c.rejected = map[string]uint64{}
	}
	c.rejected[limit]++
}

// Stats returns a copy of the server's counters.
func (s *Server) Stats() Stats {
	st := Stats{
		Open: s.open(), Accepted: s.stats.accepted.Load(),
		BytesIn: s.stats.bytesIn.Load(), BytesOut: s.stats.bytesOut.Load(),
		Commands: make(map[string]uint64, len(s.commands)),
	}
	for name, cmd := range s.commands {
		st.Commands[name] = cmd.calls.Load()
	}
	s.stats.mu.Lock()
	defer s.stats.mu.Unlock()
	st.Errors, st.Rejected = maps.Clone(s.stats.errors), maps.Clone(s.stats.rejected)
	return st
}
