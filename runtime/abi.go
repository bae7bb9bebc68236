package wasmrt

import (
	"slices"
	"strings"
)

// reservedPrefix begins the names of the exports that the rewriter adds.
const (
	reservedPrefix = "__edged_"
	exportFuel     = reservedPrefix + "fuel"
	exportDepth    = reservedPrefix + "depth"
	exportRefused  = reservedPrefix + "refused"
	exportStart    = reservedPrefix + "start"
	exportGlobal   = reservedPrefix + "g" // and a number

	abiPrefix        = "edged_v1_"
	exportAlloc      = abiPrefix + "alloc"
	exportInitialize = "_initialize"
	exportMemory     = "memory"
)

// ABI names the version of the calling convention, CostModel that of the fuel
// costs. Both belong to the identity of a policy.
const (
	ABI       = "edged_v1"
	CostModel = 1
)

// abiExport returns the type that an export of that name must have. The names are
// the ABI's version: a later one has other names, and a module may have both.
func abiExport(name string) (funcType, bool) {
	i32, i64 := byte(typeI32), byte(typeI64)
	switch name {
	case exportAlloc:
		return funcType{[]byte{i32}, []byte{i32}}, true
	case abiPrefix + "merge", abiPrefix + "repair":
		return funcType{[]byte{i32, i32}, []byte{i64}}, true
	case abiPrefix + "sample":
		return funcType{[]byte{i64}, []byte{i64}}, true
	case abiPrefix + "describe":
		return funcType{nil, []byte{i64}}, true
	case exportInitialize:
		return funcType{}, true
	}
	return funcType{}, false
}

// checkABI holds the exports against the ABI: the memory, the allocator, and the
// type of each known name.
func (m *scanned) checkABI() error {
	if len(m.funcs) != len(m.plans) {
		return &AdmissionError{Rule: "malformed", What: "functions without bodies", Where: "function section"}
	}
	hasMemory, hasAlloc := false, false
	for _, e := range m.exports {
		if err := m.checkExport(e); err != nil {
			return err
		}
		hasMemory = hasMemory || e.name == exportMemory
		hasAlloc = hasAlloc || e.name == exportAlloc
	}
	if m.memories != 1 || !hasMemory {
		return &AdmissionError{
			Rule: "memory", Where: "export section", What: "no memory exported as \"memory\"",
			Advice: "define exactly one memory and export it under that name",
		}
	}
	if !hasAlloc {
		return &AdmissionError{
			Rule: "export", Where: "export section", What: "no export " + exportAlloc,
			Advice: "export " + exportAlloc + "(size i32) -> (pointer i32); the host asks it for the request's buffer",
		}
	}
	return nil
}

func (m *scanned) checkExport(e export) error {
	refuse := func(what, advice string) error {
		return &AdmissionError{Rule: "export", Where: "export section", What: what, Advice: advice}
	}
	if e.name == "_start" {
		return refuse("export _start: a program, not a library", "build as a reactor (-mexec-model=reactor, -buildmode=c-shared)")
	}
	// Behind the module's own globals stand the counters.
	if e.kind == 3 && uint64(e.index) >= uint64(len(m.globals)) {
		return refuse("export "+e.name+" of a global that is not there", "")
	}
	if e.name == exportMemory && e.kind != 2 {
		return refuse("export \"memory\" is no memory", "give the name to the memory")
	}
	want, known := abiExport(e.name)
	if !known {
		if strings.HasPrefix(e.name, abiPrefix) {
			return refuse("export "+e.name+" is not part of the ABI", "known are alloc, merge, repair, sample and describe after "+abiPrefix)
		}
		return nil
	}
	got, ok := m.functionType(e.index)
	if e.kind != 0 || !ok {
		return refuse("export "+e.name+" is no function", "it must be a function of type "+want.String())
	}
	if !got.equal(want) {
		return refuse("export "+e.name+" has type "+got.String(), "it must be "+want.String())
	}
	return nil
}

// entryPoint tells the exports that Module.Call may name: a request in, a
// pointer and length out.
func entryPoint(name string) bool {
	t, ok := abiExport(name)
	return ok && slices.Equal(t.params, []byte{typeI32, typeI32}) && slices.Equal(t.results, []byte{typeI64})
}
