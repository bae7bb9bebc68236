package node_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/api/admin"
)

// example reads a module of wasm-examples.
func example(t *testing.T, path ...string) []byte {
	t.Helper()
	wasm, err := os.ReadFile(filepath.Join(append([]string{"..", "wasm-examples"}, path...)...))
	require.NoError(t, err)
	return wasm
}

// TestARepairPolicyOrdersARejoin goes all the way: a module deployed at one node
// reaches the others by the system partition, plans the rejoin of one that was
// away, and its plan is shown and can be made again.
func TestARepairPolicyOrdersARejoin(t *testing.T) {
	t.Parallel()
	l := newLab(t, "n1", "n2", "n3")
	n1 := l.start(l.config("n1")).ready()
	n2 := l.start(l.config("n2", n1.ports.Node)).ready()
	n3 := l.start(l.config("n3", n1.ports.Node)).ready()
	done, err := n1.admin.DeployRepair(t.Context(), example(t, "nearest-zone-wat", "nearest.wasm"), "nearest")
	require.NoError(t, err)
	for _, f := range []*life{n1, n2, n3} {
		require.Eventually(t, func() bool {
			p, err := f.admin.Policy(t.Context(), "nearest")
			return err == nil && p.Ready && p.Kind == "repair" && len(p.Bindings) == 1 && p.ID == done.ID
		}, time.Minute, 5*time.Millisecond)
	}
	n3.stop()
	for i := range 200 {
		status, _ := n1.do(http.MethodPut, fmt.Sprint("k", i), "value")
		require.Equal(t, http.StatusNoContent, status)
	}
	n3 = l.start(l.config("n3", n1.ports.Node)).ready()
	plans, err := n3.admin.RepairPlan(t.Context(), 1, true)
	require.NoError(t, err)
	require.Equal(t, "nearest", plans.Policy)
	require.Equal(t, done.Epoch, plans.Epoch)
	require.True(t, plans.Replay.Same, plans.Replay.Detail)
	plan := plans.Plan
	require.True(t, plan.Enforced)
	require.Equal(t, done.ID, plan.Policy)
	require.Empty(t, plan.Fallback, plan.Detail)
	require.Equal(t, plan.Ranges, plan.RepairPlanHead.Steps["kept"])
	require.GreaterOrEqual(t, len(plan.Input.Peers), 2, "itself, and who answered in time")
	require.Equal(t, "n3", plan.Input.Peers[0].Name)
	require.NotEmpty(t, plan.Outcomes)
	for _, o := range plan.Outcomes {
		require.NotEmpty(t, o.Peer)
		require.Zero(t, o.Failures)
	}
	require.NotZero(t, plans.Counters["plan"])
	metrics, err := n3.admin.Metrics(t.Context())
	require.NoError(t, err)
	require.Contains(t, string(metrics), "edged_repair_plans_total")
	require.Regexp(t, `edged_repair_steps_total\{fate="kept"\} [1-9]`, string(metrics))
	status, body := n3.do(http.MethodGet, "k7", "")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "value", body)

	back, err := n1.admin.RollbackRepair(t.Context())
	require.NoError(t, err)
	require.Empty(t, back.ID)
	require.Eventually(t, func() bool {
		plans, err := n3.admin.RepairPlan(t.Context(), 0, false)
		return err == nil && plans.Policy == "built-in" && plans.Epoch == 0
	}, time.Minute, 5*time.Millisecond)
}

//go:generate wat2wasm testdata/loops.wat -o testdata/loops.wasm
//go:generate wat2wasm testdata/greedy.wat -o testdata/greedy.wasm

// TestABadRepairPolicyKeepsNothingBack: what passed the trial of an upload, and then
// loops or asks for what it may not, orders nothing; the node comes back whole, and
// what became of the plan is counted and shown, and can be made again.
func TestABadRepairPolicyKeepsNothingBack(t *testing.T) {
	t.Parallel()
	for name, check := range map[string]func(*testing.T, admin.RepairPlans, string){
		"loops": func(t *testing.T, plans admin.RepairPlans, metrics string) {
			require.Equal(t, "out_of_fuel", plans.Plan.Fallback)
			require.NotEmpty(t, plans.Plan.Detail)
			require.Equal(t, map[string]int{"kept": plans.Plan.Ranges}, plans.Plan.RepairPlanHead.Steps, "the built-in plan's")
			require.NotZero(t, plans.Counters["out_of_fuel"])
			require.Regexp(t, `edged_repair_fallbacks_total [1-9]`, metrics)
			require.Regexp(t, `edged_policy_outcomes_total\{outcome="out_of_fuel",policy="`+plans.ID+`"\} [1-9]`, metrics)
		},
		"greedy": func(t *testing.T, plans admin.RepairPlans, metrics string) {
			require.Empty(t, plans.Plan.Fallback)
			steps := plans.Plan.RepairPlanHead.Steps
			require.Equal(t, 3, steps["dropped"], plans.Plan.Steps)
			require.Equal(t, 2, steps["clamped"], plans.Plan.Steps)
			require.Positive(t, steps["added"], "what it named no step for")
			var why []string
			for _, s := range plans.Plan.Steps {
				if s.Why != "" && s.Fate != "added" {
					why = append(why, s.Why)
				}
			}
			require.Equal(t, []string{
				"rate of 4294967295 KiB/s lowered to 10485760", "rate of 1 KiB/s raised to 128", "range 0 was named before",
				fmt.Sprintf("range 4294967294 of %d: there is no such range", plans.Plan.Ranges), "a node fetches and never pushes: the other side asks by itself",
			}, why)
			require.Regexp(t, `edged_repair_steps_total\{fate="dropped"\} [1-9]`, metrics)
			require.Regexp(t, `edged_repair_steps_total\{fate="clamped"\} [1-9]`, metrics)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wasm, err := os.ReadFile(filepath.Join("testdata", name+".wasm"))
			require.NoError(t, err)
			plans, metrics := plannedReturn(t, name, wasm)
			require.Equal(t, name, plans.Policy)
			require.True(t, plans.Replay.Same, plans.Replay.Detail)
			check(t, plans, metrics)
		})
	}
}

// plannedReturn has a node come back by a policy to what was written meanwhile, all of
// which must then be there, and returns its first plan and its metrics.
func plannedReturn(t *testing.T, name string, wasm []byte) (plans admin.RepairPlans, metrics string) {
	t.Helper()
	l := newLab(t, "n1", "n2", "n3")
	n1 := l.start(l.config("n1")).ready()
	n2 := l.start(l.config("n2", n1.ports.Node)).ready()
	n3 := l.start(l.config("n3", n1.ports.Node)).ready()
	done, err := n1.admin.DeployRepair(t.Context(), wasm, name)
	require.NoError(t, err)
	for _, f := range []*life{n1, n2, n3} {
		require.Eventually(t, func() bool {
			p, err := f.admin.Policy(t.Context(), name)
			return err == nil && p.Ready && p.ID == done.ID
		}, time.Minute, 5*time.Millisecond)
	}
	n3.stop()
	for i := range 200 {
		status, _ := n1.do(http.MethodPut, fmt.Sprint("k", i), "value")
		require.Equal(t, http.StatusNoContent, status)
	}
	n3 = l.start(l.config("n3", n1.ports.Node)).ready()
	for i := range 200 {
		status, body := n3.do(http.MethodGet, fmt.Sprint("k", i), "")
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, "value", body)
	}
	plans, err = n3.admin.RepairPlan(t.Context(), 1, true)
	require.NoError(t, err)
	text, err := n3.admin.Metrics(t.Context())
	require.NoError(t, err)
	return plans, string(text)
}

// TestARepairPolicyThatCannotBeDeployed: bad modules are refused with a reason, and
// nothing is written.
func TestARepairPolicyThatCannotBeDeployed(t *testing.T) {
	t.Parallel()
	l := newLab(t, "n1")
	n1 := l.start(l.config("n1")).ready()
	refused := func(wasm []byte, why string) {
		_, err := n1.admin.DeployRepair(t.Context(), wasm, "mine")
		var p *admin.Problem
		require.ErrorAs(t, err, &p)
		require.Equal(t, http.StatusUnprocessableEntity, p.Status)
		require.Contains(t, p.Detail, why)
	}
	refused([]byte("no module"), "refuse module")
	refused(example(t, "union-c", "union.wasm"), "no export edged_v1_repair")
	planner, err := os.ReadFile(filepath.Join("..", "policies", "testdata", "planner.wasm"))
	require.NoError(t, err)
	refused(planner, "planning 0 ranges") // without its parameters it answers what is no plan
	_, err = n1.admin.DeployPolicy(t.Context(), example(t, "nearest-zone-wat", "nearest.wasm"), "mine", "k/")
	require.ErrorContains(t, err, "no export edged_v1_merge")
	shown, err := n1.admin.Policies(t.Context())
	require.NoError(t, err)
	require.Len(t, shown, 3, "the built-in ones")
	_, err = n1.admin.RollbackRepair(t.Context())
	require.ErrorContains(t, err, "no such binding")
	_, err = n1.admin.RepairPlan(t.Context(), 99, false)
	require.ErrorContains(t, err, "not remembered")
	plans, err := n1.admin.RepairPlan(t.Context(), 0, false)
	require.NoError(t, err)
	require.Nil(t, plans.Plan)
	require.Equal(t, "built-in", plans.Policy)

	done, err := n1.admin.DeployRepair(t.Context(), nil, "built-in")
	require.NoError(t, err)
	plans, err = n1.admin.RepairPlan(t.Context(), 0, false)
	require.NoError(t, err)
	require.Equal(t, done.Epoch, plans.Epoch)
	require.True(t, plans.Ready)
}
