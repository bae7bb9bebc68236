package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"edged.dev/edged/api/admin"
	"edged.dev/edged/internal/kv"
)

const (
	// hotReaders read one key through the returning node all the time, so that its
	// partition is the hottest by far: --repair-policy shows what a policy makes of
	// that.
	hotReaders = 2
	// hotPause is between two reads of one of them.
	hotPause = time.Millisecond
	// hotWatch is the grain of first_hot_key_ms: a look at all partitions.
	hotWatch = 10 * time.Millisecond
)

// RepairReport says what a repair policy did to the rejoin that is told in full, and
// what it changed.
type RepairReport struct {
	Policy string `json:"policy"`
	// FirstHotKeyMS is when the node's own copy of the hottest key's partition was
	// live: until then another node answers for it.
	FirstHotKeyMS float64 `json:"first_hot_key_ms"`
	// Egress is what each of the others sent in sessions, in bytes.
	Egress map[string]uint64 `json:"egress_bytes"`
	// Plans counts the plans of the policy, Fallbacks those in which it failed, Steps
	// what became of the steps of all that the node remembers.
	Plans     int            `json:"plans"`
	Fallbacks int            `json:"fallbacks"`
	Steps     map[string]int `json:"steps"`
	// Effect is missing where the outage cannot be had again, or the policy is the
	// built-in plan.
	Effect *RepairEffect `json:"effect,omitempty"`
}

// repairTrial is the part of a run that is about a repair policy; nil: there is
// none.
type repairTrial struct {
	run    *rejoinRun
	name   string
	wasm   []byte               // nil: the built-in plan
	before map[string]wireCount // session bytes, by node
	hot    *hotWatcher
	report RepairReport
}

// readPolicy reads the policy of --repair-policy.
func (r *rejoinRun) readPolicy(file string) (*repairTrial, error) {
	t := &repairTrial{run: r, name: file}
	if file == admin.BuiltinPlan {
		return t, nil
	}
	var err error
	if t.wasm, err = os.ReadFile(file); err != nil {
		return nil, fmt.Errorf("%w: --repair-policy: %w", errUsage, err)
	}
	t.name = strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
	return t, nil
}

// deploy puts the policy in force on all nodes.
func (t *repairTrial) deploy(ctx context.Context) error {
	if t == nil {
		return nil
	}
	t.run.progress.begin("deploy the repair policy", 0)
	return t.run.fleet.plansBy(ctx, t.name, t.wasm)
}

// plansBy puts a repair policy in force on all nodes: a module, or without one the
// built-in plan.
func (f *fleet) plansBy(ctx context.Context, name string, wasm []byte) error {
	done, err := f.doors[0].admin.DeployRepair(ctx, wasm, name)
	if err != nil {
		return fmt.Errorf("deploy repair policy %s: %w", name, err)
	}
	for _, d := range f.doors {
		for {
			plans, err := d.admin.RepairPlan(ctx, 0, false)
			if err == nil && plans.Epoch >= done.Epoch && plans.Ready {
				break
			}
			if waited := pause(ctx, hotWatch); waited != nil {
				return fmt.Errorf("wait for repair policy %s at %s: %w", name, d.name, errors.Join(waited, err))
			}
		}
	}
	return nil
}

// begin notes what the others had sent before the node came back.
func (t *repairTrial) begin(ctx context.Context) (err error) {
	if t == nil {
		return nil
	}
	if t.before, err = t.run.fleet.sessionCounts(ctx); err != nil {
		return err
	}
	t.hot, err = t.run.hotWatcher(ctx, t.run.plan)
	return err
}

// watch reads the hot key through the returning node until ctx ends.
func (t *repairTrial) watch(ctx context.Context) {
	if t != nil {
		t.hot.watch(ctx)
	}
}

// end makes the report.
func (t *repairTrial) end(ctx context.Context, back, caughtUp time.Time) error {
	if t == nil {
		return nil
	}
	after, err := t.run.fleet.sessionCounts(ctx)
	if err != nil {
		return err
	}
	plans, err := t.run.fleet.returning().admin.RepairPlan(ctx, 0, false)
	if err != nil {
		return fmt.Errorf("read repair plan: %w", err)
	}
	t.report = RepairReport{
		Policy: t.name, Egress: egress(t.before, after), Steps: map[string]int{}, Plans: int(plans.Counters["plan"]),
		FirstHotKeyMS: t.hot.ms(back, caughtUp),
	}
	for outcome, n := range plans.Counters {
		if outcome != "plan" {
			t.report.Fallbacks += int(n)
		}
	}
	for _, h := range plans.History {
		for fate, n := range h.Steps {
			t.report.Steps[fate] += n
		}
	}
	t.run.report.Repair = &t.report
	return nil
}

// egress is what each node sent between two counts.
func egress(before, after map[string]wireCount) map[string]uint64 {
	out := map[string]uint64{}
	for name, n := range after {
		out[name] = n.out - before[name].out
	}
	return out
}

// hotWatcher reads one key through a returning node, and notes when the node's own
// copy of its partition is live.
type hotWatcher struct {
	run *rejoinRun
	key string
	at  kv.Partition

	live time.Time // when it was; zero: it has not been seen
}

// hotWatcher takes the key of a plan's that is read most: one that is overwritten
// meanwhile, in the last partition, which the built-in order comes to last.
func (r *rejoinRun) hotWatcher(ctx context.Context, p plan) (*hotWatcher, error) {
	status, err := r.fleet.others()[0].admin.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("read layout: %w", err)
	}
	w := &hotWatcher{run: r}
	for i, k := range p.overwritten {
		name := r.ledger.key(k)
		if at := kv.PartitionOf(kv.Hash([]byte(name)), uint32(status.Layout.Partitions)); i == 0 || at > w.at {
			w.key, w.at = name, at
		}
	}
	return w, nil
}

// watch reads and looks until ctx ends.
func (w *hotWatcher) watch(ctx context.Context) {
	target := w.run.fleet.returning()
	var wg sync.WaitGroup
	defer wg.Wait()
	for range hotReaders {
		wg.Go(func() {
			for pause(ctx, hotPause) == nil {
				_, _ = w.run.kv.get(ctx, target.http, w.key) // it is the load that counts; readers judge answers
			}
		})
	}
	for w.live.IsZero() && pause(ctx, hotWatch) == nil {
		parts, err := target.admin.Partitions(ctx)
		i := slices.IndexFunc(parts, func(p admin.Partition) bool { return p.ID == uint32(w.at) })
		if err == nil && i >= 0 && parts[i].State == admin.StateLive {
			w.live = time.Now()
		}
	}
}

// ms is when the copy was live, since back. What was not seen before all was live
// came with all.
func (w *hotWatcher) ms(back, caughtUp time.Time) float64 {
	if w.live.IsZero() || w.live.After(caughtUp) {
		return since(back, caughtUp)
	}
	return since(back, w.live)
}

// tell writes the report for people.
func (r *RepairReport) tell(t *sheet) {
	t.row("policy", "%s: %d plans, %d of them by the built-in one in its place", r.Policy, r.Plans+r.Fallbacks, r.Fallbacks)
	t.row("hottest key here", "%9.1f ms", r.FirstHotKeyMS)
	t.row("steps", "%s", pathText(r.Steps))
	for _, name := range slices.Sorted(maps.Keys(r.Egress)) {
		t.row("sent by "+name, "%9d B", r.Egress[name])
	}
}
