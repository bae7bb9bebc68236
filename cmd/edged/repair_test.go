package main

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/api/admin"
)

func somePlans() admin.RepairPlans {
	head := admin.RepairPlanHead{
		Seq: 4, AtMS: 1_700_000_000_000, Policy: "0123456789abcdef0123", Epoch: 3, Ranges: 3,
		Steps: map[string]int{"kept": 1, "clamped": 1, "dropped": 2}, Asked: 2, Repaired: 1, Failures: 1,
	}
	return admin.RepairPlans{
		Policy: "quiet", ID: head.Policy, Epoch: 3, Ready: true, Counters: map[string]uint64{"plan": 7, "out_of_fuel": 1},
		History: []admin.RepairPlanHead{head, {Seq: 3, AtMS: head.AtMS, Policy: head.Policy, Ranges: 3, Fallback: "trap"}},
		Plan: &admin.RepairPlan{
			RepairPlanHead: head, Enforced: true, FuelUsed: 99, Log: []string{"night"},
			Input: admin.RepairInput{
				TickS: 1_700_000_000, UTCOffsetS: 3600, MaxSteps: 64, CPUPermille: 125, ForegroundP99US: 1500, RequestsPerS: 42,
				Peers:  []admin.RepairPeer{{Name: "n1", State: 3}, {Name: "n2", Zone: 1, RTTUS: 30_000, Link: 3}},
				Ranges: []admin.RepairRange{{Partition: 7, Peer: "n2", Dots: 5, Bytes: 2048, Keys: 100, AgeMS: 1500, LastRepairMS: 60_000, ReadsPerS: 9}},
				Hot:    []admin.RepairHot{{Prefix: "session:", ReadsPerS: 900}},
			},
			Steps: []admin.RepairStep{
				{Partition: 7, Peer: "n2", Strategy: "sync", Priority: 9, RateKiBps: 512, MaxBytes: 1 << 20, DelayMS: 250, First: []string{"session:"}, Fate: "kept"},
				{Strategy: "sync", Fate: "dropped", Why: "range 9 of 1: there is no such range"},
			},
			MoreDropped: 1,
			Outcomes:    []admin.RepairOutcome{{Partition: 7, Peer: "n2", AskedMS: 260, EndedMS: 1800, Failures: 1}},
		},
	}
}

func TestAReplayThatFailsIsNoOtherPlan(t *testing.T) {
	t.Parallel()
	require.Equal(t, "the same plan", replayText(admin.RepairReplay{Same: true}))
	require.Equal(t, "NOT THE SAME: it differs", replayText(admin.RepairReplay{Detail: "it differs"}))
	require.Equal(t, "not made: the policy has been deleted", replayText(admin.RepairReplay{Failed: true, Detail: "the policy has been deleted"}))
}

func TestRepairPlanIsExplained(t *testing.T) {
	t.Parallel()
	plans := somePlans()
	replayed := plans
	replayed.Replay = &admin.RepairReplay{Same: true}
	server := fakeNode(t, map[string]any{
		"GET /v1/repair/plan": plans, "GET /v1/repair/plan?replay=1&seq=4": replayed,
		"GET /v1/repair/plan?seq=9": admin.Problem{Title: "no such plan", Status: 404, Detail: "plan 9 is not remembered"},
	})
	code, out, talk := at(t, []string{"EDGED_ADMIN=" + server.URL}, "repair", "plan")
	require.Zero(t, code, talk)
	require.Regexp(t, `(?m)^POLICY +quiet \(0123456789ab.*\), epoch 3$`, out)
	require.Regexp(t, `(?m)^OUT_OF_FUEL +1$`, out)
	require.Regexp(t, `(?m)^STEPS +1 clamped, 2 dropped, 1 kept$`, out)
	require.Regexp(t, `(?m)^OUTCOME +3 ranges; 2 partitions asked for, 1 repaired, 1 streams broke off$`, out)
	require.Regexp(t, `(?m)^3 +\d\d:\d\d:\d\d .* trap$`, out)
	require.NotContains(t, out, "WHY")

	code, out, talk = at(t, []string{"EDGED_ADMIN=" + server.URL}, "repair", "plan", "--explain")
	require.Zero(t, code, talk)
	require.Regexp(t, `(?m)^TIME +2023-11-14T23:13:20\+01:00$`, out)
	require.Regexp(t, `(?m)^LOAD +processors 12\.5%, 42 requests/s, p99 1\.5ms, 0 sessions$`, out)
	require.Regexp(t, `(?m)^HOT +"session:" 900 reads/s$`, out)
	require.Regexp(t, `(?m)^n2 +1 +up +far +30ms`, out)
	require.Regexp(t, `(?m)^7 +n2 +5 +2KiB +100 +1\.5s +1m0s ago +9 +no +0$`, out)
	require.Regexp(t, `(?m)^1 +7 +n2 +sync +9 +512KiB/s +1MiB +250ms +session: +- +kept +repaired 1\.8s, broke off 1 times +-$`, out)
	require.Regexp(t, `(?m)^2 +0 +- +sync .* dropped +- +range 9 of 1: there is no such range$`, out)
	require.Contains(t, out, "and 1 more steps that were dropped")

	code, out, _ = at(t, []string{"EDGED_ADMIN=" + server.URL}, "repair", "plan", "--seq", "4", "--replay")
	require.Zero(t, code)
	require.Regexp(t, `(?m)^REPLAY +the same plan$`, out)
	code, _, talk = at(t, []string{"EDGED_ADMIN=" + server.URL}, "repair", "plan", "--seq", "9")
	require.Equal(t, exitFailed, code)
	require.Contains(t, talk, "plan 9 is not remembered")
}

func TestRepairPlanWithoutAPolicy(t *testing.T) {
	t.Parallel()
	server := fakeNode(t, map[string]any{"GET /v1/repair/plan": admin.RepairPlans{Policy: "built-in", ID: "built-in", Ready: true}})
	code, out, talk := at(t, []string{"EDGED_ADMIN=" + server.URL}, "repair", "plan", "--explain")
	require.Zero(t, code, talk)
	require.Regexp(t, `(?m)^POLICY +built-in \(no policy is deployed\)$`, out)
	require.Contains(t, out, "lacked nothing")
}

func TestRepairPolicyIsDeployedAndRolledBack(t *testing.T) {
	t.Parallel()
	server := fakeNode(t, map[string]any{
		"POST /v1/policies?kind=repair&name=planner":  admin.Deployed{Name: "planner", ID: "abc", Epoch: 2, Copies: "2/2"},
		"POST /v1/policies?kind=repair&name=built-in": admin.Deployed{Name: "built-in", ID: "built-in", Epoch: 3, Copies: "2/2"},
		"POST /v1/policies/rollback?kind=repair":      admin.RolledBack{Epoch: 4},
		"GET /v1/policies": admin.Policies{Policies: []admin.Policy{
			{Name: "planner", ID: "abc", Kind: "repair", Ready: true, Bindings: []admin.Binding{{Epoch: 2}}},
		}},
	})
	file := filepath.Join("..", "..", "policies", "testdata", "planner.wasm")
	code, out, talk := at(t, []string{"EDGED_ADMIN=" + server.URL}, "policy", "deploy", file, "--kind", "repair")
	require.Zero(t, code, talk)
	require.Equal(t, "planner (abc) plans repair from epoch 2 on; written to 2/2 copies\n", out)
	code, out, talk = at(t, []string{"EDGED_ADMIN=" + server.URL}, "policy", "deploy", "built-in", "--kind", "repair")
	require.Zero(t, code, talk)
	require.Contains(t, out, "built-in (built-in) plans repair from epoch 3 on")
	code, out, talk = at(t, []string{"EDGED_ADMIN=" + server.URL}, "policy", "rollback", "--kind", "repair")
	require.Zero(t, code, talk)
	require.Equal(t, "the built-in plan plans repair again, from epoch 4 on\n", out)
	code, out, talk = at(t, []string{"EDGED_ADMIN=" + server.URL}, "policy", "list")
	require.Zero(t, code, talk)
	require.Regexp(t, `(?m)^planner +abc +repair .* repair@2$`, out)

	for _, args := range [][]string{
		{"deploy", file, "--kind", "repair", "--bind", "p/"},
		{"deploy", file, "--kind", "other"},
		{"deploy", "built-in", "--kind", "repair", "--name", "x"},
		{"rollback", "p/", "--kind", "repair"},
		{"rollback"},
		{"deploy", file},
	} {
		code, _, talk = at(t, []string{"EDGED_ADMIN=" + server.URL}, append([]string{"policy"}, args...)...)
		require.Equal(t, exitUsage, code, "%v: %s", args, talk)
	}
}
