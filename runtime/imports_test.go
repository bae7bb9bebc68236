package wasmrt_test

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	wasmrt "edged.dev/edged/runtime"
)

// importing is a module whose merge calls one imported function, every parameter
// 96, and answers its result.
func importing(module, name, params string) []byte {
	const tParams = 3
	p := minimal()
	p.types = append(p.types, fn(params, tI32))
	p.imports = []string{str(module) + str(name) + "\x00" + u(tParams)}
	p.exports[1], p.exports[2] = exported("edged_v1_alloc", 0, 1), exported("edged_v1_merge", 0, 2)
	code := "\x41\xc0\x00" // the address for the result, 64
	for _, t := range []byte(params) {
		if t == 0x7e {
			code += "\x42\xe0\x00"
		} else {
			code += "\x41\xe0\x00"
		}
	}
	p.codes[1] = body(code + "\x10\x00" + "\x36\x02\x00" + "\x42\x84\x80\x80\x80\x80\x08")
	return p.wasm()
}

// params names value types: i for i32, I for i64. The format's own bytes are no
// UTF-8, over which a string would range.
func params(letters string) string {
	var b []byte
	for _, l := range letters {
		b = append(b, map[rune]byte{'i': 0x7f, 'I': 0x7e}[l])
	}
	return string(b)
}

func TestSystemFunctionsAnswerConstants(t *testing.T) {
	t.Parallel()
	h := newHost(t, nil)
	for name, c := range map[string]struct {
		params string
		errno  uint32
	}{
		"sched_yield": {"", 0}, "args_sizes_get": {"ii", 0}, "args_get": {"ii", 0}, "environ_sizes_get": {"ii", 0},
		"environ_get": {"ii", 0}, "clock_time_get": {"iIi", 0}, "random_get": {"ii", 0}, "poll_oneoff": {"iiii", 52},
		"fd_write": {"iiii", 8}, "fd_close": {"i", 8}, "fd_fdstat_get": {"ii", 8}, "fd_fdstat_set_flags": {"ii", 8},
		"fd_prestat_get": {"ii", 8}, "fd_prestat_dir_name": {"iii", 8}, "fd_read": {"iiii", 8}, "fd_seek": {"iIii", 8},
	} {
		m := compile(t, h, importing("wasi_snapshot_preview1", name, params(c.params)))
		res, err := m.Call(t.Context(), entry, nil, 4)
		require.NoError(t, err, name)
		require.Equal(t, c.errno, binary.LittleEndian.Uint32(res.Response), name)
	}
}

func TestExitIsATrap(t *testing.T) {
	t.Parallel()
	p := minimal()
	p.types = append(p.types, fn(params("i"), ""))
	p.imports = []string{str("wasi_snapshot_preview1") + str("proc_exit") + "\x00\x03"}
	p.exports[1], p.exports[2] = exported("edged_v1_alloc", 0, 1), exported("edged_v1_merge", 0, 2)
	p.codes[1] = body("\x41\x00\x10\x00\x42\x01")
	_, err := compile(t, newHost(t, nil), p.wasm()).Call(t.Context(), entry, nil, 4)
	var fault *wasmrt.FaultError
	require.ErrorAs(t, err, &fault)
	require.Equal(t, wasmrt.Trap, fault.Reason)
	require.Contains(t, fault.Detail, "exit")
}
