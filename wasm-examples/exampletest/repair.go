package exampletest

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/repair"
	"edged.dev/edged/policies"
	wasmrt "edged.dev/edged/runtime"
)

// Planner is a repair policy that has passed the deployment check and is in force.
type Planner struct {
	Wasm  []byte
	Table *policies.Table
	ID    string
	// Fuel of the check's trials.
	Fuel []int64

	interpreted *policies.Table // the same, on the engine's interpreter
}

// RunRepair runs check on the committed module and on a fresh build of it.
func (e Example) RunRepair(t *testing.T, check func(t *testing.T, p *Planner)) {
	t.Run("committed", func(t *testing.T) {
		p := deployPlanner(t, e.committed(t))
		require.Equal(t, e.Fuel, p.Fuel)
		check(t, p)
	})
	t.Run("built", func(t *testing.T) {
		wasm, ok := e.build(t)
		if !ok {
			t.Logf("%v are not all installed: the committed module is what is tested", e.Tools)
			wasm = e.committed(t)
		}
		check(t, deployPlanner(t, wasm))
	})
}

func deployPlanner(t testing.TB, wasm []byte) *Planner {
	t.Helper()
	report, err := policies.CheckRepair(t.Context(), wasm, nil)
	require.NoError(t, err)
	p := &Planner{Wasm: wasm}
	for _, trial := range report.Trials {
		p.Fuel = append(p.Fuel, trial.FuelUsed)
	}
	plan, err := policies.PlanDeploy(nil, wasm, policies.DeploySpec{Name: "example", Kind: policies.KindRepair, NowMS: 1})
	require.NoError(t, err)
	p.ID = plan.PolicyID
	var records []policies.Record
	for _, w := range plan.Writes {
		records = append(records, policies.Record{Key: w.Key, Value: w.Value, HLC: 1})
	}
	compiler, interpreter := wasmrt.Default(), wasmrt.Default()
	interpreter.Interpreter = true
	p.Table, p.interpreted = tableOf(t, compiler, records), tableOf(t, interpreter, records)
	return p
}

func tableOf(t testing.TB, c wasmrt.Config, records []policies.Record) *policies.Table {
	t.Helper()
	host, err := wasmrt.NewHost(t.Context(), c)
	require.NoError(t, err)
	table := policies.NewTable(host)
	t.Cleanup(func() {
		require.NoError(t, table.Close(context.Background()))
		require.NoError(t, host.Close(context.Background()))
	})
	require.NoError(t, table.Update(t.Context(), records))
	return table
}

// Plan returns the plan for an input, which the policy must have made itself, with
// no step dropped or clamped, and the same when it is asked again, on either engine.
func (p *Planner) Plan(t *testing.T, in repair.Input) repair.Plan {
	t.Helper()
	d := p.Table.PlanRepair(t.Context(), in)
	require.Empty(t, d.Fallback, d.Detail)
	require.Equal(t, p.ID, d.PolicyID)
	require.Equal(t, len(in.Ranges), d.Plan.Count(repair.Kept), "%+v", d.Plan.Steps)
	require.Len(t, d.Plan.Steps, len(in.Ranges))
	require.Equal(t, d, p.Table.PlanRepair(t.Context(), in))
	require.Equal(t, d, p.interpreted.PlanRepair(t.Context(), in), "both engines")
	again, err := policies.ReplayRepair(t.Context(), p.Wasm, nil, in)
	require.NoError(t, err)
	require.Equal(t, d.Plan, again.Plan)
	return d.Plan
}

// Away returns what a node n1 of zone 1 meets that was away: partitions 0 to n-1,
// each of which n2, next to it in zone 1, and n3, far away in zone 2, have more of.
func Away(n int) repair.Input {
	in := repair.Input{
		TickS: 1_700_000_000, MaxSteps: repair.MaxRanges,
		Peers: []repair.Peer{
			{Name: "n1", Node: 1, Zone: 1, State: repair.Rejoining},
			{Name: "n3", Node: 3, Zone: 2, RTTUS: 80_000, Link: repair.LinkFar},
			{Name: "n2", Node: 2, Zone: 1, RTTUS: 600, Link: repair.LinkLocal},
		},
	}
	for i := range n {
		for from := range uint32(2) {
			in.Ranges = append(in.Ranges, repair.Range{Partition: uint64(i), From: 1 + from, Dots: 10, Keys: 10, Total: 1000, Bytes: 2560})
		}
	}
	return in
}
