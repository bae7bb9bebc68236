package policies

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"

	wasmrt "edged.dev/edged/runtime"
)

// NotReadyError says that this node cannot run the policy that is in force, where
// another may: its module has not arrived, or does not compile here. The caller
// forwards the read or answers that it is unavailable; it never shows another
// policy's view.
type NotReadyError struct {
	PolicyID string
	Cause    error
}

// Error names the policy and the cause.
func (e *NotReadyError) Error() string {
	return fmt.Sprintf("policy %s is not ready: %v", e.PolicyID, e.Cause)
}

// Unwrap returns the cause.
func (e *NotReadyError) Unwrap() error { return e.Cause }

// Table holds the policies in force. Resolve may be called at any time from many
// goroutines; it sees one snapshot of the bindings, swapped whole by Update.
type Table struct {
	host    *wasmrt.Host
	update  chan struct{} // holds one token while an Update or Close runs
	closed  bool          // guarded by update
	current atomic.Pointer[snapshot]
	memo    *memo // of all its policies
}

// snapshot is immutable but for the counters.
type snapshot struct {
	bindings []binding          // longest prefix first
	policies map[string]*policy // the modules' policies, by id; bound ones are compiled
	def      *policy
	repair   *binding // of the repair policy, nil: the built-in plan by default
	problems []string
}

type binding struct {
	Binding
	policy   *policy
	conflict bool
}

// errNotBound stands in a policy that no binding has asked to be compiled.
var errNotBound = errors.New("not bound")

// NewTable returns a table without bindings, in which LWW is in force for all
// keys. It runs modules on host, which stays the caller's.
func NewTable(host *wasmrt.Host) *Table {
	t := &Table{host: host, update: make(chan struct{}, 1), memo: newMemo()}
	t.current.Store(&snapshot{def: builtin(LWW), policies: map[string]*policy{}})
	return t
}

func builtin(id string) *policy { return &policy{id: id, builtin: true, counts: &counters{}} }

// Resolve returns the view of an object's siblings under the policy in force for
// its key. It calls no guest for fewer than two different siblings. The siblings
// may come in any order and are not changed.
//
// An error is the node's own: a *NotReadyError, or a context that ended while the
// call waited for an instance.
func (t *Table) Resolve(ctx context.Context, key []byte, siblings []Sibling) (View, error) {
	for {
		s := t.current.Load()
		p, epoch := s.find(key)
		v, err := p.resolve(ctx, key, siblings)
		if errors.Is(err, wasmrt.ErrClosed) && t.current.Load() != s {
			continue // the policy was replaced in the meantime
		}
		if err != nil {
			return View{}, fmt.Errorf("resolve under policy %s: %w", p.id, err)
		}
		v.Epoch = epoch
		return v, nil
	}
}

// PolicyFor returns the id and epoch of the policy in force for a key, as a View
// names them, for caches of views.
func (t *Table) PolicyFor(key []byte) (id string, epoch uint64) {
	p, epoch := t.current.Load().find(key)
	return p.id, epoch
}

func (s *snapshot) find(key []byte) (*policy, uint64) {
	for i := range s.bindings {
		if bytes.HasPrefix(key, s.bindings[i].Prefix) {
			return s.bindings[i].policy, s.bindings[i].Epoch
		}
	}
	return s.def, 0
}

// Update puts in force what the records say, which must be all records of the
// system partition for which IsRecord holds. It compiles the modules that are
// bound and new, and closes those that no binding names any more.
//
// A record that cannot be read, and a policy that cannot run, is no error of
// Update: List and Problems tell. An error means that ctx ended and nothing has
// changed. One Update runs at a time; others wait.
func (t *Table) Update(ctx context.Context, records []Record) error {
	select {
	case t.update <- struct{}{}:
		defer func() { <-t.update }()
	case <-ctx.Done():
		return fmt.Errorf("update policies: %w", ctx.Err())
	}
	if t.closed {
		return fmt.Errorf("update policies: %w", wasmrt.ErrClosed)
	}
	old := t.current.Load()
	st := readState(records)
	next := &snapshot{def: old.def, policies: map[string]*policy{}, problems: st.problems}
	for id, m := range st.manifests {
		next.policies[id] = &policy{id: id, manifest: m, counts: countersOf(old, id), memo: t.memo, notReady: errNotBound}
	}
	err := t.bind(ctx, st, old, next)
	if err != nil {
		return errors.Join(fmt.Errorf("update policies: %w", err), closeUnused(ctx, next, old))
	}
	t.current.Store(next)
	if err := closeUnused(ctx, old, next); err != nil {
		return fmt.Errorf("close replaced policies: %w", err)
	}
	return nil
}

func countersOf(s *snapshot, id string) *counters {
	if p := s.policies[id]; p != nil {
		return p.counts
	}
	return &counters{}
}

// bind fills next.bindings and readies the policies that they name.
func (t *Table) bind(ctx context.Context, st *state, old, next *snapshot) error {
	builtins := map[string]*policy{LWW: next.def, Siblings: builtin(Siblings)}
	for prefix, b := range st.bindings {
		if b.Policy == "" {
			continue
		}
		p := builtins[b.Policy]
		if p == nil {
			var err error
			if p, err = t.named(ctx, st, old, next, b); err != nil {
				return err
			}
		}
		next.bindings = append(next.bindings, binding{Binding: b, policy: p, conflict: st.conflicts[prefix]})
	}
	slices.SortFunc(next.bindings, func(a, b binding) int {
		return cmp.Or(cmp.Compare(len(b.Prefix), len(a.Prefix)), bytes.Compare(a.Prefix, b.Prefix))
	})
	return t.bindRepair(ctx, st, old, next)
}

// named returns the stored policy that a binding of a kind names, ready to decide
// or with the reason why it is not.
func (t *Table) named(ctx context.Context, st *state, old, next *snapshot, b Binding) (*policy, error) {
	p := next.policies[b.Policy]
	if p == nil {
		p = &policy{id: b.Policy, manifest: Manifest{Kind: b.Kind}, counts: countersOf(old, b.Policy), notReady: errors.New("its manifest has not arrived")}
		next.policies[b.Policy] = p
	}
	if p.manifest.Kind != b.Kind {
		return &policy{id: b.Policy, counts: p.counts, notReady: fmt.Errorf("it is a policy of the kind %s", p.manifest.KindName())}, nil
	}
	return p, t.ready(ctx, st, old, p)
}

// ready gives p its module: the old snapshot's, or a new one. Only the end of ctx
// is an error; what is wrong with the policy goes to notReady.
func (t *Table) ready(ctx context.Context, st *state, old *snapshot, p *policy) error {
	if !errors.Is(p.notReady, errNotBound) {
		return nil // done for another binding, or there is no manifest
	}
	if o := old.policies[p.id]; o != nil && o.module != nil {
		p.module, p.notReady = o.module, nil
		return nil
	}
	wasm, err := JoinModule(p.manifest, st.chunk)
	if err == nil {
		p.module, err = compileModule(ctx, t.host, wasm, p.manifest)
	}
	p.notReady = err
	return ctx.Err()
}

// compileModule compiles a module the way that all nodes do: with the warm-up,
// which shapes the image that each call begins from.
func compileModule(ctx context.Context, host *wasmrt.Host, wasm []byte, m Manifest) (*wasmrt.Module, error) {
	mod, err := host.Compile(ctx, wasm, wasmrt.CompileOptions{
		Limits: m.Limits.host(), WarmupExport: m.export(), WarmupRequest: m.warmup(),
	})
	if err != nil {
		return nil, err
	}
	if name := m.export(); !mod.Has(name) {
		return nil, errors.Join(&wasmrt.AdmissionError{
			Rule: "export", Where: "export section", What: "no export " + name,
			Advice: "export " + name + "(pointer i32, length i32) -> (i64)",
		}, mod.Close(ctx))
	}
	return mod, nil
}

// closeUnused closes the modules of from that to does not hold. It waits for the
// calls that run in them, some milliseconds each, even where ctx has ended: half
// closed, a module would leak its code.
func closeUnused(ctx context.Context, from, to *snapshot) error {
	ctx = context.WithoutCancel(ctx)
	var errs []error
	for id, p := range from.policies {
		if p.module == nil {
			continue
		}
		if kept := to.policies[id]; kept != nil && kept.module == p.module {
			continue
		}
		errs = append(errs, p.module.Close(ctx))
	}
	return errors.Join(errs...)
}

// Close releases the table's modules. The bindings stay, so that a late Resolve
// gets an error and not another policy's view.
func (t *Table) Close(ctx context.Context) error {
	t.update <- struct{}{}
	defer func() { <-t.update }()
	if t.closed {
		return nil
	}
	t.closed = true
	return closeUnused(ctx, t.current.Load(), &snapshot{})
}

// PolicyStatus is one policy as this node has it.
type PolicyStatus struct {
	ID       string
	Manifest Manifest
	// Ready is set where the module is compiled here; only bound policies are.
	Ready bool
	// Problem says why a bound policy is not ready.
	Problem string
	// Bindings are those that name it.
	Bindings []Binding
}

// BindingStatus is one binding in force.
type BindingStatus struct {
	Binding
	// Ready is set where this node can run the policy.
	Ready bool
	// Conflict is set where concurrent edits left several bindings of the prefix;
	// the one with the highest epoch, then the newest, is in force everywhere
	// until the next edit.
	Conflict bool
}

// Bindings returns the bindings in force, longest prefix first.
func (t *Table) Bindings() []BindingStatus {
	var out []BindingStatus
	for _, b := range t.current.Load().bindings {
		out = append(out, BindingStatus{Binding: b.Binding, Ready: b.policy.notReady == nil, Conflict: b.conflict})
	}
	return out
}

// List returns the policies with a module, by id.
func (t *Table) List() []PolicyStatus {
	s := t.current.Load()
	var out []PolicyStatus
	for _, id := range slices.Sorted(maps.Keys(s.policies)) {
		p := s.policies[id]
		st := PolicyStatus{ID: id, Manifest: p.manifest, Ready: p.notReady == nil}
		for _, b := range s.bindings {
			if b.policy == p {
				st.Bindings = append(st.Bindings, b.Binding)
			}
		}
		if s.repair != nil && s.repair.policy == p {
			st.Bindings = append(st.Bindings, s.repair.Binding)
		}
		if len(st.Bindings) > 0 && p.notReady != nil {
			st.Problem = p.notReady.Error()
		}
		out = append(out, st)
	}
	return out
}

// Problems names the records of the last Update that could not be read.
func (t *Table) Problems() []string { return slices.Clone(t.current.Load().problems) }

// Counts returns the outcomes of each policy since the node started, for metrics.
func (t *Table) Counts() []Count {
	s := t.current.Load()
	var out []Count
	for _, id := range slices.Sorted(maps.Keys(s.policies)) {
		out = append(out, s.policies[id].counts.counts(id)...)
	}
	return out
}
