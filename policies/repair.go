package policies

import (
	"context"
	"errors"
	"fmt"

	"edged.dev/edged/internal/repair"
	wasmrt "edged.dev/edged/runtime"
)

const repairExport = "edged_v1_repair"

// RepairDecision is a plan and how it came about. It may be kept: the plan is a
// function of the policy and the request.
type RepairDecision struct {
	// PolicyID and Epoch name the binding in force: BuiltinPlan, or a policy's id.
	PolicyID string
	Epoch    uint64
	Plan     repair.Plan
	// Request is the frame that the policy was asked with, nil where none was.
	Request []byte
	// Fallback says why the built-in plan stands in for the policy's, in the words
	// of Count; empty where it does not. Detail says more.
	Fallback string
	Detail   string
	FuelUsed int64
	Log      []string
}

// bindRepair fills next.repair and readies its policy.
func (t *Table) bindRepair(ctx context.Context, st *state, old, next *snapshot) error {
	b, bound := st.binding(KindRepair, nil)
	if !bound || b.Policy == "" {
		return nil
	}
	p := builtin(BuiltinPlan)
	if b.Policy != BuiltinPlan {
		var err error
		if p, err = t.named(ctx, st, old, next, b); err != nil {
			return err
		}
	}
	next.repair = &binding{Binding: b, policy: p, conflict: st.repair.conflict}
	return nil
}

// PlansRepair reports whether a policy of the operator's plans repair: the
// built-in plan needs no asking.
func (t *Table) PlansRepair() bool {
	b := t.current.Load().repair
	return b != nil && !b.policy.builtin
}

// RepairBinding returns the binding of the repair policy; false if there is none.
func (t *Table) RepairBinding() (BindingStatus, bool) {
	b := t.current.Load().repair
	if b == nil {
		return BindingStatus{}, false
	}
	return BindingStatus{Binding: b.Binding, Ready: b.policy.notReady == nil, Conflict: b.conflict}, true
}

// PlanRepair asks the repair policy in force for a plan and holds its answer to
// the limits. It always has a plan: where the policy fails, or this node cannot
// run it, the built-in one, which is counted. Unlike merges, plans may differ from
// node to node.
func (t *Table) PlanRepair(ctx context.Context, in repair.Input) RepairDecision {
	for {
		s := t.current.Load()
		if s.repair == nil {
			return RepairDecision{PolicyID: BuiltinPlan, Plan: repair.Builtin(in)}
		}
		d, err := s.repair.policy.plan(ctx, in)
		if errors.Is(err, wasmrt.ErrClosed) && t.current.Load() != s {
			continue // the policy was replaced in the meantime
		}
		d.Epoch = s.repair.Epoch
		return d
	}
}

// plan asks the policy. The decision is complete also where there is an error.
func (p *policy) plan(ctx context.Context, in repair.Input) (RepairDecision, error) {
	d := RepairDecision{PolicyID: p.id}
	if p.builtin {
		d.Plan = repair.Builtin(in)
		return d, nil
	}
	if p.notReady != nil {
		p.counts.add(reasonNotReady)
		d.fallBack(in, reasonNotReady, p.notReady)
		return d, nil
	}
	d.Request = AppendRepairRequest(nil, in, p.manifest.Params)
	steps, r, err := d.ask(ctx, p.module)
	p.counts.add(r)
	if err != nil {
		d.fallBack(in, r, err)
		if r == reasonNode {
			return d, err
		}
		return d, nil
	}
	d.Plan = repair.Guard(in, steps)
	return d, nil
}

func (d *RepairDecision) fallBack(in repair.Input, r reason, cause error) {
	d.Plan, d.Fallback, d.Detail = repair.Builtin(in), r.String(), cause.Error()
}

// ask calls the guest. An error has its reason; that of the node is reasonNode.
func (d *RepairDecision) ask(ctx context.Context, m *wasmrt.Module) ([]repair.Step, reason, error) {
	if len(d.Request) > MaxRepairRequestBytes {
		return nil, reasonNode, fmt.Errorf("ask for a plan: request of %d bytes, the limit is %d", len(d.Request), MaxRepairRequestBytes)
	}
	res, err := m.Call(ctx, repairExport, d.Request, MaxRepairResponseBytes)
	d.FuelUsed, d.Log = res.FuelUsed, res.Log
	var fault *wasmrt.FaultError
	if errors.As(err, &fault) {
		return nil, faultReason(fault.Reason), fault
	}
	if err != nil {
		return nil, reasonNode, err
	}
	steps, err := ParseRepairResponse(res.Response)
	if err != nil {
		return nil, reasonMalformed, err
	}
	return steps, reasonPlan, nil
}

// CheckRepair judges a repair policy before it is deployed: admission,
// compilation, and plans over inputs of none, few and the most ranges. A policy
// that fails on one of them is refused with a *TrialError: unlike a merge, a plan
// can be made of any input. It uses a host of its own and leaves nothing behind.
func CheckRepair(ctx context.Context, wasm, params []byte) (Report, error) {
	return onOwnHost(ctx, func(host *wasmrt.Host) (Report, error) { return checkRepair(ctx, host, wasm, params) })
}

func checkRepair(ctx context.Context, host *wasmrt.Host, wasm, params []byte) (Report, error) {
	m := newManifest(DeploySpec{Name: "check", Kind: KindRepair, Params: params}, wasm)
	r := Report{Module: m.Module, Bytes: len(wasm)}
	mod, err := compileModule(ctx, host, wasm, m)
	if err != nil {
		return r, err
	}
	r.Info = mod.Info()
	for _, n := range []int{0, 1, 64, repair.MaxRanges} {
		in := sampleRepair(n)
		d := RepairDecision{Request: AppendRepairRequest(nil, in, params)}
		steps, why, err := d.ask(ctx, mod)
		t := Trial{Ranges: n, Outcome: why.String(), FuelUsed: d.FuelUsed, Log: d.Log}
		if why == reasonNode {
			return r, fmt.Errorf("check module: %w", err)
		}
		if err != nil {
			t.Detail = err.Error()
		} else if plan := repair.Guard(in, steps); plan.Count(repair.Dropped) > 0 && plan.Count(repair.Kept)+plan.Count(repair.Clamped) == 0 {
			dropped := plan.Steps[len(plan.Steps)-1]
			t.Outcome, t.Detail = reasonMalformed.String(), "every step is dropped: "+dropped.Why
		}
		r.Trials = append(r.Trials, t)
		if t.Detail != "" {
			return r, &TrialError{Trial: t}
		}
	}
	return r, nil
}

// ReplayRepair makes the plan of a recorded request again: the same module,
// parameters and request give the same steps. It uses a host of its own.
func ReplayRepair(ctx context.Context, wasm, params []byte, in repair.Input) (RepairDecision, error) {
	var d RepairDecision
	_, err := onOwnHost(ctx, func(host *wasmrt.Host) (Report, error) {
		m := newManifest(DeploySpec{Name: "replay", Kind: KindRepair, Params: params}, wasm)
		mod, err := compileModule(ctx, host, wasm, m)
		if err != nil {
			return Report{}, err
		}
		d, err = (&policy{id: m.ID(), manifest: m, module: mod, counts: &counters{}}).plan(ctx, in)
		return Report{}, err
	})
	if err != nil {
		return RepairDecision{}, fmt.Errorf("replay plan: %w", err)
	}
	return d, nil
}

// ReplayRepair makes a plan again by a stored policy, or by BuiltinPlan, without
// counting it. A policy that has been replaced since is compiled for it, of the same
// records that Update takes. An error says that this node cannot run it any more.
func (t *Table) ReplayRepair(ctx context.Context, records []Record, policyID string, in repair.Input) (RepairDecision, error) {
	if policyID == BuiltinPlan {
		return RepairDecision{PolicyID: BuiltinPlan, Plan: repair.Builtin(in)}, nil
	}
	p := t.current.Load().policies[policyID]
	if p == nil || p.module == nil {
		return replayStored(ctx, readState(records), policyID, in)
	}
	replayed := *p
	replayed.counts = &counters{}
	d, err := replayed.plan(ctx, in)
	if errors.Is(err, wasmrt.ErrClosed) { // replaced meanwhile
		return replayStored(ctx, readState(records), policyID, in)
	}
	if err != nil {
		return RepairDecision{}, fmt.Errorf("replay plan of %s: %w", policyID, err)
	}
	return d, nil
}

func replayStored(ctx context.Context, st *state, policyID string, in repair.Input) (RepairDecision, error) {
	m, ok := st.manifests[policyID]
	if !ok {
		return RepairDecision{}, fmt.Errorf("replay plan of %.80s: the policy has been deleted", policyID)
	}
	wasm, err := JoinModule(m, st.chunk)
	if err != nil {
		return RepairDecision{}, fmt.Errorf("replay plan of %.80s: %w", policyID, err)
	}
	return ReplayRepair(ctx, wasm, m.Params, in)
}
