package policies

import wasmrt "edged.dev/edged/runtime"

const (
	// MaxPolicies bounds the manifests in the system partition; each may hold an
	// image of up to 16 MiB on every node.
	MaxPolicies = 64
	// MaxBindings bounds the bindings: each read of a conflict looks through them.
	MaxBindings = 256
	// MaxPrefixBytes is the longest key, so the longest prefix too.
	MaxPrefixBytes = 1 << 10
	// MaxModuleBytes is the largest module.
	MaxModuleBytes = wasmrt.MaxModuleBytes
	// MaxChunkBytes is the largest stored piece of a module. It bounds what one
	// write of the system partition moves.
	MaxChunkBytes = 512 << 10
	// MaxSiblings is how many siblings a policy is shown. A coordinator refuses
	// the 17th, so more than 32 needs a split in which both sides reached that.
	MaxSiblings = 32
	// MaxRequestBytes is the longest request frame of one conflict.
	MaxRequestBytes = 4 << 20
	// MaxResponseBytes is the longest response frame.
	MaxResponseBytes = 4 << 20
	// MaxValueBytes is the longest value that a policy may make, that of a write.
	MaxValueBytes = 1 << 20

	// MaxRepairRequestBytes is the longest request for a plan: the most ranges, peers
	// and hot prefixes, and parameters.
	MaxRepairRequestBytes = 512 << 10
	// MaxRepairResponseBytes is the longest answer: a step for each range, and filters
	// of 200 bytes for each.
	MaxRepairResponseBytes = 1 << 20

	// maxFilterBytes bounds the filter of one step: a plan of the most steps is shown
	// with the filters of all.
	maxFilterBytes = 1 << 10

	maxNameBytes     = 64
	maxParamsBytes   = 4 << 10
	maxRecordBytes   = 64 << 10 // of a manifest or binding as JSON
	chunkPlainBytes  = 500_000  // incompressible, this is still below MaxChunkBytes
	maxChunks        = (MaxModuleBytes + chunkPlainBytes - 1) / chunkPlainBytes
	zstdWindowBytes  = 1 << 20 // the decoder's default would let nine bytes ask for 512 MiB
	smokeConflictKey = "check/key"
)
