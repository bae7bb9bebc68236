package wasmrt_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	goruntime "runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	wasmrt "edged.dev/edged/runtime"
)

func change(f func(*parts)) []byte {
	p := minimal()
	f(p)
	return p.wasm()
}

// refused lists modules with the rule that each breaks. None may cost the scanner
// more than the module is long.
var refused = []struct {
	name, rule, says string
	wasm             []byte
}{
	{"empty", "malformed", "header", nil},
	{"text", "malformed", "header", []byte("(module)")},
	{"component", "malformed", "header", []byte("\x00asm\x0d\x00\x01\x00")},
	{"too large", "module-bytes", "4194304", make([]byte, wasmrt.MaxModuleBytes+1)},
	{"unknown section", "section", "kind 13", raw(13, "")},
	{"section twice", "malformed", "twice", change(func(p *parts) { p.tail = "\x01\x01\x00" })},
	{"section too long", "malformed", "beyond the end", []byte("\x00asm\x01\x00\x00\x00\x01\xff\xff\xff\xff\x0f")},
	{"bytes behind section", "malformed", "too many", raw(1, "\x00\x00")},
	{"overlong number", "malformed", "32 bits", []byte("\x00asm\x01\x00\x00\x00\x01\x80\x80\x80\x80\x80\x00")},

	{"bomb: types", "too-many", "types", raw(1, u(1<<32-1))},
	{"bomb: types within the limit", "malformed", "4000 types in 0 bytes", raw(1, u(4000))},
	{"bomb: parameters", "too-many", "parameters", raw(1, u(1)+"\x60"+u(1<<31))},
	{"bomb: exports", "too-many", "exports", raw(7, u(1<<30))},
	{"bomb: data", "too-many", "data segments", raw(11, u(1<<30))},
	{"bomb: data count", "too-many", "data segments", raw(12, u(1<<30))},
	{"bomb: elements", "too-many", "element segments", raw(9, u(1<<30))},
	{"bomb: element functions", "too-many", "functions", raw(9, u(1)+"\x00\x41\x00\x0b"+u(1<<30))},
	{"bomb: table", "limits", "table entries", change(func(p *parts) { p.tables = []string{"\x70\x00" + u(134_000_000)} })},
	{"bomb: memory", "limits", "memory pages", change(func(p *parts) { p.memories = []string{"\x00" + u(257)} })},
	{"bomb: locals", "locals", "1000000000 locals", change(func(p *parts) { p.withBody(str(u(1) + u(1e9) + tI32 + end)) })},
	{"bomb: groups of locals", "too-many", "groups", change(func(p *parts) { p.withBody(str(u(1<<31) + end)) })},
	{"bomb: functions", "too-many", "functions", change(func(p *parts) {
		for range 8200 {
			p.with("")
		}
	})},
	{"bomb: nested blocks", "nesting", "deeper", change(func(p *parts) { p.with(repeat(700, "\x02\x40") + repeat(700, end)) })},
	{"bomb: nested loops", "nesting", "deeper", change(func(p *parts) { p.with(repeat(2400, "\x03\x40") + repeat(2400, end)) })},
	{"bomb: branch table", "too-many", "branch targets", change(func(p *parts) { p.with("\x41\x00\x0e" + u(3000) + repeat(3001, "\x00")) })},
	{"bomb: branch tables", "complexity", "2500", change(func(p *parts) { p.with(repeat(9, "\x41\x00\x0e"+u(300)+repeat(301, "\x00"))) })},
	{"bomb: chain of ifs", "complexity", "2500", change(func(p *parts) { p.with(repeat(2600, "\x41\x00\x04\x40\x0b")) })},
	{"bomb: chain of calls", "complexity", "2500", change(func(p *parts) { p.with(repeat(2600, "\x10\x02")) })},
	{"bomb: chain of fills", "complexity", "2500", change(func(p *parts) { p.with(repeat(900, "\x41\x00\x41\x00\x41\x00\xfc\x0b\x00")) })},
	{"bomb: body", "body-bytes", "limit is 65536", change(func(p *parts) { p.with(repeat(70_000, "\x01")) })},
	{"bomb: sum of bodies", "complexity", "squared", change(func(p *parts) {
		for range 20 {
			p.with(repeat(1200, "\x41\x00\x04\x40\x0b\x01") + repeat(1200, "\x10\x02"))
		}
	})},

	{"bomb: loops over locals", "variables", "1024 locals", change(func(p *parts) { p.withBody(loopsOverLocals(1024, 630)) })},
	{"bomb: many loops over locals", "variables", "over the module", change(func(p *parts) {
		for range 40 {
			p.withBody(loopsOverLocals(100, 200))
		}
	})},

	{"two memories", "too-many", "memories", change(func(p *parts) { p.memories = append(p.memories, "\x00\x01") })},
	{"no memory", "memory", "no memory exported", change(func(p *parts) { p.memories, p.exports = nil, p.exports[1:] })},
	{"memory not exported", "memory", "no memory exported", change(func(p *parts) { p.exports = p.exports[1:] })},
	{"memory is a function", "export", "is no memory", change(func(p *parts) { p.exports[0] = exported("memory", 0, 0) })},
	{"shared memory", "limits", "flags", change(func(p *parts) { p.memories = []string{"\x03\x01\x02"} })},
	{"64-bit memory", "limits", "flags", change(func(p *parts) { p.memories = []string{"\x04\x01"} })},
	{"imported memory", "import", "no function", change(func(p *parts) { p.imports = []string{str("env") + str("memory") + "\x02\x00\x01"} })},
	{"unknown import", "import", "env.clock is not allowed", change(func(p *parts) { p.imports = []string{str("env") + str("clock") + "\x00\x02"} })},
	{"unknown system import", "import", "path_open", change(func(p *parts) {
		p.imports = []string{str("wasi_snapshot_preview1") + str("path_open") + "\x00\x02"}
	})},
	{"import of wrong type", "import", "(i32, i32, i32, i32) -> ()", change(func(p *parts) { p.imports = []string{str("env") + str("abort") + "\x00\x02"} })},

	{"no alloc", "export", "no export edged_v1_alloc", change(func(p *parts) { p.exports = p.exports[:1] })},
	{"alloc of wrong type", "export", "must be (i32) -> (i32)", change(func(p *parts) { p.exports[1] = exported("edged_v1_alloc", 0, 1) })},
	{"merge of wrong type", "export", "must be (i32, i32) -> (i64)", change(func(p *parts) { p.exports[2] = exported("edged_v1_merge", 0, 0) })},
	{"merge is a global", "export", "no function", change(func(p *parts) {
		p.globals = []string{tI64 + "\x00\x42\x00\x0b"}
		p.exports[2] = exported("edged_v1_merge", 3, 0)
	})},
	{"misspelt merge", "export", "edged_v1_marge is not part", change(func(p *parts) { p.exports[2] = exported("edged_v1_marge", 0, 1) })},
	{"program", "export", "reactor", change(func(p *parts) { p.with("").exports = append(p.exports, exported("_start", 0, 2)) })},
	{"reserved name", "export", "belong to the host", change(func(p *parts) { p.exports = append(p.exports, exported("__edged_fuel", 0, 0)) })},
	{"export twice", "malformed", "twice", change(func(p *parts) { p.exports = append(p.exports, p.exports[0]) })},

	{"SIMD", "opcode", "SIMD", change(func(p *parts) { p.with("\xfd\x0c" + repeat(16, "\x00") + "\x1a") })},
	{"vector type", "value-type", "0x7b", change(func(p *parts) { p.types = append(p.types, fn("\x7b", "")) })},
	{"atomics", "opcode", "atomic", change(func(p *parts) { p.with("\xfe\x03\x00") })},
	{"tail call", "opcode", "tail call", change(func(p *parts) { p.with("\x12\x02") })},
	{"exceptions", "opcode", "exception", change(func(p *parts) { p.with("\x06\x40\x0b") })},
	{"table.set", "opcode", "table.set", change(func(p *parts) { p.with("\x26\x00") })},
	{"table.grow", "opcode", "table", change(func(p *parts) { p.with("\xfc\x0f\x00") })},
	{"elem.drop", "opcode", "drop", change(func(p *parts) { p.with("\xfc\x0d\x00") })},
	{"data.drop", "opcode", "drop", change(func(p *parts) { p.with("\xfc\x09\x00") })},
	{"reference", "opcode", "reference", change(func(p *parts) { p.with("\xd0\x70\x1a") })},
	{"mutable reference", "value-type", "0x70", change(func(p *parts) { p.globals = []string{"\x70\x01\xd0\x70\x0b"} })},
	{"table of externref", "table", "0x6f", change(func(p *parts) { p.tables = []string{"\x6f\x00\x01"} })},

	// What the rewriter adds lies behind the module's own; reaching for it must
	// not become valid.
	{"fuel counter", "malformed", "global 1 of 1", change(func(p *parts) {
		p.globals = []string{tI64 + "\x01\x42\x00\x0b"}
		p.with("\x42\x7f\x24\x01")
	})},
	{"fuel local", "malformed", "local 0 of 0", change(func(p *parts) { p.with("\x42\x7f\x21\x00") })},
	{"export of the fuel counter", "export", "not there", change(func(p *parts) { p.exports = append(p.exports, exported("mine", 3, 0)) })},
	{"start out of range", "malformed", "start function", append(raw(8, u(7)), 0)[:11]},
	{"unfinished body", "malformed", "ends too early", change(func(p *parts) { p.withBody(str("\x00\x02\x40\x0b")) })},
	{"code behind end", "malformed", "too many", change(func(p *parts) { p.with("\x0b\x01") })},
}

func TestRefusedModulesSayWhy(t *testing.T) {
	for _, c := range refused {
		var before, after goruntime.MemStats
		goruntime.ReadMemStats(&before)
		_, err := wasmrt.Scan(c.wasm)
		goruntime.ReadMemStats(&after)
		var refusal *wasmrt.AdmissionError
		require.ErrorAs(t, err, &refusal, c.name)
		require.Equal(t, c.rule, refusal.Rule, "%s: %v", c.name, err)
		require.ErrorContains(t, err, c.says, c.name)
		require.NotEmpty(t, refusal.What)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(2<<20), "memory to refuse %s", c.name)
	}
}

func TestRefusalNamesThePlace(t *testing.T) {
	t.Parallel()
	wasm := change(func(p *parts) { p.with("\x01\xfd\x0c") })
	_, err := wasmrt.Scan(wasm)
	require.EqualError(t, err, fmt.Sprintf("refuse module: SIMD instruction 0xfd (function 2, offset %#x); build without -msimd128 [opcode]",
		bytes.IndexByte(wasm, 0xfd)))
}

func TestMinimalModuleIsAdmitted(t *testing.T) {
	t.Parallel()
	info, err := wasmrt.Scan(minimal().wasm())
	require.NoError(t, err)
	require.Equal(t, []string{"edged_v1_alloc", "edged_v1_merge"}, info.Exports)
	require.Equal(t, 2, info.Functions)
	m := compile(t, newHost(t, nil), minimal().wasm())
	_, err = m.Call(t.Context(), entry, []byte("x"), 10)
	var fault *wasmrt.FaultError
	require.ErrorAs(t, err, &fault)
	require.Equal(t, uint32(1), fault.Code)
}

func TestEachTruncatedPrefixIsRefused(t *testing.T) {
	t.Parallel()
	whole := 0
	for n := range guestWasm {
		if _, err := wasmrt.Scan(guestWasm[:n]); err == nil {
			whole++
		}
	}
	require.Equal(t, 1, whole, "only the one without its data section is a module")
}

func TestCustomSectionsAreLeftOut(t *testing.T) {
	t.Parallel()
	p := minimal()
	p.tail = "\x00" + str(str("name")+"\x01"+u(5)+u(1<<31)) // names of 2^31 functions
	out, err := wasmrt.Rewrite(p.wasm())
	require.NoError(t, err)
	require.NotContains(t, string(out), "name")
	compile(t, newHost(t, nil), p.wasm())
}

// sameVerdict requires of an admitted module that the engine accepts it exactly
// if it accepts the rewritten one: the rewriter neither breaks nor repairs.
func sameVerdict(t testing.TB, engine wazero.Runtime, wasm []byte) (admitted, valid bool) {
	t.Helper()
	out, err := wasmrt.Rewrite(wasm)
	if err != nil {
		return false, false
	}
	c, errBefore := engine.CompileModule(t.Context(), wasm)
	if errBefore == nil {
		require.NoError(t, c.Close(t.Context()))
	}
	c, errAfter := engine.CompileModule(t.Context(), out)
	if errAfter == nil {
		require.NoError(t, c.Close(t.Context()))
	}
	// Damaged custom sections, of names, are left out and so mended.
	custom := errBefore != nil && strings.Contains(errBefore.Error(), "section custom")
	if (errBefore == nil) != (errAfter == nil) && !custom {
		t.Errorf("the engine says of the module: %v, of the rewritten one: %v", errBefore, errAfter)
	}
	return true, errAfter == nil
}

func newEngine(t testing.TB) wazero.Runtime {
	t.Helper()
	engine := wazero.NewRuntimeWithConfig(t.Context(), wazero.NewRuntimeConfigInterpreter().
		WithCoreFeatures(api.CoreFeaturesV2&^api.CoreFeatureSIMD))
	t.Cleanup(func() { require.NoError(t, engine.Close(t.Context())) })
	return engine
}

// TestMutantsKeepTheirMeaning changes bytes of a valid module at random.
func TestMutantsKeepTheirMeaning(t *testing.T) {
	t.Parallel()
	const seed, mutants = 7, 6000
	engine, r := newEngine(t), rand.New(rand.NewPCG(seed, seed))
	valid := 0
	for range mutants {
		b := append([]byte(nil), guestWasm...)
		for range 1 + r.IntN(3) {
			b[8+r.IntN(len(b)-8)] ^= 1 << r.IntN(8)
		}
		if _, ok := sameVerdict(t, engine, b); ok {
			valid++
		}
		if t.Failed() {
			t.Fatalf("seed %d, module %x", seed, b)
		}
	}
	require.Greater(t, valid, mutants/20, "the test must reach valid mutants")
}

func FuzzRewrite(f *testing.F) {
	f.Add(guestWasm)
	f.Add(minimal().wasm())
	for _, c := range refused {
		if len(c.wasm) < 1024 {
			f.Add(c.wasm)
		}
	}
	engine := wazero.NewRuntimeWithConfig(f.Context(), wazero.NewRuntimeConfigInterpreter().
		WithCoreFeatures(api.CoreFeaturesV2&^api.CoreFeatureSIMD))
	f.Cleanup(func() { _ = engine.Close(f.Context()) })
	f.Fuzz(func(t *testing.T, wasm []byte) {
		sameVerdict(t, engine, wasm)
	})
}
