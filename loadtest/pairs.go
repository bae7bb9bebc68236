package main

import (
	"context"
	"fmt"
	"html/template"
	"slices"
	"time"
)

// turns are the figures of two things that were measured in turn, a pair each time.
type turns struct{ a, b []float64 }

// turnsOf takes the two figures of each pair.
func turnsOf[P any](pairs []P, both func(P) (a, b float64)) turns {
	var t turns
	for _, p := range pairs {
		a, b := both(p)
		t.a, t.b = append(t.a, a), append(t.b, b)
	}
	return t
}

// ratios are the pairs': each a over the b beside it. Were medians divided, a machine
// that turned slow between two pairs would show as a ratio.
func (t turns) ratios() []float64 {
	out := make([]float64, len(t.a))
	for i := range out {
		out[i] = over(t.a[i], t.b[i])
	}
	return out
}

// medians are those of both, and that of the pairs' ratios.
func (t turns) medians() (a, b, ratio float64) {
	return median(t.a), median(t.b), median(t.ratios())
}

// spread says for people what the median of the ratios is one of.
func (t turns) spread() string {
	ratios := t.ratios()
	return fmt.Sprintf("median of %d pairs, %s", len(ratios), leastToMost(ratios))
}

// leastToMost is the range of ratios, of which there is one at least.
func leastToMost(ratios []float64) string {
	return fmt.Sprintf("%.2f to %.2f", slices.Min(ratios), slices.Max(ratios))
}

// svg draws both over the pairs, b first.
func (t turns) svg(aName, bName, title string) template.HTML {
	p := &plot{xName: "pair", yName: "milliseconds", xMin: 1}
	for i, values := range [][]float64{t.b, t.a} {
		s := series{name: []string{bName, aName}[i], draw: drawLine, colour: i + 1}
		for j, ms := range values {
			s.points = append(s.points, point{float64(j + 1), ms})
		}
		p.series = append(p.series, s)
	}
	return p.svg(title)
}

// over is a ratio, 0 where there is nothing to divide by.
func over(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// median of an even number is the mean of the two in the middle, and of none 0.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// settleWait lets what one return left in the background end before the next is
// measured, unless the run wants less quiet.
const settleWait = time.Second

// inTurn measures one thing after the other; who begins changes with each pair.
func (r *rejoinRun) inTurn(ctx context.Context, i int, parts ...func(context.Context) error) error {
	parts = slices.Clone(parts)
	if i%2 == 1 {
		slices.Reverse(parts)
	}
	for _, part := range parts {
		if err := r.stepFor(ctx, r.opts.busyLimit(), part); err != nil {
			return err
		}
		if err := pause(ctx, min(settleWait, r.opts.quietBefore)); err != nil {
			return err
		}
	}
	return nil
}
