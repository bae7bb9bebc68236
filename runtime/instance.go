package wasmrt

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

// instance is one running copy of a module. One call uses it at a time.
type instance struct {
	m       *Module
	guest   api.Module
	alloc   api.Function
	entries map[string]api.Function

	fuel, depth, refused api.MutableGlobal
	globals              []api.MutableGlobal // the module's own mutable ones

	dirty bool // has run since its last reset
}

// newInstance makes an instance without running any code of the guest.
func newInstance(ctx context.Context, m *Module) (*instance, error) {
	memory, err := newLinearMemory(m.maxBytes)
	if err != nil {
		return nil, err
	}
	ctx = experimental.WithMemoryAllocator(ctx, experimental.MemoryAllocatorFunc(
		func(uint64, uint64) experimental.LinearMemory { return memory }))
	guest, err := m.host.engine.InstantiateModule(ctx, m.compiled,
		wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		memory.Free() // the engine does not when it fails; twice does no harm
		return nil, err
	}
	in := &instance{m: m, guest: guest, alloc: guest.ExportedFunction(exportAlloc), entries: map[string]api.Function{}}
	for _, name := range m.info.Exports {
		if entryPoint(name) {
			in.entries[name] = guest.ExportedFunction(name)
		}
	}
	in.fuel, in.depth, in.refused = in.global(exportFuel), in.global(exportDepth), in.global(exportRefused)
	for _, name := range m.mutable {
		in.globals = append(in.globals, in.global(name))
	}
	return in, nil
}

func (in *instance) global(name string) api.MutableGlobal {
	g, ok := in.guest.ExportedGlobal(name).(api.MutableGlobal)
	if !ok {
		panic("bug: rewritten module without global " + name)
	}
	return g
}

func (in *instance) bytes() int64 { return int64(in.guest.Memory().Size()) }

func (in *instance) close(ctx context.Context) error { return in.guest.Close(ctx) }

// memory returns the guest's whole memory, which it may change at any call.
func (in *instance) memory() []byte {
	b, ok := in.guest.Memory().Read(0, in.guest.Memory().Size())
	if !ok {
		panic("bug: memory shorter than its size")
	}
	return b
}

// restore puts memory and globals back to the module's image. Memory cannot
// shrink and its size is visible to the guest, so an instance that grew reports
// false and must be thrown away.
func (in *instance) restore() bool {
	size := uint32(len(in.m.image))
	if have := in.guest.Memory().Size(); have < size {
		if _, ok := in.guest.Memory().Grow((size - have) / wasmPageBytes); !ok {
			return false
		}
	}
	b := in.memory()
	if len(b) != len(in.m.image) {
		return false
	}
	copy(b, in.m.image)
	for i, g := range in.globals {
		g.Set(in.m.imageGlobals[i])
	}
	in.dirty = false
	return true
}

// call runs one guest function under a budget and says what is left of it. The
// result is in stack[0].
func (in *instance) call(ctx context.Context, f api.Function, fuel int64, stack []uint64) (left int64, fault *FaultError) {
	in.dirty = true
	in.fuel.Set(uint64(fuel))
	in.depth.Set(uint64(uint32(in.m.limits.Depth)))
	in.refused.Set(0)
	err := f.CallWithStack(ctx, stack)
	left = int64(in.fuel.Get())
	if err == nil {
		return left, nil
	}
	return max(left, 0), in.explain(err)
}

// explain says why a call failed. The counters tell, as they are the same on
// every engine; the engine's message only goes along.
func (in *instance) explain(err error) *FaultError {
	detail, _, _ := strings.Cut(err.Error(), "\n")
	switch {
	case int64(in.fuel.Get()) < 0:
		return &FaultError{Reason: OutOfFuel, Detail: fmt.Sprintf("more than %d units", in.m.limits.Fuel)}
	case int32(in.depth.Get()) < 0:
		return &FaultError{Reason: TooDeep, Detail: fmt.Sprintf("calls nested beyond %d units", in.m.limits.Depth)}
	case in.refused.Get() != 0:
		return &FaultError{Reason: OutOfMemory, Detail: "after it was refused memory: " + detail}
	}
	return &FaultError{Reason: Trap, Detail: strings.TrimSuffix(detail, " (recovered by wazero)")}
}

// serve runs one request from a clean start and copies the answer out.
func (in *instance) serve(ctx context.Context, entry api.Function, request []byte, maxOut int) (Result, error) {
	res := Result{}
	ctx = context.WithValue(ctx, logKey{}, &res.Log)
	ptr, left, fault := in.place(ctx, request)
	if fault == nil {
		stack := [2]uint64{uint64(ptr), uint64(len(request))}
		left, fault = in.call(ctx, entry, left, stack[:])
		if fault == nil {
			res.Response, fault = in.answer(stack[0], maxOut)
		}
	}
	res.FuelUsed = in.m.limits.Fuel - left
	if fault != nil {
		return res, fault
	}
	return res, nil
}

// place copies the request into the guest's buffer, which the guest provides once
// for all requests of ordinary size and anew, at its own cost, for a larger one.
func (in *instance) place(ctx context.Context, request []byte) (ptr uint32, left int64, fault *FaultError) {
	ptr, left = in.m.bufferPtr, in.m.limits.Fuel
	if len(request) > RequestBufferBytes {
		if ptr, left, fault = in.allocate(ctx, uint32(len(request)), left); fault != nil {
			return 0, left, fault
		}
	}
	if !in.guest.Memory().Write(ptr, request) {
		return 0, left, &FaultError{Reason: BadPointer, Detail: "request buffer outside of memory"}
	}
	return ptr, left, nil
}

func (in *instance) allocate(ctx context.Context, size uint32, fuel int64) (ptr uint32, left int64, fault *FaultError) {
	stack := [1]uint64{uint64(size)}
	left, fault = in.call(ctx, in.alloc, fuel, stack[:])
	if fault != nil {
		return 0, left, fault
	}
	ptr = uint32(stack[0])
	switch {
	case ptr == 0:
		return 0, left, &FaultError{Reason: OutOfMemory, Detail: fmt.Sprintf("%s(%d) answered 0", exportAlloc, size)}
	case ptr%8 != 0:
		return 0, left, &FaultError{Reason: BadPointer, Detail: fmt.Sprintf("%s answered %d, which is no multiple of 8", exportAlloc, ptr)}
	case uint64(ptr)+uint64(size) > uint64(in.guest.Memory().Size()):
		return 0, left, &FaultError{Reason: BadPointer, Detail: fmt.Sprintf("%s answered %d for %d bytes, beyond the memory's end", exportAlloc, ptr, size)}
	}
	return ptr, left, nil
}

// answer checks the pointer and length that an entry point returned before it
// reads there.
func (in *instance) answer(result uint64, maxOut int) ([]byte, *FaultError) {
	ptr, size := uint32(result>>32), uint32(result)
	if ptr == 0 {
		if in.refused.Get() != 0 {
			return nil, &FaultError{Reason: OutOfMemory, Code: size, Detail: fmt.Sprintf("error code %d after it was refused memory", size)}
		}
		return nil, &FaultError{Reason: GuestError, Code: size}
	}
	if uint64(size) > uint64(maxOut) {
		return nil, &FaultError{Reason: TooLong, Detail: fmt.Sprintf("answer of %d bytes, the limit is %d", size, maxOut)}
	}
	b, ok := in.guest.Memory().Read(ptr, size)
	if !ok {
		return nil, &FaultError{Reason: BadPointer, Detail: fmt.Sprintf("answer of %d bytes at %d is outside of memory", size, ptr)}
	}
	return append(make([]byte, 0, len(b)), b...), nil
}

// asFault returns the fault in err, if it is one.
func asFault(err error) *FaultError {
	var f *FaultError
	if errors.As(err, &f) {
		return f
	}
	return nil
}
