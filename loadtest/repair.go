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

// RepairReport says what a repair policy did to a rejoin. Compare it with a run
// with --repair-policy built-in.
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
}

// repairTrial is the part of a run that is about a repair policy; nil: there is
// none.
type repairTrial struct {
	run    *rejoinRun
	name   string
	before map[string]uint64 // bytes sent in sessions, by node
	hotAt  time.Time
	report RepairReport
}

// deployRepair puts the policy of --repair-policy in force on all nodes.
func (r *rejoinRun) deployRepair(ctx context.Context) error {
	file := r.opts.repairPolicy
	if file == "" {
		return nil
	}
	r.progress.begin("deploy the repair policy", 0)
	name, wasm := file, []byte(nil)
	if file != admin.BuiltinPlan {
		var err error
		if wasm, err = os.ReadFile(file); err != nil {
			return fmt.Errorf("read repair policy: %w", err)
		}
		name = strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
	}
	done, err := r.fleet.doors[0].admin.DeployRepair(ctx, wasm, name)
	if err != nil {
		return fmt.Errorf("deploy repair policy %s: %w", file, err)
	}
	for _, d := range r.fleet.doors {
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
	r.repair = &repairTrial{run: r, name: name}
	return nil
}

// begin notes what the others had sent before the node came back.
func (t *repairTrial) begin(ctx context.Context) (err error) {
	if t != nil {
		t.before, err = t.sent(ctx)
	}
	return err
}

func (t *repairTrial) sent(ctx context.Context) (map[string]uint64, error) {
	out := map[string]uint64{}
	for _, d := range t.run.fleet.others() {
		st, err := d.admin.Status(ctx)
		if err != nil {
			return nil, fmt.Errorf("read status of %s: %w", d.name, err)
		}
		out[d.name] = st.Counters["sync_sent_bytes_total"]
	}
	return out, nil
}

// hotKey is the key that is read most: one that was overwritten meanwhile, in the
// last partition, which the built-in order comes to last.
func (t *repairTrial) hotKey(partitions uint32) (key string, p kv.Partition) {
	for i, k := range t.run.plan.overwritten {
		name := t.run.ledger.key(k)
		if at := kv.PartitionOf(kv.Hash([]byte(name)), partitions); i == 0 || at > p {
			key, p = name, at
		}
	}
	return key, p
}

// watch reads the hot key through the returning node, and notes when the node's
// own copy has it, until ctx ends.
func (t *repairTrial) watch(ctx context.Context) {
	if t == nil {
		return
	}
	target := t.run.fleet.returning()
	st, err := t.run.fleet.others()[0].admin.Status(ctx)
	if err != nil {
		return // the run says so itself
	}
	key, at := t.hotKey(uint32(st.Layout.Partitions))
	var wg sync.WaitGroup
	defer wg.Wait()
	for range hotReaders {
		wg.Go(func() {
			for pause(ctx, hotPause) == nil {
				_, _ = t.run.kv.get(ctx, target.http, key) // it is the load that counts; readers judge answers
			}
		})
	}
	for t.hotAt.IsZero() && pause(ctx, hotWatch) == nil {
		parts, err := target.admin.Partitions(ctx)
		i := slices.IndexFunc(parts, func(p admin.Partition) bool { return p.ID == uint32(at) })
		if err == nil && i >= 0 && parts[i].State == admin.StateLive {
			t.hotAt = time.Now()
		}
	}
}

// end makes the report.
func (t *repairTrial) end(ctx context.Context, back, caughtUp time.Time) error {
	if t == nil {
		return nil
	}
	after, err := t.sent(ctx)
	if err != nil {
		return err
	}
	plans, err := t.run.fleet.returning().admin.RepairPlan(ctx, 0, false)
	if err != nil {
		return fmt.Errorf("read repair plan: %w", err)
	}
	t.report = RepairReport{Policy: t.name, Egress: map[string]uint64{}, Steps: map[string]int{}, Plans: int(plans.Counters["plan"])}
	for name, n := range after {
		t.report.Egress[name] = n - t.before[name]
	}
	for _, h := range plans.History {
		if h.Fallback != "" {
			t.report.Fallbacks++
		}
		for fate, n := range h.Steps {
			t.report.Steps[fate] += n
		}
	}
	at := t.hotAt
	if at.IsZero() { // all was live before the next look at it
		at = caughtUp
	}
	t.report.FirstHotKeyMS = since(back, at)
	t.run.report.Repair = &t.report
	return nil
}

// rows writes the report for people.
func (r *RepairReport) rows(row func(name, format string, args ...any)) {
	row("policy", "%s: %d plans, %d of them by the built-in one in its place", r.Policy, r.Plans+r.Fallbacks, r.Fallbacks)
	row("hottest key here", "%9.1f ms", r.FirstHotKeyMS)
	row("steps", "%s", pathText(r.Steps))
	for _, name := range slices.Sorted(maps.Keys(r.Egress)) {
		row("sent by "+name, "%9d B", r.Egress[name])
	}
}
