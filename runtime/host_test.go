package wasmrt_test

import (
	"context"
	_ "embed"
	"encoding/hex"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	wasmrt "edged.dev/edged/runtime"
)

//go:generate wat2wasm testdata/guest.wat -o testdata/guest.wasm

//go:embed testdata/guest.wasm
var guestWasm []byte

const (
	entry  = "edged_v1_merge"
	maxOut = 8 << 10
)

func newHost(t testing.TB, change func(*wasmrt.Config)) *wasmrt.Host {
	t.Helper()
	c := wasmrt.Default()
	c.MaxRunning = 2
	if change != nil {
		change(&c)
	}
	h, err := wasmrt.NewHost(t.Context(), c)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, h.Close(context.Background())) })
	return h
}

func compile(t testing.TB, h *wasmrt.Host, wasm []byte) *wasmrt.Module {
	t.Helper()
	m, err := h.Compile(t.Context(), wasm, wasmrt.CompileOptions{})
	require.NoError(t, err)
	return m
}

func interpreted(c *wasmrt.Config) { c.Interpreter = true }

func TestCallCopiesAnswerOut(t *testing.T) {
	t.Parallel()
	m := compile(t, newHost(t, nil), guestWasm)
	first, err := m.Call(t.Context(), entry, []byte("e first"), maxOut)
	require.NoError(t, err)
	_, err = m.Call(t.Context(), entry, []byte("e other"), maxOut)
	require.NoError(t, err)
	require.Equal(t, "e first", string(first.Response))
	require.Positive(t, first.FuelUsed)
}

// failures lists each way in which a guest can misbehave at run time.
var failures = []struct {
	name, request string
	reason        wasmrt.Reason
}{
	{"endless loop", "l", wasmrt.OutOfFuel},
	{"calls without a loop", "c", wasmrt.OutOfFuel},
	{"bulk fills", "f", wasmrt.OutOfFuel},
	{"host work", "R", wasmrt.OutOfFuel},
	{"unreachable", "t", wasmrt.Trap},
	{"out of bounds", "o", wasmrt.Trap},
	{"division by zero", "d", wasmrt.Trap},
	{"abort", "a", wasmrt.Trap},
	{"recursion", "r", wasmrt.TooDeep},
	{"memory bomb", "m", wasmrt.OutOfMemory},
	{"memory refused", "M", wasmrt.OutOfMemory},
	{"bad pointer", "p", wasmrt.BadPointer},
	{"error code", "E", wasmrt.GuestError},
	{"long answer", "x", wasmrt.TooLong},
}

func TestEachFailureHasItsReasonAndLeavesNoTrace(t *testing.T) {
	t.Parallel()
	for _, engine := range []func(*wasmrt.Config){nil, interpreted} {
		m := compile(t, newHost(t, engine), guestWasm)
		for _, f := range failures {
			_, err := m.Call(t.Context(), entry, []byte(f.request), maxOut)
			var fault *wasmrt.FaultError
			require.ErrorAs(t, err, &fault, f.name)
			require.Equal(t, f.reason, fault.Reason, "%s: %v", f.name, err)

			// The counters in memory and globals start at 0 and 7 for everyone.
			state, err := m.Call(t.Context(), entry, []byte("s"), maxOut)
			require.NoError(t, err, f.name)
			require.Equal(t, "0100000008000000", hex.EncodeToString(state.Response), f.name)
		}
	}
}

func TestFuelIsTheSameOnBothEngines(t *testing.T) {
	t.Parallel()
	compiled := compile(t, newHost(t, nil), guestWasm)
	slow := compile(t, newHost(t, interpreted), guestWasm)
	requests := []string{"e", "s", "n", "w", "g", "L" + strings.Repeat("x", 300), "e" + strings.Repeat("x", 200_000), "e" + strings.Repeat("x", 4<<20)}
	for _, f := range failures {
		requests = append(requests, f.request)
	}
	for _, r := range requests {
		a, errA := compiled.Call(t.Context(), entry, []byte(r), wasmrt.MaxRequestBytes)
		b, errB := slow.Call(t.Context(), entry, []byte(r), wasmrt.MaxRequestBytes)
		require.Equal(t, a, b, "request %.1s of %d bytes", r, len(r))
		require.Positive(t, a.FuelUsed)
		require.Equal(t, errA == nil, errB == nil)
	}
}

// TestFuelOfCostModel1 pins the cost model: a change of these numbers is a change
// of outcomes, and so a new cost model and new policy identities.
func TestFuelOfCostModel1(t *testing.T) {
	t.Parallel()
	m := compile(t, newHost(t, nil), guestWasm)
	for request, fuel := range map[string]int64{"e": 27, "s": 103, "n": 122, "w": 172, "g": 16640} {
		res, err := m.Call(t.Context(), entry, []byte(request), maxOut)
		require.NoError(t, err)
		require.Equal(t, fuel, res.FuelUsed, "request %s", request)
	}
}

func TestNaNIsCanonical(t *testing.T) {
	t.Parallel()
	m := compile(t, newHost(t, nil), guestWasm)
	res, err := m.Call(t.Context(), entry, []byte("n"), maxOut)
	require.NoError(t, err)
	require.Equal(t, "000000000000f87f"+"0000c07f", hex.EncodeToString(res.Response))
}

func TestSystemInterfaceIsConstant(t *testing.T) {
	t.Parallel()
	m := compile(t, newHost(t, nil), guestWasm)
	for range 2 {
		res, err := m.Call(t.Context(), entry, []byte("w"), maxOut)
		require.NoError(t, err)
		require.Equal(t, "00ca9a3b00000000"+"01080f161d242b32"+"0b000000", hex.EncodeToString(res.Response))
		require.Equal(t, []string{"stdout line"}, res.Log)
	}
}

func TestLogIsBounded(t *testing.T) {
	t.Parallel()
	m := compile(t, newHost(t, nil), guestWasm)
	res, err := m.Call(t.Context(), entry, []byte("L"+strings.Repeat("x", 300)), maxOut)
	require.NoError(t, err)
	require.Len(t, res.Log, 16)
	require.Len(t, res.Log[0], 256)
}

// TestGrownInstanceIsReplaced: memory cannot shrink and the guest can see its
// size, so what grew must not serve again.
func TestGrownInstanceIsReplaced(t *testing.T) {
	t.Parallel()
	h := newHost(t, nil)
	m := compile(t, h, guestWasm)
	_, err := m.Call(t.Context(), entry, []byte("e"), maxOut)
	require.NoError(t, err)
	require.Equal(t, 1, h.Stats().Idle)
	_, err = m.Call(t.Context(), entry, []byte("g"), maxOut)
	require.NoError(t, err)
	require.Zero(t, h.Stats().Idle)
	_, err = m.Call(t.Context(), entry, []byte("m"), maxOut)
	require.Error(t, err)
	require.Zero(t, h.Stats().Idle)
}

func TestParallelCallsAreHermetic(t *testing.T) {
	t.Parallel()
	m := compile(t, newHost(t, nil), guestWasm)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				res, err := m.Call(t.Context(), entry, []byte("s"), maxOut)
				if err != nil || hex.EncodeToString(res.Response) != "0100000008000000" {
					t.Errorf("got %x, %v", res.Response, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestNodeFailuresAreNoFaults(t *testing.T) {
	t.Parallel()
	c := wasmrt.Default()
	h, err := wasmrt.NewHost(t.Context(), c)
	require.NoError(t, err)
	m := compile(t, h, guestWasm)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = m.Call(gone, entry, []byte("e"), maxOut)
	require.ErrorIs(t, err, context.Canceled)
	other := compile(t, h, guestWasm)
	require.NoError(t, other.Close(t.Context()))
	_, err = other.Call(t.Context(), entry, []byte("e"), maxOut)
	require.ErrorIs(t, err, wasmrt.ErrClosed)
	require.NoError(t, h.Close(t.Context()))
	_, err = m.Call(t.Context(), entry, []byte("e"), maxOut)
	require.ErrorIs(t, err, wasmrt.ErrClosed)
	var fault *wasmrt.FaultError
	require.NotErrorAs(t, err, &fault)
	_, err = h.Compile(t.Context(), guestWasm, wasmrt.CompileOptions{})
	require.ErrorIs(t, err, wasmrt.ErrClosed)
}

func TestConfigIsRefusedNotClamped(t *testing.T) {
	t.Parallel()
	for _, c := range []wasmrt.Config{
		{},
		{MaxMemoryBytes: 1 << 20, MaxRunning: 1},
		{MaxMemoryBytes: 64 << 20, MaxRunning: 0},
		{MaxMemoryBytes: 64 << 20, MaxRunning: 1, MaxIdle: -1},
	} {
		_, err := wasmrt.NewHost(t.Context(), c)
		require.Error(t, err)
	}
	h := newHost(t, nil)
	for _, l := range []wasmrt.Limits{{Fuel: -1, Depth: 1, MemoryPages: 1}, {Fuel: 1, Depth: 2000, MemoryPages: 1}, {Fuel: 1, Depth: 1, MemoryPages: 257}} {
		_, err := h.Compile(t.Context(), guestWasm, wasmrt.CompileOptions{Limits: l})
		require.Error(t, err)
	}
}
