package sim_test

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/internal/repair"
	"edged.dev/edged/internal/sim"
	"edged.dev/edged/policies"
	"edged.dev/edged/replica/core"
	wasmrt "edged.dev/edged/runtime"

	"github.com/stretchr/testify/require"
)

// guest is a committed module and where it is in force.
type guest struct {
	file, prefix, params, kind string
}

// tableOf returns a table with guests in force, on the engine's compiler or its
// interpreter.
func tableOf(t *testing.T, interpreter bool, guests ...guest) *policies.Table {
	t.Helper()
	var records []policies.Record
	for _, g := range guests {
		wasm, err := os.ReadFile(filepath.Join("../..", g.file))
		require.NoError(t, err)
		plan, err := policies.PlanDeploy(records, wasm, policies.DeploySpec{
			Name: "guest-" + g.prefix, Prefix: []byte(g.prefix), Kind: g.kind, Params: []byte(g.params), NowMS: 1,
		})
		require.NoError(t, err)
		for _, w := range plan.Writes {
			records = append(records, policies.Record{Key: w.Key, Value: w.Value, HLC: uint64(len(records) + 1)})
		}
	}
	cfg := wasmrt.Default()
	cfg.Interpreter = interpreter
	host, err := wasmrt.NewHost(t.Context(), cfg)
	require.NoError(t, err)
	table := policies.NewTable(host)
	t.Cleanup(func() {
		require.NoError(t, table.Close(context.Background()))
		require.NoError(t, host.Close(context.Background()))
	})
	require.NoError(t, table.Update(t.Context(), records))
	require.Empty(t, table.Problems())
	return table
}

// count is how often a reason was counted in a table, and whether it is a failure.
func count(table *policies.Table, reason string) (n uint64, failure bool) {
	for _, c := range table.Counts() {
		if c.Reason == reason {
			n, failure = n+c.N, c.Failure
		}
	}
	return n, failure
}

// viewers show what lies side by side by the policies of each simulated node, every
// other one on the interpreter, and hold the views against each other.
type viewers struct {
	t      *testing.T
	tables []*policies.Table
	views  map[string]policies.View // by what was shown
	shown  map[string]int           // by key
	agreed int                      // views that had been made before
}

func (v *viewers) show(node int, key []byte, live []kv.Version) {
	siblings := make([]policies.Sibling, len(live))
	for i, x := range live {
		h := fnv.New64a()
		_, _ = h.Write(x.Dot.Actor.Append(nil))
		siblings[i] = policies.Sibling{Value: x.Value, HLC: uint64(x.HLC), Actor: h.Sum64(), Counter: x.Dot.Seq, ExpiresMS: uint64(x.ExpiresMS)}
	}
	is := fmt.Sprintf("%s %+v", key, siblings)
	r := rand.New(rand.NewPCG(uint64(node), uint64(len(v.views))))
	r.Shuffle(len(siblings), func(i, j int) { siblings[i], siblings[j] = siblings[j], siblings[i] })
	got, err := v.tables[node].Resolve(v.t.Context(), key, siblings)
	require.NoError(v.t, err)
	v.shown[string(key)]++
	if before, ok := v.views[is]; ok {
		v.agreed++
		require.Equal(v.t, before, got, "node %d, key %s", node, key)
		return
	}
	v.views[is] = got
	newest := slices.MaxFunc(siblings, func(a, b policies.Sibling) int {
		return slices.Compare([]uint64{a.HLC, a.Actor, a.Counter}, []uint64{b.HLC, b.Actor, b.Counter})
	})
	switch string(key) {
	case "alpha": // the union of all
		lines := strings.Split(string(got.Value), "\n")
		for _, s := range siblings {
			require.Contains(v.t, lines, string(s.Value))
		}
		require.Len(v.t, lines, len(siblings))
		require.Empty(v.t, got.Mark)
	case "beta": // the newest, by a guest
		require.Equal(v.t, string(newest.Value), string(got.Value))
		require.Empty(v.t, got.Mark)
	default: // a guest that fails: the newest, and it says that nothing decided
		require.Equal(v.t, string(newest.Value), string(got.Value))
		require.Equal(v.t, policies.MarkUnresolved, got.Mark)
	}
}

// withPolicies is how many seeds of each mix real policies run in: a guest that loops
// until its fuel is used up, by the interpreter, takes as long as a run does.
func withPolicies() int { return max(2, *seeds/100) }

// TestPoliciesShowTheSameEverywhere runs committed guests on what lies side by side at
// simulated nodes of every mix: whatever the engine, the order and the node, the same versions are
// one view; and guests that loop or trap are answered for by the fallback, which is
// counted.
func TestPoliciesShowTheSameEverywhere(t *testing.T) {
	t.Parallel()
	v := &viewers{t: t, views: map[string]policies.View{}, shown: map[string]int{}}
	for i := range sim.Nodes {
		v.tables = append(v.tables, tableOf(
			t, i%2 == 1,
			guest{file: "wasm-examples/union-c/union.wasm", prefix: "alpha"},
			guest{file: "wasm-examples/lww-wat/lww.wasm", prefix: "beta"},
			guest{file: "policies/testdata/scripted.wasm", prefix: "gamma", params: "l"},
			guest{file: "policies/testdata/scripted.wasm", prefix: "sys", params: "t"},
		))
	}
	for _, m := range sim.Mixes() {
		m.BlindPM, m.Read = 700, 12 // more lies side by side, and is read
		for seed := *seedBase; seed < *seedBase+uint64(withPolicies()); seed++ {
			o := sim.Options{Seed: seed, Mix: m}
			without := run(o)
			o.Shown = v.show
			w := run(o)
			require.Empty(t, w.Violations(), "mix %s seed %d", m.Name, seed)
			require.Equal(t, without.Digest(), w.Digest(), "a view changes nothing")
		}
	}
	for _, key := range []string{"alpha", "beta", "gamma", "sys"} {
		require.Positive(t, v.shown[key], key)
	}
	require.Positive(t, v.agreed)
	for _, table := range v.tables {
		for reason, fails := range map[string]bool{"value": false, "pick": false, "out_of_fuel": true, "trap": true} {
			n, failure := count(table, reason)
			require.Positive(t, n, reason)
			require.Equal(t, fails, failure, reason)
		}
	}
	t.Logf("shown %v, %d views, %d of them again", v.shown, len(v.views), v.agreed)
}

// TestRepairPoliciesOrderSimulatedNodes has the committed repair policies order the
// repair of clusters with faults: all are level in time all the same, a guest that loops
// or traps is answered for by the built-in plan, and either engine gives the same plan
// at the same fuel.
func TestRepairPoliciesOrderSimulatedNodes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ file, params, fails string }{
		{"wasm-examples/hot-first-c/hotfirst.wasm", "", ""},
		{"wasm-examples/nearest-zone-wat/nearest.wasm", "", ""},
		{"policies/testdata/planner.wasm", "l", "out_of_fuel"},
		{"policies/testdata/planner.wasm", "t", "trap"},
	} {
		t.Run(filepath.Base(c.file)+c.params, func(t *testing.T) {
			t.Parallel()
			g := guest{file: c.file, params: c.params, kind: policies.KindRepair}
			compiled, interpreted := tableOf(t, false, g), tableOf(t, true, g)
			plans := 0
			plan := func(self string, now int64, gaps []core.Gap, peers []string) (orders []core.Order) {
				in := repair.Input{TickS: uint64(now / 1e9), MaxSteps: repair.MaxRanges, Peers: []repair.Peer{{Name: self, State: repair.Rejoining}}}
				for i, name := range peers {
					in.Peers = append(in.Peers, repair.Peer{Name: name, Node: uint64(i + 1), RTTUS: uint32(400 * (i + 1)), Zone: uint16(i%2 + 1)})
				}
				for _, gap := range gaps {
					if from := slices.Index(peers, gap.Peer); from >= 0 {
						in.Ranges = append(in.Ranges, repair.Range{
							Partition: uint64(gap.Partition), From: uint32(from + 1), Dots: gap.Dots, Keys: gap.Dots, AgeMS: gap.Age / 1e6, Serves: gap.Serves,
						})
					}
				}
				d := compiled.PlanRepair(t.Context(), in)
				if c.fails == "" || plans < 3 { // the interpreter takes long to use fuel up
					require.Equal(t, d, interpreted.PlanRepair(t.Context(), in), "both engines")
				}
				require.Equal(t, c.fails, d.Fallback, d.Detail)
				plans++
				for _, o := range d.Plan.Orders() {
					orders = append(orders, core.Order{Partition: kv.Partition(o.Partition), Wave: o.Wave, Peers: o.Peers, Delay: o.DelayMS * 1e6})
				}
				return orders
			}
			for seed := *seedBase; seed < *seedBase+uint64(withPolicies()); seed++ {
				w := runCluster(sim.ClusterOptions{Seed: seed, Mode: sim.Rejoin, Plan: plan})
				require.Empty(t, w.Violations(), "seed %d", seed)
				require.Positive(t, w.Stats().Plans)
			}
			reason := c.fails
			if reason == "" {
				reason = "plan"
			}
			n, failure := count(compiled, reason)
			require.EqualValues(t, plans, n)
			require.Equal(t, c.fails != "", failure)
			t.Logf("%d plans", plans)
		})
	}
}
