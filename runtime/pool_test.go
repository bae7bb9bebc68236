package wasmrt_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	wasmrt "edged.dev/edged/runtime"
)

// TestPoolKeepsWithinItsBounds calls many modules from many goroutines on a host
// with room for one instance at a time.
func TestPoolKeepsWithinItsBounds(t *testing.T) {
	t.Parallel()
	const limit = 36 << 20
	h := newHost(t, func(c *wasmrt.Config) { c.MaxMemoryBytes, c.MaxRunning, c.MaxIdle = limit, 8, 2 })
	var modules []*wasmrt.Module
	for range 4 {
		modules = append(modules, compile(t, h, guestWasm))
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 40 {
				request := "s"
				if j%5 == 0 {
					request = "g" // grows, so that the instance is thrown away
				}
				if _, err := modules[(i+j)%len(modules)].Call(t.Context(), entry, []byte(request), maxOut); err != nil {
					t.Errorf("call: %v", err)
				}
				s := h.Stats()
				if s.MemoryBytes > limit || s.Idle > 2 {
					t.Errorf("beyond the bounds: %+v", s)
				}
			}
		})
	}
	wg.Wait()
	s := h.Stats()
	require.Zero(t, s.Running)
	require.Zero(t, s.Waiting)
	require.LessOrEqual(t, s.Idle, 2)
	for _, m := range modules {
		require.NoError(t, m.Close(t.Context()))
	}
	require.Equal(t, wasmrt.Stats{}, h.Stats())
}

// TestWaitersLeaveWithTheirContext fills the host with a call that runs long and
// cancels those that wait behind it.
func TestWaitersLeaveWithTheirContext(t *testing.T) {
	t.Parallel()
	h := newHost(t, func(c *wasmrt.Config) { c.MaxRunning = 1 })
	m, err := h.Compile(t.Context(), guestWasm, wasmrt.CompileOptions{
		Limits: wasmrt.Limits{Fuel: 100_000_000, Depth: 100, MemoryPages: 4},
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_, _ = m.Call(context.Background(), entry, []byte("l"), maxOut)
			}
		}
	})
	waited := make(chan error, 4)
	for range cap(waited) {
		wg.Go(func() {
			for {
				if _, err := m.Call(ctx, entry, []byte("l"), maxOut); ctx.Err() != nil {
					waited <- err
					return
				}
			}
		})
	}
	require.Eventually(t, func() bool { return h.Stats().Waiting > 0 }, testWait, testTick)
	cancel()
	for range cap(waited) {
		<-waited
	}
	close(stop)
	wg.Wait()
	s := h.Stats()
	require.Zero(t, s.Running)
	require.Zero(t, s.Waiting)
}

// TestCloseTurnsWaitersAway closes the host under load.
func TestCloseTurnsWaitersAway(t *testing.T) {
	t.Parallel()
	for range 20 {
		c := wasmrt.Default()
		c.MaxRunning = 1
		h, err := wasmrt.NewHost(t.Context(), c)
		require.NoError(t, err)
		m, other := compile(t, h, guestWasm), compile(t, h, guestWasm)
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				for {
					m := []*wasmrt.Module{m, other}[i%2]
					if _, err := m.Call(context.Background(), entry, []byte("f"), maxOut); err != nil && !isFault(err) {
						if !isClosed(err) {
							t.Errorf("call: %v", err)
						}
						return
					}
				}
			})
		}
		waiting := func() bool { return h.Stats().Waiting > 2 }
		require.Eventually(t, waiting, testWait, testTick)
		require.NoError(t, other.Close(t.Context()))
		require.Eventually(t, func() bool { return h.Stats().Waiting > 0 }, testWait, testTick)
		require.NoError(t, h.Close(t.Context()))
		wg.Wait()
		require.Zero(t, h.Stats().Running)
		require.Zero(t, h.Stats().Waiting)
	}
}

// TestImagesHaveABudget: modules beyond the node's memory are turned down, as a
// matter of the node and not of the module.
func TestImagesHaveABudget(t *testing.T) {
	t.Parallel()
	h := newHost(t, func(c *wasmrt.Config) { c.MaxMemoryBytes = 32 << 20 })
	large := change(func(p *parts) { p.memories = []string{"\x00" + u(100)} })
	first := compile(t, h, large)
	compile(t, h, large)
	_, err := h.Compile(t.Context(), large, wasmrt.CompileOptions{})
	require.ErrorIs(t, err, wasmrt.ErrBudget)
	require.NoError(t, first.Close(t.Context()))
	compile(t, h, large)
}

const (
	testWait = 10 * time.Second
	testTick = time.Millisecond
)

func isFault(err error) bool {
	var f *wasmrt.FaultError
	return errors.As(err, &f)
}

func isClosed(err error) bool { return errors.Is(err, wasmrt.ErrClosed) }
