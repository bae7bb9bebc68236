package replica_test

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/internal/repair"
	"edged.dev/edged/replica"
)

// deferring leaves everything for a minute, so that a plan is made again and again.
func deferring(in repair.Input) (out []repair.Step) {
	for i := range in.Ranges {
		out = append(out, repair.Step{Range: uint32(i), Strategy: repair.Defer, DelayMS: 60_000})
	}
	return out
}

// last returns the newest input.
func (p *planner) last() repair.Input {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.inputs[len(p.inputs)-1]
}

func peerOf(t *testing.T, in repair.Input, name string) repair.Peer {
	t.Helper()
	i := slices.IndexFunc(in.Peers, func(p repair.Peer) bool { return p.Name == name })
	require.GreaterOrEqual(t, i, 0, "%s is not among %v", name, in.Peers)
	return in.Peers[i]
}

// TestAPlanIsToldWhatItsPeersAreAt: what each node uses of its processors, memory and
// link, what it does, and what sync.rate allows reach the plan of one that returns, and
// follow what changes.
func TestAPlanIsToldWhatItsPeersAreAt(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		c.up()
		var load atomic.Pointer[replica.Load] // of n1
		load.Store(&replica.Load{CPUPermille: 420, MemPermille: 310, EgressKiBps: 9000})
		var rate atomic.Int64 // of n3
		rate.Store(1 << 20)
		p := &planner{answer: deferring}
		for _, name := range []string{"n1", "n3"} {
			c.nodes[name].kill()
			c.nodes[name].cfg = func(cfg *replica.Config) {
				switch name {
				case "n1":
					cfg.Load = func() replica.Load { return *load.Load() }
				default:
					cfg.Planner, cfg.SyncRate = p, rate.Load
					cfg.Load = func() replica.Load { return replica.Load{CPUPermille: 7, MemPermille: 8, EgressKiBps: 9} }
				}
			}
		}
		c.nodes["n1"].start()
		c.wires.connect("n1", "n2")
		c.live("n1", "n2")
		for i := range 200 {
			c.set("n1", fmt.Sprint("k", i), "v")
		}
		n3 := c.nodes["n3"]
		n3.start()
		n3.replica.PlansRepair(true)
		c.wires.connect("n1", "n3")
		c.wires.connect("n2", "n3")
		c.wait("planned", func() bool { return len(n3.replica.Plans()) > 0 })

		in := p.last() // the very first
		require.Equal(t, uint64(repair.RoundMS/1000)<<20, in.BudgetBytes, "a round of sync.rate")
		self := peerOf(t, in, "n3")
		require.Equal(t, []uint32{7, 8, 9}, []uint32{self.CPUPermille, self.MemPermille, self.EgressKiBps})
		require.Equal(t, repair.Rejoining, self.State)
		n1 := peerOf(t, in, "n1")
		require.Equal(t, []uint32{420, 310, 9000}, []uint32{n1.CPUPermille, n1.MemPermille, n1.EgressKiBps})
		require.Equal(t, repair.Up, n1.State)
		n2 := peerOf(t, in, "n2")
		require.Equal(t, []uint32{0, 0, 0}, []uint32{n2.CPUPermille, n2.MemPermille, n2.EgressKiBps}, "it does not know")
		require.Len(t, in.Ranges, 2*testPartitions)
		for _, r := range in.Ranges {
			require.NotZero(t, r.Keys)
			require.NotZero(t, r.Bytes)
			require.NotZero(t, r.Dots)
		}

		load.Store(&replica.Load{EgressKiBps: 12})
		rate.Store(0)
		time.Sleep(7 * time.Second) // virtual: a round, and the next PONGs
		synctest.Wait()
		in = p.last()
		require.Zero(t, in.BudgetBytes, "no limit is set")
		n1 = peerOf(t, in, "n1")
		require.Equal(t, []uint32{0, 0, 12}, []uint32{n1.CPUPermille, n1.MemPermille, n1.EgressKiBps})
		for _, r := range in.Ranges {
			require.GreaterOrEqual(t, r.AgeMS, int64(5000))
			require.GreaterOrEqual(t, r.RepairMS, int64(5000), "never in this process")
		}

		c.nodes["n1"].replica.Leave()
		time.Sleep(7 * time.Second) // virtual
		synctest.Wait()
		require.Equal(t, repair.Draining, peerOf(t, p.last(), "n1").State)
	})
}

// TestALiveNodeThatLacksSomethingIsNotRejoining: it serves all the same, and a policy
// may let it wait.
func TestALiveNodeThatLacksSomethingIsNotRejoining(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		p := &planner{answer: deferring}
		c.nodes["n3"].cfg = func(cfg *replica.Config) { cfg.Planner = p }
		c.up()
		c.equal(c.names...)
		n3 := c.nodes["n3"].replica
		n3.PlansRepair(true)
		c.wires.with(func(w *wires) {
			w.live = func(_, to string) liveFate {
				if to == "n3" {
					return swallow
				}
				return deliver
			}
		})
		c.set("n1", c.keyFirstAt("n1"), "v") // what n3 is first for would wait for it
		c.wait("planned", func() bool { return len(n3.Plans()) > 0 })
		in := p.last()
		require.True(t, c.isLive("n3"))
		require.Equal(t, repair.Up, peerOf(t, in, "n3").State)
		for _, r := range in.Ranges {
			require.True(t, r.Serves)
		}
	})
}

// hottestFirst is the order of the example "hot prefixes first": by what is read.
func hottestFirst(in repair.Input) (out []repair.Step) {
	for i, r := range in.Ranges {
		out = append(out, repair.Step{Range: uint32(i), Strategy: repair.Sync, Priority: uint16(min(r.Reads, 1<<15))})
	}
	return out
}

// TestWhatIsHotAtTheOthersComesFirst: a killed node that comes back with no reads of its
// own fetches first what is read at the others, by its policy, and by the built-in plan
// that stands in for one.
func TestWhatIsHotAtTheOthersComesFirst(t *testing.T) {
	for name, answer := range map[string]func(repair.Input) []repair.Step{"a policy": hottestFirst, "the built-in plan": nil} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newCluster(t, "n1", "n2", "n3")
				c.up()
				n3 := c.nodes["n3"]
				n3.kill()
				keys := map[kv.Partition]string{}
				for i := range 400 {
					key := fmt.Sprint("k:", i)
					c.set("n1", key, "v")
					keys[partOf(key)] = key
				}
				for second := range 3 { // hot at n1 alone: 11 and then 3
					for range 400 {
						c.get("n1", keys[11])
					}
					for range 200 {
						c.get("n1", keys[3])
					}
					time.Sleep(time.Duration(second+1) * time.Second) // virtual: rates are taken each second
				}
				p := &planner{answer: answer}
				n3.cfg = func(cfg *replica.Config) { cfg.Planner = p }
				tap := tapLanes(c)
				n3.start()
				n3.replica.PlansRepair(true)
				c.wires.connect("n1", "n3")
				c.wires.connect("n2", "n3")
				c.live("n3")
				parts, _ := tap.read(t)
				in := p.inputs[0]
				for _, r := range in.Ranges {
					require.Equal(t, r.Partition == 11 || r.Partition == 3, r.Reads > 0, "partition %d: %d reads", r.Partition, r.Reads)
				}
				require.NotEmpty(t, in.Hot)
				require.Equal(t, "k:", in.Hot[0].Prefix)
				require.Equal(t, []kv.Partition{11, 3}, parts[:2])
			})
		})
	}
}
