package resp

import (
	"time"

	"edged.dev/edged/internal/kv"
)

const (
	// maxInlineBytes is Redis' own limit of an inline command.
	maxInlineBytes = 64 << 10
	// maxArgs bounds MGET and MSET to what one batch of a client needs.
	maxArgs = 1024
	// maxBulkBytes lets the largest value in; keys have their own limit.
	maxBulkBytes = kv.MaxValueBytes
	// maxCommandBytes bounds one command's arguments together: an MSET of
	// fifteen values of the largest size.
	maxCommandBytes = 16 << 20
	// maxEarlyArgs and maxEarlyBulkBytes bound what a stranger may send before
	// AUTH, as Redis does since CVE-2021-32675.
	maxEarlyArgs      = 10
	maxEarlyBulkBytes = 16 << 10
	// maxHeaderBytes bounds "*<n>" and "$<n>": no number that passes is longer.
	maxHeaderBytes = 32

	// baseBufferBytes holds a pipeline of small commands; 1,024 idle
	// connections take 16 MiB each way.
	baseBufferBytes = 16 << 10
	// keepBufferBytes is the largest buffer that an idle connection keeps.
	keepBufferBytes = 64 << 10
	// maxUnsentBytes is how much output may gather before it is sent, though
	// more commands of the batch are at hand.
	maxUnsentBytes = 256 << 10
	// maxReplyBytes bounds the one reply that is gathered whole, MGET's.
	maxReplyBytes = 64 << 20
	// maxPending bounds a connection's requests in flight: a few commit groups
	// of the longest usual pipeline.
	maxPending = 128
	// maxHeavy bounds those of them that answer with a value, which may be as
	// large as values get.
	maxHeavy = 32
	// maxFences is how many of its last writes a connection remembers for
	// reading them back.
	maxFences = 32

	// maxScanCount bounds SCAN's COUNT, a hint, and so one page's memory.
	maxScanCount = 4096
	// maxListedKeys bounds KEYS, whose reply is gathered whole.
	maxListedKeys = 100_000
	// maxNameBytes bounds what CLIENT SETNAME and SETINFO keep.
	maxNameBytes = 256

	// lingerTimeout and lingerBytes bound how long a refused client is read
	// from, so that a reset does not overtake the error that was sent.
	lingerTimeout = time.Second
	lingerBytes   = 16 << 20
	// acceptPause is the wait after accept found no free descriptor.
	acceptPause = 50 * time.Millisecond
)

// Limits are what a server bounds beside the constants of the protocol.
type Limits struct {
	// Connections is how many may be open; one more is told so and closed.
	Connections int
	// BufferBytes bounds what all connections' buffers hold beyond their
	// first, smallest size; the connection that asks for more is closed.
	BufferBytes int64
	// CommandTimeout is how long a command may take from its first byte to its
	// last. A client that needs longer for 16 MiB has less than 5 Mbit/s.
	CommandTimeout time.Duration
	// IdleTimeout is how long a connection may send nothing at all.
	IdleTimeout time.Duration
	// EarlyTimeout is IdleTimeout before AUTH, where one is asked for.
	EarlyTimeout time.Duration
	// WriteTimeout is how long a client may leave its replies unread; half of
	// it at the least.
	WriteTimeout time.Duration
	// RequestTimeout is the deadline of requests to the store.
	RequestTimeout time.Duration
	// DrainTimeout is how long connections may take to finish once Serve's
	// context has ended.
	DrainTimeout time.Duration
}

// DefaultLimits returns the limits of an edge node with a few GiB of memory.
func DefaultLimits() Limits {
	return Limits{
		Connections:    1024,
		BufferBytes:    256 << 20,
		CommandTimeout: 30 * time.Second,
		IdleTimeout:    time.Hour,
		EarlyTimeout:   10 * time.Second,
		WriteTimeout:   30 * time.Second,
		RequestTimeout: 2 * time.Second,
		DrainTimeout:   5 * time.Second,
	}
}
