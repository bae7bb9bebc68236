package node

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"edged.dev/edged/api"
	"edged.dev/edged/api/admin"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/policies"
)

// policyAdmin deploys and shows policies: a module travels as ordinary writes of
// the system partition.
type policyAdmin struct{ n *Node }

// deployWait bounds a deployment: some megabytes written at a quorum.
const deployWait = 20 * time.Second

// viewName is how an answer names the policy that made it.
func viewName(id string, epoch uint64) string {
	if len(id) > 12 {
		id = id[:12]
	}
	return id + "@" + strconv.FormatUint(epoch, 10)
}

// Policies implements httpapi.Policies.
func (p policyAdmin) Policies() []admin.Policy {
	counts := map[string]map[string]uint64{}
	for _, c := range p.n.policies.Counts() {
		if counts[c.PolicyID] == nil {
			counts[c.PolicyID] = map[string]uint64{}
		}
		counts[c.PolicyID][c.Reason] = c.N
	}
	conflicts := map[string]bool{}
	builtins := map[string][]admin.Binding{}
	for _, b := range p.n.policies.Bindings() {
		conflicts[prefixName(b.Binding)] = b.Conflict
		if b.Policy == policies.LWW || b.Policy == policies.Siblings {
			builtins[b.Policy] = append(builtins[b.Policy], admin.Binding{Prefix: string(b.Prefix), Epoch: b.Epoch, Conflict: b.Conflict})
		}
	}
	var out []admin.Policy
	for _, name := range []string{policies.LWW, policies.Siblings} {
		out = append(out, admin.Policy{Name: name, ID: name, Kind: policies.KindMerge, Ready: true, Bindings: builtins[name]})
	}
	planner := admin.Policy{Name: policies.BuiltinPlan, ID: policies.BuiltinPlan, Kind: policies.KindRepair, Ready: true}
	if b, ok := p.n.policies.RepairBinding(); ok {
		conflicts[prefixName(b.Binding)] = b.Conflict
		if b.Policy == policies.BuiltinPlan {
			planner.Bindings = []admin.Binding{{Epoch: b.Epoch, Conflict: b.Conflict}}
		}
	}
	out = append(out, planner)
	for _, st := range p.n.policies.List() {
		a := admin.Policy{
			Name: st.Manifest.Name, ID: st.ID, Kind: st.Manifest.KindName(), Size: st.Manifest.Size, CreatedMS: st.Manifest.CreatedMS,
			Ready: st.Ready, Error: st.Problem, Counters: counts[st.ID],
		}
		for _, b := range st.Bindings {
			conflict := conflicts[prefixName(b)]
			a.Bindings = append(a.Bindings, admin.Binding{Prefix: string(b.Prefix), Epoch: b.Epoch, Conflict: conflict})
		}
		out = append(out, a)
	}
	return out
}

// prefixName tells bindings apart: that of repair has no prefix, nor has the one
// of all keys.
func prefixName(b policies.Binding) string { return b.Kind + "\x00" + string(b.Prefix) }

// DeployPolicy implements httpapi.Policies.
func (p policyAdmin) DeployPolicy(ctx context.Context, name, prefix string, wasm []byte) (admin.Deployed, error) {
	ctx, cancel := context.WithTimeout(ctx, deployWait)
	defer cancel()
	plan, err := p.plan(ctx, name, prefix, wasm)
	if err != nil {
		p.n.badUpload.Add(1)
		return admin.Deployed{}, &admin.Problem{Type: "policy-refused", Title: "policy refused", Status: http.StatusUnprocessableEntity, Detail: err.Error()}
	}
	copies, err := p.write(ctx, plan)
	if err != nil {
		return admin.Deployed{}, err
	}
	return admin.Deployed{Name: name, ID: plan.PolicyID, Prefix: prefix, Epoch: plan.Epoch, Copies: copies}, nil
}

// plan is what a deployment writes: the binding alone for a built-in policy.
func (p policyAdmin) plan(ctx context.Context, name, prefix string, wasm []byte) (policies.Plan, error) {
	records := p.n.system.policyRecords()
	if admin.Builtin(name) {
		return policies.PlanBind(records, []byte(prefix), name)
	}
	if _, err := policies.Check(ctx, wasm); err != nil {
		return policies.Plan{}, err
	}
	return policies.PlanDeploy(records, wasm, policies.DeploySpec{Name: name, Prefix: []byte(prefix), NowMS: p.n.clocks.wallMS()})
}

// write makes a plan's writes, the binding last, and waits until this node has
// put it in force.
func (p policyAdmin) write(ctx context.Context, plan policies.Plan) (copies string, err error) {
	for _, w := range plan.Writes {
		resp, err := p.n.system.write(ctx, w.Key, w.Value)
		if err != nil {
			return "", fmt.Errorf("write %s: %w", w.Key, err)
		}
		copies = fmt.Sprintf("%d/%d", resp.Copies, resp.Wanted)
	}
	await(ctx, func() bool { return p.inForce(plan.Epoch) })
	return copies, nil
}

// await polls until cond holds or ctx ends: what was written is stored all the
// same, and the list tells when it is in force here.
func await(ctx context.Context, cond func() bool) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// unbound reports whether no binding of a prefix from before an epoch is in force.
func (p policyAdmin) unbound(prefix string, epoch uint64) bool {
	for _, b := range p.n.policies.Bindings() {
		if string(b.Prefix) == prefix && b.Epoch < epoch {
			return false
		}
	}
	return true
}

func (p policyAdmin) inForce(epoch uint64) bool {
	for _, b := range p.n.policies.Bindings() {
		if b.Epoch >= epoch {
			return true
		}
	}
	b, ok := p.n.policies.RepairBinding()
	return ok && b.Epoch >= epoch
}

// RollbackPolicy implements httpapi.Policies.
func (p policyAdmin) RollbackPolicy(ctx context.Context, prefix string) (admin.RolledBack, error) {
	ctx, cancel := context.WithTimeout(ctx, deployWait)
	defer cancel()
	plan, err := policies.PlanRollback(p.n.system.policyRecords(), []byte(prefix))
	if err != nil {
		return admin.RolledBack{}, &admin.Problem{Type: "no-binding", Title: "nothing to roll back", Status: http.StatusNotFound, Detail: err.Error()}
	}
	return p.back(ctx, prefix, plan, func() bool { return p.unbound(prefix, plan.Epoch) })
}

// back makes the writes of a rollback; gone says that a binding which has none before
// it is in force no more.
func (p policyAdmin) back(ctx context.Context, prefix string, plan policies.Plan, gone func() bool) (admin.RolledBack, error) {
	if plan.PolicyID == "" { // the binding goes; nothing of its epoch will show
		for _, w := range plan.Writes {
			if _, err := p.n.system.write(ctx, w.Key, w.Value); err != nil {
				return admin.RolledBack{}, err
			}
		}
		await(ctx, gone)
		return admin.RolledBack{Prefix: prefix, Epoch: plan.Epoch}, nil
	}
	if _, err := p.write(ctx, plan); err != nil {
		return admin.RolledBack{}, err
	}
	out := admin.RolledBack{Prefix: prefix, ID: plan.PolicyID, Name: plan.PolicyID, Epoch: plan.Epoch}
	for _, st := range p.n.policies.List() {
		if st.ID == plan.PolicyID {
			out.Name = st.Manifest.Name
		}
	}
	return out, nil
}

// DeletePolicy implements httpapi.Policies. The manifest goes first: a policy whose
// module is half gone is none.
func (p policyAdmin) DeletePolicy(ctx context.Context, name string) (admin.DeletedPolicy, error) {
	ctx, cancel := context.WithTimeout(ctx, deployWait)
	defer cancel()
	out, err := p.stored(name)
	if err != nil {
		return admin.DeletedPolicy{}, err
	}
	keys, err := policies.PlanDelete(p.n.system.policyRecords(), out.ID)
	if err != nil {
		return admin.DeletedPolicy{}, &admin.Problem{Type: "policy-in-use", Title: "policy not deleted", Status: http.StatusConflict, Detail: err.Error()}
	}
	for _, key := range keys {
		req := &kv.Request{Op: kv.OpDelete, Key: []byte(key), System: true}
		if _, err := api.Do(ctx, apiStore(p), req); err != nil {
			return admin.DeletedPolicy{}, fmt.Errorf("delete %s: %w", key, err)
		}
	}
	await(ctx, func() bool {
		_, err := p.stored(out.ID)
		return err != nil
	})
	return out, nil
}

// stored returns the policy with a module that has that id or, alone, that name.
func (p policyAdmin) stored(name string) (admin.DeletedPolicy, error) {
	var found []admin.DeletedPolicy
	for _, st := range p.n.policies.List() {
		if st.ID == name {
			return admin.DeletedPolicy{Name: st.Manifest.Name, ID: st.ID}, nil
		}
		if st.Manifest.Name == name {
			found = append(found, admin.DeletedPolicy{Name: name, ID: st.ID})
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return admin.DeletedPolicy{}, &admin.Problem{Type: "no-such-policy", Title: "no such policy", Status: http.StatusNotFound, Detail: fmt.Sprintf("there is no policy %q", name)}
	}
	return admin.DeletedPolicy{}, &admin.Problem{
		Type: "many-policies", Title: "policy not deleted", Status: http.StatusConflict,
		Detail: fmt.Sprintf("%d policies are named %q: give the id of one, such as %s", len(found), name, found[0].ID),
	}
}

func (s *system) policyRecords() []policies.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.records
}
