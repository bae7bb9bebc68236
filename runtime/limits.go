package wasmrt

// Static admission limits. They are part of what a policy author is promised, so
// a change that refuses a module admitted before is a breaking change.
//
// wazero's compiler takes more than linear time in several shapes of input, and
// its context does not stop it, so whatever could make it slow is refused before
// it sees the module. The figures admit C, AssemblyScript, Rust and Go guests.
const (
	// MaxModuleBytes is the largest module. A Go guest with encoding/json is
	// 3.5 MB, the largest that a person plausibly uploads.
	MaxModuleBytes = 4 << 20

	maxTypes        = 4096     // one per signature; Go guests use under 100
	maxTypeParams   = 128      // a frame's size grows with them
	maxTypeResults  = 16       // a call pushes them all, so they count in a frame
	maxImports      = 64       // more than the allow-list has
	maxExports      = 1024     // each is a name kept for the life of the module
	maxNameBytes    = 256      // of an import or export
	maxFunctions    = 8192     // Go guests have some 2,500
	maxBodyBytes    = 64 << 10 // the compiler's work in one function is super-linear in it
	maxLocals       = 1024     // one declaration of 1e9 locals is six bytes long
	maxNesting      = 640      // the validator and compiler recurse on it
	maxComplexity   = 2500     // blocks, branches, br_table targets, calls, 3 a bulk operation
	maxComplexitySq = 1e8      // the sum of its squares over a module bounds compile time
	maxVariables    = 65_536   // locals times basic blocks of a function; below: why
	maxVariablesSum = 2_000_000
	maxGlobals      = 256   // the mutable ones are reset one by one before each call
	maxTableEntries = 16384 // a table's minimum is allocated at instantiation
	maxElements     = 4096  // element segments; compilers write one
	maxElementFuncs = 65536 // functions named in all element segments
	maxDataSegments = 65536 // a Go guest of 1.8 MB writes 22,000
	maxMemoryPages  = 256   // 16 MiB; a conflict is at most 4 MiB, its answer too
	wasmPageBytes   = 64 << 10
	wasmMaxPages    = 65536 // of the specification; a declared maximum may reach it
)

// On maxVariables: the compiler keeps track of each local through each block. A
// function of 1,024 locals in 630 nested loops, 13 KB, took it 8 s, with all other
// limits kept; 64 locals took 0.5 s. The largest of a Go guest is 6,552, its sum
// 430,000.

// What a guest may use while it runs. They are part of a policy's identity.
const (
	// DefaultFuel is the budget of one call, some milliseconds of work. A guest
	// cannot be pre-empted, and Go's collector waits for it, so it is kept small.
	DefaultFuel = 5_000_000
	// DefaultDepth is the budget of nested calls, in units of 2,048 stack slots
	// or part thereof a frame. The engines fail at very different depths; this
	// is far below either, so that both fail at the same call.
	DefaultDepth = 1000
	// DefaultMemoryPages is the cap on linear memory, in pages of 64 KiB.
	DefaultMemoryPages = maxMemoryPages
	// startFuel is what a start section and _initialize may use together. A Go
	// guest's runtime needs 0.72 M.
	startFuel = 100_000_000
	// frameUnitSlots is how many stack slots one unit of depth pays for: a
	// thousand units are then at most 16 MiB of values.
	frameUnitSlots = 2048
)

// What the host keeps for a guest.
const (
	// RequestBufferBytes is asked of the guest once, before its image is taken;
	// only a larger request costs an allocation in its call.
	RequestBufferBytes = 64 << 10
	// MaxRequestBytes is the largest request: one conflict of 4 MiB and slack
	// for its frame.
	MaxRequestBytes = 4<<20 + 64<<10
	maxLogLines     = 16  // a call; beyond it lines are dropped
	maxLogLineBytes = 256 // beyond it a line is cut
	maxIOVectors    = 1024
)
