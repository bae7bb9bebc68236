package main

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"edged.dev/edged/api/admin"
)

// RepairEffect is what a repair policy changed: returns by it and by the built-in
// plan, in turn, beside the same clients.
type RepairEffect struct {
	Pairs   []RepairPair  `json:"pairs"`
	Policy  RepairOutcome `json:"policy"`
	Builtin RepairOutcome `json:"built_in"`
	// The policy's over the built-in plan's: of the times to the hottest key and of
	// the egress of all, the medians of the pairs' ratios; of the clients' 99th
	// percentiles, over all requests.
	HotKeyRatio float64 `json:"first_hot_key_ratio"`
	P99Ratio    float64 `json:"during_p99_ratio"`
	EgressRatio float64 `json:"egress_ratio"`
}

// RepairPair is one return by each.
type RepairPair struct {
	Policy  RepairReturn `json:"policy"`
	Builtin RepairReturn `json:"built_in"`
}

// RepairReturn is one return.
type RepairReturn struct {
	FirstHotKeyMS float64           `json:"first_hot_key_ms"`
	Egress        map[string]uint64 `json:"egress_bytes"`
	clients       busyReturn
}

// RepairOutcome is what several returns by one plan were like.
type RepairOutcome struct {
	FirstHotKeyMS float64           `json:"first_hot_key_ms"` // median
	Egress        map[string]uint64 `json:"egress_bytes"`     // medians
	Waits
}

func (o *RepairOutcome) settle(returns []RepairReturn) {
	var hot []float64
	var busy []busyReturn
	sent := map[string][]float64{}
	for _, r := range returns {
		hot, busy = append(hot, r.FirstHotKeyMS), append(busy, r.clients)
		for name, n := range r.Egress {
			sent[name] = append(sent[name], float64(n))
		}
	}
	o.FirstHotKeyMS, o.Waits, o.Egress = median(hot), waitsOf(busy), map[string]uint64{}
	for name, counts := range sent {
		o.Egress[name] = uint64(median(counts))
	}
}

// settle takes the medians. Each return is held against the one beside it.
func (e *RepairEffect) settle() {
	var policy, builtin []RepairReturn
	for _, p := range e.Pairs {
		policy, builtin = append(policy, p.Policy), append(builtin, p.Builtin)
	}
	e.Policy.settle(policy)
	e.Builtin.settle(builtin)
	_, _, e.HotKeyRatio = e.hot().medians()
	sent := turnsOf(e.Pairs, func(p RepairPair) (policy, builtin float64) { return sum(p.Policy.Egress), sum(p.Builtin.Egress) })
	_, _, e.EgressRatio = sent.medians()
	e.P99Ratio = over(e.Policy.DuringP99MS, e.Builtin.DuringP99MS)
}

// hot are the times to the hottest key, by the policy and by the built-in plan.
func (e *RepairEffect) hot() turns {
	return turnsOf(e.Pairs, func(p RepairPair) (policy, builtin float64) {
		return p.Policy.FirstHotKeyMS, p.Builtin.FirstHotKeyMS
	})
}

func sum(counts map[string]uint64) (total float64) {
	for _, n := range counts {
		total += float64(n)
	}
	return total
}

// besideBuiltin measures pairs of returns, by the policy and by the built-in plan.
// Who begins changes with each pair.
func (t *repairTrial) besideBuiltin(ctx context.Context) error {
	r := t.run
	e := &RepairEffect{}
	for i := range r.opts.pairs {
		r.progress.begin(fmt.Sprintf("pair %d of %d, beside the built-in plan", i+1, r.opts.pairs), 0)
		var pair RepairPair
		plans := r.take(2)
		err := r.inTurn(ctx, i,
			func(ctx context.Context) (err error) {
				pair.Policy, err = t.planned(ctx, plans[0], t.name, t.wasm)
				return err
			},
			func(ctx context.Context) (err error) {
				pair.Builtin, err = t.planned(ctx, plans[1], admin.BuiltinPlan, nil)
				return err
			})
		if err != nil {
			return err
		}
		e.Pairs = append(e.Pairs, pair)
	}
	e.settle()
	t.report.Effect = e
	return r.step(ctx, t.deploy) // what else is measured goes by the policy
}

// planned is a return by a plan.
func (t *repairTrial) planned(ctx context.Context, p plan, name string, wasm []byte) (out RepairReturn, err error) {
	fleet := t.run.fleet
	if err := fleet.plansBy(ctx, name, wasm); err != nil {
		return out, err
	}
	hot, err := t.run.hotWatcher(ctx, p)
	if err != nil {
		return out, err
	}
	before, err := fleet.sessionCounts(ctx)
	if err != nil {
		return out, err
	}
	if out.clients, err = t.run.busyReturn(ctx, p, hot.watch); err != nil {
		return out, err
	}
	after, err := fleet.sessionCounts(ctx)
	out.FirstHotKeyMS, out.Egress = hot.ms(out.clients.back, out.clients.caughtUp), egress(before, after)
	return out, err
}

// tell writes it for people.
func (e *RepairEffect) tell(t *sheet, policy string) {
	p, b := &e.Policy, &e.Builtin
	t.row("", "%16.16s %16s", policy, "built-in")
	t.row("hottest key here", "%13.1f ms %13.1f ms   %.2f times", p.FirstHotKeyMS, b.FirstHotKeyMS, e.HotKeyRatio)
	t.row("caught up", "%13.1f ms %13.1f ms", p.CaughtUpMS, b.CaughtUpMS)
	t.row("clients' p99, during", "%13.2f ms %13.2f ms   %.2f times", p.DuringP99MS, b.DuringP99MS, e.P99Ratio)
	t.row("  before", "%13.2f ms %13.2f ms", p.BeforeP99MS, b.BeforeP99MS)
	t.row("  requests, during", "%16d %16d", p.DuringRequests, b.DuringRequests)
	for _, name := range slices.Sorted(maps.Keys(p.Egress)) {
		t.row("sent by "+name, "%14d B %14d B", p.Egress[name], b.Egress[name])
	}
	t.row("sent by all", "%14.0f B %14.0f B   %.2f times", sum(p.Egress), sum(b.Egress), e.EgressRatio)
}

// figure draws the pairs.
func (e *RepairEffect) figure(policy string) figure {
	return figure{
		"What the repair policy changes",
		fmt.Sprintf("Time until the node's own copy of the key that is read most was live, in turn: %.2f times that of the built-in plan. Clients of the other nodes waited %.2f times as long (p99 %.2f and %.2f ms), and the others sent %.2f times the bytes.",
			e.HotKeyRatio, e.P99Ratio, e.Policy.DuringP99MS, e.Builtin.DuringP99MS, e.EgressRatio),
		e.hot().svg(policy, "built-in plan", "time to the hottest key, by the policy and by the built-in plan"),
	}
}
