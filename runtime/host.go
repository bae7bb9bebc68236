// Package wasmrt is the WebAssembly host: it scans, compiles, meters, limits,
// pools and calls guest modules on wazero; it knows bytes, not policies.
//
// A call is a pure function of the module and the request: each starts from the
// same memory and globals, has a budget of fuel and depth counted by the module's
// own rewritten code, and sees no clock and no randomness. So all nodes get the
// same answer or the same FaultError. See DESIGN.md.
package wasmrt

import (
	"context"
	"errors"
	"fmt"
	goruntime "runtime"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// Config bounds what a Host uses of its node. The zero value is not valid; start
// from Default.
type Config struct {
	// Interpreter selects wazero's interpreter, some 20 times slower, in place
	// of its compiler. Results and fuel are the same; tests compare them.
	Interpreter bool
	// MaxMemoryBytes bounds the linear memory of all instances and images
	// together. Default 256 MiB; at least 32 MiB, the image and one instance of
	// the largest module.
	MaxMemoryBytes int64
	// MaxRunning bounds the calls that run at once; further ones wait. Guest code
	// cannot be pre-empted, so more than the processors gains nothing. Default
	// GOMAXPROCS.
	MaxRunning int
	// MaxIdle bounds the instances kept for later calls. Default 64.
	MaxIdle int
}

// Default returns the configuration of a node.
func Default() Config {
	return Config{MaxMemoryBytes: 256 << 20, MaxRunning: goruntime.GOMAXPROCS(0), MaxIdle: 64}
}

func (c Config) validate() error {
	if least := int64(2 * maxMemoryPages * wasmPageBytes); c.MaxMemoryBytes < least {
		return fmt.Errorf("MaxMemoryBytes %d is below %d", c.MaxMemoryBytes, least)
	}
	if c.MaxRunning < 1 {
		return fmt.Errorf("MaxRunning %d is below 1", c.MaxRunning)
	}
	if c.MaxIdle < 0 {
		return fmt.Errorf("MaxIdle %d is below 0", c.MaxIdle)
	}
	return nil
}

// Limits is what one call may use. They change outcomes, so they belong to the
// identity of a policy.
type Limits struct {
	// Fuel is the budget of a call in units of cost model 1.
	Fuel int64
	// Depth is the budget of nested calls.
	Depth int32
	// MemoryPages caps the linear memory, in pages of 64 KiB, at most 256.
	MemoryPages uint32
}

// DefaultLimits returns the limits of ABI v1.
func DefaultLimits() Limits {
	return Limits{Fuel: DefaultFuel, Depth: DefaultDepth, MemoryPages: DefaultMemoryPages}
}

func (l Limits) validate() error {
	if l.Fuel < 1 || l.Fuel > startFuel {
		return fmt.Errorf("fuel %d is not within 1 and %d", l.Fuel, startFuel)
	}
	if l.Depth < 1 || l.Depth > DefaultDepth {
		return fmt.Errorf("depth %d is not within 1 and %d", l.Depth, DefaultDepth)
	}
	if l.MemoryPages < 1 || l.MemoryPages > maxMemoryPages {
		return fmt.Errorf("memory of %d pages is not within 1 and %d", l.MemoryPages, maxMemoryPages)
	}
	return nil
}

// Host compiles and runs guest modules. It is safe for concurrent use.
type Host struct {
	engine wazero.Runtime
	pool   *pool
}

// NewHost returns a host. Close releases it.
func NewHost(ctx context.Context, c Config) (*Host, error) {
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("configure wasm host: %w", err)
	}
	rc := wazero.NewRuntimeConfigCompiler()
	if c.Interpreter {
		rc = wazero.NewRuntimeConfigInterpreter()
	}
	// Contexts are not what stops a guest, see DESIGN.md, and closing a module
	// when a context ends would make results depend on time.
	rc = rc.WithCoreFeatures(api.CoreFeaturesV2 &^ api.CoreFeatureSIMD).
		WithMemoryLimitPages(maxMemoryPages).
		WithCloseOnContextDone(false).
		WithDebugInfoEnabled(false)
	engine := wazero.NewRuntimeWithConfig(ctx, rc)
	if err := registerImports(ctx, engine); err != nil {
		return nil, errors.Join(fmt.Errorf("register host functions: %w", err), engine.Close(ctx))
	}
	return &Host{engine: engine, pool: newPool(c)}, nil
}

// Stats says what a Host holds at this moment.
type Stats struct {
	// Running and Idle count instances, Waiting calls that wait for one.
	Running, Idle, Waiting int
	// MemoryBytes is what is set aside for instances and images.
	MemoryBytes int64
}

// Stats returns the current use.
func (h *Host) Stats() Stats { return h.pool.stats() }

// Close refuses further calls, waits for those that run until ctx ends, and
// releases all instances and compiled code.
func (h *Host) Close(ctx context.Context) error {
	idle, err := h.pool.close(ctx)
	if err != nil {
		return errors.Join(fmt.Errorf("close wasm host: %w", err), closeAll(ctx, idle))
	}
	return errors.Join(closeAll(ctx, idle), h.engine.Close(ctx))
}

func closeAll(ctx context.Context, instances []*instance) error {
	var errs []error
	for _, in := range instances {
		errs = append(errs, in.close(ctx))
	}
	return errors.Join(errs...)
}
