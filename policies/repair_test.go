package policies_test

import (
	_ "embed"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/repair"
	"edged.dev/edged/policies"
	wasmrt "edged.dev/edged/runtime"
)

//go:generate wat2wasm testdata/planner.wat -o testdata/planner.wasm

//go:embed testdata/planner.wasm
var planner []byte

// plans returns a table in which the test's repair policy is in force.
func plans(t testing.TB, params []byte) (*policies.Table, string) {
	t.Helper()
	plan, err := policies.PlanDeploy(nil, planner, policies.DeploySpec{Name: "planner", Kind: policies.KindRepair, Params: params, NowMS: 1})
	require.NoError(t, err)
	table := newTable(t)
	require.NoError(t, table.Update(t.Context(), store(nil, plan.Writes...)))
	require.Empty(t, table.Problems())
	require.True(t, table.PlansRepair())
	return table, plan.PolicyID
}

// twoRanges is partition 0 from n2, and partition 1 from n3.
func twoRanges() repair.Input {
	return repair.Input{
		TickS: 1_700_000_000, MaxSteps: 16,
		Peers:  []repair.Peer{{Name: "n1"}, {Name: "n2", Node: 2, RTTUS: 500, Zone: 1}, {Name: "n3", Node: 3, RTTUS: 50_000, Zone: 2}},
		Ranges: []repair.Range{{Partition: 0, From: 1, Dots: 5}, {Partition: 1, From: 2, Dots: 7, AgeMS: 3000}},
	}
}

// step writes a step of a plan's frame.
func step(s repair.Step, filterOff, filterLen uint32) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, s.Range)
	b = append(b, byte(s.Strategy), byte(s.Direction))
	b = le.AppendUint16(b, s.Priority)
	b = le.AppendUint32(b, s.RateKiBps)
	b = le.AppendUint32(b, s.DelayMS)
	b = le.AppendUint64(b, s.MaxBytes)
	b = le.AppendUint32(b, filterOff)
	return le.AppendUint32(b, filterLen)
}

// planFrame writes a frame of these steps, and filters behind them.
func planFrame(filters string, steps ...[]byte) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, 0x31504445)
	b = le.AppendUint32(b, uint32(16+32*len(steps)+len(filters)))
	b = le.AppendUint32(b, uint32(len(steps)))
	b = le.AppendUint32(b, 0)
	for _, s := range steps {
		b = append(b, s...)
	}
	return append(b, filters...)
}

func TestAPolicyPlansRepair(t *testing.T) {
	t.Parallel()
	filter := "\x00\x00\x04\x00hot/\x01\x00\x05\x00cold/"
	table, id := plans(t, planFrame(filter,
		step(repair.Step{Range: 0, Strategy: repair.Sync, Priority: 1}, 0, 0),
		step(repair.Step{Range: 1, Strategy: repair.Sync, Direction: repair.Fetch, Priority: 9, RateKiBps: 500, DelayMS: 250, MaxBytes: 1 << 20}, 80, uint32(len(filter))),
	))
	d := table.PlanRepair(t.Context(), twoRanges())
	require.Empty(t, d.Fallback, d.Detail)
	require.Equal(t, id, d.PolicyID)
	require.Equal(t, uint64(1), d.Epoch)
	require.NotZero(t, d.FuelUsed)
	require.Len(t, d.Plan.Steps, 2)
	require.Equal(t, repair.Planned{
		Step: repair.Step{
			Range: 1, Strategy: repair.Sync, Direction: repair.Fetch, Priority: 9, RateKiBps: 500, DelayMS: 250, MaxBytes: 1 << 20,
			Rules: []repair.Rule{{Prefix: "hot/"}, {Last: true, Prefix: "cold/"}},
		},
		Fate: repair.Kept, Partition: 1, Peer: "n3",
	}, d.Plan.Steps[0])
	require.Equal(t, []policies.Count{{PolicyID: id, Reason: "plan", N: 1}}, table.Counts())
}

// TestTheBuiltinPlanTakesOver tries each way in which a policy can fail.
func TestTheBuiltinPlanTakesOver(t *testing.T) {
	t.Parallel()
	in := twoRanges()
	for params, reason := range map[string]string{
		"l": "out_of_fuel", "t hello": "trap", "r": "too_deep", "p": "bad_pointer", "g": "guest_error", "x": "too_long",
		"EDP1": "malformed", string(planFrame("")[:15]): "malformed", string(response(0, 0, "", 0)): "malformed",
	} {
		table, id := plans(t, []byte(params))
		for range 2 {
			d := table.PlanRepair(t.Context(), in)
			require.Equal(t, reason, d.Fallback, "%q", params)
			require.NotEmpty(t, d.Detail)
			require.Equal(t, repair.Builtin(in), d.Plan)
			require.Equal(t, id, d.PolicyID)
		}
		require.Equal(t, []policies.Count{{PolicyID: id, Reason: reason, Failure: true, N: 2}}, table.Counts())
	}
}

func TestAPlanIsAFunctionOfItsRequest(t *testing.T) {
	t.Parallel()
	table, _ := plans(t, []byte("c"))
	in := twoRanges()
	first := table.PlanRepair(t.Context(), in)
	require.Empty(t, first.Fallback, first.Detail)
	for range 3 { // the guest counts its calls, in a global and in memory
		require.Equal(t, first, table.PlanRepair(t.Context(), in))
	}
	again, err := policies.ReplayRepair(t.Context(), planner, []byte("c"), in)
	require.NoError(t, err)
	require.Equal(t, first.Plan, again.Plan)
	require.Equal(t, first.Request, again.Request)
	require.Equal(t, first.PolicyID, again.PolicyID)
}

func TestAPlanOfAReplacedPolicyIsMadeAgain(t *testing.T) {
	t.Parallel()
	table, in := newTable(t), twoRanges()
	one, err := policies.PlanDeploy(nil, planner, policies.DeploySpec{Name: "one", Kind: policies.KindRepair, Params: []byte("c"), NowMS: 1})
	require.NoError(t, err)
	records := store(nil, one.Writes...)
	require.NoError(t, table.Update(t.Context(), records))
	first := table.PlanRepair(t.Context(), in)
	require.Empty(t, first.Fallback, first.Detail)
	two, err := policies.PlanBindRepair(records, policies.BuiltinPlan)
	require.NoError(t, err)
	records = store(records, two.Writes...)
	require.NoError(t, table.Update(t.Context(), records))

	again, err := table.ReplayRepair(t.Context(), records, one.PolicyID, in)
	require.NoError(t, err)
	require.Equal(t, first.Plan, again.Plan)
	require.Equal(t, one.PolicyID, again.PolicyID)
	_, err = table.ReplayRepair(t.Context(), nil, one.PolicyID, in)
	require.ErrorContains(t, err, "has been deleted")
}

func TestWithoutAPolicyTheBuiltinPlans(t *testing.T) {
	t.Parallel()
	table, in := newTable(t), twoRanges()
	require.False(t, table.PlansRepair())
	require.Equal(t, policies.RepairDecision{PolicyID: "built-in", Plan: repair.Builtin(in)}, table.PlanRepair(t.Context(), in))

	plan, err := policies.PlanBindRepair(nil, policies.BuiltinPlan)
	require.NoError(t, err)
	require.NoError(t, table.Update(t.Context(), store(nil, plan.Writes...)))
	require.False(t, table.PlansRepair())
	require.Equal(t, policies.RepairDecision{PolicyID: "built-in", Epoch: 1, Plan: repair.Builtin(in)}, table.PlanRepair(t.Context(), in))
}

func TestARepairPolicyIsBoundOnceAndRolledBack(t *testing.T) {
	t.Parallel()
	spec := policies.DeploySpec{Name: "one", Kind: policies.KindRepair, Params: planFrame(""), NowMS: 1}
	one, err := policies.PlanDeploy(nil, planner, spec)
	require.NoError(t, err)
	records := store(nil, one.Writes...)
	merge, err := policies.PlanDeploy(records, scripted, policies.DeploySpec{Name: "merge", Params: response(0, 1, "", 0), NowMS: 1})
	require.NoError(t, err)
	require.Equal(t, uint64(2), merge.Epoch)
	records = store(records, merge.Writes...)
	spec.Name, spec.Params = "two", []byte("c")
	two, err := policies.PlanDeploy(records, planner, spec)
	require.NoError(t, err)
	require.NotEqual(t, one.PolicyID, two.PolicyID)
	require.Len(t, two.Writes, 2, "the module is stored already")
	records = store(records, two.Writes...)

	table := newTable(t)
	require.NoError(t, table.Update(t.Context(), records))
	require.Empty(t, table.Problems())
	b, ok := table.RepairBinding()
	require.True(t, ok)
	require.Equal(t, two.PolicyID, b.Policy)
	require.True(t, b.Ready)
	require.Len(t, table.Bindings(), 1, "the repair policy decides no keys")
	view, err := table.Resolve(t.Context(), []byte("k"), []policies.Sibling{sib("a", 1, 0), sib("b", 2, 0)})
	require.NoError(t, err)
	require.Equal(t, merge.PolicyID, view.PolicyID)
	_, err = policies.PlanDelete(records, one.PolicyID)
	require.ErrorContains(t, err, "binding of repair names it")

	back, err := policies.PlanRollbackRepair(records)
	require.NoError(t, err)
	require.Equal(t, one.PolicyID, back.PolicyID)
	require.NoError(t, table.Update(t.Context(), store(records, back.Writes...)))
	b, _ = table.RepairBinding()
	require.Equal(t, one.PolicyID, b.Policy)
	require.Equal(t, uint64(4), b.Epoch)

	_, err = policies.PlanRollbackRepair(nil)
	require.ErrorContains(t, err, "no such binding")
}

func TestKindsAreNotMixed(t *testing.T) {
	t.Parallel()
	one, err := policies.PlanDeploy(nil, planner, policies.DeploySpec{Name: "one", Kind: policies.KindRepair, NowMS: 1})
	require.NoError(t, err)
	records := store(nil, one.Writes...)
	_, err = policies.PlanBind(records, nil, one.PolicyID)
	require.ErrorContains(t, err, "of this kind")
	_, err = policies.PlanBindRepair(records, policies.LWW)
	require.ErrorContains(t, err, "of this kind")
	_, err = policies.PlanDeploy(nil, planner, policies.DeploySpec{Name: "one", Kind: policies.KindRepair, Prefix: []byte("p/"), NowMS: 1})
	require.ErrorContains(t, err, "whole cluster")
	_, err = policies.PlanDeploy(nil, planner, policies.DeploySpec{Name: "one", Kind: "other", NowMS: 1})
	require.ErrorContains(t, err, "kind")

	var refused *wasmrt.AdmissionError
	_, err = policies.CheckRepair(t.Context(), scripted, nil)
	require.ErrorAs(t, err, &refused)
	require.ErrorContains(t, err, "edged_v1_repair")
	_, err = policies.Check(t.Context(), planner)
	require.ErrorAs(t, err, &refused)
}

func TestARepairPolicyIsTriedBeforeItIsDeployed(t *testing.T) {
	t.Parallel()
	report, err := policies.CheckRepair(t.Context(), planner, planFrame(""))
	require.NoError(t, err)
	require.Len(t, report.Trials, 4)
	require.Equal(t, repair.MaxRanges, report.Trials[3].Ranges)

	var failed *policies.TrialError
	_, err = policies.CheckRepair(t.Context(), planner, []byte("t why"))
	require.True(t, errors.As(err, &failed))
	require.ErrorContains(t, err, "planning 0 ranges ended with trap")
	require.ErrorContains(t, err, "t why")
	_, err = policies.CheckRepair(t.Context(), planner, planFrame("", step(repair.Step{Range: 9999, Strategy: repair.Sync}, 0, 0)))
	require.ErrorContains(t, err, "every step is dropped")
}

// TestTheFrameOfARepairRequest pins the layout that edged.h tells.
func TestTheFrameOfARepairRequest(t *testing.T) {
	t.Parallel()
	in := twoRanges()
	in.BudgetBytes, in.CPUPermille, in.Inflight, in.ForegroundP99US, in.RequestsPerS, in.UTCOffsetS = 11, 12, 13, 14, 15, -3600
	in.Hot = []repair.Hot{{Prefix: "session:", Reads: 7}, {Prefix: "c", Reads: 3}}
	in.Ranges[1] = repair.Range{
		Partition: 5, From: 2, Keys: 21, Total: 22, Bytes: 23, Dots: 24, AgeMS: 25_999, RepairMS: 26_000, Reads: 27, RTTMS: 28, Failures: 29,
	}
	in.Peers[2] = repair.Peer{Name: "n3", Node: 31, CPUPermille: 32, MemPermille: 33, EgressKiBps: 34, RTTUS: 35, Zone: 36, State: repair.Rejoining, Link: repair.LinkFar}
	b := policies.AppendRepairRequest(nil, in, []byte("params"))
	le := binary.LittleEndian
	words := func(off, n int) (out []uint32) {
		for i := range n {
			out = append(out, le.Uint32(b[off+4*i:]))
		}
		return out
	}
	require.Equal(t, []uint32{0x31514445, uint32(len(b)), 2, 96, 3, 224, 368, 6, 11, 0, 16, 12, 13, 1}, words(0, 14))
	require.Equal(t, in.TickS, le.Uint64(b[56:]))
	require.Equal(t, []uint32{14, 15, 0xffff_f1f0, 2, 320, 0, 0, 0}, words(64, 8))
	require.Equal(t, []uint32{5, 0, 2, 0, 21, 0, 22, 0, 23, 0, 24, 0, 25, 26, 27, 29<<16 | 28}, words(160, 16))
	require.Equal(t, []uint32{31, 0, 32, 33, 34, 35, 3<<16 | 36, 3}, words(288, 8))
	require.Equal(t, []uint32{352, 8, 7, 0, 360, 1, 3, 0}, words(320, 8))
	require.Equal(t, "session:c\x00\x00\x00\x00\x00\x00\x00params\x00\x00", string(b[352:]))

	for range repair.MaxRanges {
		in.Ranges = append(in.Ranges, repair.Range{})
	}
	for range repair.MaxPeers {
		in.Peers = append(in.Peers, repair.Peer{})
	}
	for range repair.MaxHot {
		in.Hot = append(in.Hot, repair.Hot{Prefix: strings.Repeat("p", policies.MaxPrefixBytes+1)})
	}
	b = policies.AppendRepairRequest(nil, in, make([]byte, 4<<10))
	require.Equal(t, uint32(repair.MaxRanges), le.Uint32(b[8:]), "what is beyond the limit is left out")
	require.Equal(t, uint32(repair.MaxPeers), le.Uint32(b[16:]))
	require.Equal(t, uint32(repair.MaxHot), le.Uint32(b[76:]))
	hot := b[le.Uint32(b[80:]):]
	require.Equal(t, uint32(policies.MaxPrefixBytes), le.Uint32(hot[16*2+4:]))
	require.LessOrEqual(t, len(b), policies.MaxRepairRequestBytes)
}

func TestBadPlansAreRefused(t *testing.T) {
	t.Parallel()
	good := planFrame("", step(repair.Step{Strategy: repair.Sync}, 0, 0))
	edit := func(at int, value byte) []byte {
		b := append([]byte(nil), good...)
		b[at] = value
		return b
	}
	for name, b := range map[string][]byte{
		"empty": {}, "short": good[:15], "magic": edit(0, 'X'), "total": edit(4, 49), "count": edit(8, 2), "count high": edit(11, 0xff),
		"reserved": edit(12, 1), "long": make([]byte, policies.MaxRepairResponseBytes+1),
	} {
		_, err := policies.ParseRepairResponse(b)
		require.Error(t, err, name)
	}
	steps, err := policies.ParseRepairResponse(good)
	require.NoError(t, err)
	require.Equal(t, []repair.Step{{Strategy: repair.Sync}}, steps)

	for name, c := range map[string]struct {
		filter   string
		off, len uint32
		want     string
	}{
		"in the steps": {"\x00\x00\x01\x00a", 47, 5, "outside"}, "beyond the end": {"\x00\x00\x01\x00a", 48, 6, "outside"},
		"wraps": {"\x00\x00\x01\x00a", 0xffff_ffff, 5, "outside"}, "no length": {"", 48, 0, "without a length"},
		"operation": {"\x02\x00\x01\x00a", 48, 5, "operation 2"}, "kind": {"\x00\x01\x01\x00a", 48, 5, "kind 1"},
		"cut": {"\x00\x00\x01", 48, 3, "within a rule"}, "cut prefix": {"\x00\x00\x02\x00a", 48, 5, "within a prefix"},
		"longest": {"\x00\x00\xfc\x03" + strings.Repeat("a", 1020), 48, 1024, ""},
		"long":    {"\x00\x00\x01\x04" + strings.Repeat("a", 1025), 48, 1029, "1029 bytes, the limit is 1024"},
	} {
		steps, err := policies.ParseRepairResponse(planFrame(c.filter, step(repair.Step{}, c.off, c.len)))
		require.NoError(t, err, name)
		require.Contains(t, steps[0].Bad, c.want, name)
	}
	rule := "\x00\x00\x01\x00a"
	steps, err = policies.ParseRepairResponse(planFrame(rule+rule[:1], step(repair.Step{}, 112, 5), step(repair.Step{}, 112, 5), step(repair.Step{}, 112, 6)))
	require.NoError(t, err)
	require.Equal(t, []repair.Rule{{Prefix: "a"}}, steps[0].Rules)
	require.Equal(t, steps[0], steps[1], "steps may share a filter")
	require.Equal(t, "filters overlap", steps[2].Bad, "small frames make no large plans")
}

func FuzzParseRepairResponse(f *testing.F) {
	f.Add(planFrame("", step(repair.Step{Strategy: repair.Sync}, 0, 0)))
	f.Add(planFrame("\x00\x00\x01\x00a", step(repair.Step{Range: 1, Strategy: repair.Defer, DelayMS: 1 << 31}, 48, 5)))
	f.Add(planFrame("\x01\x00\x00\x00\x00\x00", step(repair.Step{Range: 7}, 80, 6), step(repair.Step{Direction: repair.Push}, 80, 1)))
	f.Add([]byte("EDP1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		steps, err := policies.ParseRepairResponse(b)
		if err != nil {
			require.Nil(t, steps)
			return
		}
		require.LessOrEqual(t, 16+32*len(steps), len(b))
		for _, s := range steps {
			require.True(t, s.Bad == "" || len(s.Rules) == 0)
		}
		in := twoRanges()
		orders := map[uint64]int{}
		for _, o := range repair.Guard(in, steps).Orders() {
			orders[o.Partition]++
			require.LessOrEqual(t, o.DelayMS, int64(repair.MaxIntervalMS))
		}
		require.Equal(t, map[uint64]int{0: 1, 1: 1}, orders, "every partition is planned, once")
	})
}
