package httpapi_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/api/admin"
)

func (n *node) RepairPlans(_ context.Context, seq uint64, replay bool) (admin.RepairPlans, error) {
	if seq > 8 {
		return admin.RepairPlans{}, &admin.Problem{Type: "no-such-plan", Status: http.StatusNotFound}
	}
	out := admin.RepairPlans{Policy: "built-in", Plan: &admin.RepairPlan{RepairPlanHead: admin.RepairPlanHead{Seq: seq}}}
	if replay {
		out.Replay = &admin.RepairReplay{Same: true}
	}
	return out, nil
}

func (n *node) DeployRepair(_ context.Context, name string, wasm []byte) (admin.Deployed, error) {
	n.deployed = fmt.Sprintf("repair %s %d", name, len(wasm))
	return admin.Deployed{Name: name, ID: "abc", Epoch: 4}, n.policyErr
}

func (n *node) RollbackRepair(context.Context) (admin.RolledBack, error) {
	n.rolledBack = "repair"
	return admin.RolledBack{Name: "built-in", Epoch: 5}, n.policyErr
}

func TestRepairPlansAreShown(t *testing.T) {
	t.Parallel()
	c, addr, _ := operate(t, &node{}, "")
	plans, err := c.RepairPlan(t.Context(), 0, false)
	require.NoError(t, err)
	require.Equal(t, "built-in", plans.Policy)
	require.NotNil(t, plans.History, "an empty list is a list")
	require.Nil(t, plans.Replay)
	plans, err = c.RepairPlan(t.Context(), 7, true)
	require.NoError(t, err)
	require.Equal(t, uint64(7), plans.Plan.Seq)
	require.True(t, plans.Replay.Same)
	requireProblem(t, second(c.RepairPlan(t.Context(), 9, false)), 404, "no-such-plan")
	for _, query := range []string{"?seq=x", "?seq=-1", "?replay=2", "?other=1", "?seq=1&seq=2"} {
		require.Equal(t, 400, code(t, addr, admin.PathRepairPlan+query), query)
	}
}

func TestARepairPolicyIsDeployedByItsKind(t *testing.T) {
	t.Parallel()
	n := &node{}
	c, _, _ := operate(t, n, "")
	ctx := t.Context()
	done, err := c.DeployRepair(ctx, []byte("module"), "mine")
	require.NoError(t, err)
	require.Equal(t, uint64(4), done.Epoch)
	require.Equal(t, "repair mine 6", n.deployed)
	_, err = c.DeployRepair(ctx, nil, admin.BuiltinPlan)
	require.NoError(t, err)
	require.Equal(t, "repair built-in 0", n.deployed)
	_, err = c.DeployRepair(ctx, nil, "mine")
	require.ErrorContains(t, err, "empty")
	_, err = c.DeployRepair(ctx, []byte("module"), admin.BuiltinPlan)
	require.ErrorContains(t, err, "built-in")
	_, err = c.DeployRepair(ctx, []byte("module"), "")
	require.ErrorContains(t, err, "name has 0 bytes")
	_, err = c.RollbackRepair(ctx)
	require.NoError(t, err)
	require.Equal(t, "repair", n.rolledBack)
	_, err = c.DeployPolicy(ctx, []byte("module"), "mine", "p/")
	require.NoError(t, err)
	require.Equal(t, "mine p/ 6", n.deployed)
	n.policyErr = &admin.Problem{Type: "policy-refused", Status: http.StatusUnprocessableEntity}
	requireProblem(t, second(c.DeployRepair(ctx, []byte("module"), "mine")), 422, "policy-refused")
	requireProblem(t, second(c.RollbackRepair(ctx)), 422, "policy-refused")
}
