package transport

import "time"

// Limits, each with its reason.
const (
	// MaxFrameBytes bounds a live frame, a request and a response: an object is at
	// most 8 MiB on the wire, and the rest is what surrounds it.
	MaxFrameBytes = 8<<20 + 64<<10
	// MaxControlFrameBytes bounds a control frame. STATE, the largest, takes two
	// bits a partition.
	MaxControlFrameBytes = 256 << 10

	// controlQueueBytes and liveQueueBytes bound what Send holds for a peer that
	// reads slowly. A full control queue means a dead peer; a full live queue means
	// that a sync session is cheaper than waiting.
	controlQueueBytes = 1 << 20
	liveQueueBytes    = 16 << 20
	// keepBufferBytes is the largest buffer kept for reuse by an idle stream.
	keepBufferBytes = 256 << 10
	// growBytes is how much is allocated on a peer's word alone; a frame's buffer
	// then grows with the bytes that came.
	growBytes = 64 << 10

	// maxStreams bounds the two-way streams a peer may have open: its calls, control,
	// live and gossip. maxCalls is what calls may take of it, so that gossip and the
	// long streams always find room.
	maxStreams = 256
	maxCalls   = maxStreams - 16
	// maxLanes bounds lanes each way: eight, which is all that a node streams at once,
	// and one more, since each of the two sessions it streams has one in any case. A
	// stalled lane pins a stream window, so this many and a stalled live stream must
	// leave control its own: (9+1) x 1 MiB < 12 MiB.
	maxLanes = 9
	// maxUniStreams is lanes and the short streams of gossip packets too large for
	// a datagram.
	maxUniStreams = maxLanes + 14
	// maxServeBytes bounds the requests being served at once, all peers together;
	// past it a call is refused before it starts.
	maxServeBytes = 256 << 20
	// maxErrorBytes bounds the text of an error that a call brings back.
	maxErrorBytes = 1 << 10

	// The windows of a connection. The first fullWindowConns connections have the
	// full ones (together at most 256 MiB unread); any more have a quarter, in the
	// same ratio.
	streamWindow     = 1 << 20
	connWindow       = 12 << 20
	fullWindowConns  = 21
	smallWindowShare = 4

	// maxConns bounds connections, counted from their first packet.
	maxConns = 1024
	// handshakesPerSecond bounds the public-key work that strangers can ask for;
	// about 2 % of a core. A burst of a second's worth is allowed.
	handshakesPerSecond = 50

	// idleTimeout ends a silent connection; keepAlive keeps a living one from
	// being silent.
	idleTimeout = 10 * time.Second
	keepAlive   = 3 * time.Second
	// dialTimeout bounds a dial with its CONN exchange. A connection older than
	// this cannot be the other half of a simultaneous dial (see admit).
	dialTimeout = 3 * time.Second
	// helloTimeout bounds the same on the accepting side, from the handshake on.
	helloTimeout = 3 * time.Second
	// refusalTimeout is how long a refused peer has to read why.
	refusalTimeout = time.Second

	// Background dials of gossip to one address are at least this far apart,
	// doubling up to the second.
	minBackoff = 100 * time.Millisecond
	maxBackoff = 2 * time.Second
	// maxDials bounds addresses being dialed or backed off from.
	maxDials = 1024

	// gossipQueue bounds gossip packets waiting each way, per peer out and in all
	// in; a full queue drops, as UDP does.
	gossipQueue = 256
	// maxGossipBytes bounds a gossip packet. The largest seen is 1,243 bytes.
	maxGossipBytes = 64 << 10
	// gossipStreams bounds gossip streams waiting to be accepted.
	gossipStreams = 64
	// kindTimeout bounds the wait for the byte that says what a stream is.
	kindTimeout = 5 * time.Second

	// socketBufferBytes is asked of the kernel for the socket; what it grants is
	// taken. Above net.core.rmem_max it needs the sysctl that the README names.
	socketBufferBytes = 7 << 20
)
