package wasmrt

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tetratelabs/wazero"
)

// CompileOptions says how a module is to be run.
type CompileOptions struct {
	// Limits of each call. The zero value means DefaultLimits.
	Limits Limits
	// WarmupExport and WarmupRequest name one call that is made before the image
	// is taken, so that a guest's lazily made tables and buffers are in it. If
	// the guest fails on it, the image is taken without it. It changes what the
	// guest sees, so it must be the same on all nodes.
	WarmupExport  string
	WarmupRequest []byte
}

// Module is a compiled guest with the image that each of its calls begins from.
// It is safe for concurrent use.
type Module struct {
	host     *Host
	compiled wazero.CompiledModule
	info     Info
	limits   Limits
	maxBytes int64    // the most memory that an instance can grow to
	mutable  []string // exported names of the module's own mutable globals

	image        []byte
	imageGlobals []uint64
	bufferPtr    uint32 // where requests of up to RequestBufferBytes are put

	// Guarded by the pool's mutex.
	closed  bool
	running int
	drained chan struct{} // closed when closed and running == 0
}

// Result is what a call brought. On a FaultError, Response is nil and the rest holds
// what was used until then.
type Result struct {
	// Response is the answer, the caller's own.
	Response []byte
	// FuelUsed is the same on every node and engine.
	FuelUsed int64
	// Log holds the guest's lines, at most 16 of at most 256 bytes.
	Log []string
}

// Compile admits, rewrites and compiles a module, runs its initialisation, and
// keeps the state after it as the image that all calls begin from.
//
// An *AdmissionError says that the module is refused, on every node alike. Other
// errors are the node's own. The context bounds the wait for an instance, not the
// compiler, which knows no interruption: the admission limits bound that.
func (h *Host) Compile(ctx context.Context, wasm []byte, o CompileOptions) (*Module, error) {
	if o.Limits == (Limits{}) {
		o.Limits = DefaultLimits()
	}
	if err := o.Limits.validate(); err != nil {
		return nil, fmt.Errorf("compile module: %w", err)
	}
	if h.pool.isClosed() {
		return nil, fmt.Errorf("compile module: %w", ErrClosed)
	}
	s, err := scan(wasm)
	if err != nil {
		return nil, err
	}
	if s.info.MemoryMin > o.Limits.MemoryPages {
		return nil, &AdmissionError{
			Rule: "limits", Where: "memory section",
			What: fmt.Sprintf("%d memory pages at the start, the policy's limit is %d", s.info.MemoryMin, o.Limits.MemoryPages),
		}
	}
	compiled, err := h.engine.CompileModule(ctx, s.rewrite(o.Limits.MemoryPages))
	if err != nil && h.pool.isClosed() {
		return nil, fmt.Errorf("compile module: %w", ErrClosed)
	}
	if err != nil {
		return nil, &AdmissionError{Rule: "invalid", What: err.Error(), Advice: "the file is damaged or not valid WebAssembly 2.0"}
	}
	m := &Module{
		host: h, compiled: compiled, info: s.info, limits: o.Limits,
		maxBytes: int64(s.memoryMax(o.Limits.MemoryPages)) * wasmPageBytes,
		drained:  make(chan struct{}),
	}
	for _, name := range s.mutableNames() {
		if name != "" {
			m.mutable = append(m.mutable, name)
		}
	}
	if err := m.boot(ctx, s.start >= 0, o); err != nil {
		return nil, errors.Join(err, compiled.Close(ctx))
	}
	return m, nil
}

// boot takes the image, within the pool's limits like any call.
func (m *Module) boot(ctx context.Context, hasStart bool, o CompileOptions) error {
	_, evicted, err := m.host.pool.acquire(ctx, m)
	if err != nil {
		return fmt.Errorf("start module: %w", err)
	}
	defer func() { closeQuietly(ctx, m.host.pool.release(m, nil)) }()
	closeQuietly(ctx, evicted)
	warm := o.WarmupExport != "" && slices.Contains(m.info.Exports, o.WarmupExport) && entryPoint(o.WarmupExport)
	err = m.takeImage(ctx, hasStart, warm, o)
	if warm && asFault(err) != nil {
		err = m.takeImage(ctx, hasStart, false, o)
	}
	if f := asFault(err); f != nil {
		return &AdmissionError{Rule: "start", Where: "initialisation", What: f.Error(), Advice: "start, _initialize and " +
			exportAlloc + " must succeed with nothing but the module"}
	}
	if err != nil {
		return err
	}
	if err := m.host.pool.addImage(int64(len(m.image))); err != nil {
		return fmt.Errorf("start module: %w", err)
	}
	return nil
}

// takeImage runs the guest's initialisation on a new instance. A failure of the
// guest is a *FaultError.
func (m *Module) takeImage(ctx context.Context, hasStart, warm bool, o CompileOptions) error {
	in, err := newInstance(ctx, m)
	if errors.Is(err, ErrBudget) {
		return fmt.Errorf("start module: %w", err)
	}
	if err != nil {
		// What the engine refuses here is in the module: a data or element
		// segment outside its memory or table.
		return &AdmissionError{Rule: "invalid", Where: "instantiation", What: err.Error()}
	}
	defer func() { closeQuietly(ctx, []*instance{in}) }()
	fuel := int64(startFuel)
	for _, name := range []string{exportStart, exportInitialize} {
		if name == exportStart && !hasStart || name == exportInitialize && !slices.Contains(m.info.Exports, name) {
			continue
		}
		left, fault := in.call(ctx, in.guest.ExportedFunction(name), fuel, nil)
		if fault != nil {
			return fault
		}
		fuel = left
	}
	ptr, _, fault := in.allocate(ctx, RequestBufferBytes, m.limits.Fuel)
	if fault != nil {
		return fault
	}
	m.bufferPtr = ptr
	if warm {
		if _, err := in.serve(ctx, in.entries[o.WarmupExport], o.WarmupRequest, MaxRequestBytes); err != nil {
			return err
		}
	}
	m.image = append([]byte(nil), in.memory()...)
	m.imageGlobals = m.imageGlobals[:0]
	for _, g := range in.globals {
		m.imageGlobals = append(m.imageGlobals, g.Get())
	}
	return nil
}

// Info says what the module is.
func (m *Module) Info() Info { return m.info }

// Has tells whether Call may name this export.
func (m *Module) Has(export string) bool {
	return entryPoint(export) && slices.Contains(m.info.Exports, export)
}

// Call runs one export on the request, from the module's image and with a full
// budget, and copies the answer out; it accepts at most maxOut bytes. The request
// is not changed and not kept.
//
// A *FaultError is a function of the module and the request. Any other error is the
// node's own: the context ended while waiting, the host or module is closed, or
// the system had no memory. The context does not end a call that runs, as that
// would make the outcome depend on time; fuel does.
func (m *Module) Call(ctx context.Context, export string, request []byte, maxOut int) (Result, error) {
	if !m.Has(export) {
		return Result{}, fmt.Errorf("call guest: no entry point %s", export)
	}
	if len(request) > MaxRequestBytes {
		return Result{}, fmt.Errorf("call guest: request of %d bytes, the limit is %d", len(request), MaxRequestBytes)
	}
	in, evicted, err := m.host.pool.acquire(ctx, m)
	if err != nil {
		return Result{}, fmt.Errorf("call guest: %w", err)
	}
	closeQuietly(ctx, evicted)
	keep := (*instance)(nil)
	defer func() { closeQuietly(ctx, m.host.pool.release(m, keep)) }()
	if in == nil {
		if in, err = newInstance(ctx, m); err != nil {
			return Result{}, fmt.Errorf("call guest: make instance: %w", err)
		}
		in.dirty = true
	}
	if in.dirty && !in.restore() {
		closeQuietly(ctx, []*instance{in})
		return Result{}, errors.New("call guest: cannot restore the image")
	}
	res, err := in.serve(ctx, in.entries[export], request, maxOut)
	// An instance that grew cannot go back, and one that ran too deep keeps a
	// long native stack. Both are cheap to make anew.
	if f := asFault(err); f != nil && f.Reason == TooDeep || in.bytes() != int64(len(m.image)) {
		closeQuietly(ctx, []*instance{in})
		return res, err
	}
	keep = in
	return res, err
}

// closeQuietly closes instances. The engine's Close of a module without files or
// host state returns no error that anyone could act upon.
func closeQuietly(ctx context.Context, instances []*instance) { _ = closeAll(ctx, instances) }

// Close refuses further calls, waits until ctx ends for those that run, and
// releases instances, image and code.
func (m *Module) Close(ctx context.Context) error {
	idle, err := m.host.pool.drop(ctx, m)
	err = errors.Join(err, closeAll(ctx, idle))
	if err != nil {
		return fmt.Errorf("close module: %w", err)
	}
	return m.compiled.Close(ctx)
}
