package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// maxInterruptions: each cut return gets a share of the bytes, and a share
	// must be more than it takes to connect.
	maxInterruptions = 20
	// What a return may cost that was cut k times: interruptedFactor times what one
	// costs that was not, and interruptedBytes for each cut, most of them for
	// connecting again.
	interruptedFactor = 1.02
	interruptedBytes  = 24_000
)

// Interrupted is what a return cost that was cut several times, held against a
// return after the same changes that was not cut, both while no client did
// anything. Bytes are those that went through the relay to the node and from it,
// from its start until all was verified.
type Interrupted struct {
	Asked            int     `json:"asked"`         // cuts; it may have caught up before the last of them
	KillDelayMS      float64 `json:"kill_delay_ms"` // between the cut and the kill
	OneBytesIn       uint64  `json:"one_bytes_in"`
	OneBytesOut      uint64  `json:"one_bytes_out"`
	AllBytesIn       uint64  `json:"all_bytes_in"` // of all attempts
	AllBytesOut      uint64  `json:"all_bytes_out"`
	Ratio            float64 `json:"ratio"`                  // all bytes over those of one
	ExtraBytes       float64 `json:"extra_bytes_each"`       // beyond one's, for each cut
	BoundBytes       uint64  `json:"bound_bytes"`            // 1.02 of one's and 24 kB for each cut
	WithinBound      bool    `json:"within_bound"`           // all bytes are no more
	OneCaughtUpMS    float64 `json:"one_caught_up_ms"`       // since its start
	LastCaughtUpMS   float64 `json:"last_caught_up_ms"`      // since the last start
	AllCaughtUpMS    float64 `json:"all_caught_up_ms"`       // since the first start
	EntriesInLast    uint64  `json:"entries_received_last"`  // by the last attempt
	EntriesInOne     uint64  `json:"entries_received_one"`   // by the one that was not cut
	OfflineBetweenMS float64 `json:"offline_between_cut_ms"` // from a cut to the next start, on average
}

// settle draws what follows from the counts.
func (i *Interrupted) settle(cuts int) {
	one, all := i.OneBytesIn+i.OneBytesOut, i.AllBytesIn+i.AllBytesOut
	i.Ratio = ratio(all, int(one))
	i.BoundBytes = uint64(float64(one)*interruptedFactor) + uint64(cuts)*interruptedBytes
	i.WithinBound = all <= i.BoundBytes
	if cuts > 0 {
		i.ExtraBytes = (float64(all) - float64(one)) / float64(cuts)
		i.OfflineBetweenMS /= float64(cuts)
	}
}

// interrupt measures a return that is not cut, and then one that is cut when it
// has received an even share of that one's bytes, again and again. A cut is both:
// nothing passes the relay from there on, and the process is killed, at once or
// after a delay in which it may keep what has arrived.
func (r *rejoinRun) interrupt(ctx context.Context) error {
	out := &Interrupted{Asked: r.opts.interrupt, KillDelayMS: float64(r.opts.killDelay.Milliseconds())}
	r.report.Interrupted = out
	gate := r.fleet.relay.gates[r.fleet.target]
	plans := r.plans[len(r.plans)-2:]

	r.progress.begin("a return that nobody cuts", 0)
	var begun wireCount
	one, err := r.bareReturn(ctx, plans[0], plans[0].writes(r.ledger), func(ctx context.Context) (time.Time, error) {
		begun = gate.counts()
		return r.fleet.back(ctx)
	})
	if err != nil {
		return fmt.Errorf("return without a cut: %w", err)
	}
	end := gate.counts()
	out.OneBytesIn, out.OneBytesOut = end.in-begun.in, end.out-begun.out
	out.OneCaughtUpMS, out.EntriesInOne = since(one.back, one.caughtUp), one.session.EntriesReceived

	r.progress.begin("a return that is cut", r.opts.interrupt)
	var first time.Time
	last, err := r.bareReturn(ctx, plans[1], plans[1].writes(r.ledger), func(ctx context.Context) (time.Time, error) {
		begun, first = gate.counts(), time.Now()
		return r.cutReturns(ctx, gate, int64(out.OneBytesIn)/int64(r.opts.interrupt+1))
	})
	if err != nil {
		return fmt.Errorf("return with cuts: %w", err)
	}
	end = gate.counts()
	out.AllBytesIn, out.AllBytesOut = end.in-begun.in, end.out-begun.out
	out.LastCaughtUpMS, out.AllCaughtUpMS = since(last.back, last.caughtUp), since(first, last.caughtUp)
	out.EntriesInLast = last.session.EntriesReceived
	out.settle(r.report.Interruptions)
	return nil
}

// cutReturns starts the node and cuts it off each time it has received so many
// bytes more, and returns when it was started for the last time.
func (r *rejoinRun) cutReturns(ctx context.Context, gate *relayGate, share int64) (time.Time, error) {
	target := r.fleet.returning()
	for range r.opts.interrupt {
		reached := gate.cutAfter(share)
		back, err := r.fleet.back(ctx)
		if err != nil {
			return back, err
		}
		cut := false
		_, err = poll(ctx, time.Millisecond, func(ctx context.Context) (bool, error) {
			select {
			case <-reached:
				cut = true
				return true, nil
			default:
			}
			ready, err := target.admin.Readyz(ctx)
			return err == nil && ready.Ready, nil // an error is a node that is not there yet
		})
		if err != nil || !cut { // it was faster than the cut
			gate.heal()
			return back, err
		}
		at := time.Now()
		if err := pause(ctx, r.opts.killDelay); err != nil {
			return back, err
		}
		if err := r.fleet.kill(); err != nil {
			return back, errors.Join(err, context.Cause(ctx))
		}
		gate.heal()
		r.report.Interruptions++
		r.report.Interrupted.OfflineBetweenMS += since(at, time.Now())
		r.progress.step(1)
	}
	return r.fleet.back(ctx)
}
