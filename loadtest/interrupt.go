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
	// settledLooks at the donors' counters, settledEvery apart, must be alike before
	// they are taken: a lane to a process that was killed ends when its connection is
	// found dead.
	settledLooks = 4
	settledEvery = 500 * time.Millisecond
)

// Interrupted is what a return cost that was cut several times, held against a
// return after the same changes that was not cut, both while no client did
// anything, each from its start until all was verified.
type Interrupted struct {
	Asked       int     `json:"asked"`         // cuts; it may have caught up before the last of them
	KillDelayMS float64 `json:"kill_delay_ms"` // between the cut and the kill
	// Session is what the goal is about: the bytes of session frames, both
	// directions, as the nodes that stay count them. The node itself forgets what it
	// counted whenever it is killed. What they sent and the cut kept from it counts.
	Session CutCost `json:"session"`
	// Relay is what went through the relay to the node and from it: handshakes,
	// gossip and acknowledgements are in it.
	Relay            CutCost `json:"relay"`
	OneCaughtUpMS    float64 `json:"one_caught_up_ms"`       // since its start
	LastCaughtUpMS   float64 `json:"last_caught_up_ms"`      // since the last start
	AllCaughtUpMS    float64 `json:"all_caught_up_ms"`       // since the first start
	EntriesInLast    uint64  `json:"entries_received_last"`  // by the last attempt
	EntriesInOne     uint64  `json:"entries_received_one"`   // by the one that was not cut
	OfflineBetweenMS float64 `json:"offline_between_cut_ms"` // from a cut to the next start, on average
}

// CutCost holds the bytes of a return that was cut against those of one that was
// not.
type CutCost struct {
	One   uint64  `json:"one_bytes"`
	All   uint64  `json:"all_bytes"`        // of all attempts
	Ratio float64 `json:"ratio"`            // all over one
	Extra float64 `json:"extra_bytes_each"` // beyond one's, for each cut
	Bound uint64  `json:"bound_bytes"`      // 1.02 of one's and 24 kB for each cut
	Met   bool    `json:"within_bound"`     // all are no more
}

// cutCost draws what follows from the counts.
func cutCost(one, all uint64, cuts int) CutCost {
	c := CutCost{One: one, All: all, Ratio: ratio(all, int(one))}
	c.Bound = uint64(float64(one)*interruptedFactor) + uint64(cuts)*interruptedBytes
	c.Met = all <= c.Bound
	if cuts > 0 {
		c.Extra = (float64(all) - float64(one)) / float64(cuts)
	}
	return c
}

// tell writes it for people.
func (i *Interrupted) tell(t *sheet) {
	for _, c := range []struct {
		name string
		CutCost
	}{{"session bytes", i.Session}, {"at the relay", i.Relay}} {
		t.row(c.name, "%9d B in all attempts, %d B where nothing is cut: %.3f times, %.0f B more a cut", c.All, c.One, c.Ratio, c.Extra)
		t.row("  may be", "%9d B: %s", c.Bound, t.paint.yes(c.Met))
	}
	t.row("caught up", "%.1f ms after the first start, %.1f ms after the last; not cut %.1f ms", i.AllCaughtUpMS, i.LastCaughtUpMS, i.OneCaughtUpMS)
	t.row("entries, last attempt", "%d; not cut %d", i.EntriesInLast, i.EntriesInOne)
}

// byteMeter counts what the returning node and the others exchange.
type byteMeter struct {
	fleet *fleet
	gate  *relayGate
	begun struct {
		relay   wireCount
		session uint64
	}
}

// begin starts counting.
func (m *byteMeter) begin(ctx context.Context) (err error) {
	m.begun.relay = m.gate.counts()
	m.begun.session, err = m.session(ctx)
	return err
}

// end returns what was exchanged since begin, once nobody counts on: a donor
// counts a lane that was cut when it notices.
func (m *byteMeter) end(ctx context.Context) (session, relay uint64, err error) {
	at := m.gate.counts()
	last, settled := uint64(0), 0
	for settled < settledLooks {
		now, err := m.session(ctx)
		if err != nil {
			return 0, 0, err
		}
		if settled++; now != last {
			last, settled = now, 0
		}
		if err := pause(ctx, settledEvery); err != nil {
			return 0, 0, err
		}
	}
	return last - m.begun.session, at.in + at.out - m.begun.relay.in - m.begun.relay.out, nil
}

// session is the session bytes that the nodes that stay have counted so far.
func (m *byteMeter) session(ctx context.Context) (total uint64, err error) {
	counts, err := m.fleet.sessionCounts(ctx)
	for _, c := range counts {
		total += c.in + c.out
	}
	return total, err
}

// interrupt measures a return that is not cut, and then one that is cut when it
// has received an even share of that one's bytes, again and again. A cut is both:
// nothing passes the relay from there on, and the process is killed, at once or
// after a delay in which it may keep what has arrived.
func (r *rejoinRun) interrupt(ctx context.Context) error {
	out := &Interrupted{Asked: r.opts.interrupt, KillDelayMS: float64(r.opts.killDelay.Milliseconds())}
	r.report.Interrupted = out
	meter := &byteMeter{fleet: r.fleet, gate: r.fleet.relay.gates[r.fleet.target]}
	plans := r.take(2)

	r.progress.begin("a return that nobody cuts", 0)
	one, err := r.bareReturn(ctx, plans[0], plans[0].writes(r.ledger), func(ctx context.Context) (time.Time, error) {
		if err := meter.begin(ctx); err != nil {
			return time.Time{}, err
		}
		return r.fleet.back(ctx)
	})
	if err != nil {
		return fmt.Errorf("return without a cut: %w", err)
	}
	inOne := int64(meter.gate.counts().in - meter.begun.relay.in)
	oneSession, oneRelay, err := meter.end(ctx)
	if err != nil {
		return err
	}
	out.OneCaughtUpMS, out.EntriesInOne = since(one.back, one.caughtUp), one.session.EntriesReceived

	r.progress.begin("a return that is cut", r.opts.interrupt)
	var first time.Time
	last, err := r.bareReturn(ctx, plans[1], plans[1].writes(r.ledger), func(ctx context.Context) (time.Time, error) {
		if err := meter.begin(ctx); err != nil {
			return time.Time{}, err
		}
		first = time.Now()
		return r.cutReturns(ctx, meter.gate, inOne/int64(r.opts.interrupt+1))
	})
	if err != nil {
		return fmt.Errorf("return with cuts: %w", err)
	}
	out.LastCaughtUpMS, out.AllCaughtUpMS = since(last.back, last.caughtUp), since(first, last.caughtUp)
	out.EntriesInLast = last.session.EntriesReceived
	allSession, allRelay, err := meter.end(ctx)
	if err != nil {
		return err
	}
	cuts := r.report.Interruptions
	out.Session, out.Relay = cutCost(oneSession, allSession, cuts), cutCost(oneRelay, allRelay, cuts)
	out.OfflineBetweenMS /= float64(max(cuts, 1))
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
