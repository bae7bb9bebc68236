package policies

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// DeploySpec says how a module becomes a policy in force.
type DeploySpec struct {
	// Name for people.
	Name string
	// Kind is KindRepair, or empty for KindMerge.
	Kind string
	// Prefix of the keys to decide on; empty for all, and for a repair policy.
	Prefix []byte
	// Fallback is FallbackKeep, or FallbackLWW; empty means FallbackKeep. A repair
	// policy's is FallbackBuiltin, whatever is given.
	Fallback string
	// Params go along with every request.
	Params []byte
	// NowMS is the Unix time in milliseconds.
	NowMS int64
}

// Plan is what to write to bring a change about, in this order: the binding
// comes last, when all that it needs is there.
type Plan struct {
	PolicyID string
	Epoch    uint64
	Writes   []Write
}

// PlanDeploy returns the writes that store a module and bind it to a prefix, given
// the present records. The module should have passed Check. What the records
// already hold is not written again.
func PlanDeploy(records []Record, wasm []byte, spec DeploySpec) (Plan, error) {
	names, chunks, err := SplitModule(wasm)
	if err != nil {
		return Plan{}, fmt.Errorf("plan deploy of %s: %w", spec.Name, err)
	}
	m := newManifest(spec, wasm)
	m.Chunks = names
	if err := m.validate(); err != nil {
		return Plan{}, fmt.Errorf("plan deploy of %s: %w", spec.Name, err)
	}
	st, id := readState(records), m.ID()
	if _, known := st.manifests[id]; !known && len(st.manifests) >= MaxPolicies {
		return Plan{}, fmt.Errorf("plan deploy of %s: there are %d policies, the limit; delete one first", spec.Name, MaxPolicies)
	}
	var writes []Write
	for _, w := range append(chunks, Write{Key: policyPrefix + id, Value: m.Encode()}) {
		present := slices.ContainsFunc(records, func(r Record) bool { return r.Key == w.Key && bytes.Equal(r.Value, w.Value) })
		if !present {
			writes = append(writes, w)
		}
	}
	plan, err := planBind(st, spec.Kind, spec.Prefix, id)
	if err != nil {
		return Plan{}, fmt.Errorf("plan deploy of %s: %w", spec.Name, err)
	}
	plan.Writes = append(writes, plan.Writes...)
	return plan, nil
}

func newManifest(spec DeploySpec, wasm []byte) Manifest {
	fallback := spec.Fallback
	if fallback == "" {
		fallback = FallbackKeep
	}
	needs := []string{NeedKey, NeedValues}
	if spec.Kind == KindRepair {
		fallback, needs = FallbackBuiltin, []string{}
	}
	return Manifest{
		Format: manifestFormat, Name: spec.Name, Kind: spec.Kind, Module: sha256Hex(wasm), Size: len(wasm),
		Needs: needs, Fallback: fallback, Limits: defaultLimits(),
		Params: spec.Params, CreatedMS: spec.NowMS,
	}
}

// PlanBind returns the write that puts a policy in force for a prefix: LWW,
// Siblings, the id of a stored policy, or "" to take the binding away.
func PlanBind(records []Record, prefix []byte, policyID string) (Plan, error) {
	return planBindKind(readState(records), "", prefix, policyID)
}

// PlanBindRepair returns the write that puts a repair policy in force: BuiltinPlan,
// the id of a stored one, or "" to take the binding away.
func PlanBindRepair(records []Record, policyID string) (Plan, error) {
	return planBindKind(readState(records), KindRepair, nil, policyID)
}

func planBindKind(st *state, kind string, prefix []byte, policyID string) (Plan, error) {
	if policyID != "" && !st.has(kind, policyID) {
		return Plan{}, fmt.Errorf("bind %q: no policy %.80s of this kind", prefix, policyID)
	}
	return planBind(st, kind, prefix, policyID)
}

func planBind(st *state, kind string, prefix []byte, policyID string) (Plan, error) {
	present, known := st.binding(kind, prefix)
	b := Binding{
		Format: manifestFormat, Kind: kind, Prefix: prefix, Policy: policyID,
		Epoch: st.nextEpoch(), Previous: present.Policy,
	}
	if err := b.validate(); err != nil {
		return Plan{}, fmt.Errorf("bind %.80q: %w", prefix, err)
	}
	if kind == "" && !known && len(st.bindings) >= MaxBindings {
		return Plan{}, fmt.Errorf("bind %q: there are %d bindings, the limit", prefix, MaxBindings)
	}
	w := Write{Key: b.key(), Value: b.Encode()}
	return Plan{PolicyID: policyID, Epoch: b.Epoch, Writes: []Write{w}}, nil
}

// PlanRollback returns the write that puts the policy before the present one in
// force again: a new epoch that names the old id. Where there was none before,
// the binding is taken away.
func PlanRollback(records []Record, prefix []byte) (Plan, error) {
	return planRollback(readState(records), "", prefix)
}

// PlanRollbackRepair does the same for the repair policy.
func PlanRollbackRepair(records []Record) (Plan, error) {
	return planRollback(readState(records), KindRepair, nil)
}

func planRollback(st *state, kind string, prefix []byte) (Plan, error) {
	b, ok := st.binding(kind, prefix)
	if !ok {
		return Plan{}, fmt.Errorf("roll back %q: %w", prefix, errors.New("no such binding"))
	}
	if b.Previous != "" && !st.has(kind, b.Previous) {
		return Plan{}, fmt.Errorf("roll back %q: policy %s is not stored any more", prefix, b.Previous)
	}
	return planBind(st, kind, prefix, b.Previous)
}

// PlanDelete returns the keys to delete so that a policy is gone, with those
// pieces of its module that no other policy has. A policy that a binding names, as
// present or as previous, stays.
func PlanDelete(records []Record, policyID string) (keys []string, err error) {
	st := readState(records)
	m, ok := st.manifests[policyID]
	if !ok {
		return nil, fmt.Errorf("delete policy %.80s: %w", policyID, errors.New("no such policy"))
	}
	for _, b := range st.bindings {
		if b.Policy == policyID || b.Previous == policyID {
			return nil, fmt.Errorf("delete policy %s: the binding of %q names it", policyID, b.Prefix)
		}
	}
	if b := st.repair.binding; b.Policy == policyID || b.Previous == policyID {
		return nil, fmt.Errorf("delete policy %s: the binding of repair names it", policyID)
	}
	shared := map[string]bool{}
	for id, other := range st.manifests {
		for _, c := range other.Chunks {
			shared[c] = shared[c] || id != policyID
		}
	}
	keys = []string{policyPrefix + policyID}
	for _, c := range m.Chunks {
		if !shared[c] {
			keys = append(keys, modulePrefix+c)
		}
	}
	return keys, nil
}
