package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"edged.dev/edged/api/admin"
)

const (
	// watchEvery is the grain of caught_up_ms and verified_ms.
	watchEvery = 5 * time.Millisecond
	// rootsEvery is the grain where roots must be compared, which costs both
	// nodes a walk over their partitions.
	rootsEvery = 20 * time.Millisecond
	// watchAsk bounds one question to a node that may not answer yet.
	watchAsk = time.Second
)

// moments are when a returning node reached what.
type moments struct {
	firstAnswer, caughtUp, verified time.Time
	// processor is what the node's process had used by the time it was caught up; 0
	// where the process is not this run's own.
	processor time.Duration
	// session is what the node said of its session once it was caught up: what
	// is exchanged later is the tick of a running node.
	session admin.Rejoin
	// wire is what went over the node's UDP socket since its process was started,
	// at the same moment; read where the process was there all the time.
	wire wireCount
}

// wireCount are bytes that came in and went out, at a node's UDP socket unless told
// otherwise.
type wireCount struct{ in, out uint64 }

// readWire reads them from the node's counters.
func readWire(ctx context.Context, d door) (wireCount, error) {
	status, err := d.admin.Status(ctx)
	if err != nil {
		return wireCount{}, fmt.Errorf("read counters of %s: %w", d.name, err)
	}
	return wireCount{status.Counters["wire_received_bytes_total"], status.Counters["wire_sent_bytes_total"]}, nil
}

// sessionCounts are the bytes of session frames that each node that stays has
// taken in and sent.
func (f *fleet) sessionCounts(ctx context.Context) (map[string]wireCount, error) {
	out := map[string]wireCount{}
	for _, d := range f.others() {
		status, err := d.admin.Status(ctx)
		if err != nil {
			return nil, fmt.Errorf("read counters of %s: %w", d.name, err)
		}
		out[d.name] = wireCount{status.Counters["sync_received_bytes_total"], status.Counters["sync_sent_bytes_total"]}
	}
	return out, nil
}

// watcher waits for what a returning node reaches.
type watcher struct {
	fleet *fleet
	// first returns when the node has answered its first request correctly.
	first func(context.Context) (time.Time, error)
	// paused says that the process was there all the time, so that it may call
	// itself ready until it notices that it was away.
	paused bool
}

// run returns when the node has answered, caught up and verified its copies.
func (w *watcher) run(ctx context.Context) (moments, error) {
	var m moments
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		m.firstAnswer, err = w.first(ctx)
		return err
	})
	group.Go(func() (err error) {
		if m.caughtUp, err = w.caughtUp(ctx); err != nil {
			return err
		}
		m.processor = w.fleet.processor()
		if m.session, err = w.fleet.returning().admin.Rejoin(ctx); err != nil {
			return fmt.Errorf("read rejoin of %s: %w", w.fleet.returning().name, err)
		}
		if w.paused {
			if m.wire, err = readWire(ctx, w.fleet.returning()); err != nil {
				return err
			}
		}
		m.verified, err = w.ready(ctx, "verification", func(r admin.Ready) bool {
			return r.Ready && r.Partitions.Verified == r.Partitions.Owned
		})
		return err
	})
	return m, group.Wait()
}

func (w *watcher) caughtUp(ctx context.Context) (time.Time, error) {
	at, err := w.ready(ctx, "readiness", func(r admin.Ready) bool { return r.Ready })
	if err != nil || !w.paused {
		return at, err
	}
	return w.sameRoots(ctx)
}

// ready polls the node's readiness until done says yes, and returns when that
// answer came.
func (w *watcher) ready(ctx context.Context, what string, done func(admin.Ready) bool) (time.Time, error) {
	target := w.fleet.returning()
	var last admin.Ready
	at, err := poll(ctx, watchEvery, func(ctx context.Context) (bool, error) {
		ready, err := target.admin.Readyz(ctx)
		if err != nil { // it is not there yet
			return false, w.fleet.failed()
		}
		last = ready
		return done(ready), nil
	})
	if err != nil {
		return at, fmt.Errorf("wait for %s of %s, last %+v: %w", what, target.name, last, err)
	}
	return at, nil
}

// sameRoots waits until each partition of the node has been seen once with the
// root that another owner shows at the same time.
func (w *watcher) sameRoots(ctx context.Context) (time.Time, error) {
	target, donor := w.fleet.returning(), w.fleet.others()[0]
	seen := map[uint32]bool{}
	at, err := poll(ctx, rootsEvery, func(ctx context.Context) (bool, error) {
		mine, err := target.admin.Partitions(ctx)
		if err != nil {
			return false, w.fleet.failed()
		}
		theirs, err := donor.admin.Partitions(ctx)
		if err != nil {
			return false, fmt.Errorf("read roots of %s: %w", donor.name, err)
		}
		return allSeen(seen, mine, theirs), nil
	})
	if err != nil {
		return at, fmt.Errorf("wait for %s to hold what %s holds: %w", target.name, donor.name, err)
	}
	return at, nil
}

// allSeen marks the partitions whose roots are equal at two nodes, and reports
// whether all that both own have been marked by now.
func allSeen(seen map[uint32]bool, mine, theirs []admin.Partition) bool {
	roots := map[uint32]string{}
	for _, p := range theirs {
		if p.Owned {
			roots[p.ID] = p.Root
		}
	}
	all := true
	for _, p := range mine {
		root, common := roots[p.ID]
		if !p.Owned || !common {
			continue
		}
		seen[p.ID] = seen[p.ID] || root == p.Root
		all = all && seen[p.ID]
	}
	return all
}

// poll asks until the answer is yes and returns when that was.
// An error of ask ends the wait.
func poll(ctx context.Context, every time.Duration, ask func(context.Context) (bool, error)) (time.Time, error) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		asking, cancel := context.WithTimeout(ctx, watchAsk)
		yes, err := ask(asking)
		cancel()
		if yes || err != nil {
			return time.Now(), err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return time.Time{}, timedOut(ctx)
		}
	}
}

// timedOut is why a context ended.
func timedOut(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", errTimeout, context.Cause(ctx))
	}
	return context.Cause(ctx)
}
