package wasmrt

import (
	"fmt"
	"strings"
)

// Section numbers of the binary format.
const (
	secCustom = iota
	secType
	secImport
	secFunction
	secTable
	secMemory
	secGlobal
	secExport
	secStart
	secElement
	secCode
	secData
	secDataCount
)

var sectionNames = [...]string{
	"custom", "type", "import", "function", "table", "memory", "global", "export",
	"start", "element", "code", "data", "data count",
}

// sectionOrder is the place of each section in a module: the data count stands
// before the code.
var sectionOrder = [...]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 10}

// Info says what a module is, as far as its bytes tell.
type Info struct {
	// Exports holds the names of the exported functions, without those that the
	// rewriter adds.
	Exports []string
	// Imports holds "module.name" of each imported function.
	Imports []string
	// Functions counts the module's own functions.
	Functions int
	// Complexity is the largest control-flow complexity of a function, ComplexitySq
	// the sum of the squares of all; both have a limit.
	Complexity   int
	ComplexitySq int64
	// MemoryMin and MemoryMax are in pages of 64 KiB, MemoryMax as declared, or
	// 65,536 where nothing is declared.
	MemoryMin, MemoryMax uint32
	// MutableGlobals counts the globals that a reset restores.
	MutableGlobals int
}

type funcType struct{ params, results []byte }

func (t funcType) String() string {
	return "(" + typeList(t.params) + ") -> (" + typeList(t.results) + ")"
}

func typeList(types []byte) string {
	names := make([]string, len(types))
	for i, t := range types {
		names[i] = map[byte]string{typeI32: "i32", typeI64: "i64", typeF32: "f32", typeF64: "f64"}[t]
	}
	return strings.Join(names, ", ")
}

func (t funcType) equal(o funcType) bool {
	return string(t.params) == string(o.params) && string(t.results) == string(o.results)
}

type export struct {
	name  string
	kind  byte
	index uint32
}

// scanned is an admitted module, taken apart. All slices alias its bytes.
type scanned struct {
	sections [len(sectionNames)][]byte // payloads; nil where absent
	types    []funcType
	imported []uint32 // type of each imported function
	funcs    []uint32 // type of each own function
	tables   int
	memories int
	globals  []bool // true = mutable
	exports  []export
	start    int // function index, -1 = none
	plans    []plan
	info     Info

	variables int64 // sum over functions of locals times basic blocks
}

// Scan checks a module against the static admission rules without running or
// compiling anything. Its time is linear in the module's length, its memory too,
// and it never panics. The error is an *AdmissionError.
func Scan(wasm []byte) (Info, error) {
	m, err := scan(wasm)
	if err != nil {
		return Info{}, err
	}
	return m.info, nil
}

func scan(wasm []byte) (*scanned, error) {
	m := &scanned{start: -1}
	r := &reader{b: wasm, section: "module"}
	m.split(r)
	if !r.ok() {
		return nil, r.err
	}
	parsers := [...]func(*scanned, *reader){
		secType: (*scanned).readTypes, secImport: (*scanned).readImports, secFunction: (*scanned).readFunctions,
		secTable: (*scanned).readTables, secMemory: (*scanned).readMemories, secGlobal: (*scanned).readGlobals,
		secExport: (*scanned).readExports, secStart: (*scanned).readStart, secElement: (*scanned).readElements,
		secCode: (*scanned).readCode, secData: (*scanned).readData, secDataCount: (*scanned).readDataCount,
	}
	for id := secType; id <= secDataCount; id++ {
		if m.sections[id] == nil {
			continue
		}
		s := &reader{b: m.sections[id], base: offsetIn(wasm, m.sections[id]), section: sectionNames[id] + " section"}
		parsers[id](m, s)
		s.end()
		if !s.ok() {
			return nil, s.err
		}
	}
	if err := m.checkABI(); err != nil {
		return nil, err
	}
	return m, nil
}

// offsetIn returns where sub, a slice of whole with whole's capacity, begins.
func offsetIn(whole, sub []byte) int { return cap(whole) - cap(sub) }

// split cuts the module into sections and checks their order. Custom sections
// carry names and debugging data; they are not looked at and not passed on.
func (m *scanned) split(r *reader) {
	if len(r.b) > MaxModuleBytes {
		r.fail("module-bytes", "strip it, or optimise for size", "module of %d bytes, the limit is %d", len(r.b), MaxModuleBytes)
		return
	}
	if len(r.b) < 8 || string(r.b[:8]) != "\x00asm\x01\x00\x00\x00" {
		r.fail("malformed", "upload a core WebAssembly module, not text and not a component", "no WebAssembly 1 header")
		return
	}
	r.pos = 8
	last := 0
	for r.ok() && r.left() > 0 {
		id := r.byte()
		payload := r.bytes(r.u32())
		if !r.ok() || id == secCustom {
			continue
		}
		if int(id) >= len(sectionNames) {
			r.fail("section", "build without proposals", "section of unknown kind %d", id)
			return
		}
		if sectionOrder[id] <= last {
			r.malformed("%s section twice or out of order", sectionNames[id])
			return
		}
		last = sectionOrder[id]
		m.sections[id] = payload
	}
}

func (m *scanned) readTypes(r *reader) {
	n := r.count("types", maxTypes)
	m.types = make([]funcType, 0, n)
	for i := 0; i < n && r.ok(); i++ {
		if form := r.byte(); form != typeFunc && r.ok() {
			r.malformed("type of unknown form %#x", form)
		}
		params := r.numberTypes("parameters", maxTypeParams)
		results := r.numberTypes("results", maxTypeResults)
		m.types = append(m.types, funcType{params, results})
	}
}

func (r *reader) numberTypes(what string, limit int) []byte {
	n := r.count(what, limit)
	from := r.pos
	for i := 0; i < n && r.ok(); i++ {
		r.numberType()
	}
	if !r.ok() {
		return nil
	}
	return r.b[from:r.pos]
}

func (m *scanned) readImports(r *reader) {
	n := r.count("imports", maxImports)
	for i := 0; i < n && r.ok(); i++ {
		module, name := r.name(), r.name()
		kind := r.byte()
		if r.ok() && kind != 0 {
			r.fail("import", "define memories, tables and globals in the module", "import %s.%s is no function", module, name)
			return
		}
		t := m.typeAt(r, r.u32())
		if !r.ok() {
			return
		}
		want, known := hostFunction(module, name)
		if !known {
			r.fail("import", "a policy sees no clock, files, network or randomness; allowed are edged_v1.log, env.abort and "+
				"the constant WASI subset", "import %s.%s is not allowed", module, name)
			return
		}
		if !want.sig.equal(m.types[t]) {
			r.fail("import", "", "import %s.%s has type %v, it must be %v", module, name, m.types[t], want.sig)
			return
		}
		m.imported = append(m.imported, t)
		m.info.Imports = append(m.info.Imports, module+"."+name)
	}
}

func (m *scanned) typeAt(r *reader, index uint32) uint32 {
	if r.ok() && uint64(index) >= uint64(len(m.types)) {
		r.malformed("type %d of %d", index, len(m.types))
	}
	return index
}

func (m *scanned) readFunctions(r *reader) {
	n := r.count("functions", maxFunctions)
	m.funcs = make([]uint32, 0, n)
	for i := 0; i < n && r.ok(); i++ {
		m.funcs = append(m.funcs, m.typeAt(r, r.u32()))
	}
	m.info.Functions = n
}

// functionType returns the type of the function with that index, imports first.
func (m *scanned) functionType(index uint32) (funcType, bool) {
	i := uint64(index)
	if i < uint64(len(m.imported)) {
		return m.types[m.imported[i]], true
	}
	i -= uint64(len(m.imported))
	if i < uint64(len(m.funcs)) {
		return m.types[m.funcs[i]], true
	}
	return funcType{}, false
}

func (m *scanned) readTables(r *reader) {
	m.tables = r.count("tables", 1)
	if m.tables == 0 {
		return
	}
	if t := r.byte(); r.ok() && t != typeFuncRef {
		r.fail("table", "build without reference types", "table of element type %#x", t)
	}
	low, _ := r.limits("table entries", maxTableEntries, 1<<32-1)
	if r.ok() && low > maxTableEntries {
		r.fail("table", "", "table of %d entries, the limit is %d", low, maxTableEntries)
	}
}

func (m *scanned) readMemories(r *reader) {
	m.memories = r.count("memories", 1)
	if m.memories == 0 {
		return
	}
	low, high := r.limits("memory pages", maxMemoryPages, wasmMaxPages)
	m.info.MemoryMin, m.info.MemoryMax = low, high
}

// limits reads a minimum, at most maxLow, and a maximum, which is most where the
// module names none.
func (r *reader) limits(what string, maxLow, most uint32) (low, high uint32) {
	flags := r.byte()
	if r.ok() && flags > 1 {
		r.fail("limits", "build without threads and for 32-bit memory", "%s with flags %#x", what, flags)
		return 0, 0
	}
	low, high = r.u32(), most
	if flags == 1 {
		high = r.u32()
	}
	if !r.ok() {
		return 0, 0
	}
	if low > maxLow {
		r.fail("limits", "ask for less at the start", "%d %s, the limit is %d", low, what, maxLow)
	}
	if high < low || high > most {
		r.malformed("%s from %d to %d", what, low, high)
	}
	return low, high
}

func (m *scanned) readGlobals(r *reader) {
	n := r.count("globals", maxGlobals)
	for i := 0; i < n && r.ok(); i++ {
		r.numberType()
		mutable := r.byte()
		if r.ok() && mutable > 1 {
			r.malformed("global of mutability %d", mutable)
		}
		r.constant(false)
		m.globals = append(m.globals, mutable == 1)
		if mutable == 1 {
			m.info.MutableGlobals++
		}
	}
}

// constant reads an initial value: one constant and end. As nothing but functions
// can be imported, a reference to an imported global cannot be right.
func (r *reader) constant(reference bool) {
	switch op := r.byte(); {
	case op == opI32Const:
		r.signed(32)
	case op == opI64Const:
		r.signed(64)
	case op == opF32Const:
		r.bytes(4)
	case op == opF64Const:
		r.bytes(8)
	case op == opRefNull && reference:
		r.byte()
	case op == opRefFunc && reference:
		r.u32()
	default:
		r.fail("constant", "initialise with a plain number", "initial value by instruction %#x", op)
	}
	if c := r.byte(); r.ok() && c != opEnd {
		r.malformed("initial value of more than one instruction")
	}
}

func (m *scanned) readExports(r *reader) {
	n := r.count("exports", maxExports)
	seen := make(map[string]bool, n)
	for i := 0; i < n && r.ok(); i++ {
		e := export{name: r.name(), kind: r.byte(), index: r.u32()}
		if !r.ok() {
			return
		}
		if seen[e.name] {
			r.malformed("export %q twice", e.name)
		}
		if e.kind > 3 {
			r.malformed("export %q of kind %d", e.name, e.kind)
		}
		if strings.HasPrefix(e.name, reservedPrefix) {
			r.fail("export", "choose another name", "export %q: names that begin with %s belong to the host", e.name, reservedPrefix)
		}
		seen[e.name] = true
		m.exports = append(m.exports, e)
		if e.kind == 0 {
			m.info.Exports = append(m.info.Exports, e.name)
		}
	}
}

func (m *scanned) readStart(r *reader) {
	index := r.u32()
	if !r.ok() {
		return
	}
	t, ok := m.functionType(index)
	if !ok || index < uint32(len(m.imported)) || !t.equal(funcType{}) {
		r.malformed("start function %d must be the module's own, without parameters and results", index)
		return
	}
	m.start = int(index)
}

func (m *scanned) readDataCount(r *reader) {
	if n := r.u32(); r.ok() && n > maxDataSegments {
		r.fail("too-many", "", "%d data segments, the limit is %d", n, maxDataSegments)
	}
}

func (m *scanned) readData(r *reader) {
	n := r.count("data segments", maxDataSegments)
	for i := 0; i < n && r.ok(); i++ {
		switch kind := r.u32(); kind {
		case 0:
			r.constant(false)
		case 1:
		case 2:
			r.zero("memory index")
			r.constant(false)
		default:
			r.malformed("data segment of kind %d", kind)
		}
		r.bytes(r.u32())
	}
}

func (m *scanned) readElements(r *reader) {
	segments, total := r.count("element segments", maxElements), 0
	for i := 0; i < segments && r.ok(); i++ {
		kind := r.u32()
		if kind > 7 {
			r.malformed("element segment of kind %d", kind)
			return
		}
		passive, explicit, expressions := kind&1 != 0, kind&2 != 0, kind&4 != 0
		if !passive {
			if explicit {
				r.zero("table index")
			}
			r.constant(false)
		}
		if passive || explicit {
			r.elementKind(expressions)
		}
		n := r.count("functions in an element segment", maxElementFuncs)
		total += n
		for j := 0; j < n && r.ok(); j++ {
			if expressions {
				r.constant(true)
			} else {
				r.u32()
			}
		}
	}
	if total > maxElementFuncs {
		r.fail("too-many", "", "%d functions in element segments, the limit is %d", total, maxElementFuncs)
	}
}

func (r *reader) elementKind(expressions bool) {
	want := byte(0)
	if expressions {
		want = typeFuncRef
	}
	if k := r.byte(); r.ok() && k != want {
		r.fail("element", "build without reference types", "elements of kind %#x", k)
	}
}

func (m *scanned) readCode(r *reader) {
	n := r.count("function bodies", maxFunctions)
	if r.ok() && n != len(m.funcs) {
		r.malformed("%d bodies for %d functions", n, len(m.funcs))
		return
	}
	m.plans = make([]plan, 0, n)
	for i := 0; i < n && r.ok(); i++ {
		size := r.u32()
		if r.ok() && size > maxBodyBytes {
			r.fail("body-bytes", "split the function, or optimise for size", "function %d of %d bytes, the limit is %d",
				len(m.imported)+i, size, maxBodyBytes)
			return
		}
		body := &reader{base: r.base + r.pos, section: fmt.Sprintf("function %d", len(m.imported)+i)}
		body.b = r.bytes(size)
		p := m.plan(body, m.types[m.funcs[i]])
		if r.ok() {
			r.err = body.err
		}
		m.plans = append(m.plans, p)
	}
	if r.ok() && m.variables > maxVariablesSum {
		r.fail("variables", "a smaller program", "locals times basic blocks come to %d over the module, the limit is %d",
			m.variables, maxVariablesSum)
	}
	if r.ok() && m.info.ComplexitySq > maxComplexitySq {
		r.fail("complexity", "a smaller program: without regexp and templates", "control-flow complexity %d squared over the module, the limit is %d",
			m.info.ComplexitySq, int64(maxComplexitySq))
	}
}
