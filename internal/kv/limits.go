package kv

// Limits that several doors share. Each is tested at the limit and one over.
const (
	// MaxKeyBytes keeps a key far below a store block, so that the dot index,
	// which repeats the key, stays an index.
	MaxKeyBytes = 1 << 10
	// MaxValueBytes bounds a client's value: eight of them still fit the largest
	// record on the wire.
	MaxValueBytes = 1 << 20
	// MaxSiblings and MaxSiblingBytes bound an object at its coordinator; past
	// them it asks the client to read and to write back with the token. Apply
	// never refuses, so after a split an object may hold several times that.
	MaxSiblings     = 16
	MaxSiblingBytes = 2 << 20
	// MaxRecordBytes bounds one object on the wire; three copies that each
	// reached MaxSiblingBytes in a split fit it.
	MaxRecordBytes = 8 << 20
	// MaxTokenBytes bounds a causality token before base64url: some 400 actors.
	MaxTokenBytes = 8 << 10
	// MaxPartitions bounds the partition count of a cluster.
	MaxPartitions = 4096
	// MaxActors is the count of actors in one partition clock at which an alarm
	// is raised; the copy goes on serving.
	MaxActors = 256
	// MaxClockActors bounds a clock taken from a peer: what a clock could hold
	// if every member of the largest layout had restarted a few times.
	MaxClockActors = 8192
)
