package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
)

// maxScale: with more, the smaller cluster has too few keys to change as many.
const maxScale = 1000

// Scale is how long a node takes to come back from the same number of changes in a
// cluster with so many times fewer keys, in turn with the one that is told in full,
// while no client did anything. Durations are in milliseconds since the returning
// process was executed, until all partitions were live.
type Scale struct {
	Times   int         `json:"times"`
	Keys    int         `json:"keys"` // of the smaller cluster
	Pairs   []ScalePair `json:"pairs"`
	LargeMS float64     `json:"large_ms"` // medians
	SmallMS float64     `json:"small_ms"`
	Ratio   float64     `json:"ratio"` // large over small: the median of the pairs' ratios
	Wrong   int         `json:"wrong"` // keys that the smaller cluster lost, brought back or told in two ways
}

// ScalePair is one return in each cluster.
type ScalePair struct {
	LargeMS        float64 `json:"large_ms"`
	LargeSyncBytes uint64  `json:"large_sync_bytes"`
	SmallMS        float64 `json:"small_ms"`
	SmallSyncBytes uint64  `json:"small_sync_bytes"`
	Ratio          float64 `json:"ratio"`
}

// settle takes the medians. Each return is held against the one beside it.
func (s *Scale) settle() {
	for i, ratio := range s.turns().ratios() {
		s.Pairs[i].Ratio = ratio
	}
	s.LargeMS, s.SmallMS, s.Ratio = s.turns().medians()
}

// turns are the times of the larger and of the smaller cluster.
func (s *Scale) turns() turns {
	return turnsOf(s.Pairs, func(p ScalePair) (large, small float64) { return p.LargeMS, p.SmallMS })
}

// tell writes it for people.
func (s *Scale) tell(t *sheet) {
	t.row("caught up", "%s", s.timeText())
	t.row("wrong there", "%s", t.paint.count(s.Wrong))
}

// timeText says in one line for people how the times compare.
func (s *Scale) timeText() string {
	return fmt.Sprintf("%.1f ms with %d times the keys, %.1f ms without: %.2f times (%s)", s.LargeMS, s.Times, s.SmallMS, s.Ratio, s.turns().spread())
}

// smaller is the run of the smaller cluster: the same number of changes, of fewer
// keys.
func (r *rejoinRun) smaller() (*rejoinRun, error) {
	o := *r.opts
	o.keys /= o.scale
	o.changed, o.deleted = amount{number: r.opts.changed.of(r.opts.keys)}, amount{number: r.opts.deleted.of(r.opts.keys)}
	o.vs, o.repairPolicy, o.interrupt, o.returns, o.control, o.report = "", "", 0, 0, false, ""
	if o.dir != "" {
		o.dir = filepath.Join(o.dir, "smaller")
	}
	small := &rejoinRun{opts: &o, kv: r.kv, progress: r.progress}
	if err := small.draw(); err != nil {
		return nil, fmt.Errorf("--scale %d, with %d keys: %w", o.scale, o.keys, err)
	}
	return small, nil
}

// scale starts the smaller cluster, and measures pairs of returns. Who begins
// changes with each pair.
func (r *rejoinRun) scale(ctx context.Context) (err error) {
	small := r.small
	if err := small.step(ctx, small.bringUp); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, small.fleet.close()) }()
	if err := small.stepFor(ctx, small.opts.loadTimeout(), small.load); err != nil {
		return err
	}
	out := &Scale{Times: r.opts.scale, Keys: small.opts.keys}
	plans, smallPlans := r.take(r.opts.pairs), small.take(r.opts.pairs)
	for i := range plans {
		r.progress.begin(fmt.Sprintf("pair %d of %d, beside fewer keys", i+1, r.opts.pairs), 0)
		var pair ScalePair
		err := r.inTurn(ctx, i,
			func(ctx context.Context) (err error) {
				pair.LargeMS, pair.LargeSyncBytes, err = r.timedReturn(ctx, plans[i])
				return err
			},
			func(ctx context.Context) (err error) {
				pair.SmallMS, pair.SmallSyncBytes, err = small.timedReturn(ctx, smallPlans[i])
				return err
			})
		if err != nil {
			return fmt.Errorf("%w\n%s", err, small.fleet.logs())
		}
		out.Pairs = append(out.Pairs, pair)
	}
	out.settle()
	if err := small.stepFor(ctx, small.opts.loadTimeout(), small.verify); err != nil {
		return err
	}
	out.judge(&small.report)
	r.report.Scale = out
	for _, fault := range small.report.Faults {
		r.report.Faults = append(r.report.Faults, "with fewer keys: "+fault)
	}
	return nil
}

// judge takes over whether the smaller cluster ended as it must.
func (s *Scale) judge(small *Report) {
	if !small.ok() {
		s.Wrong = max(1, small.Lost+small.Resurrected+small.Diverged)
	}
}

// timedReturn is a return beside which nothing happens.
func (r *rejoinRun) timedReturn(ctx context.Context, p plan) (ms float64, syncBytes uint64, err error) {
	m, err := r.bareReturn(ctx, p, p.writes(r.ledger), r.fleet.back)
	return since(m.back, m.caughtUp), m.session.SyncBytesIn + m.session.SyncBytesOut, err
}

// figure draws the pairs.
func (s *Scale) figure() figure {
	return figure{
		"As many changes among more keys", "Time until the node was caught up, in turn: " + s.timeText() + ".",
		s.turns().svg(fmt.Sprintf("%d keys", s.Keys*s.Times), fmt.Sprintf("%d keys", s.Keys), "time of each return, in turn"),
	}
}
