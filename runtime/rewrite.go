package wasmrt

import (
	"encoding/binary"
	"strconv"
)

// rewrite returns the module with the counters that make its limits exact:
//
//   - fuel, an i64 charged at the head of each basic block and, by their operand,
//     before bulk memory operations and memory.grow; below zero it traps
//   - depth, an i32 taken by a call and given back after it; below zero it traps
//   - refused, an i32 set once memory.grow has answered -1
//   - NaN results made canonical, as their bits differ by processor
//   - the memory's maximum lowered to maxPages
//   - all mutable globals exported, so that the host can reset them
//   - the start function exported instead of run, so that the host calls it once,
//     for the image, and not for every instance
//
// Custom sections are left out. Counters are ordinary globals behind the module's
// own, so both engines count alike.
func (m *scanned) rewrite(maxPages uint32) []byte {
	size := 64
	for _, s := range m.sections {
		size += len(s)
	}
	out := make([]byte, 0, size*3/2)
	out = append(out, "\x00asm\x01\x00\x00\x00"...)
	for _, id := range [...]int{
		secType, secImport, secFunction, secTable, secMemory, secGlobal, secExport, secElement, secDataCount, secCode, secData,
	} {
		var payload []byte
		switch id {
		case secMemory:
			payload = m.memorySection(maxPages)
		case secGlobal:
			payload = m.globalSection()
		case secExport:
			payload = m.exportSection()
		case secCode:
			payload = m.codeSection()
		default:
			payload = m.sections[id]
		}
		if payload == nil {
			continue
		}
		out = append(out, byte(id))
		out = appendU32(out, uint32(len(payload)))
		out = append(out, payload...)
	}
	return out
}

func appendU32(b []byte, v uint32) []byte { return binary.AppendUvarint(b, uint64(v)) }

func appendSigned(b []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

// maxPages returns the memory maximum that the rewritten module will have.
func (m *scanned) memoryMax(limit uint32) uint32 { return min(m.info.MemoryMax, limit) }

func (m *scanned) memorySection(limit uint32) []byte {
	b := []byte{1, 1}
	b = appendU32(b, m.info.MemoryMin)
	return appendU32(b, m.memoryMax(limit))
}

// Indices of the added globals, counted from the number of the module's own.
const (
	globalFuel = iota
	globalDepth
	globalRefused
	addedGlobals
)

func (m *scanned) globalIndex(added int) uint32 { return uint32(len(m.globals) + added) }

func (m *scanned) globalSection() []byte {
	own := &reader{b: m.sections[secGlobal]}
	if own.b != nil {
		own.u32()
	}
	b := appendU32(nil, m.globalIndex(addedGlobals))
	b = append(b, own.b[own.pos:]...)
	// The initial values matter little: the host sets all three before each call.
	b = append(b, typeI64, 1, opI64Const, 0, opEnd)
	b = append(b, typeI32, 1, opI32Const, 0, opEnd)
	return append(b, typeI32, 1, opI32Const, 0, opEnd)
}

func (m *scanned) exportSection() []byte {
	var b []byte
	count := uint32(len(m.exports))
	own := &reader{b: m.sections[secExport]}
	own.u32()
	b = append(b, own.b[own.pos:]...)
	add := func(name string, kind byte, index uint32) {
		b = appendU32(b, uint32(len(name)))
		b = append(append(b, name...), kind)
		b = appendU32(b, index)
		count++
	}
	add(exportFuel, 3, m.globalIndex(globalFuel))
	add(exportDepth, 3, m.globalIndex(globalDepth))
	add(exportRefused, 3, m.globalIndex(globalRefused))
	for i, name := range m.mutableNames() {
		if name != "" {
			add(name, 3, uint32(i))
		}
	}
	if m.start >= 0 {
		add(exportStart, 0, uint32(m.start))
	}
	return append(appendU32(nil, count), b...)
}

// mutableNames returns, by global index, the name under which the rewriter
// exports a mutable global, and "" for a constant one.
func (m *scanned) mutableNames() []string {
	names := make([]string, len(m.globals))
	for i, mutable := range m.globals {
		if mutable {
			names[i] = exportGlobal + strconv.Itoa(i)
		}
	}
	return names
}

func (m *scanned) codeSection() []byte {
	if m.plans == nil {
		return nil
	}
	b := appendU32(nil, uint32(len(m.plans)))
	for i := range m.plans {
		e := emitter{m: m, p: &m.plans[i]}
		e.emit()
		b = appendU32(b, uint32(len(e.out)))
		b = append(b, e.out...)
	}
	return b
}

// emitter writes one rewritten body. Its added locals stand behind the function's.
type emitter struct {
	m              *scanned
	p              *plan
	out            []byte
	fuel, operand  uint32 // local indices: an i64, and an i32 where the body needs one
	nanF32, nanF64 uint32
	added          uint32
}

func (e *emitter) emit() {
	p := e.p
	var groups []byte
	local := func(t byte) uint32 {
		groups = append(groups, 1, t)
		e.added++
		return p.locals + e.added - 1
	}
	e.fuel = local(typeI64)
	if p.bulk {
		e.operand = local(typeI32)
	}
	if p.f32 {
		e.nanF32 = local(typeF32)
	}
	if p.f64 {
		e.nanF64 = local(typeF64)
	}
	e.out = make([]byte, 0, len(p.body)*3/2+64)
	e.out = appendU32(e.out, p.groupCount+e.added)
	e.out = append(e.out, p.groups...)
	e.out = append(e.out, groups...)
	e.charge(p.costs[0])
	costs := p.costs[1:]
	r := &reader{b: p.body, pos: p.codeStart}
	for r.left() > 0 {
		in := r.instr()
		e.instr(in)
		switch in.op {
		case opEnd:
			if r.left() == 0 {
				return
			}
			fallthrough
		case opLoop, opIf, opElse, opBrIf:
			e.charge(costs[0])
			costs = costs[1:]
		}
	}
}

// instr writes one instruction with what belongs around it.
func (e *emitter) instr(in instr) {
	code := e.p.body[in.start:in.end]
	switch {
	case in.op == opCallIndirect, in.op == opCall && in.index >= uint32(len(e.m.imported)):
		e.descend()
		e.out = append(e.out, code...)
		e.ascend()
	case in.bulk():
		e.chargeOperand(opI64Const, 3, opI64ShrU)
		e.out = append(e.out, code...)
	case in.op == opMemoryGrow:
		e.chargeOperand(opI64Const, 16384, opI64Mul)
		e.out = append(e.out, code...)
		e.noteRefusal()
	case in.makesF32():
		e.out = append(e.out, code...)
		e.canonical(e.nanF32, opF32Eq, opF32Const, 0, 0, 0xc0, 0x7f)
	case in.makesF64():
		e.out = append(e.out, code...)
		e.canonical(e.nanF64, opF64Eq, opF64Const, 0, 0, 0, 0, 0, 0, 0xf8, 0x7f)
	default:
		e.out = append(e.out, code...)
	}
}

func (e *emitter) op(op byte, index uint32) {
	e.out = append(e.out, op)
	e.out = appendU32(e.out, index)
}

// trapIf writes: if the i32 on the stack is not zero, trap.
func (e *emitter) trapIf() { e.out = append(e.out, opIf, typeEmpty, opUnreachable, opEnd) }

// charge writes: fuel -= cost; trap below zero.
func (e *emitter) charge(cost uint32) {
	if cost == 0 {
		return
	}
	e.op(opGlobalGet, e.m.globalIndex(globalFuel))
	e.out = append(e.out, opI64Const)
	e.out = appendSigned(e.out, int64(cost))
	e.out = append(e.out, opI64Sub)
	e.keepFuel()
}

// keepFuel stores the i64 on the stack as the fuel left and traps below zero.
func (e *emitter) keepFuel() {
	e.op(opLocalTee, e.fuel)
	e.op(opGlobalSet, e.m.globalIndex(globalFuel))
	e.op(opLocalGet, e.fuel)
	e.out = append(e.out, opI64Const, 0, opI64LtS)
	e.trapIf()
}

// chargeOperand writes: fuel -= combine(top of the stack, number), leaving the
// stack as it was.
func (e *emitter) chargeOperand(constant byte, number int64, combine byte) {
	e.op(opLocalTee, e.operand)
	e.op(opGlobalGet, e.m.globalIndex(globalFuel))
	e.op(opLocalGet, e.operand)
	e.out = append(e.out, opI64ExtendU, constant)
	e.out = appendSigned(e.out, number)
	e.out = append(e.out, combine, opI64Sub)
	e.keepFuel()
}

func (e *emitter) descend() {
	e.moveDepth(opI32Sub)
	e.op(opGlobalGet, e.m.globalIndex(globalDepth))
	e.out = append(e.out, opI32Const, 0, opI32LtS)
	e.trapIf()
}

func (e *emitter) ascend() { e.moveDepth(opI32Add) }

func (e *emitter) moveDepth(op byte) {
	e.op(opGlobalGet, e.m.globalIndex(globalDepth))
	e.out = append(e.out, opI32Const)
	e.out = appendSigned(e.out, int64(e.p.weight))
	e.out = append(e.out, op)
	e.op(opGlobalSet, e.m.globalIndex(globalDepth))
}

// noteRefusal writes: if the answer of memory.grow is -1, remember it.
func (e *emitter) noteRefusal() {
	e.op(opLocalTee, e.operand)
	e.out = append(e.out, opI32Const, 0x7f, opI32Eq, opIf, typeEmpty, opI32Const, 1)
	e.op(opGlobalSet, e.m.globalIndex(globalRefused))
	e.out = append(e.out, opEnd)
	e.op(opLocalGet, e.operand)
}

// canonical writes: replace the number on the stack by the NaN that follows if it
// does not equal itself.
func (e *emitter) canonical(local uint32, equal byte, nan ...byte) {
	e.op(opLocalTee, local)
	e.out = append(e.out, nan...)
	e.op(opLocalGet, local)
	e.op(opLocalGet, local)
	e.out = append(e.out, equal, opSelect)
}
