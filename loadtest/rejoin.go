package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"edged.dev/edged/api/admin"
)

// rejoinRun is one run of `loadtest rejoin`.
type rejoinRun struct {
	opts     *rejoinOptions
	progress *progress
	fleet    *fleet
	kv       *kvClient
	plans    []plan // of the outages to come
	plan     plan
	ledger   *ledger
	wire     wireCount    // of the target just before it went
	alone    map[int]bool // keys written through the target while it was cut off
	later    []write      // with an older disk: those of the plan that are made while it is away
	timeline *timeline    // of the return; nil where no page is asked for
	clients  clientPhases
	report   Report
	repair   *repairTrial // nil without --repair-policy
	small    *rejoinRun   // of the smaller cluster; nil without --scale
}

// rejoin runs the whole story and writes the report.
func rejoin(ctx context.Context, sys system, o *rejoinOptions) (err error) {
	r := &rejoinRun{
		opts: o, kv: newKVClient(),
		progress: &progress{w: sys.err, bar: terminal(sys.err), paint: sys.painterFor(sys.err)},
	}
	defer r.kv.close()
	defer r.progress.end()
	if err := r.prepare(); err != nil {
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
	if c := r.report.Cloned; c != nil && c.Fenced == fencedNone {
		return fmt.Errorf("%w: of two nodes with one name neither ended itself", errWrong)
	}
	if !r.report.ok() {
		return fmt.Errorf("%w: %d lost, %d stale, %d not found, %d resurrected, %d diverged, roots equal: %t",
			errWrong, r.report.Lost, r.report.StaleReads, r.report.NotFound, r.report.Resurrected, r.report.Diverged, r.report.RootsEqual)
	}
	return nil
}

func (r *rejoinRun) write(sys system) error {
	if r.opts.report != "" {
		if err := r.writePage(r.opts.report); err != nil {
			return err
		}
	}
	if r.opts.output == "json" {
		return r.report.writeJSON(sys.out)
	}
	return r.report.writeTable(sys.out, sys.painterFor(sys.out))
}

// prepare finds out, before anything is started, what a run cannot be made of.
func (r *rejoinRun) prepare() (err error) {
	if err := r.draw(); err != nil {
		return err
	}
	if r.opts.scale > 0 {
		if r.small, err = r.smaller(); err != nil {
			return err
		}
	}
	if r.opts.repairPolicy != "" {
		if r.repair, err = r.readPolicy(r.opts.repairPolicy); err != nil {
			return err
		}
	}
	if r.opts.report == "" {
		return nil
	}
	file, err := createPage(r.opts.report)
	if err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("write page: %w", err)
	}
	return nil
}

// draw draws what the run will write.
func (r *rejoinRun) draw() (err error) {
	o := r.opts
	size := planSize{keys: o.keys, changed: o.changed.of(o.keys), deleted: o.deleted.of(o.keys), conflicts: o.conflicts, outages: o.outages()}
	if r.plans, err = makePlans(rand.New(rand.NewPCG(o.seed, 1)), size); err != nil {
		return err
	}
	if r.plan = r.take(1)[0]; len(r.plan.overwritten) == 0 {
		return fmt.Errorf("%w: --changed %s overwrites none of %d keys, so that nothing shows when the node has come back", errUsage, o.changed.String(), o.keys)
	}
	prefix := ""
	if len(o.attach) > 0 {
		prefix = fmt.Sprintf("loadtest:%d:", time.Now().UnixMilli())
	}
	v := values{seed: o.seed, mix: o.mix, bytes: o.valueBytes}
	r.ledger = newLedger(prefix, v, o.keys+size.outages*size.inserted())
	r.report = Report{
		Keys: o.keys, Changed: r.plan.changes(), Inserted: size.inserted(), Deleted: size.deleted, Conflicts: o.conflicts,
		Outage: o.outage, Disk: o.disk, Net: o.net.String(), Seed: o.seed, Mix: o.mix, ValueBytes: o.valueBytes, Durability: o.durability,
	}
	return nil
}

// take returns the plans of the next outages.
func (r *rejoinRun) take(n int) []plan {
	out := r.plans[:n]
	r.plans = r.plans[n:]
	return out
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

// story is load, baseline, outage, changes, return, and what else is measured;
// then the verification of all of it.
func (r *rejoinRun) story(ctx context.Context) error {
	if err := r.step(ctx, r.repair.deploy); err != nil { // before the keys: it may be refused
		return err
	}
	if err := r.stepFor(ctx, r.opts.loadTimeout(), r.load); err != nil {
		return err
	}
	if err := r.step(ctx, r.baseline); err != nil {
		return err
	}
	if err := r.outage(ctx); err != nil {
		return err
	}
	if err := r.further(ctx); err != nil {
		return err
	}
	return r.stepFor(ctx, r.opts.loadTimeout(), r.verify)
}

// further measures the further returns that are asked for.
func (r *rejoinRun) further(ctx context.Context) error {
	if r.opts.returns > 0 {
		if err := r.again(ctx); err != nil {
			return fmt.Errorf("measure clients: %w", err)
		}
	}
	if r.opts.besideBuiltin() {
		if err := r.repair.besideBuiltin(ctx); err != nil {
			return fmt.Errorf("measure beside the built-in plan: %w", err)
		}
	}
	if r.opts.scale > 0 {
		if err := r.scale(ctx); err != nil {
			return fmt.Errorf("measure beside fewer keys: %w", err)
		}
	}
	if r.opts.vs != "" {
		if err := r.versus(ctx); err != nil {
			return fmt.Errorf("measure beside %s: %w", r.opts.vs, err)
		}
	}
	if r.opts.interrupt > 0 {
		if err := r.stepFor(ctx, r.opts.loadTimeout(), r.interrupt); err != nil {
			return fmt.Errorf("measure interruptions: %w", err)
		}
	}
	return nil
}

// outage is the outage that is told in full.
func (r *rejoinRun) outage(ctx context.Context) error {
	own, before, err := r.quiet(ctx)
	if err != nil {
		return err
	}
	if r.fleet.save != nil {
		if err := r.step(ctx, r.saveDisk); err != nil {
			return err
		}
	}
	r.progress.begin("take "+r.fleet.returning().name+" away", 0)
	if r.wire, err = readWire(ctx, r.fleet.returning()); err != nil {
		return err
	}
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
	if r.fleet.clone != nil {
		return r.step(ctx, r.beside)
	}
	return nil
}

// step runs one part of the story under the timeout.
func (r *rejoinRun) step(ctx context.Context, part func(context.Context) error) error {
	return r.stepFor(ctx, r.opts.timeout, part)
}

// stepFor runs one part of the story under a time limit.
func (r *rejoinRun) stepFor(ctx context.Context, limit time.Duration, part func(context.Context) error) error {
	_, err := within(ctx, limit, func(ctx context.Context) (struct{}, error) { return struct{}{}, part(ctx) })
	return err
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
	for _, why := range l.reasons {
		if !slices.Contains(r.report.RetryReasons, why) {
			r.report.RetryReasons = append(r.report.RetryReasons, why)
		}
	}
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
	r.clients.before = t.trace
	return nil
}

// quiet lets the node be for a while, and reads what it holds.
func (r *rejoinRun) quiet(ctx context.Context) (own nodeDump, before admin.Rejoin, err error) {
	r.progress.begin("no writes for a while", 0)
	begun := time.Now()
	target := r.fleet.returning()
	asking, cancel := context.WithTimeout(ctx, r.opts.loadTimeout())
	defer cancel()
	if err := waitEqual(asking, r.fleet.doors); err != nil {
		return own, before, err
	}
	where, err := readPlacement(asking, target)
	if err != nil {
		return own, before, err
	}
	if own, err = readHeld(asking, target, where); err != nil {
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
	if r.opts.outage == outagePartition {
		return r.applyApart(ctx, p, p.writes(r.ledger))
	}
	if r.later != nil {
		return r.apply(ctx, p, r.later)
	}
	return r.apply(ctx, p, p.writes(r.ledger))
}

// applyApart makes half of the writes through the side that stays and half
// through the node that is cut off, and the conflicts through both.
func (r *rejoinRun) applyApart(ctx context.Context, p plan, writes []write) error {
	sides := [][]door{r.fleet.others(), {r.fleet.returning()}}
	halves := make([][]write, len(sides))
	for i, w := range writes { // the first, which shows when the node is back, stays
		halves[i%len(sides)] = append(halves[i%len(sides)], w)
	}
	r.alone = map[int]bool{}
	for _, w := range halves[1] {
		r.alone[w.key] = true
	}
	group, both := errgroup.WithContext(ctx)
	for i, doors := range sides {
		l := &loader{ledger: r.ledger, doors: doors, step: r.progress.step}
		group.Go(func() error { return l.run(both, halves[i]) })
		defer func() { r.retried(l) }()
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return r.conflicts(ctx, p, []door{sides[0][0], sides[1][0]})
}

// apply makes writes and a plan's conflicts through the nodes that stay.
func (r *rejoinRun) apply(ctx context.Context, p plan, writes []write) error {
	l := &loader{ledger: r.ledger, doors: r.fleet.others(), step: r.progress.step}
	err := l.run(ctx, writes)
	r.retried(l)
	if err != nil {
		return err
	}
	return r.conflicts(ctx, p, r.fleet.others())
}

func (r *rejoinRun) conflicts(ctx context.Context, p plan, doors []door) error {
	for _, key := range p.conflicting {
		if err := conflict(ctx, r.kv, r.ledger, doors, key); err != nil {
			return err
		}
		r.progress.step(1)
	}
	return nil
}

// missing is what the node lacks when it comes back.
func (r *rejoinRun) missing(ctx context.Context, own nodeDump) (lack, error) {
	r.progress.begin("weigh what it has missed", 0)
	ctx, cancel := context.WithTimeout(ctx, r.opts.loadTimeout())
	defer cancel()
	where, err := readPlacement(ctx, r.fleet.others()[0])
	if err != nil {
		return lack{}, err
	}
	w := &weigher{find: r.ledger.value, where: where, own: own}
	if err := w.read(ctx, r.fleet.others()); err != nil {
		return lack{}, err
	}
	if r.opts.outage == outagePartition { // the others lack what was written to it alone
		others := &weigher{find: r.ledger.value, where: where, own: own}
		if err := others.read(ctx, []door{r.fleet.returning()}); err != nil {
			return lack{}, err
		}
		alone, err := others.lack()
		if err != nil {
			return lack{}, err
		}
		each := where.copies() - 1
		r.report.OthersMissed, r.report.OthersNeeded = each*alone.versions, each*alone.bytes
	}
	return w.lack()
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
		ledger: r.ledger, plan: r.plan, keys: r.opts.keys + len(r.plan.inserted), kv: r.kv, door: target, seed: r.opts.seed,
		before: snapshot(&r.ledger.traffic),
		brief:  r.opts.outage != outageKill && r.report.DownMS < float64(lease.Milliseconds()),
		alone:  r.alone,
	}
	meanwhile, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { clients.run(meanwhile) })
	wg.Go(func() { through.run(meanwhile) })
	if r.opts.report != "" {
		wg.Go(func() { r.timeline = watchTimeline(meanwhile, target, back, before) })
	}
	wg.Go(func() { r.repair.watch(meanwhile) })

	w := &watcher{fleet: r.fleet, paused: r.opts.outage != outageKill, first: func(ctx context.Context) (time.Time, error) {
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
	if before.StartedMS == m.session.StartedMS {
		r.report.counted(r.wire, m.wire)
	}
	if err := pause(ctx, r.opts.measure-time.Since(back)); err != nil {
		return err
	}
	stop()
	wg.Wait()
	r.report.answered(through.counts)
	r.report.Faults = append(r.report.Faults, through.faults...)
	r.report.ClientP50MS, r.report.ClientP99MS = clients.quantileMS(50), clients.quantileMS(99)
	r.report.ClientErrors += clients.errors
	r.clients.split(clients.trace, m.caughtUp)
	r.report.DuringP99MS, r.report.AfterP99MS = quantile(r.clients.during, 0.99), quantile(r.clients.after, 0.99)
	r.report.DuringRequests, r.report.P99Ratio = len(r.clients.during), over(r.report.DuringP99MS, r.report.BaselineP99MS)
	return r.step(ctx, func(ctx context.Context) error { return r.repair.end(ctx, back, m.caughtUp) })
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
	found, err := verifyCopies(ctx, r.ledger, where, r.fleet.doors, quietLimit)
	if err != nil {
		return err
	}
	r.report.found(found)
	return nil
}
