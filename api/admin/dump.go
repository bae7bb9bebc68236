package admin

// DumpLine is one line of /v1/dump: a partition's versions in the order of
// their keys' hashes, then its end. Exactly one field is set.
type DumpLine struct {
	Version *DumpVersion `json:"version,omitempty"`
	End     *DumpEnd     `json:"end,omitempty"`
}

// Dot names one write: the Seq-th of an actor, which is one incarnation of
// one node's copy of one partition.
type Dot struct {
	Actor string `json:"actor"` // node ID, boot and random bits, as kv.Actor prints them
	Seq   uint64 `json:"seq"`
}

// DumpVersion is one stored version. A value is shown by its hash alone, so
// that a dump stays small and two dumps still compare byte for byte.
type DumpVersion struct {
	Partition uint32 `json:"partition"`
	Key       []byte `json:"key"` // base64 in JSON
	Dot       Dot    `json:"dot"`
	HLC       uint64 `json:"hlc"` // 48 bits of Unix milliseconds, 16 bits of counter
	Tombstone bool   `json:"tombstone,omitempty"`
	// ExpiresMS is in Unix milliseconds; 0 is never.
	ExpiresMS  int64  `json:"expires_ms,omitempty"`
	ValueBytes int    `json:"value_bytes"`
	ValueXXH3  string `json:"value_xxh3"` // 64 bits, 16 hex digits; of a tombstone, empty
}

// DumpEnd closes a partition in a dump.
type DumpEnd struct {
	Partition uint32       `json:"partition"`
	Versions  int          `json:"versions"` // lines before this one, tombstones among them
	Clock     []ClockEntry `json:"clock"`    // sorted by actor
	Root      string       `json:"root"`     // digest of the versions that are no tombstones, hex
}

// ClockEntry is one actor's part of a partition clock: every seq up to Base
// has been seen, and so have the runs above it.
type ClockEntry struct {
	Actor string     `json:"actor"`
	Base  uint64     `json:"base"`
	Runs  []ClockRun `json:"runs,omitempty"`
}

// ClockRun is an unbroken run of seen seqs, both ends included.
type ClockRun struct {
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
}
