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
	// Prefix of the keys to decide on; empty for all.
	Prefix []byte
	// Fallback is FallbackKeep, or FallbackLWW; empty means FallbackKeep.
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
	plan, err := planBind(st, spec.Prefix, id)
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
	return Manifest{
		Format: manifestFormat, Name: spec.Name, Module: sha256Hex(wasm), Size: len(wasm),
		Needs: []string{NeedKey, NeedValues}, Fallback: fallback, Limits: defaultLimits(),
		Params: spec.Params, CreatedMS: spec.NowMS,
	}
}

// PlanBind returns the write that puts a policy in force for a prefix: LWW,
// Siblings, the id of a stored policy, or "" to take the binding away.
func PlanBind(records []Record, prefix []byte, policyID string) (Plan, error) {
	st := readState(records)
	if _, known := st.manifests[policyID]; !known && policyID != "" && !isBuiltin(policyID) {
		return Plan{}, fmt.Errorf("bind %q: no policy %.80s", prefix, policyID)
	}
	return planBind(st, prefix, policyID)
}

func planBind(st *state, prefix []byte, policyID string) (Plan, error) {
	b := Binding{
		Format: manifestFormat, Prefix: prefix, Policy: policyID,
		Epoch: st.nextEpoch(), Previous: st.bindings[string(prefix)].Policy,
	}
	if err := b.validate(); err != nil {
		return Plan{}, fmt.Errorf("bind %.80q: %w", prefix, err)
	}
	if _, known := st.bindings[string(prefix)]; !known && len(st.bindings) >= MaxBindings {
		return Plan{}, fmt.Errorf("bind %q: there are %d bindings, the limit", prefix, MaxBindings)
	}
	w := Write{Key: bindingKey(prefix), Value: b.Encode()}
	return Plan{PolicyID: policyID, Epoch: b.Epoch, Writes: []Write{w}}, nil
}

// PlanRollback returns the write that puts the policy before the present one in
// force again: a new epoch that names the old id. Where there was none before,
// the binding is taken away.
func PlanRollback(records []Record, prefix []byte) (Plan, error) {
	st := readState(records)
	b, ok := st.bindings[string(prefix)]
	if !ok {
		return Plan{}, fmt.Errorf("roll back %q: %w", prefix, errors.New("no such binding"))
	}
	if _, known := st.manifests[b.Previous]; !known && b.Previous != "" && !isBuiltin(b.Previous) {
		return Plan{}, fmt.Errorf("roll back %q: policy %s is not stored any more", prefix, b.Previous)
	}
	return planBind(st, prefix, b.Previous)
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
