package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// Versus is how another server came back from the same outages of the same data
// in the same run, in turn with the node, while no client did anything.
// Durations are in milliseconds since the returning process was executed.
type Versus struct {
	Server    string       `json:"server"`
	Version   string       `json:"version"`
	Pairs     []VersusPair `json:"pairs"`
	EdgedMS   float64      `json:"edged_ms"`   // until all partitions were live; medians
	PartialMS float64      `json:"partial_ms"` // until the replica showed the last change, by a partial resync
	// Until the first answer to a GET: of the node a right one, of a key that was changed
	// meanwhile, from whichever copy; of the replica any, which may be what it had saved.
	EdgedFirstMS   float64 `json:"edged_first_answer_ms"`
	PartialFirstMS float64 `json:"partial_first_answer_ms"`
	Ratio          float64 `json:"ratio"`         // how many times faster the node was: the median of the pairs' ratios
	EdgedBytes     uint64  `json:"edged_bytes"`   // at the UDP socket until then, both directions; of the last pair, as the two below
	PartialBytes   uint64  `json:"partial_bytes"` // that the replica read
	FullMS         float64 `json:"full_ms"`       // by a full resync, once
	FullBytes      uint64  `json:"full_bytes"`
	Wrong          int     `json:"wrong"` // changes that the replica did not show as written
}

// VersusPair is one return of each.
type VersusPair struct {
	EdgedMS        float64 `json:"edged_ms"`
	EdgedBytes     uint64  `json:"edged_bytes"`
	SyncBytes      uint64  `json:"sync_bytes"` // of the edged bytes: session frames
	PartialMS      float64 `json:"partial_ms"`
	EdgedFirstMS   float64 `json:"edged_first_answer_ms"`
	PartialFirstMS float64 `json:"partial_first_answer_ms"`
	PartialBytes   uint64  `json:"partial_bytes"`
	Ratio          float64 `json:"ratio"`
}

// settle takes the medians. Each return is held against the one beside it.
func (v *Versus) settle() {
	for i, ratio := range v.turns().ratios() {
		p := &v.Pairs[i]
		p.Ratio = ratio
		v.EdgedBytes, v.PartialBytes = p.EdgedBytes, p.PartialBytes
	}
	v.PartialMS, v.EdgedMS, v.Ratio = v.turns().medians()
	first := turnsOf(v.Pairs, func(p VersusPair) (partial, edged float64) { return p.PartialFirstMS, p.EdgedFirstMS })
	v.PartialFirstMS, v.EdgedFirstMS, _ = first.medians()
}

// turns are the times of Redis and of the node.
func (v *Versus) turns() turns {
	return turnsOf(v.Pairs, func(p VersusPair) (partial, edged float64) { return p.PartialMS, p.EdgedMS })
}

// versus starts Redis with the same data and measures pairs of returns. Who
// begins changes with each pair.
func (r *rejoinRun) versus(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "edged-versus-")
	if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	r.progress.begin("load redis and its replica", 0)
	pair, err := startRedisPair(ctx, r.opts.redisServer, dir, r.ledger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pair.close()) }()
	v := &Versus{Server: vsRedis}
	r.report.Versus = v
	if v.Version, err = pair.version(ctx); err != nil {
		return err
	}
	if err := r.stepFor(ctx, r.opts.loadTimeout(), func(ctx context.Context) error {
		return errors.Join(pair.write(ctx, r.held()), pair.waitLevel(ctx))
	}); err != nil {
		return err
	}
	var last []write
	for i, p := range r.take(r.opts.pairs) {
		r.progress.begin(fmt.Sprintf("pair %d of %d", i+1, r.opts.pairs), 0)
		writes := p.writes(r.ledger)
		last = r.asRedis(p, writes)
		if err := r.versusPair(ctx, pair, i, versusWrites{p, writes, last}); err != nil {
			return err
		}
	}
	r.progress.begin("a full resync of redis", 0)
	full, err := within(ctx, r.opts.loadTimeout(), func(ctx context.Context) (resync, error) { return pair.full(ctx, last) })
	if err != nil {
		return err
	}
	v.FullMS, v.FullBytes = full.ms, full.bytes
	v.Wrong += full.wrong
	v.settle()
	return nil
}

// versusWrites are what is written while both are away: to the cluster a plan's
// conflicts and its other writes, to Redis the same as it takes them.
type versusWrites struct {
	plan  plan
	edged []write
	redis []write
}

// versusPair measures one return of each.
func (r *rejoinRun) versusPair(ctx context.Context, pair *redisPair, i int, w versusWrites) error {
	var out VersusPair
	edged := func(ctx context.Context) error {
		m, err := r.bareReturn(ctx, w.plan, w.edged, r.fleet.back)
		out.EdgedMS, out.EdgedFirstMS = since(m.back, m.caughtUp), since(m.back, m.firstAnswer)
		out.EdgedBytes = m.session.WireBytesIn + m.session.WireBytesOut
		out.SyncBytes = m.session.SyncBytesIn + m.session.SyncBytesOut
		return err
	}
	redis := func(ctx context.Context) error {
		got, err := pair.partial(ctx, w.redis)
		out.PartialMS, out.PartialFirstMS, out.PartialBytes = got.ms, got.first, got.bytes
		r.report.Versus.Wrong += got.wrong
		return err
	}
	if err := r.inTurn(ctx, i, edged, redis); err != nil {
		return err
	}
	r.report.Versus.Pairs = append(r.report.Versus.Pairs, out)
	return nil
}

// bareMoments are the moments of a return that began at back.
type bareMoments struct {
	moments
	back time.Time
}

// bareReturn takes the node away, makes the writes and brings it back by back,
// while no client does anything.
func (r *rejoinRun) bareReturn(ctx context.Context, p plan, writes []write, back func(context.Context) (time.Time, error)) (m bareMoments, err error) {
	if err := errors.Join(waitEqual(ctx, r.fleet.doors), pause(ctx, r.opts.quietBefore), r.fleet.leave(ctx)); err != nil {
		return m, err
	}
	left := time.Now()
	if err := r.apply(ctx, p, writes); err != nil {
		return m, err
	}
	if err := pause(ctx, r.opts.down-time.Since(left)); err != nil {
		return m, err
	}
	if m.back, err = back(ctx); err != nil {
		return m, err
	}
	w := &watcher{fleet: r.fleet, first: func(ctx context.Context) (time.Time, error) {
		return firstAnswer(ctx, r.kv, r.ledger, r.fleet.returning(), p.overwritten[0])
	}}
	m.moments, err = w.run(ctx)
	return m, err
}

// held is what the cluster holds, as writes: of a conflict one of both values.
func (r *rejoinRun) held() []write {
	var out []write
	for i, e := range r.ledger.want {
		if !e.gone && e.a != 0 {
			out = append(out, write{key: i, number: e.a})
		}
	}
	return out
}

// asRedis is what Redis takes for a plan's writes: the conflicts become two
// writes each, and what is removed goes first, so that the last one shows.
func (r *rejoinRun) asRedis(p plan, writes []write) []write {
	var out []write
	for _, w := range writes {
		if w.remove {
			out = append(out, w)
		}
	}
	for _, key := range p.conflicting {
		n := r.ledger.want[key].a
		out = append(out, write{key: key, number: n}, write{key: key, number: n})
	}
	for _, w := range writes {
		if !w.remove {
			out = append(out, w)
		}
	}
	return out
}

// within runs a part of the story under a time limit.
func within[T any](ctx context.Context, limit time.Duration, part func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return part(ctx)
}

// tell writes it for people.
func (v *Versus) tell(t *sheet) {
	t.row("time, partial resync", "%s", v.timeText())
	t.row("  to the first answer", "%.1f ms from what was saved, the node %.1f ms with what was changed; medians", v.PartialFirstMS, v.EdgedFirstMS)
	t.row("bytes, partial resync", "%d B, the node %d B at the UDP socket", v.PartialBytes, v.EdgedBytes)
	t.row("a full resync", "%.1f ms, %d B", v.FullMS, v.FullBytes)
	t.row("changes not there", "%s", t.paint.count(v.Wrong))
}

// timeText says in one line for people who was faster.
func (v *Versus) timeText() string {
	return fmt.Sprintf("%.1f ms, the node %.1f ms: %.2f times faster (%s)", v.PartialMS, v.EdgedMS, v.Ratio, v.turns().spread())
}
