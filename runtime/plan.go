package wasmrt

// plan is what the scanner learns of one function body and the rewriter needs:
// the second pass walks the same instructions and takes the costs in order.
type plan struct {
	body       []byte
	codeStart  int      // after the local declarations
	groups     []byte   // the local declarations, without their count
	groupCount uint32   // of them
	locals     uint32   // parameters and declared locals
	costs      []uint32 // one a basic block, in order of appearance
	weight     uint32   // units of depth that a frame of this function costs
	bulk       bool     // has bulk memory instructions or memory.grow
	f32, f64   bool     // has instructions that can make such a NaN
}

// bodyScan is the state of the walk over one body.
type bodyScan struct {
	m          *scanned
	r          *reader
	p          plan
	block      []int // index into costs, per open block
	complexity int
	slots      uint64 // bound on the values of a frame: params, locals, one an instruction
}

// plan checks one body and divides it into basic blocks. What is charged at the
// head of a block is the cost of all its instructions; blocks begin at the
// function's entry and after loop, if, else, end and br_if.
func (m *scanned) plan(r *reader, t funcType) plan {
	s := &bodyScan{m: m, r: r}
	s.readLocals(t)
	s.p.costs = []uint32{2} // the call itself, so that calls are never free
	s.block = []int{0}
	for r.ok() && len(s.block) > 0 {
		in := r.instr()
		if r.ok() {
			s.check(in)
			s.cost(in)
		}
	}
	r.end()
	s.p.body = r.b
	s.p.weight = uint32(1 + s.slots/frameUnitSlots)
	variables := int64(s.p.locals) * int64(len(s.p.costs))
	if variables > maxVariables {
		r.fail("variables", "split the function", "%d locals in %d basic blocks, their product may be %d",
			s.p.locals, len(s.p.costs), maxVariables)
	}
	m.variables += variables
	m.info.Complexity = max(m.info.Complexity, s.complexity)
	m.info.ComplexitySq += int64(s.complexity) * int64(s.complexity)
	return s.p
}

func (s *bodyScan) readLocals(t funcType) {
	groups := s.r.count("groups of locals", maxLocals)
	from, locals := s.r.pos, uint64(0)
	for i := 0; i < groups && s.r.ok(); i++ {
		locals += uint64(s.r.u32())
		s.r.numberType()
		if locals > maxLocals {
			s.r.fail("locals", "split the function", "%d locals, the limit is %d", locals, maxLocals)
		}
	}
	if !s.r.ok() {
		return
	}
	s.p.groupCount, s.p.groups, s.p.codeStart = uint32(groups), s.r.b[from:s.r.pos], s.r.pos
	s.p.locals = uint32(len(t.params)) + uint32(locals)
	s.slots = uint64(s.p.locals)
}

// check refuses what would break a limit or, after rewriting, mean something
// else than before: the rewriter adds locals and globals behind the module's own,
// so an index beyond those must not pass.
func (s *bodyScan) check(in instr) {
	s.slots++
	switch op := in.op; {
	case op >= opLocalGet && op <= opLocalTee:
		if in.index >= s.p.locals {
			s.r.malformed("local %d of %d", in.index, s.p.locals)
		}
	case op == opGlobalGet || op == opGlobalSet:
		if uint64(in.index) >= uint64(len(s.m.globals)) {
			s.r.malformed("global %d of %d", in.index, len(s.m.globals))
		}
	case op == opBlock || op == opLoop || op == opIf:
		s.complexity++
		s.checkBlockType(in.blockType)
	case op == opElse || op == opBrIf || op == opBr || op == opMemoryGrow:
		s.complexity++
	case op == opBrTable:
		s.complexity += int(in.index) + 1
	case op == opCall:
		s.complexity++
		t, ok := s.m.functionType(in.index)
		if !ok {
			s.r.malformed("call of function %d", in.index)
		}
		s.slots += uint64(len(t.results))
	case op == opCallIndirect:
		s.complexity++
		if t := s.m.typeAt(s.r, in.index); s.r.ok() {
			s.slots += uint64(len(s.m.types[t].results))
		}
	case in.bulk():
		s.complexity += 3
	}
	if s.complexity > maxComplexity {
		s.r.fail("complexity", "split the function; a Go guest must do without regexp and text/template",
			"control-flow complexity above %d", maxComplexity)
	}
	if len(s.block) > maxNesting {
		s.r.fail("nesting", "split the function", "blocks nested deeper than %d", maxNesting)
	}
}

func (s *bodyScan) checkBlockType(t int64) {
	if t >= 0 {
		if i := s.m.typeAt(s.r, uint32(t)); s.r.ok() {
			s.slots += uint64(len(s.m.types[i].params) + len(s.m.types[i].results))
		}
		return
	}
	s.slots++
	if c := byte(t & 0x7f); t < -64 || c != typeEmpty && !isNumber(c) {
		s.r.malformed("block of type %d", t)
	}
}

// cost adds the instruction to its basic block and opens the next one.
func (s *bodyScan) cost(in instr) {
	top := len(s.block) - 1
	s.p.costs[s.block[top]] += in.fuel()
	s.p.bulk = s.p.bulk || in.bulk() || in.op == opMemoryGrow
	s.p.f32 = s.p.f32 || in.makesF32()
	s.p.f64 = s.p.f64 || in.makesF64()
	switch in.op {
	case opBlock:
		s.block = append(s.block, s.block[top])
	case opLoop:
		s.block = append(s.block, s.open(1)) // an iteration is never free
	case opIf:
		s.block = append(s.block, s.open(0))
	case opEnd:
		s.block = s.block[:top]
		if top > 0 {
			s.block[top-1] = s.open(0)
		}
	case opElse, opBrIf:
		s.block[top] = s.open(0)
	}
}

// open starts a basic block and returns its index in costs.
func (s *bodyScan) open(cost uint32) int {
	s.p.costs = append(s.p.costs, cost)
	return len(s.p.costs) - 1
}
