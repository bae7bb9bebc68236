package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// maxReturns is enough for a 99th percentile of thousands of requests; more is a
// soak.
const maxReturns = 50

// busyReturn is a return beside which clients of the other nodes went on, and
// nothing else.
type busyReturn struct {
	bareMoments
	clients clientPhases
	errors  int
}

// busyReturn measures clients, takes the node away, makes the plan's writes and
// brings the node back, while the same clients go on and, where there is one,
// meanwhile runs.
func (r *rejoinRun) busyReturn(ctx context.Context, p plan, meanwhile func(context.Context)) (out busyReturn, err error) {
	before, err := r.clientsBefore(ctx)
	if err != nil {
		return out, err
	}
	during := newTraffic(r.ledger, r.fleet.others(), r.opts.keys)
	beside, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	out.bareMoments, err = r.bareReturn(ctx, p, p.writes(r.ledger), func(ctx context.Context) (time.Time, error) {
		at, err := r.fleet.back(ctx)
		wg.Go(func() { during.run(beside) })
		if meanwhile != nil {
			wg.Go(func() { meanwhile(beside) })
		}
		return at, err
	})
	if err != nil {
		return out, err
	}
	if err := pause(ctx, r.opts.measure-time.Since(out.back)); err != nil {
		return out, err
	}
	stop()
	wg.Wait()
	out.saw(before, during)
	return out, nil
}

// clientsBefore measures clients while all nodes are there and level.
func (r *rejoinRun) clientsBefore(ctx context.Context) (*traffic, error) {
	if err := waitEqual(ctx, r.fleet.doors); err != nil {
		return nil, err
	}
	t := newTraffic(r.ledger, r.fleet.others(), r.opts.keys)
	measuring, done := context.WithTimeout(ctx, r.opts.measure)
	defer done()
	t.run(measuring)
	return t, nil
}

// saw takes over what clients waited.
func (b *busyReturn) saw(before, during *traffic) {
	b.clients.before, b.errors = before.trace, before.errors+during.errors
	b.clients.split(during.trace, b.caughtUp)
}

// busyLimit is how long a busy return may take, and before it a stand-in.
func (o *rejoinOptions) busyLimit() time.Duration {
	limit := o.timeout + o.quietBefore + o.down + 2*o.measure
	if o.control {
		limit += o.timeout
	}
	return limit
}

// Waits is how long clients of the nodes that stay waited, over all requests of one
// return or several. A percentile of few requests says little, so that their number
// stands beside it.
type Waits struct {
	Returns        int     `json:"returns"`
	CaughtUpMS     float64 `json:"caught_up_ms"` // median
	BeforeP99MS    float64 `json:"before_p99_ms"`
	DuringP99MS    float64 `json:"during_p99_ms"` // until the node was caught up
	AfterP99MS     float64 `json:"after_p99_ms"`
	P99Ratio       float64 `json:"p99_ratio"` // during over before
	BeforeRequests int     `json:"before_requests"`
	DuringRequests int     `json:"during_requests"`
	AfterRequests  int     `json:"after_requests"`
	ClientErrors   int     `json:"client_errors"`
	Reads          Kind    `json:"reads"`
	Writes         Kind    `json:"writes"`
	// Control is there with --control.
	Control *Control `json:"control,omitempty"`
}

// Kind is the same of reads alone, or of writes alone, of which there are so few and
// which take so much longer that a 99th percentile of all is theirs.
type Kind struct {
	BeforeP99MS    float64 `json:"before_p99_ms"`
	DuringP99MS    float64 `json:"during_p99_ms"`
	P99Ratio       float64 `json:"p99_ratio"` // during over before
	DuringRequests int     `json:"during_requests"`
}

// kind takes one kind of requests out.
func (c *clientPhases) kind(write bool) Kind {
	of := func(all []latency) (out []latency) {
		for _, l := range all {
			if l.write == write {
				out = append(out, l)
			}
		}
		return out
	}
	during := of(c.during)
	k := Kind{BeforeP99MS: quantile(of(c.before), 0.99), DuringP99MS: quantile(during, 0.99), DuringRequests: len(during)}
	k.P99Ratio = over(k.DuringP99MS, k.BeforeP99MS)
	return k
}

// tell writes it for people.
func (k *Kind) tell(t *sheet, name string) {
	t.row(name, "%9.2f ms of %d: %.2f times the %.2f ms before", k.DuringP99MS, k.DuringRequests, k.P99Ratio, k.BeforeP99MS)
}

// waitsOf pools returns.
func waitsOf(returns []busyReturn) Waits {
	out := Waits{Returns: len(returns)}
	var all clientPhases
	var caughtUp []float64
	for _, b := range returns {
		all.before, all.during, all.after = append(all.before, b.clients.before...), append(all.during, b.clients.during...), append(all.after, b.clients.after...)
		caughtUp = append(caughtUp, since(b.back, b.caughtUp))
		out.ClientErrors += b.errors
	}
	out.CaughtUpMS = median(caughtUp)
	out.BeforeP99MS, out.DuringP99MS, out.AfterP99MS = quantile(all.before, 0.99), quantile(all.during, 0.99), quantile(all.after, 0.99)
	out.BeforeRequests, out.DuringRequests, out.AfterRequests = len(all.before), len(all.during), len(all.after)
	out.P99Ratio = over(out.DuringP99MS, out.BeforeP99MS)
	out.Reads, out.Writes = all.kind(false), all.kind(true)
	return out
}

// again measures the further returns, with --control each in turn with a stand-in
// that uses what the return before it did.
func (r *rejoinRun) again(ctx context.Context) error {
	var returns, standIns []busyReturn
	parts := []func(context.Context) error{func(ctx context.Context) error {
		one, err := r.busyReturn(ctx, r.take(1)[0], nil)
		returns = append(returns, one)
		return err
	}}
	if r.opts.control {
		parts = append(parts, func(ctx context.Context) error {
			one, err := r.standIn(ctx, r.take(1)[0], returns[len(returns)-1])
			standIns = append(standIns, one)
			return err
		})
	}
	for i := range r.opts.returns {
		r.progress.begin(fmt.Sprintf("return %d of %d, beside clients", i+1, r.opts.returns), 0)
		if err := r.inTurn(ctx, i, parts...); err != nil {
			return err
		}
	}
	waits := waitsOf(returns)
	if r.opts.control {
		waits.Control = controlOf(returns, standIns)
	}
	r.report.Waits = &waits
	return nil
}

// tell writes it for people.
func (w *Waits) tell(t *sheet) {
	t.row("caught up", "%9.1f ms, the median", w.CaughtUpMS)
	t.row("clients' p99, during", "%9.2f ms of %d requests: %.2f times that before", w.DuringP99MS, w.DuringRequests, w.P99Ratio)
	t.row("  before", "%9.2f ms of %d", w.BeforeP99MS, w.BeforeRequests)
	t.row("  after", "%9.2f ms of %d; %d errors in all", w.AfterP99MS, w.AfterRequests, w.ClientErrors)
	w.Reads.tell(t, "  reads, during")
	w.Writes.tell(t, "  writes, during")
	if w.Control != nil {
		w.Control.tell(t)
	}
}
