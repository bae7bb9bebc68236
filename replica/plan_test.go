package replica_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/internal/repair"
	"edged.dev/edged/replica"
	"edged.dev/edged/transport/wire"
)

// planner answers by a test's function, as a guest would: unchecked.
type planner struct {
	mu     sync.Mutex
	inputs []repair.Input
	answer func(in repair.Input) []repair.Step
}

func (p *planner) PlanRepair(_ context.Context, in repair.Input) replica.PlanDecision {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inputs = append(p.inputs, in)
	if p.answer == nil {
		return replica.PlanDecision{Policy: "test", Plan: repair.Builtin(in), Fallback: "trap"}
	}
	return replica.PlanDecision{Policy: "test", Epoch: 3, Plan: repair.Guard(in, p.answer(in))}
}

// returned is a cluster in which n3 was away while every partition was written to,
// and is back with a policy that answers so.
func returned(t *testing.T, answer func(repair.Input) []repair.Step) (*cluster, *planner) {
	t.Helper()
	c := newCluster(t, "n1", "n2", "n3")
	c.up()
	for i := range 200 {
		c.set("n1", fmt.Sprint("before-", i), "old")
	}
	c.equal(c.names...)
	n3 := c.nodes["n3"]
	n3.kill()
	for i := range 200 {
		c.set("n1", fmt.Sprint("after-", i), "new")
	}
	p := &planner{answer: answer}
	if answer != nil {
		n3.cfg = func(cfg *replica.Config) {
			cfg.Planner = p
			cfg.Load = func() replica.Load { return replica.Load{CPUPermille: 100, UTCOffsetS: 3600} }
		}
	}
	n3.start()
	n3.replica.PlansRepair(answer != nil)
	c.wires.connect("n1", "n3")
	c.wires.connect("n2", "n3")
	return c, p
}

// descending syncs the highest partition first, each from one peer alone.
func descending(peer string) func(in repair.Input) []repair.Step {
	return func(in repair.Input) (out []repair.Step) {
		for i, r := range in.Ranges {
			if in.Peers[r.From].Name == peer {
				out = append(out, repair.Step{Range: uint32(i), Strategy: repair.Sync, Priority: uint16(r.Partition / 4), RateKiBps: 1 << 10})
			}
		}
		return out
	}
}

func TestAPolicyOrdersARejoin(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, p := returned(t, descending("n2"))
		c.live(c.names...)
		c.equal(c.names...)
		require.NotEmpty(t, p.inputs)
		in := p.inputs[0]
		require.Equal(t, "n3", in.Peers[0].Name)
		require.Equal(t, uint32(100), in.CPUPermille)
		require.Equal(t, int32(3600), in.UTCOffsetS)
		require.Len(t, in.Ranges, 2*testPartitions, "each from each of the others")
		for _, r := range in.Ranges {
			require.NotZero(t, r.Dots)
			require.Positive(t, r.Bytes)
		}
		rec := c.nodes["n3"].replica.Plans()
		first := rec[len(rec)-1]
		require.True(t, first.Asked)
		require.Equal(t, "test", first.Policy)
		require.Equal(t, in, first.Input)
		require.Len(t, first.Outcomes, testPartitions)
		for _, o := range first.Outcomes {
			require.Equal(t, "n2", o.Peer, "of equals, the one that the plan names")
			require.NotZero(t, o.EndedMS)
		}
		byWave := map[int][]int64{}
		for _, o := range first.Outcomes {
			i := slices.IndexFunc(first.Orders, func(x repair.Order) bool { return x.Partition == o.Partition })
			require.Equal(t, 3-int(o.Partition/4), first.Orders[i].Wave)
			byWave[first.Orders[i].Wave] = append(byWave[first.Orders[i].Wave], o.AskedMS, o.EndedMS)
		}
		for w := 1; w < len(byWave); w++ {
			require.LessOrEqual(t, slices.Max(byWave[w-1]), slices.Min(byWave[w]), "wave %d begins when the one before is over", w)
		}
	})
}

// A plan's bytes bound what a session streams of a partition; the rest comes by the
// next plans, and in the end there is nothing left.
func TestAPlanBoundsWhatASessionBrings(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const most, size = repair.MinStepBytes, 8 << 10
		c := newCluster(t, "n1", "n2", "n3")
		c.up()
		n3 := c.nodes["n3"]
		n3.kill()
		value := strings.Repeat("v", size)
		for i := range 300 { // some 150 KiB in each partition
			c.set("n1", fmt.Sprint("k", i), value)
		}
		c.equal("n1", "n2")
		tap := tapLanes(c)
		p := &planner{answer: func(in repair.Input) (out []repair.Step) {
			for i := range in.Ranges {
				out = append(out, repair.Step{Range: uint32(i), Strategy: repair.Sync, MaxBytes: most})
			}
			return out
		}}
		n3.cfg = func(cfg *replica.Config) { cfg.Planner = p }
		n3.start()
		n3.replica.PlansRepair(true)
		c.wires.connect("n1", "n3")
		c.wires.connect("n2", "n3")
		c.live(c.names...)
		c.equal(c.names...)
		stops := 0
		tap.mu.Lock()
		defer tap.mu.Unlock()
		for _, lane := range tap.lanes {
			rd, bytes := tap.reader(t, lane.Bytes()), 0
			for rec, err := rd.Next(); err == nil; rec, err = rd.Next() {
				switch rec.Type {
				case wire.TypeBegin:
					bytes = 0
				case wire.TypeStop:
					stops++
				}
				for _, o := range rec.Batch.Copies {
					bytes += o.Object.Bytes()
				}
				require.Less(t, bytes, most+size)
			}
			rd.Close()
		}
		require.Greater(t, stops, testPartitions, "most of them twice")
		require.Zero(t, n3.replica.Stats().SessionsCut.Load()+n3.replica.Stats().LanesCut.Load())
	})
}

// TestAPolicyThatOnlySkipsIsOverruled: everything is repaired within the longest
// delay, whatever the policy says, and no answer is wrong meanwhile.
func TestAPolicyThatOnlySkipsIsOverruled(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, p := returned(t, func(in repair.Input) (out []repair.Step) {
			for i := range in.Ranges {
				out = append(out, repair.Step{Range: uint32(i), Strategy: repair.Skip})
			}
			return out
		})
		began := time.Now()
		time.Sleep(9 * time.Minute) // virtual
		synctest.Wait()
		require.False(t, c.isLive("n3"))
		value, found := c.get("n3", "after-7")
		require.True(t, found)
		require.Equal(t, "new", value, "another owner answers for it")
		time.Sleep(time.Minute) // virtual
		c.live(c.names...)
		c.equal(c.names...)
		require.Less(t, time.Since(began), 10*time.Minute+5*time.Second)
		require.InDelta(t, 120, len(p.inputs), 6, "the policy was asked again each round")
		require.Len(t, c.nodes["n3"].replica.Plans(), 8, "the newest are kept")
	})
}

// TestAPolicyThatAnswersRubbishHoldsUpNothing: nothing of it is left, so the host
// adds every partition.
func TestAPolicyThatAnswersRubbishHoldsUpNothing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, _ := returned(t, func(repair.Input) (out []repair.Step) {
			for i := range uint32(100) {
				out = append(out, repair.Step{Range: 1000 + i, Strategy: 77, DelayMS: 1 << 31})
			}
			return out
		})
		began := time.Now()
		c.live(c.names...)
		require.Less(t, time.Since(began), 2*time.Second)
		rec := c.nodes["n3"].replica.Plans()[0]
		require.Equal(t, 100, rec.Plan.Count(repair.Dropped))
		require.Equal(t, 2*testPartitions, rec.Plan.Count(repair.Added))
	})
}

func TestWithoutAPolicyThePlanIsShownAllTheSame(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, p := returned(t, nil)
		c.live(c.names...)
		c.wait("recorded", func() bool { return len(c.nodes["n3"].replica.Plans()) > 0 })
		require.Empty(t, p.inputs)
		rec := c.nodes["n3"].replica.Plans()[0]
		require.False(t, rec.Asked)
		require.Equal(t, "built-in", rec.Policy)
		require.Empty(t, c.nodes["n1"].replica.Plans(), "who lacks nothing plans nothing")
	})
}

// TestAPolicyThatGoesInTheMiddle: what it delayed is fetched at once.
func TestAPolicyThatGoesInTheMiddle(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, _ := returned(t, func(in repair.Input) (out []repair.Step) {
			for i := range in.Ranges {
				out = append(out, repair.Step{Range: uint32(i), Strategy: repair.Defer, DelayMS: 300_000})
			}
			return out
		})
		time.Sleep(10 * time.Second) // virtual
		synctest.Wait()
		require.False(t, c.isLive("n3"))
		began := time.Now()
		c.nodes["n3"].replica.PlansRepair(false)
		c.live(c.names...)
		require.Less(t, time.Since(began), time.Second)
		for p := range c.nodes["n3"].replica.Parts() {
			require.Equal(t, kv.Live, p.State)
		}
	})
}
