package wasmrt

// The opcodes that the scanner and the rewriter tell apart.
const (
	opUnreachable  = 0x00
	opNop          = 0x01
	opBlock        = 0x02
	opLoop         = 0x03
	opIf           = 0x04
	opElse         = 0x05
	opEnd          = 0x0b
	opBr           = 0x0c
	opBrIf         = 0x0d
	opBrTable      = 0x0e
	opReturn       = 0x0f
	opCall         = 0x10
	opCallIndirect = 0x11
	opDrop         = 0x1a
	opSelect       = 0x1b
	opSelectT      = 0x1c
	opLocalGet     = 0x20
	opLocalSet     = 0x21
	opLocalTee     = 0x22
	opGlobalGet    = 0x23
	opGlobalSet    = 0x24
	opMemorySize   = 0x3f
	opMemoryGrow   = 0x40
	opI32Const     = 0x41
	opI64Const     = 0x42
	opF32Const     = 0x43
	opF64Const     = 0x44
	opI32Eq        = 0x46
	opI32LtS       = 0x48
	opI64LtS       = 0x53
	opF32Eq        = 0x5b
	opF64Eq        = 0x61
	opI32Add       = 0x6a
	opI32Sub       = 0x6b
	opI64Sub       = 0x7d
	opI64Mul       = 0x7e
	opI64ShrU      = 0x88
	opI64ExtendU   = 0xad
	opRefNull      = 0xd0
	opRefFunc      = 0xd2
	opPrefixFC     = 0xfc

	fcMemoryInit = 8
	fcMemoryCopy = 10
	fcMemoryFill = 11
)

// Value types and the empty block type.
const (
	typeI32     = 0x7f
	typeI64     = 0x7e
	typeF32     = 0x7d
	typeF64     = 0x7c
	typeFuncRef = 0x70
	typeEmpty   = 0x40
	typeFunc    = 0x60
)

func isNumber(t byte) bool { return t >= typeF64 && t <= typeI32 }

// instr is one decoded instruction: r.b[start:end].
type instr struct {
	op         byte
	sub        uint32 // after the 0xfc prefix
	index      uint32 // function, type, local or global; number of br_table targets
	blockType  int64
	start, end int
}

// instr decodes the next instruction and refuses those that guests may not use.
func (r *reader) instr() instr {
	in := instr{start: r.pos}
	in.op = r.byte()
	switch op := in.op; {
	case op == opBlock || op == opLoop || op == opIf:
		in.blockType = r.signed(33)
	case op == opBr || op == opBrIf || op == opCall || op >= opLocalGet && op <= opGlobalSet:
		in.index = r.u32()
	case op == opBrTable:
		in.index = uint32(r.count("branch targets", maxComplexity))
		for i := uint32(0); i <= in.index && r.ok(); i++ {
			r.u32()
		}
	case op == opCallIndirect:
		in.index = r.u32()
		r.zero("table index")
	case op == opSelectT:
		if n := r.u32(); n != 1 {
			r.malformed("select of %d types", n)
		}
		r.numberType()
	case op >= 0x28 && op <= 0x3e: // loads and stores
		r.u32()
		r.u32()
	case op == opMemorySize || op == opMemoryGrow:
		r.zero("memory index")
	case op == opI32Const:
		r.signed(32)
	case op == opI64Const:
		r.signed(64)
	case op == opF32Const:
		r.bytes(4)
	case op == opF64Const:
		r.bytes(8)
	case op == opPrefixFC:
		r.prefixFC(&in)
	case plain(op):
	default:
		r.pos = in.start // where the message points
		r.refuseOpcode(op)
	}
	in.end = r.pos
	return in
}

// plain tells the instructions that have no immediate operand.
func plain(op byte) bool {
	switch op {
	case opUnreachable, opNop, opElse, opEnd, opReturn, opDrop, opSelect:
		return true
	}
	return op >= 0x45 && op <= 0xc4
}

func (r *reader) prefixFC(in *instr) {
	in.sub = r.u32()
	switch in.sub {
	case 0, 1, 2, 3, 4, 5, 6, 7: // saturating truncations
	case fcMemoryInit:
		r.u32()
		r.zero("memory index")
	case fcMemoryCopy:
		r.zero("memory index")
		r.zero("memory index")
	case fcMemoryFill:
		r.zero("memory index")
	case 9, 13:
		r.fail("opcode", "segments are state that a reset does not restore; keep them", "data.drop or elem.drop")
	case 12, 14, 15, 16, 17:
		r.fail("opcode", "tables are state that a reset does not restore; do not change them", "bulk table instruction %#x", in.sub)
	default:
		r.malformed("unknown instruction fc %#x", in.sub)
	}
}

func (r *reader) refuseOpcode(op byte) {
	what, advice := "unknown instruction", "build for WebAssembly 2.0 without proposals"
	switch {
	case op == 0xfd:
		what, advice = "SIMD instruction", "build without -msimd128"
	case op == 0xfe:
		what, advice = "atomic instruction", "build without threads"
	case op == 0x12 || op == 0x13 || op == 0x15:
		what, advice = "tail call", "build without -mtail-call"
	case op >= 0x06 && op <= 0x0a || op == 0x18 || op == 0x19 || op == 0x1f:
		what, advice = "exception instruction", "build without exceptions"
	case op == 0x25 || op == 0x26:
		what, advice = "table.get or table.set", "tables are state that a reset does not restore"
	case op >= opRefNull && op <= opRefFunc:
		what, advice = "reference instruction", "build without reference types"
	}
	r.fail("opcode", advice, "%s %#x", what, op)
}

// zero reads an index that can only be zero in a module with one memory and one
// table; it is a single byte, so that its length is beyond doubt.
func (r *reader) zero(what string) {
	if c := r.byte(); c != 0 && r.ok() {
		r.malformed("%s %d", what, c)
	}
}

func (r *reader) numberType() {
	t := r.byte()
	if r.ok() && !isNumber(t) {
		r.fail("value-type", "use i32, i64, f32 and f64; no vectors and no references", "value type %#x", t)
	}
}

// bulk tells the instructions whose work grows with the number on top of the
// stack: memory.init, memory.copy and memory.fill.
func (in instr) bulk() bool { return in.op == opPrefixFC && in.sub >= fcMemoryInit }

// makesF32 and makesF64 tell the instructions whose result may be a NaN with
// bits that differ by architecture: arithmetic, rounding, and change of width.
func (in instr) makesF32() bool { return in.op >= 0x8d && in.op <= 0x97 || in.op == 0xb6 }
func (in instr) makesF64() bool { return in.op >= 0x9b && in.op <= 0xa5 || in.op == 0xbb }

// fuel is cost model 1: what an instruction costs beyond what bulk operations
// and memory.grow are charged by their operand. Changing it changes outcomes, so
// it would be cost model 2 and every policy would get a new identity.
func (in instr) fuel() uint32 {
	switch op := in.op; {
	case op == opNop || op == opBlock || op == opLoop || op == opElse || op == opEnd || op == opDrop:
		return 0
	case op >= 0x28 && op <= 0x3e:
		return 2
	case op == opCall:
		return 5
	case op == opCallIndirect || slowMath(op):
		return 8
	case op == opMemoryGrow:
		return 200
	}
	return 1
}

// slowMath tells integer division and remainder, float division and square root.
func slowMath(op byte) bool {
	switch op {
	case 0x6d, 0x6e, 0x6f, 0x70, 0x7f, 0x80, 0x81, 0x82, 0x91, 0x95, 0x9f, 0xa3:
		return true
	}
	return false
}
