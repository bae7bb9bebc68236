package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"edged.dev/edged/api/admin"
	"edged.dev/edged/internal/testcluster"
)

// rollBack has the target lose what it did between saving its disk and being
// taken away: the copy is put back while it is down.
func (f *fleet) rollBack(n *testcluster.Node) {
	f.save = n.SaveDisk
	f.leave = func(context.Context) error {
		return errors.Join(n.Kill(), n.RestoreDisk())
	}
}

// saveDisk copies the target's disk and then makes half of the plan's writes
// through all nodes, the target among them: those it will know nothing of.
func (r *rejoinRun) saveDisk(ctx context.Context) error {
	r.progress.begin("copy its disk, and change keys through it", 0)
	if err := r.fleet.save(); err != nil {
		return err
	}
	// It stood still: a node that was away for so long serves when it is level.
	if err := waitReady(ctx, r.fleet.returning()); err != nil {
		return err
	}
	writes := r.plan.writes(r.ledger)
	half := len(writes) / 2
	r.later = writes[:half] // the first, which shows when the node is back, is among these
	l := &loader{ledger: r.ledger, doors: r.fleet.doors, step: r.progress.step}
	err := l.run(ctx, writes[half:])
	r.retried(l)
	return err
}

// waitReady waits until a node calls itself ready.
func waitReady(ctx context.Context, d door) error {
	_, err := poll(ctx, watchEvery, func(ctx context.Context) (bool, error) {
		ready, err := d.admin.Readyz(ctx)
		return err == nil && ready.Ready, nil // an error is a node that is not there yet
	})
	if err != nil {
		return fmt.Errorf("wait for readiness of %s: %w", d.name, err)
	}
	return nil
}

// clones has the target's disk copied while it is away, for a second node of the
// same name.
func (f *fleet) clones(n *testcluster.Node) {
	leave := f.leave
	f.leave = func(ctx context.Context) (err error) {
		if err := leave(ctx); err != nil {
			return err
		}
		f.clone, err = n.Clone()
		return err
	}
	f.original = n
}

const (
	// fenceLimit is how long two nodes of one name may both run.
	fenceLimit = 10 * time.Second
	// fenceAfter is how long clients go on once one of them has ended.
	fenceAfter = time.Second
)

// The words of fenced.
const (
	fencedNone     = "none"
	fencedOriginal = "original"
	fencedClone    = "clone"
	fencedBoth     = "both"
)

// Cloned is what became of two live nodes with one name and copies of one disk.
type Cloned struct {
	Fenced       string  `json:"fenced"`    // original, clone, both or none: who ended, or stands by
	FencedMS     float64 `json:"fenced_ms"` // since the clone was executed
	ClientErrors int     `json:"client_errors"`
}

// beside starts the clone beside the target that has come back, with clients that
// write through both, and waits until one of the two ends itself.
func (r *rejoinRun) beside(ctx context.Context) error {
	r.progress.begin("start a clone beside it", 0)
	clone, original := r.fleet.clone, r.fleet.original
	at, err := clone.Start(ctx)
	if err != nil {
		return err
	}
	if err := clone.WaitPorts(ctx); err != nil && !errors.Is(err, testcluster.ErrNotRunning) && clone.Running() {
		return err
	}
	clients := newTraffic(r.ledger, []door{doorOf(original), doorOf(clone)}, r.opts.keys)
	meanwhile, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { clients.run(meanwhile) })
	watching, cancel := context.WithTimeout(ctx, fenceLimit)
	fencedAt, _ := poll(watching, watchEvery, func(ctx context.Context) (bool, error) {
		return !takesPart(ctx, original) || !takesPart(ctx, clone), nil
	})
	cancel()
	err = pause(ctx, fenceAfter)
	stop()
	wg.Wait()
	out := &Cloned{Fenced: fencedOf(takesPart(ctx, original), takesPart(ctx, clone)), ClientErrors: clients.errors}
	r.report.Cloned = out
	if out.Fenced == fencedNone {
		fencedAt = time.Now()
	}
	out.FencedMS = since(at, fencedAt)
	if out.Fenced == fencedClone { // it would take over when the other goes
		err = errors.Join(err, clone.Kill())
	}
	if out.Fenced == fencedOriginal {
		r.fleet.doors[r.fleet.target] = doorOf(clone)
	}
	switch out.Fenced {
	case fencedNone: // what the data is like all the same, the copies tell once one is gone
		r.report.Faults = append(r.report.Faults, fmt.Sprintf("two nodes with one name ran side by side for %.1f s and neither stood back; the clone was killed then", out.FencedMS/1000))
		err = errors.Join(err, clone.Kill())
	case fencedBoth:
		return errors.Join(err, fmt.Errorf("%w: both of two nodes with one name have ended\n%s\n%s", errWrong, original.Tail(), clone.Tail()))
	}
	return errors.Join(err, waitReady(ctx, r.fleet.returning()))
}

// takesPart reports whether a node runs and does not stand by for another process
// of its disk.
func takesPart(ctx context.Context, n *testcluster.Node) bool {
	if !n.Running() {
		return false
	}
	asking, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, err := n.Admin().Status(asking)
	var problem *admin.Problem
	return !errors.As(err, &problem) || problem.Type != "standby"
}

func fencedOf(original, clone bool) string {
	switch {
	case original && clone:
		return fencedNone
	case original:
		return fencedClone
	case clone:
		return fencedOriginal
	}
	return fencedBoth
}
