package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"edged.dev/edged/api/admin"
)

// rejoinRun is one run of `loadtest rejoin`.
type rejoinRun struct {
	opts     *rejoinOptions
	progress *progress
	fleet    *fleet
	kv       *kvClient
	plan     plan
	ledger   *ledger
	report   Report
	repair   *repairTrial // nil without --repair-policy
}

// rejoin runs the whole story and writes the report.
func rejoin(ctx context.Context, sys system, o *rejoinOptions) (err error) {
	r := &rejoinRun{
		opts: o, kv: newKVClient(),
		progress: &progress{w: sys.err, bar: terminal(sys.err), paint: sys.painterFor(sys.err)},
	}
	defer r.kv.close()
	defer r.progress.end()
	if err := r.draw(); err != nil {
		return err
	}
	if err := r.step(ctx, r.bringUp); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.fleet.close()) }()
	if err := r.story(ctx); err != nil {
		r.progress.end()
		fmt.Fprint(sys.err, r.fleet.logs())
		return err
	}
	r.progress.end()
	if err := r.write(sys); err != nil {
		return err
	}
	if !r.report.ok() {
		return fmt.Errorf("%w: %d lost, %d stale, %d not found, %d resurrected, %d diverged, roots equal: %t",
			errWrong, r.report.Lost, r.report.StaleReads, r.report.NotFound, r.report.Resurrected, r.report.Diverged, r.report.RootsEqual)
	}
	return nil
}

func (r *rejoinRun) write(sys system) error {
	if r.opts.output == "json" {
		return r.report.writeJSON(sys.out)
	}
	return r.report.writeTable(sys.out, sys.painterFor(sys.out))
}

// draw draws what the run will write.
func (r *rejoinRun) draw() (err error) {
	o := r.opts
	changed, deleted := o.changed.of(o.keys), o.deleted.of(o.keys)
	if r.plan, err = makePlan(rand.New(rand.NewPCG(o.seed, 1)), o.keys, changed, deleted, o.conflicts); err != nil {
		return err
	}
	if len(r.plan.overwritten) == 0 {
		return fmt.Errorf("%w: --changed %s overwrites none of %d keys, so that nothing shows when the node has come back", errUsage, o.changed.String(), o.keys)
	}
	prefix := ""
	if len(o.attach) > 0 {
		prefix = fmt.Sprintf("loadtest:%d:", time.Now().UnixMilli())
	}
	v := values{seed: o.seed, mix: o.mix, bytes: o.valueBytes}
	r.ledger = newLedger(prefix, v, o.keys+len(r.plan.inserted))
	r.report = Report{
		Keys: o.keys, Changed: r.plan.changes(), Inserted: len(r.plan.inserted), Deleted: deleted, Conflicts: o.conflicts,
		Outage: o.outage, Disk: o.disk, Seed: o.seed, Mix: o.mix, ValueBytes: o.valueBytes, Durability: o.durability,
	}
	return nil
}

// bringUp starts the cluster, or attaches to it.
func (r *rejoinRun) bringUp(ctx context.Context) (err error) {
	if len(r.opts.attach) > 0 {
		r.progress.begin("attach to the cluster", 0)
		r.report.Durability = "as attached"
		r.fleet, err = attachFleet(ctx, r.opts)
	} else {
		r.progress.begin("build and start the cluster", 0)
		r.fleet, err = startFleet(ctx, r.opts)
	}
	if err == nil {
		r.report.Nodes = len(r.fleet.doors)
	}
	return err
}

// story is load, baseline, outage, changes, return, verification.
func (r *rejoinRun) story(ctx context.Context) error {
	if err := errors.Join(r.step(ctx, r.load), r.step(ctx, r.deployRepair)); err != nil {
		return err
	}
	if err := r.step(ctx, r.baseline); err != nil {
		return err
	}
	own, before, err := r.quiet(ctx)
	if err != nil {
		return err
	}
	r.progress.begin("take "+r.fleet.returning().name+" away", 0)
	if err := r.fleet.leave(ctx); err != nil {
		return err
	}
	left := time.Now()
	if err := r.step(ctx, r.change); err != nil {
		return err
	}
	missing, err := r.missing(ctx, own)
	if err != nil {
		return err
	}
	if err := pause(ctx, r.opts.down-time.Since(left)); err != nil {
		return err
	}
	if err := r.step(ctx, r.repair.begin); err != nil {
		return err
	}
	back, err := r.bringBack(ctx)
	if err != nil {
		return err
	}
	r.report.DownMS = since(left, back)
	if err := r.session(ctx, before, back); err != nil {
		return err
	}
	r.report.lacked(missing)
	return r.step(ctx, r.verify)
}

// step runs one part of the story under the timeout.
func (r *rejoinRun) step(ctx context.Context, part func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, r.opts.timeout)
	defer cancel()
	return part(ctx)
}

// load writes every key through all nodes and waits until all copies are equal.
func (r *rejoinRun) load(ctx context.Context) error {
	r.progress.begin("load keys", r.opts.keys)
	writes := make([]write, r.opts.keys)
	for i := range writes {
		writes[i] = write{key: i, number: r.ledger.number()}
	}
	begun := time.Now()
	l := &loader{ledger: r.ledger, doors: r.fleet.doors, step: r.progress.step}
	err := l.run(ctx, writes)
	r.retried(l)
	if err != nil {
		return err
	}
	r.report.LoadMS = since(begun, time.Now())
	r.progress.begin("wait until all copies are equal", 0)
	return waitEqual(ctx, r.fleet.doors)
}

// retried notes what a loader had to send again.
func (r *rejoinRun) retried(l *loader) {
	r.report.Retries += int(l.retries.Load())
	r.report.RetryReasons = append(r.report.RetryReasons, l.reasons...)
}

// baseline measures the clients while nothing happens.
func (r *rejoinRun) baseline(ctx context.Context) error {
	r.progress.begin("measure clients before", 0)
	t := newTraffic(r.ledger, r.fleet.others(), r.opts.keys)
	ctx, cancel := context.WithTimeout(ctx, r.opts.measure)
	defer cancel()
	t.run(ctx)
	r.report.BaselineP50MS, r.report.BaselineP99MS = t.quantileMS(50), t.quantileMS(99)
	r.report.ClientErrors += t.errors
	return nil
}

// quiet lets the node be for a while, and reads what it holds.
func (r *rejoinRun) quiet(ctx context.Context) (own nodeDump, before admin.Rejoin, err error) {
	r.progress.begin("no writes for a while", 0)
	begun := time.Now()
	target := r.fleet.returning()
	asking, cancel := context.WithTimeout(ctx, r.opts.timeout)
	defer cancel()
	if err := waitEqual(asking, r.fleet.doors); err != nil {
		return own, before, err
	}
	if own, err = readDump(asking, target); err != nil {
		return own, before, err
	}
	if before, err = target.admin.Rejoin(asking); err != nil {
		return own, before, fmt.Errorf("read rejoin of %s: %w", target.name, err)
	}
	if r.opts.disk == diskWiped {
		own = nodeDump{node: target.name}
	}
	return own, before, pause(ctx, r.opts.quietBefore-time.Since(begun))
}

// change makes the plan's changes through the nodes that stay.
func (r *rejoinRun) change(ctx context.Context) error {
	p := r.plan
	r.progress.begin("change keys meanwhile", p.changes()+len(p.deleted)+len(p.conflicting))
	var writes []write
	for _, list := range [][]int{p.overwritten, p.inserted} {
		for _, key := range list {
			writes = append(writes, write{key: key, number: r.ledger.number()})
		}
	}
	for _, key := range p.deleted {
		writes = append(writes, write{key: key, remove: true})
	}
	l := &loader{ledger: r.ledger, doors: r.fleet.others(), step: r.progress.step}
	err := l.run(ctx, writes)
	r.retried(l)
	if err != nil {
		return err
	}
	for _, key := range p.conflicting {
		if err := conflict(ctx, r.kv, r.ledger, r.fleet.others(), key); err != nil {
			return err
		}
		r.progress.step(1)
	}
	return nil
}

// missing is what the node lacks when it comes back.
func (r *rejoinRun) missing(ctx context.Context, own nodeDump) (lack, error) {
	r.progress.begin("weigh what it has missed", 0)
	ctx, cancel := context.WithTimeout(ctx, r.opts.timeout)
	defer cancel()
	where, err := readPlacement(ctx, r.fleet.others()[0])
	if err != nil {
		return lack{}, err
	}
	donors, err := readDumps(ctx, r.fleet.others())
	if err != nil {
		return lack{}, err
	}
	return neededBy(r.ledger.value, where, donors, own)
}

func (r *rejoinRun) bringBack(ctx context.Context) (time.Time, error) {
	r.progress.begin("bring it back", 0)
	return r.fleet.back(ctx)
}

// session watches the node come back, while readers read through it and
// clients go on through the others.
func (r *rejoinRun) session(ctx context.Context, before admin.Rejoin, back time.Time) error {
	target := r.fleet.returning()
	clients := newTraffic(r.ledger, r.fleet.others(), r.opts.keys)
	through := &readers{
		ledger: r.ledger, plan: r.plan, kv: r.kv, door: target, seed: r.opts.seed,
		before: snapshot(&r.ledger.traffic),
		brief:  r.opts.outage == outagePause && r.report.DownMS < float64(lease.Milliseconds()),
	}
	meanwhile, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { clients.run(meanwhile) })
	wg.Go(func() { through.run(meanwhile) })
	wg.Go(func() { r.repair.watch(meanwhile) })

	w := &watcher{fleet: r.fleet, paused: r.opts.outage == outagePause, first: func(ctx context.Context) (time.Time, error) {
		return firstAnswer(ctx, r.kv, r.ledger, target, r.plan.overwritten[0])
	}}
	watching, cancel := context.WithTimeout(ctx, r.opts.timeout)
	defer cancel()
	m, err := w.run(watching)
	if err != nil {
		return err
	}
	r.report.reached(back, m)
	r.report.took(before, m.session, back)
	if err := pause(ctx, r.opts.measure-time.Since(back)); err != nil {
		return err
	}
	stop()
	wg.Wait()
	r.report.answered(through.counts)
	r.report.Faults = append(r.report.Faults, through.faults...)
	r.report.ClientP50MS, r.report.ClientP99MS = clients.quantileMS(50), clients.quantileMS(99)
	r.report.ClientErrors += clients.errors
	return r.step(ctx, func(ctx context.Context) error { return r.repair.end(ctx, back) })
}

// verify holds the copies of all nodes against what was acknowledged.
func (r *rejoinRun) verify(ctx context.Context) error {
	r.progress.begin("verify every key on every node", 0)
	if err := waitEqual(ctx, r.fleet.doors); err != nil {
		return err
	}
	where, err := readPlacement(ctx, r.fleet.doors[0])
	if err != nil {
		return err
	}
	dumps, err := readDumps(ctx, r.fleet.doors)
	if err != nil {
		return err
	}
	r.report.found(verify(r.ledger.wanted(), where, dumps))
	return nil
}
