package cluster

import "time"

const (
	// maxNameBytes is the longest node name, as in a certificate.
	maxNameBytes = 64
	// maxAddresses and maxAddressBytes keep what a node says of itself, and what is
	// remembered of it, small. A name of 64 bytes leaves 440 for addresses.
	maxAddresses    = 8
	maxAddressBytes = 255
	// maxPeers bounds the remembered peers: several times the largest cluster meant.
	maxPeers = 1024
	// maxMembers bounds the nodes known in one life, the long dead among them.
	maxMembers = 4 * maxPeers
	// maxPeerFileBytes bounds the file they are kept in: every peer at its limits.
	maxPeerFileBytes = maxPeers * (maxNameBytes + maxAddresses*(maxAddressBytes+4) + 128)

	// rejoinInterval is how often a missing node is looked for: a healed partition
	// is whole again within it and a round trip.
	rejoinInterval = 2 * time.Second
	// rejoinAtOnce bounds dials at one time: a hundred dead peers take half a minute
	// a round, and no more than this many handshakes wait.
	rejoinAtOnce = 8
	// streamTimeout bounds a dial and each exchange of states.
	streamTimeout = 2 * time.Second
	// pushPullInterval is how often two nodes compare all they know.
	pushPullInterval = 10 * time.Second
	// packetBytes keeps a gossip packet, label and all, within a QUIC datagram of
	// the smallest path: the largest seen was 1,243 bytes.
	packetBytes = 1200
	// leaveTimeout is how long a stopping node tries to say that it leaves.
	leaveTimeout = 500 * time.Millisecond
	// packetQueue and streamQueue bound what waits for memberlist.
	packetQueue = 256
	streamQueue = 16
)
