package wasmrt

import (
	"bytes"
	"context"
	"errors"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// Answers of the WASI subset, from its errno.
const (
	wasiOK      = 0
	wasiBadFD   = 8
	wasiFault   = 21
	wasiNoSys   = 52
	wasiClockNS = 1_000_000_000
)

// What host functions cost beyond the call itself; without it a guest could make
// the host work for nothing.
const (
	fuelPerIOVector = 8
	fuelPerLogLine  = maxLogLineBytes / 8
)

var (
	errAbort     = errors.New("guest called abort")
	errExit      = errors.New("guest called exit")
	errHostFuel  = errors.New("out of fuel in a host function")
	errHostCount = errors.New("bug: module without fuel counter")
)

// hostFunc is one function that a guest may import. It is a function of its
// arguments and the guest's memory alone: no clock, no randomness, no state.
type hostFunc struct {
	module, name string
	sig          funcType
	run          func(ctx context.Context, mod api.Module, stack []uint64)
}

func hostFunction(module, name string) (hostFunc, bool) {
	for _, f := range hostFunctions() {
		if f.module == module && f.name == name {
			return f, true
		}
	}
	return hostFunc{}, false
}

// hostFunctions is the import allow-list. The WASI part is what a Go reactor and
// wasi-libc import; each answer is a constant.
func hostFunctions() []hostFunc {
	const wasi = "wasi_snapshot_preview1"
	const i32, i64 = byte(typeI32), byte(typeI64)
	sig := func(params ...byte) funcType { return funcType{params, []byte{i32}} }
	answer := func(errno uint64) func(context.Context, api.Module, []uint64) {
		return func(_ context.Context, _ api.Module, stack []uint64) { stack[0] = errno }
	}
	none := func(_ context.Context, mod api.Module, stack []uint64) {
		ok := mod.Memory().WriteUint32Le(uint32(stack[0]), 0) && mod.Memory().WriteUint32Le(uint32(stack[1]), 0)
		stack[0] = errno(ok)
	}
	return []hostFunc{
		{"edged_v1", "log", funcType{[]byte{i32, i32, i32}, nil}, logLine},
		{"env", "abort", funcType{[]byte{i32, i32, i32, i32}, nil}, func(context.Context, api.Module, []uint64) { panic(errAbort) }},
		{wasi, "proc_exit", funcType{[]byte{i32}, nil}, func(context.Context, api.Module, []uint64) { panic(errExit) }},
		{wasi, "sched_yield", sig(), answer(wasiOK)},
		{wasi, "args_sizes_get", sig(i32, i32), none},
		{wasi, "args_get", sig(i32, i32), answer(wasiOK)},
		{wasi, "environ_sizes_get", sig(i32, i32), none},
		{wasi, "environ_get", sig(i32, i32), answer(wasiOK)},
		{wasi, "clock_time_get", sig(i32, i64, i32), clockTime},
		{wasi, "random_get", sig(i32, i32), constantRandom},
		{wasi, "poll_oneoff", sig(i32, i32, i32, i32), answer(wasiNoSys)},
		{wasi, "fd_write", sig(i32, i32, i32, i32), fdWrite},
		{wasi, "fd_close", sig(i32), answer(wasiBadFD)},
		{wasi, "fd_fdstat_get", sig(i32, i32), answer(wasiBadFD)},
		{wasi, "fd_fdstat_set_flags", sig(i32, i32), answer(wasiBadFD)},
		{wasi, "fd_prestat_get", sig(i32, i32), answer(wasiBadFD)},
		{wasi, "fd_prestat_dir_name", sig(i32, i32, i32), answer(wasiBadFD)},
		{wasi, "fd_read", sig(i32, i32, i32, i32), answer(wasiBadFD)},
		{wasi, "fd_seek", sig(i32, i64, i32, i32), answer(wasiBadFD)},
	}
}

// registerImports makes the allow-list available to guests of r.
func registerImports(ctx context.Context, r wazero.Runtime) error {
	builders := map[string]wazero.HostModuleBuilder{}
	for _, f := range hostFunctions() {
		b, ok := builders[f.module]
		if !ok {
			b = r.NewHostModuleBuilder(f.module)
			builders[f.module] = b
		}
		b.NewFunctionBuilder().
			WithGoModuleFunction(api.GoModuleFunc(f.run), valueTypes(f.sig.params), valueTypes(f.sig.results)).
			Export(f.name)
	}
	for _, b := range builders {
		if _, err := b.Instantiate(ctx); err != nil {
			return err
		}
	}
	return nil
}

// valueTypes converts to wazero's form; both are the bytes of the binary format.
func valueTypes(types []byte) []api.ValueType { return bytes.Clone(types) }

func errno(ok bool) uint64 {
	if ok {
		return wasiOK
	}
	return wasiFault
}

// spend charges the guest for work done on its behalf and traps when it cannot pay.
func spend(mod api.Module, fuel uint64) {
	g, ok := mod.ExportedGlobal(exportFuel).(api.MutableGlobal)
	if !ok {
		panic(errHostCount)
	}
	left := int64(g.Get()) - int64(fuel)
	g.Set(uint64(left))
	if left < 0 {
		panic(errHostFuel)
	}
}

func clockTime(_ context.Context, mod api.Module, stack []uint64) {
	stack[0] = errno(mod.Memory().WriteUint64Le(uint32(stack[2]), wasiClockNS))
}

// constantRandom fills the buffer with a fixed pattern: language runtimes seed
// their hash tables with it, and all replicas must iterate alike.
func constantRandom(_ context.Context, mod api.Module, stack []uint64) {
	size := uint32(stack[1])
	spend(mod, uint64(size)/8)
	b, ok := mod.Memory().Read(uint32(stack[0]), size)
	const period = 256
	for i := range min(period, len(b)) {
		b[i] = byte(7*i + 1)
	}
	for n := period; n < len(b); n *= 2 {
		copy(b[n:], b[:n])
	}
	stack[0] = errno(ok)
}

// fdWrite takes what is written to standard output and error as log lines and
// reports it as written.
func fdWrite(ctx context.Context, mod api.Module, stack []uint64) {
	fd, vectors, count, written := uint32(stack[0]), uint32(stack[1]), uint32(stack[2]), uint32(stack[3])
	if fd != 1 && fd != 2 {
		stack[0] = wasiBadFD
		return
	}
	if count > maxIOVectors {
		stack[0] = wasiFault
		return
	}
	spend(mod, uint64(count)*fuelPerIOVector)
	total := uint32(0)
	for i := range count {
		ptr, ok1 := mod.Memory().ReadUint32Le(vectors + 8*i)
		size, ok2 := mod.Memory().ReadUint32Le(vectors + 8*i + 4)
		if !ok1 || !ok2 {
			stack[0] = wasiFault
			return
		}
		appendLog(ctx, mod, ptr, size)
		total += size
	}
	stack[0] = errno(mod.Memory().WriteUint32Le(written, total))
}

func logLine(ctx context.Context, mod api.Module, stack []uint64) {
	appendLog(ctx, mod, uint32(stack[1]), uint32(stack[2]))
}

type logKey struct{}

// appendLog keeps a line of the guest for people. What becomes of it the guest
// cannot tell: it pays the same for a line that is dropped.
func appendLog(ctx context.Context, mod api.Module, ptr, size uint32) {
	spend(mod, fuelPerLogLine)
	lines, ok := ctx.Value(logKey{}).(*[]string)
	if !ok || len(*lines) >= maxLogLines {
		return
	}
	if b, ok := mod.Memory().Read(ptr, min(size, maxLogLineBytes)); ok {
		*lines = append(*lines, string(b))
	}
}
