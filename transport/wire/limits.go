package wire

import (
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/merkle"
)

// What a peer may send. A frame past a limit is malformed: its connection ends.
const (
	// MaxFrameBytes bounds a frame: one object of the largest size and what
	// goes with it (key, floor, dictionary of actors).
	MaxFrameBytes = kv.MaxRecordBytes + 64<<10
	// MaxCopies bounds a table or a list of partitions: every partition of the
	// largest cluster and the system partition.
	MaxCopies = kv.MaxPartitions + 1
	// MaxVersions bounds the versions of one object. A coordinator stops at
	// kv.MaxSiblings; this many lie side by side if every one of eight owners
	// was a side of a split of its own.
	MaxVersions = 8 * kv.MaxSiblings
	// MaxDictActors bounds the actors one frame or lane may name: those of the
	// largest clock, or sixteen for each of kv.MaxPartitions. They take 1 MiB.
	MaxDictActors = 1 << 16
	// MaxTableBytes bounds a table when it is unpacked, and MaxTableSpans the
	// clock entries in it: kv.MaxActors, the alarm, for every partition. The
	// second bounds memory, for a span takes a byte here and 48 there.
	MaxTableBytes = 4 << 20
	MaxTableSpans = kv.MaxPartitions * kv.MaxActors
	// MaxRuns bounds the runs of one span, 16 bytes of memory each: a session
	// cut off half way leaves one for every second version of a partition.
	MaxRuns = 1 << 20
	// MaxHeldParts bounds the quarantined partitions of one HELLO, and MaxHeldDotRuns
	// the runs that it tells of each: with both 16 MiB of memory, and some 2 MiB of
	// bytes. What goes over it is sent to the receiver though it has it.
	MaxHeldParts   = 16
	MaxHeldDotRuns = 1 << 16
	// MaxWrites bounds the writes of one APPLY; a sender gathers what is ready.
	MaxWrites = 4096
	// MaxScanKeys bounds what one SCAN answers, and with the longest keys keeps
	// the answer at 1 MiB.
	MaxScanKeys = 1000
	// MaxTags bounds the entity tags of one condition, MaxTagBytes one of them
	// and a view's name; ours have 34 bytes, the rest is what clients invent.
	MaxTags     = 64
	MaxTagBytes = 256
	// MaxTextBytes bounds an error's text; a longer one is cut when sent.
	MaxTextBytes = 4 << 10
	// MaxQuorum bounds R and W of a request, far above any count of owners.
	MaxQuorum = 255
	// MaxRuleSets bounds the different sets of rules that one HELLO names, MaxOrderRules
	// the rules of one, through which a donor looks for each key that it sends, and
	// MaxRulePrefixBytes a rule's prefix: with all of them 64 KiB.
	MaxRuleSets        = 16
	MaxOrderRules      = 16
	MaxRulePrefixBytes = 256
	// MaxHeatParts and MaxHeatPrefixes bound what a HELLO_ACK tells of what is read,
	// with prefixes of MaxHeatPrefixBytes at most: 1.5 KiB at most, and what is cooler
	// makes no difference to the order.
	MaxHeatParts       = 64
	MaxHeatPrefixes    = 16
	MaxHeatPrefixBytes = 64
	// MaxBatchCopies bounds the objects of one BATCH or TAIL and MaxBatchVersions
	// their versions, at 100 and 72 bytes of memory each. A sender ends a record
	// with its chunk, which has room for fewer.
	MaxBatchCopies   = 1 << 15
	MaxBatchVersions = 1 << 16
	// ChunkBytes is how many plain bytes a lane gathers between two checks: the
	// loss when a lane is cut.
	ChunkBytes = 32 << 10
	// MaxLaneBytes bounds one object in a lane, and MaxChunkBytes what a receiver holds
	// before the check that vouches for it: a chunk that one such object fills.
	MaxLaneBytes  = MaxFrameBytes
	MaxChunkBytes = ChunkBytes + MaxLaneBytes
	// MaxSessionLanes bounds the lanes of one session: eight cost 8 % more bytes at a
	// thousand versions and 0.3 % at a hundred thousand, and keep eight processors busy.
	MaxSessionLanes = 8
	// WindowBytes is the zstd window of tables and lanes, all the history a
	// receiver must keep.
	WindowBytes = 1 << 20
	// PackBytes is the length over which a table is compressed; under it zstd's
	// own header and checksum eat what it saves.
	PackBytes = 256
	// MaxTreeNodes bounds the digests of one TREE_ACK, four levels below the nodes
	// that a question may name, and MaxTreeRanges the leaves it may ask for the items
	// of. MaxTreeItems bounds those named at once, 24 KiB of them.
	MaxTreeNodes  = 16 * merkle.MaxAsk
	MaxTreeRanges = merkle.MaxAsk
	MaxTreeItems  = 4096
	// MaxHeldKeys bounds the keys of one HELD, a mebibyte of the longest: what
	// differs beyond them is healed in another round.
	MaxHeldKeys = 1024
)
