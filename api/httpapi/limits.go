package httpapi

import "time"

const (
	// maxHeaderBytes holds the largest token in base64url, and 5 KiB besides.
	maxHeaderBytes = 16 << 10
	// headerSlop is what net/http adds to the limit that it is given.
	headerSlop = 4096
	// maxModuleBytes bounds an uploaded policy: ten times what a guest in a
	// language with a runtime of its own takes.
	maxModuleBytes = 4 << 20
	// maxPolicyNameBytes keeps names fit for one line of a table.
	maxPolicyNameBytes = 64
	// defaultListKeys and maxListKeys bound one page of a list: some 1.4 MiB of
	// keys of the largest size in base64.
	defaultListKeys = 100
	maxListKeys     = 1000
	// maxCopies bounds r and w: no layout asks for more.
	maxCopies = 255
	// maxTags bounds an If-Match or If-None-Match.
	maxTags = 64
	// maxEventStreams and maxDumps bound the answers that stay open: each event
	// stream holds a queue, each dump an iterator over the store.
	maxEventStreams = 64
	maxDumps        = 4

	// retryAfterSeconds is how soon a partition that does not serve is worth
	// asking again: caught up is expected within half a second.
	retryAfterSeconds = "1"
	// streamTimeout is how long a client of a stream may read nothing.
	streamTimeout = 30 * time.Second
	// keepAlive is the longest silence of an event stream; proxies tend to cut
	// at a minute.
	keepAlive = 15 * time.Second
	// deployTimeout covers scanning and compiling the largest module and the
	// write of its chunks.
	deployTimeout = 2 * time.Minute
	// refusePause bounds the write to a connection over the limit.
	refusePause = 50 * time.Millisecond
)

// ServerLimits are what a listener's clients may take.
type ServerLimits struct {
	// Connections is how many may be open; one more gets 503 and is closed.
	Connections int
	// HeaderTimeout is how long a request's head may take.
	HeaderTimeout time.Duration
	// ReadTimeout is how long a whole request may take to arrive. A client that
	// needs longer for 1 MiB has less than 300 kbit/s.
	ReadTimeout time.Duration
	// WriteTimeout is how long an answer may take from the request's head on.
	WriteTimeout time.Duration
	// IdleTimeout is how long a connection may wait for its next request.
	IdleTimeout time.Duration
	// DrainTimeout is how long requests may go on once the context has ended.
	DrainTimeout time.Duration
}

// DefaultServerLimits returns the limits of an edge node.
func DefaultServerLimits() ServerLimits {
	return ServerLimits{
		Connections:   1024,
		HeaderTimeout: 5 * time.Second,
		ReadTimeout:   30 * time.Second,
		WriteTimeout:  45 * time.Second,
		IdleTimeout:   2 * time.Minute,
		DrainTimeout:  5 * time.Second,
	}
}
