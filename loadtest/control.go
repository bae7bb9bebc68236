package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Control is what clients waited, in turn with the returns, beside a stand-in: a
// process that used as much processor time in the same while as the return before it
// had, and did nothing else, while the node stayed away after changes like those of a
// return. What a return's clients wait beyond that is the sync's doing, and not that
// of its processor time where there are few processors. The other nodes' own work for
// a sync, and this program's questions to the node that returns, are the sync's.
type Control struct {
	Pairs       []ControlPair `json:"pairs"`
	Ratio       float64       `json:"p99_ratio_to_control"` // clients' p99 during a return over that beside its stand-in: the median of the pairs' ratios
	ProcessorMS float64       `json:"processor_ms"`         // that a returning process used until caught up, median
	BurntMS     float64       `json:"burnt_ms"`             // that a stand-in used, median
	LastedMS    float64       `json:"lasted_ms"`            // the stand-in, median
	// Over all requests beside stand-ins, as of the returns.
	BeforeP99MS    float64 `json:"before_p99_ms"`
	DuringP99MS    float64 `json:"during_p99_ms"`
	P99Ratio       float64 `json:"p99_ratio"` // during over before
	BeforeRequests int     `json:"before_requests"`
	DuringRequests int     `json:"during_requests"`
	ClientErrors   int     `json:"client_errors"`
	Reads          Kind    `json:"reads"`
	Writes         Kind    `json:"writes"`
}

// ControlPair is one return and the stand-in beside it.
type ControlPair struct {
	ReturnMS    float64 `json:"return_ms"` // until caught up
	ProcessorMS float64 `json:"processor_ms"`
	ReturnP99MS float64 `json:"return_p99_ms"`
	StandInMS   float64 `json:"stand_in_ms"`
	BurntMS     float64 `json:"burnt_ms"`
	StandP99MS  float64 `json:"stand_in_p99_ms"`
	Ratio       float64 `json:"ratio"`
}

// controlOf holds each return against the stand-in beside it. There are as many of
// both.
func controlOf(returns, standIns []busyReturn) *Control {
	c := &Control{}
	for i, b := range returns {
		s := standIns[i]
		c.Pairs = append(c.Pairs, ControlPair{
			ReturnMS: since(b.back, b.caughtUp), ProcessorMS: msOf(b.processor), ReturnP99MS: quantile(b.clients.during, 0.99),
			StandInMS: since(s.back, s.caughtUp), BurntMS: msOf(s.processor), StandP99MS: quantile(s.clients.during, 0.99),
		})
	}
	for i, ratio := range c.turns().ratios() {
		c.Pairs[i].Ratio = ratio
	}
	_, _, c.Ratio = c.turns().medians()
	used := turnsOf(c.Pairs, func(p ControlPair) (node, standIn float64) { return p.ProcessorMS, p.BurntMS })
	c.ProcessorMS, c.BurntMS, _ = used.medians()
	w := waitsOf(standIns)
	c.LastedMS, c.BeforeP99MS, c.DuringP99MS, c.P99Ratio = w.CaughtUpMS, w.BeforeP99MS, w.DuringP99MS, w.P99Ratio
	c.BeforeRequests, c.DuringRequests = w.BeforeRequests, w.DuringRequests
	c.ClientErrors, c.Reads, c.Writes = w.ClientErrors, w.Reads, w.Writes
	return c
}

// turns are the clients' 99th percentiles beside returns and beside stand-ins.
func (c *Control) turns() turns {
	return turnsOf(c.Pairs, func(p ControlPair) (node, standIn float64) { return p.ReturnP99MS, p.StandP99MS })
}

// standIn measures clients beside a stand-in for a return, while the node stays away.
// Then the node comes back. What it returns is the stand-in's: caught up is its end.
func (r *rejoinRun) standIn(ctx context.Context, p plan, of busyReturn) (out busyReturn, err error) {
	before, err := r.clientsBefore(ctx)
	if err != nil {
		return out, err
	}
	during := newTraffic(r.ledger, r.fleet.others(), r.opts.keys)
	_, err = r.bareReturn(ctx, p, p.writes(r.ledger), func(ctx context.Context) (time.Time, error) {
		if err := r.burnBeside(ctx, during, &out.bareMoments, of); err != nil {
			return time.Time{}, err
		}
		return r.fleet.back(ctx)
	})
	out.saw(before, during)
	return out, err
}

// burnBeside runs the stand-in beside clients, which go on as they do after a return.
func (r *rejoinRun) burnBeside(ctx context.Context, during *traffic, m *bareMoments, of busyReturn) error {
	m.back = time.Now()
	s, err := startBurning(ctx, burnBudget{of.processor, of.caughtUp.Sub(of.back)})
	if err != nil {
		return err
	}
	beside, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { during.run(beside) })
	if m.processor, err = s.wait(); err != nil {
		return err
	}
	m.caughtUp = time.Now()
	return pause(ctx, r.opts.measure-time.Since(m.back))
}

// tell writes it for people.
func (c *Control) tell(t *sheet) {
	t.row("a stand-in for each", "%9.1f ms, and %.1f ms of processor time, of the %.1f ms that a return takes; medians", c.LastedMS, c.BurntMS, c.ProcessorMS)
	t.row("clients' p99, during", "%9.2f ms of %d requests: %.2f times that before", c.DuringP99MS, c.DuringRequests, c.P99Ratio)
	t.row("  before", "%9.2f ms of %d; %d errors in all", c.BeforeP99MS, c.BeforeRequests, c.ClientErrors)
	c.Reads.tell(t, "  reads, during")
	c.Writes.tell(t, "  writes, during")
	t.row("returns beside that", "%s", c.ratioText())
}

// ratioText says in one line for people how the clients of both compare.
func (c *Control) ratioText() string {
	return fmt.Sprintf("clients' p99 %.2f times that beside the stand-in (%s)", c.Ratio, c.turns().spread())
}

// figure draws the pairs.
func (c *Control) figure() figure {
	return figure{
		"What a return costs clients beyond its processor time",
		fmt.Sprintf("Clients of the other nodes while a node returned, and while a process used as much of the processors and did nothing else, in turn: %s.", c.ratioText()),
		c.turns().svg("during a return", "beside its stand-in", "clients' 99th percentile of each pair"),
	}
}
