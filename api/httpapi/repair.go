package httpapi

import (
	"context"
	"net/http"
	"strconv"

	"edged.dev/edged/api/admin"
)

// Repair is the repair policy of the cluster and the plans of the node. An error
// may be a *kv.Error or, to choose the answer's status, an *admin.Problem.
type Repair interface {
	// RepairPlans tells of the plan with a number, 0 for the newest. With replay
	// it is made again.
	RepairPlans(ctx context.Context, seq uint64, replay bool) (admin.RepairPlans, error)
	// DeployRepair checks a module, stores it and puts it in force. The module is
	// the callee's; with admin.BuiltinPlan there is none.
	DeployRepair(ctx context.Context, name string, wasm []byte) (admin.Deployed, error)
	// RollbackRepair puts the policy before the present one in force.
	RollbackRepair(ctx context.Context) (admin.RolledBack, error)
}

func (a *Admin) repairPlan(w http.ResponseWriter, r *http.Request) {
	query, err := parameters(r, "seq", "replay")
	var seq uint64
	if s := query.Get("seq"); err == nil && s != "" {
		if seq, err = strconv.ParseUint(s, 10, 64); err != nil {
			err = invalid("seq is %q; want a plan's number", s)
		}
	}
	replay := query.Get("replay")
	if err == nil && replay != "" && replay != "0" && replay != "1" {
		err = invalid("replay is %q; want 0 or 1", replay)
	}
	if err != nil {
		failWith(w, err)
		return
	}
	plans, err := a.cfg.Repair.RepairPlans(r.Context(), seq, replay == "1")
	if err != nil {
		failWith(w, err)
		return
	}
	plans.History = orEmpty(plans.History)
	writeJSON(w, http.StatusOK, plans)
}

// kindOf reads the kind of policy that a change is about. One for repair has no
// prefix; one for merges has none of another kind's name.
func kindOf(r *http.Request) (repair bool, err error) {
	switch kind := r.URL.Query().Get("kind"); kind {
	case "", "merge":
		return false, nil
	case admin.KindRepair:
		return true, nil
	default:
		return false, invalid("kind is %q; want merge or repair", kind)
	}
}

func (a *Admin) deployRepair(w http.ResponseWriter, r *http.Request) {
	query, err := parameters(r, "name", "kind")
	name := query.Get("name")
	if err == nil && (name == "" || len(name) > maxPolicyNameBytes) {
		err = invalid("name has %d bytes; want 1 to %d", len(name), maxPolicyNameBytes)
	}
	if err != nil {
		failWith(w, err)
		return
	}
	module, ok := readBody(w, r, maxModuleBytes)
	if !ok {
		return
	}
	switch builtin := name == admin.BuiltinPlan; {
	case len(module) == 0 && !builtin:
		failWith(w, invalid("body is empty; want a WebAssembly module"))
		return
	case len(module) > 0 && builtin:
		failWith(w, invalid("%s is the name of the built-in plan; give the module another name", name))
		return
	}
	ctx, cancel := a.patient(w, r)
	defer cancel()
	deployed, err := a.cfg.Repair.DeployRepair(ctx, name, module)
	if err != nil {
		failWith(w, err)
		return
	}
	writeJSON(w, http.StatusOK, deployed)
}

func (a *Admin) rollbackRepair(w http.ResponseWriter, r *http.Request) {
	if _, err := parameters(r, "kind"); err != nil {
		failWith(w, err)
		return
	}
	ctx, cancel := a.patient(w, r)
	defer cancel()
	back, err := a.cfg.Repair.RollbackRepair(ctx)
	if err != nil {
		failWith(w, err)
		return
	}
	writeJSON(w, http.StatusOK, back)
}

// deployKind deploys a policy of the kind that is asked for.
func (a *Admin) deployKind(w http.ResponseWriter, r *http.Request) {
	byKind(w, r, a.deploy, a.deployRepair)
}

// rollbackKind rolls a policy of the kind back that is asked for.
func (a *Admin) rollbackKind(w http.ResponseWriter, r *http.Request) {
	byKind(w, r, a.rollback, a.rollbackRepair)
}

func byKind(w http.ResponseWriter, r *http.Request, merge, repair http.HandlerFunc) {
	isRepair, err := kindOf(r)
	switch {
	case err != nil:
		failWith(w, err)
	case isRepair:
		repair(w, r)
	default:
		merge(w, r)
	}
}
