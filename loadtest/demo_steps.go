package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// start is T0: three nodes, of which the first founds the cluster.
func (d *demo) start(ctx context.Context) error {
	d.show.begin("T0", "Three nodes start and find each other")
	if err := d.cluster.Start(ctx); err != nil {
		return err
	}
	d.fleet = fleetOf(d.cluster, d.opts.outage, d.opts.disk)
	for _, n := range d.cluster.Nodes() {
		p := n.Ports()
		d.show.note("%s  process %-7d redis %s   http %s   admin %s", d.show.paint.bold(n.Name()), n.PID(), p.RESP, p.HTTP, p.Admin)
	}
	status, err := d.cluster.Node(0).Admin().Status(ctx)
	if err != nil {
		return err
	}
	l := status.Layout
	d.show.check(len(l.Members) == 3 && l.Copies == 3, "%d members, %d partitions, %d copies of each, a write waits for %d of them", len(l.Members), l.Partitions, l.Copies, l.WriteQuorum)
	d.show.finish("")
	return nil
}

// writeBefore is T1: keys 1 to 100, and the cart that will be in conflict.
func (d *demo) writeBefore(ctx context.Context) error {
	d.show.begin("T1", fmt.Sprintf("Keys 1-%d are written, each through the next node", demoBefore))
	for i := 1; i <= demoBefore; i++ {
		d.wrote(demoKey(i), fmt.Sprintf("value %d", i))
	}
	if err := d.set(ctx, d.doors(0, 1, 2), 1, demoBefore); err != nil {
		return err
	}
	at := d.doors(0)[0]
	if _, err := d.kv.put(ctx, at.http, demoPair, "", []byte("apples")); err != nil {
		return err
	}
	d.wrote(demoPair, "apples")
	if err := waitEqual(ctx, d.doors(0, 1, 2)); err != nil {
		return err
	}
	if err := d.checkReads(ctx, d.doors(0, 1, 2)); err != nil {
		return err
	}
	d.show.finish(fmt.Sprintf("%d keys", demoBefore))
	return nil
}

// takeAway is T2.
func (d *demo) takeAway(ctx context.Context) error {
	n := d.cluster.Node(2)
	text, left := " is killed (kill -9)", "its disk stays as it is"
	switch {
	case d.opts.outage == outagePause:
		text, left = " is paused (kill -STOP)", "it is there and does nothing"
	case d.opts.disk == diskWiped:
		text, left = " is killed (kill -9), its disk wiped", "so are its data"
	}
	d.show.begin("T2", n.Name()+text)
	pid := n.PID()
	var err error
	if d.before, err = n.Admin().Rejoin(ctx); err != nil {
		return err
	}
	if d.wire, err = readWire(ctx, doorOf(n)); err != nil {
		return err
	}
	if d.opts.disk == diskKept {
		if d.own, err = readDump(ctx, doorOf(n)); err != nil {
			return err
		}
	}
	if err := d.fleet.leave(ctx); err != nil {
		return err
	}
	d.left = time.Now()
	d.show.note("process %d: %s", pid, left)
	d.show.finish("")
	return nil
}

// writeMeanwhile is T3: new keys, overwrites, deletes and a conflict.
func (d *demo) writeMeanwhile(ctx context.Context) error {
	d.show.begin("T3", fmt.Sprintf("Keys %d-%d are written through the other two", demoBefore+1, demoAfter))
	two := d.doors(0, 1)
	for i := demoBefore + 1; i <= demoAfter; i++ {
		d.wrote(demoKey(i), fmt.Sprintf("value %d", i))
	}
	for i := demoOverwrittenFrom; i <= demoOverwrittenTo; i++ {
		d.wrote(demoKey(i), fmt.Sprintf("value %d, second edition", i))
	}
	if err := d.set(ctx, two, demoBefore+1, demoAfter); err != nil {
		return err
	}
	if err := d.set(ctx, two, demoOverwrittenFrom, demoOverwrittenTo); err != nil {
		return err
	}
	for i := demoDeletedFrom; i <= demoDeletedTo; i++ {
		delete(d.keys, demoKey(i))
		d.deleted = append(d.deleted, demoKey(i))
	}
	if err := d.del(ctx, two[0], d.deleted); err != nil {
		return err
	}
	d.show.note("%d new keys, %d overwritten (%s to %d), %d deleted (%s to %d)", demoAfter-demoBefore,
		demoOverwrittenTo-demoOverwrittenFrom+1, demoKey(demoOverwrittenFrom), demoOverwrittenTo, len(d.deleted), demoKey(demoDeletedFrom), demoDeletedTo)
	if err := d.makeConflict(ctx, two); err != nil {
		return err
	}
	d.show.finish(fmt.Sprintf("%d changes", demoAfter-demoBefore+10+len(d.deleted)+2))
	return nil
}

// makeConflict writes the pair at two nodes, with the token of what was there.
func (d *demo) makeConflict(ctx context.Context, two []door) error {
	before, err := d.kv.get(ctx, two[0].http, demoPair)
	if err != nil {
		return err
	}
	if before.token == "" {
		return fmt.Errorf("read %s: %w", demoPair, errNoToken)
	}
	d.pair = []string{"apples\nbread", "apples\ncherries"}
	for i, value := range d.pair {
		if _, err := d.kv.put(ctx, two[i].http, demoPair, before.token, []byte(value)); err != nil {
			return err
		}
		d.wrote(demoPair, value)
	}
	delete(d.keys, demoPair) // the pair stands for it
	d.show.note("%s: %q at %s and %q at %s, both from the same older version", demoPair, d.pair[0], two[0].name, d.pair[1], two[1].name)
	return nil
}

// bringBack is T4 and T5: the node starts, answers, catches up.
func (d *demo) bringBack(ctx context.Context) error {
	donors, err := readDumps(ctx, d.doors(0, 1))
	if err != nil {
		return err
	}
	where, err := readPlacement(ctx, d.doors(0)[0])
	if err != nil {
		return err
	}
	need, err := neededBy(d.value, where, donors, d.own)
	if err != nil {
		return err
	}
	if d.opts.outage == outagePause { // a shorter one it need not notice
		if err := pause(ctx, demoPause-time.Since(d.left)); err != nil {
			return err
		}
	}
	text := map[string]string{diskKept: " is started again, on its old disk", diskWiped: " is started again, with nothing"}[d.opts.disk]
	if d.opts.outage == outagePause {
		text = " goes on (kill -CONT)"
	}
	d.show.begin("T4", d.cluster.Node(2).Name()+text)
	at, err := d.fleet.back(ctx)
	if err != nil {
		return err
	}
	w := &watcher{fleet: d.fleet, first: d.firstAnswer, paused: d.opts.outage == outagePause}
	m, err := w.run(ctx)
	if err != nil {
		return err
	}
	var r Report
	r.reached(at, m)
	r.took(d.before, m.session, at)
	if d.before.StartedMS == m.session.StartedMS {
		r.counted(d.wire, m.wire)
	}
	r.lacked(need)
	d.showSession(&r)
	d.showProbe(&r)
	return nil
}

// firstAnswer asks the returning node for the key of the story until it
// answers, and holds its first answer against the truth.
func (d *demo) firstAnswer(ctx context.Context) (time.Time, error) {
	to := d.fleet.returning()
	key := demoKey(demoProbe)
	return poll(ctx, dialPause, func(ctx context.Context) (bool, error) {
		answer, err := d.kv.get(ctx, to.http, key)
		if err != nil {
			return false, nil //nolint:nilerr // it is not there yet
		}
		d.probe = answer
		return true, nil
	})
}

func (d *demo) showSession(r *Report) {
	row := func(name string, ms float64) {
		d.show.note("%-26s %8.1f ms after its return", name, ms)
	}
	row("first answer", r.FirstAnswerMS)
	row("caught up, serves itself", r.CaughtUpMS)
	row("verified, copies are equal", r.VerifiedMS)
	d.show.note("%-26s %8s for %d versions that it lacked, of which %s is the least possible",
		"the session", bytesText(r.SyncBytes), r.MissedVersions, bytesText(uint64(r.NeededBytes)))
	d.show.note("%-26s %8s in, %s out, with handshakes and gossip", "at the UDP socket", bytesText(r.WireBytesIn), bytesText(r.WireBytesOut))
	d.show.note("%-26s %s", "steps, by partition", pathText(r.Path))
	d.show.check(r.CaughtUpMS <= float64(d.opts.within.Milliseconds()), "the gap is closed within %s of the return", d.opts.within)
	d.show.finish(fmt.Sprintf("caught up in %.0f ms with %s", r.CaughtUpMS, bytesText(r.SyncBytes)))
}

func (d *demo) showProbe(r *Report) {
	key, name := demoKey(demoProbe), d.fleet.returning().name
	d.show.begin("T5", fmt.Sprintf("Key %d is read from %s", demoProbe, name))
	d.show.check(d.probe.found && string(d.probe.value) == d.keys[key], "%s is %q: the very first answer that %s gave", key, d.probe.value, name)
	d.show.finishAfter(time.Duration(r.FirstAnswerMS*float64(time.Millisecond)), "since the return")
}

// verify reads every key through every node, and compares the nodes' own
// copies.
func (d *demo) verify(ctx context.Context) error {
	d.show.begin("T6", "Every key is read on every node, every copy compared")
	all := d.doors(0, 1, 2)
	if err := d.checkReads(ctx, all); err != nil {
		return err
	}
	if err := waitEqual(ctx, all); err != nil {
		return err
	}
	where, err := readPlacement(ctx, all[0])
	if err != nil {
		return err
	}
	dumps, err := readDumps(ctx, all)
	if err != nil {
		return err
	}
	v := verify(d.wanted(), where, dumps)
	d.show.check(v.lost == 0, "lost: %d", v.lost)
	d.show.check(v.resurrected == 0, "deleted and back: %d", v.resurrected)
	d.show.check(v.diverged == 0 && v.rootsEqual, "different between copies: %d; hashes of all copies equal: %s", v.diverged, d.show.paint.yes(v.rootsEqual))
	for _, fault := range v.faults {
		d.show.note("%s", fault)
	}
	d.show.finish("")
	return nil
}

// policy deploys the merge policy and shows the pair on all nodes.
func (d *demo) policy(ctx context.Context) error {
	d.show.begin("T7", "A merge policy in WebAssembly is deployed: the union of sets")
	all := d.doors(0, 1, 2)
	siblings, err := d.kv.siblings(ctx, all[2].http, demoPair)
	if err != nil {
		return err
	}
	var held []string
	for _, s := range siblings {
		held = append(held, string(s.Value))
	}
	slices.Sort(held)
	d.show.check(slices.Equal(held, d.pair), "%s holds both versions side by side at %s: %q", demoPair, all[2].name, held)
	before, err := d.kv.get(ctx, all[2].http, demoPair)
	if err != nil {
		return err
	}
	d.show.note("before: %q, the newest (last writer wins)", before.value)
	deployed, err := all[0].admin.DeployPolicy(ctx, d.wasm, demoPolicy, demoPrefix)
	if err != nil {
		return fmt.Errorf("deploy policy: %w", err)
	}
	d.show.note("%s, %s, decides keys that begin with %q; written to %s copies", deployed.Name, bytesText(uint64(len(d.wasm))), deployed.Prefix, deployed.Copies)
	for _, to := range all {
		if err := d.checkMerged(ctx, to); err != nil {
			return err
		}
	}
	d.show.finish(fmt.Sprintf("%s of WebAssembly", bytesText(uint64(len(d.wasm)))))
	return nil
}

// mergedWait is how long a policy may take to be in force at every node.
const mergedWait = 10 * time.Second

func (d *demo) checkMerged(ctx context.Context, to door) error {
	ctx, cancel := context.WithTimeout(ctx, mergedWait)
	defer cancel()
	var got kvAnswer
	_, err := poll(ctx, watchEvery, func(ctx context.Context) (bool, error) {
		answer, err := d.kv.get(ctx, to.http, demoPair)
		if err == nil {
			got = answer
		}
		return err == nil && string(answer.value) == demoUnion, nil
	})
	d.show.check(err == nil, "after, at %s: %q, by %s", to.name, got.value, strings.TrimSpace(got.view))
	return nil
}

// set writes keys from..to as the story has them, each through the next door.
func (d *demo) set(ctx context.Context, doors []door, from, to int) error {
	for j, at := range doors {
		var keys []string
		for i := from + j; i <= to; i += len(doors) {
			keys = append(keys, demoKey(i))
		}
		if err := eachKey(ctx, at, keys, func(key string) []string { return []string{"SET", key, d.keys[key]} }, nil); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) del(ctx context.Context, at door, keys []string) error {
	return eachKey(ctx, at, keys, func(key string) []string { return []string{"DEL", key} }, nil)
}

// checkReads reads every key of the story through each node's own port.
func (d *demo) checkReads(ctx context.Context, doors []door) error {
	for _, at := range doors {
		right, back := 0, 0
		get := func(key string) []string { return []string{"GET", key} }
		err := eachKey(ctx, at, sortedKeys(d.keys), get, func(key string, r reply) {
			if !r.null && bytes.Equal(r.text, []byte(d.keys[key])) {
				right++
			}
		})
		if err != nil {
			return err
		}
		err = eachKey(ctx, at, d.deleted, get, func(_ string, r reply) {
			if !r.null {
				back++
			}
		})
		if err != nil {
			return err
		}
		d.show.check(right == len(d.keys) && back == 0, "through %s: %d of %d keys right, %d of %d deleted ones back", at.name, right, len(d.keys), back, len(d.deleted))
	}
	return nil
}
