package wasmrt_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	wasmrt "edged.dev/edged/runtime"
)

// BenchmarkCall is a call that only echoes: pool, reset, copy in, copy out.
func BenchmarkCall(b *testing.B) {
	for name, engine := range map[string]func(*wasmrt.Config){"compiler": nil, "interpreter": interpreted} {
		b.Run(name, func(b *testing.B) {
			m := compile(b, newHost(b, engine), guestWasm)
			request := []byte("e0123456789abcdef")
			b.ReportAllocs()
			for b.Loop() {
				if _, err := m.Call(b.Context(), entry, request, maxOut); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkFault is what a misbehaving guest costs, its new instance included
// where it needs one.
func BenchmarkFault(b *testing.B) {
	for _, f := range failures {
		b.Run(f.name, func(b *testing.B) {
			m := compile(b, newHost(b, nil), guestWasm)
			for b.Loop() {
				_, err := m.Call(b.Context(), entry, []byte(f.request), maxOut)
				require.Error(b, err)
			}
		})
	}
}

func BenchmarkScan(b *testing.B) {
	b.SetBytes(int64(len(guestWasm)))
	for b.Loop() {
		if _, err := wasmrt.Scan(guestWasm); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	h := newHost(b, nil)
	for b.Loop() {
		m := compile(b, h, guestWasm)
		require.NoError(b, m.Close(b.Context()))
	}
}

// TestCallAllocations holds the call path to its budget: context, log, stack of
// two, answer.
func TestCallAllocations(t *testing.T) {
	m := compile(t, newHost(t, nil), guestWasm)
	request := []byte("e")
	allocs := testing.AllocsPerRun(200, func() {
		if _, err := m.Call(t.Context(), entry, request, maxOut); err != nil {
			t.Fatal(err)
		}
	})
	require.LessOrEqual(t, allocs, 12.0)
	t.Logf("%v allocations a call", allocs)
}

// BenchmarkTightLoop is what the ways to stop a guest cost one that has no
// reason to be stopped: a loop of a million additions.
func BenchmarkTightLoop(b *testing.B) {
	const loop = "\x02\x40\x03\x40\x23\x00\x42\x01\x7d\x24\x00\x23\x00\x50\x0d\x01\x0c\x00\x0b\x0b"
	p := minimal()
	p.globals = []string{tI64 + "\x01\x42\x00\x0b"}
	p.codes[1] = body("\x42\xc0\x84\x3d\x24\x00" + loop + "\x42\x01")
	plain := p.wasm()
	rewritten, err := wasmrt.Rewrite(plain)
	require.NoError(b, err)
	for _, c := range []struct {
		name    string
		wasm    []byte
		context bool
	}{{"plain", plain, false}, {"rewritten", rewritten, false}, {"context", plain, true}} {
		b.Run(c.name, func(b *testing.B) {
			engine := wazero.NewRuntimeWithConfig(b.Context(), wazero.NewRuntimeConfigCompiler().WithCloseOnContextDone(c.context))
			defer func() { require.NoError(b, engine.Close(b.Context())) }()
			guest, err := engine.Instantiate(b.Context(), c.wasm)
			require.NoError(b, err)
			f, stack := guest.ExportedFunction(entry), make([]uint64, 2)
			for b.Loop() {
				if g, ok := guest.ExportedGlobal("__edged_fuel").(api.MutableGlobal); ok {
					g.Set(1 << 40)
				}
				require.NoError(b, f.CallWithStack(b.Context(), stack))
			}
		})
	}
}
