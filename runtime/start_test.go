package wasmrt_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	wasmrt "edged.dev/edged/runtime"
)

// Codes of functions ()->() that tests give to modules.
const (
	codeLoop    = "\x03\x40\x0c\x00\x0b"
	codeTrap    = "\x00"
	codeBump    = "\x23\x00\x42\x01\x7c\x24\x00" // global 0 += 1
	codeRecurse = "\x10\x02"
)

func TestModulesThatFailToStartAreRefused(t *testing.T) {
	t.Parallel()
	h := newHost(t, nil)
	initialise := func(code string) []byte {
		return change(func(p *parts) { p.with(code).exports = append(p.exports, exported("_initialize", 0, 2)) })
	}
	alloc := func(code string) []byte { return change(func(p *parts) { p.codes[0] = body(code) }) }
	for name, c := range map[string]struct {
		wasm       []byte
		rule, says string
	}{
		"initialize loops":       {initialise(codeLoop), "start", "out_of_fuel"},
		"initialize traps":       {initialise(codeTrap), "start", "trap"},
		"initialize recurses":    {initialise(codeRecurse), "start", "too_deep"},
		"alloc has no room":      {alloc("\x41\x00"), "start", "answered 0"},
		"alloc is not aligned":   {alloc("\x41\x09"), "start", "multiple of 8"},
		"alloc is out of memory": {alloc("\x41\x88\x80\x04"), "start", "beyond the memory's end"},
		"data out of bounds":     {change(func(p *parts) { p.datas = []string{"\x00\x41\x7f\x0b" + str("xx")} }), "invalid", ""},
		"does not validate":      {change(func(p *parts) { p.with("\x6a") }), "invalid", ""},
		"wants more memory":      {change(func(p *parts) { p.memories = []string{"\x00\x05"} }), "limits", "limit is 4"},
	} {
		_, err := h.Compile(t.Context(), c.wasm, wasmrt.CompileOptions{
			Limits: wasmrt.Limits{Fuel: wasmrt.DefaultFuel, Depth: wasmrt.DefaultDepth, MemoryPages: 4},
		})
		var refusal *wasmrt.AdmissionError
		require.ErrorAs(t, err, &refusal, name)
		require.Equal(t, c.rule, refusal.Rule, name)
		require.ErrorContains(t, err, c.says, name)
		require.Zero(t, h.Stats(), "nothing is left of %s", name)
	}
}

// TestStartRunsOnceForTheImage: a start function that raises a global runs for the
// image only, and each call sees the state behind it.
func TestStartRunsOnceForTheImage(t *testing.T) {
	t.Parallel()
	p := minimal()
	p.globals = []string{tI64 + "\x01\x42\x29\x0b"} // 41
	p.with(codeBump)
	// merge: memory[64] = global 0; global 0 += 1; answer 8 bytes at 64
	p.codes[1] = body("\x41\xc0\x00\x23\x00\x37\x03\x00" + codeBump + "\x42\x88\x80\x80\x80\x80\x08")
	wasm := p.wasm()
	start := "\x08\x01\x02"
	at := indexSection(wasm, 10)
	wasm = append(wasm[:at:at], append([]byte(start), wasm[at:]...)...)
	h := newHost(t, nil)
	m := compile(t, h, wasm)
	for range 3 {
		res, err := m.Call(t.Context(), entry, nil, 8)
		require.NoError(t, err)
		require.Equal(t, []byte{42, 0, 0, 0, 0, 0, 0, 0}, res.Response)
	}
}

// indexSection returns where a section begins.
func indexSection(wasm []byte, id byte) int {
	for at := 8; at < len(wasm); {
		if wasm[at] == id {
			return at
		}
		size, n := 0, 1
		for shift := 0; ; shift += 7 {
			c := wasm[at+n]
			n++
			size |= int(c&0x7f) << shift
			if c&0x80 == 0 {
				break
			}
		}
		at += n + size
	}
	return len(wasm)
}

// TestWideFramesPayMoreDepth: the native stack of the deepest recursion stays
// small, so that the budget and never the engine's stack ends it.
func TestWideFramesPayMoreDepth(t *testing.T) {
	t.Parallel()
	const live = 1500 // values held across the call
	p := minimal()
	p.with(repeat(live, "\x41\x00\x29\x03\x00") + codeRecurse + repeat(live, "\x1a"))
	p.codes[1] = body(codeRecurse + "\x42\x01")
	wasm := p.wasm()
	require.Equal(t, []uint32{1, 1, 3}, wasmrt.Weight(wasm))
	a, errA := compile(t, newHost(t, nil), wasm).Call(t.Context(), entry, nil, 8)
	b, errB := compile(t, newHost(t, interpreted), wasm).Call(t.Context(), entry, nil, 8)
	for _, err := range []error{errA, errB} {
		var fault *wasmrt.FaultError
		require.ErrorAs(t, err, &fault)
		require.Equal(t, wasmrt.TooDeep, fault.Reason)
	}
	require.Equal(t, a.FuelUsed, b.FuelUsed)
}

// TestWarmupIsInTheImage: what the warm-up leaves behind each call sees, and a
// warm-up that fails leaves nothing.
func TestWarmupIsInTheImage(t *testing.T) {
	t.Parallel()
	h := newHost(t, nil)
	for request, want := range map[string]byte{"s": 9, "t": 8, "l": 8} {
		m, err := h.Compile(t.Context(), guestWasm, wasmrt.CompileOptions{WarmupExport: entry, WarmupRequest: []byte(request)})
		require.NoError(t, err)
		for range 2 {
			res, err := m.Call(t.Context(), entry, []byte("s"), maxOut)
			require.NoError(t, err)
			require.Equal(t, want, res.Response[4], "warm-up %s", request)
		}
	}
}
