package replica_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/replica"
)

const mib = 1 << 20

// quiet is a node whose clients wait a millisecond when nothing is synced.
func quiet() *replica.GuardRule {
	g := &replica.GuardRule{}
	g.Step(1500, replica.GuardSample{Requests: 500, Timed: 100, P99US: 1000})
	return g
}

func busy(p99US uint32, moved int64) replica.GuardSample {
	return replica.GuardSample{Syncing: true, Requests: 500, Timed: 500, P99US: p99US, Moved: moved}
}

func TestGuardBeginsWithCareWhereClientsAre(t *testing.T) {
	t.Parallel()
	g := quiet()
	g.Step(1500, busy(1000, 0))
	require.Equal(t, int64(4*mib), g.Rate)
	g = quiet()
	g.Step(1500, replica.GuardSample{Syncing: true, Requests: 3})
	require.Zero(t, g.Rate, "three requests are no clients")
	g.Step(1500, replica.GuardSample{Syncing: true, DelayUS: 20_000})
	require.Zero(t, g.Rate)
	g.Step(1500, replica.GuardSample{Syncing: true, DelayUS: 20_001, Moved: 10 * mib})
	require.Equal(t, int64(20*mib), g.Rate, "timers are late: half of what was moved")
	g.Step(1500, replica.GuardSample{Syncing: true, DelayUS: 100})
	require.Equal(t, int64(25*mib), g.Rate)
}

// A session that begins between two looks has its limit at once.
func TestGuardBeginsWithTheSession(t *testing.T) {
	t.Parallel()
	g := quiet()
	g.Begin(1500)
	require.Equal(t, int64(4*mib), g.Rate)
	g.Step(1500, busy(1000, 0))
	require.Equal(t, int64(5*mib), g.Rate, "it has begun")
	g.Begin(1500)
	require.Equal(t, int64(5*mib), g.Rate, "another session begins nothing anew")
	g = quiet()
	g.Begin(0)
	require.Zero(t, g.Rate, "off")
	g.Step(1500, replica.GuardSample{Requests: 3})
	g.Begin(1500)
	require.Zero(t, g.Rate, "nobody is served")
}

func TestGuardSlowsAtItsFactorAndNotBefore(t *testing.T) {
	t.Parallel()
	g := quiet()
	g.Step(1500, busy(1000, 0))
	g.Step(1500, busy(1500, mib))
	require.Equal(t, int64(5*mib), g.Rate, "half as much again is borne")
	require.Zero(t, g.Slowed)
	g.Step(1500, busy(1501, 2*mib))
	require.Equal(t, int64(5*mib/2), g.Rate)
	require.Equal(t, int64(1), g.Slowed)
	g.Step(1500, busy(9000, mib/4))
	require.Equal(t, int64(mib/2), g.Rate, "of what moved, which is less than the limit")
	for range 10 {
		g.Step(1500, busy(9000, 0))
	}
	require.Equal(t, int64(mib/2), g.Rate, "the floor")
	for range 40 {
		g.Step(1500, busy(1000, 0))
	}
	require.Zero(t, g.Rate, "what hurts nobody has no limit in the end")
	g.Step(3000, busy(2900, mib))
	require.Zero(t, g.Rate, "another factor is felt at once")
	g.Step(1100, busy(2900, mib))
	require.Equal(t, int64(2*mib), g.Rate)
	g.Step(0, busy(9000, mib))
	require.Zero(t, g.Rate, "off")
}

// A quarter of a millisecond is chance, whatever the factor.
func TestGuardTakesALittleForChance(t *testing.T) {
	t.Parallel()
	g := &replica.GuardRule{}
	g.Step(1500, replica.GuardSample{Requests: 500, Timed: 100, P99US: 100})
	g.Step(1500, busy(350, 0))
	g.Step(1500, busy(350, 0))
	require.Zero(t, g.Slowed)
	g.Step(1500, busy(351, 0))
	require.Equal(t, int64(1), g.Slowed)
}

func TestGuardGoesByEnoughRequestsOnly(t *testing.T) {
	t.Parallel()
	g := quiet()
	g.Step(1500, busy(1000, 0))
	few := busy(100_000, mib)
	few.Timed = 63
	g.Step(1500, few)
	require.Equal(t, int64(4*mib), g.Rate, "63 requests tell nothing, either way")
	few.Timed = 64
	g.Step(1500, few)
	require.Equal(t, int64(2*mib), g.Rate)
	unknown := &replica.GuardRule{} // a node that has just started
	for range 3 {
		unknown.Step(1500, busy(100_000, mib))
	}
	require.Zero(t, unknown.Slowed)
}

// What clients wait for half a minute at the floor is not the sync's doing.
func TestGuardIsNotHeldAtTheFloorByOthers(t *testing.T) {
	t.Parallel()
	g := quiet()
	g.Step(1500, busy(1000, 0))
	steps := 0
	for g.QuietUS == 1000 {
		g.Step(1500, busy(5000, mib))
		steps++
	}
	require.Equal(t, uint32(5000), g.QuietUS)
	require.Equal(t, 122, steps, "two to the floor, and 120 looks there")
	g.Step(1500, busy(5000, mib))
	require.Greater(t, g.Rate, int64(mib/2))
	g.Step(1500, replica.GuardSample{Requests: 500, Timed: 100, P99US: 1000})
	require.Zero(t, g.Rate, "the sync is over")
	require.Equal(t, uint32(4500), g.QuietUS, "an eighth of the way back")
}

// slowView is a policy that takes its time.
type slowView struct {
	newest
	takes *atomic.Int64
}

func (v slowView) View(ctx context.Context, key []byte, live []kv.Version) (replica.View, error) {
	time.Sleep(time.Duration(v.takes.Load()))
	return v.newest.View(ctx, key, live)
}

// What clients wait for at a donor holds its streams back, and may be changed while
// it runs.
func TestGuardHoldsStreamsBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2")
		var factor, takes atomic.Int64
		factor.Store(1500)
		c.nodes["n1"].cfg = func(cfg *replica.Config) {
			cfg.SyncGuard = factor.Load
			cfg.Merger = slowView{takes: &takes}
		}
		c.up()
		value := make([]byte, 20_000)
		for i := range 200 { // four megabytes that do not compress
			_, err := rand.Read(value)
			require.NoError(t, err)
			c.set("n1", fmt.Sprintf("k%d", i), string(value))
		}
		key := c.keyFirstAt("n1")
		token := c.tokenOf(key)
		for _, value := range []string{"1", "2"} { // side by side
			_, err := c.do("n1", kv.Request{Op: kv.OpSet, Key: []byte(key), Value: []byte(value), Token: token})
			require.NoError(t, err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var clients sync.WaitGroup
		clients.Go(func() {
			for ctx.Err() == nil {
				time.Sleep(time.Millisecond)
				req := kv.Request{Op: kv.OpGet, Key: []byte(key)}
				clients.Go(func() { c.nodes["n1"].replica.Start(t.Context(), &req, func(*kv.Response, error) {}) })
			}
		})
		defer clients.Wait()
		defer stop()
		time.Sleep(10 * time.Second) // what is quiet is known
		back := func() time.Duration {
			c.nodes["n2"].kill()
			c.nodes["n2"].wipe()
			c.nodes["n2"].start()
			began := time.Now()
			c.wires.connect("n1", "n2")
			c.live("n2")
			return time.Since(began)
		}
		n1 := c.nodes["n1"].replica
		require.NotZero(t, n1.Guard().QuietP99US)
		require.Less(t, back(), 2*time.Second, "who waits for nothing is not guarded")
		require.Zero(t, n1.Guard().Slowed)
		takes.Store(int64(5 * time.Millisecond))
		took := back()
		require.Greater(t, took, 3*time.Second)
		require.Less(t, took, 15*time.Second, "at the floor")
		require.Positive(t, n1.Guard().Slowed)
		factor.Store(0)
		require.Less(t, back(), time.Second/2, "off")
		c.equal("n1", "n2")
	})
}
