package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"edged.dev/edged/internal/testcluster"
)

// The kinds of faults.
const (
	faultKill     = "kill"     // SIGKILL, and started again at once or later
	faultStop     = "stop"     // SIGTERM
	faultPause    = "pause"    // SIGSTOP
	faultCut      = "cut"      // off all others
	faultOneWay   = "one-way"  // what it sends reaches nobody
	faultLink     = "link"     // between two nodes
	faultWipe     = "wipe"     // its disk is gone
	faultRollBack = "rollback" // an older copy of its disk is put back
	faultTwo      = "two"      // two nodes are killed, paused or cut at once
)

// soakKinds are the kinds in the order in which they are drawn.
var soakKinds = []string{faultKill, faultStop, faultPause, faultCut, faultOneWay, faultLink, faultWipe, faultRollBack, faultTwo}

const (
	// soakHold is the longest that a fault lasts: longer than a lease of 2 s, a death found by
	// gossip, and what follows from it.
	soakHold = 6 * time.Second
	// soakGap is the longest between two faults.
	soakGap = 2 * time.Second
	// soakLease is the longest pause that counts as lag.
	soakLease = 2 * time.Second
	// syncedLimit is how long a sync point may be in coming, which the next loss of a disk waits for.
	syncedLimit = 60 * time.Second
)

// Fault is one fault of a run. Which come, and in which order, hangs on the seed alone.
type Fault struct {
	Kind  string        `json:"kind"`
	Nodes []int         `json:"nodes"` // the first has it; the second is the other end, or has the second one
	Ways  []string      `json:"ways,omitempty"`
	Gap   time.Duration `json:"gap_ns"` // before it
	Hold  time.Duration `json:"hold_ns"`
	At    time.Duration `json:"at_ns"` // since the run began, as played
}

// String is for people.
func (f Fault) String() string {
	names := make([]string, len(f.Nodes))
	for i, n := range f.Nodes {
		names[i] = fmt.Sprintf("n%d", n+1)
	}
	return fmt.Sprintf("%s %s %s for %.1f s", f.Kind, strings.Join(names, ","), strings.Join(f.Ways, ","), f.Hold.Seconds())
}

// drawFault draws the next fault of a run.
func drawFault(r *rand.Rand, nodes int) Fault {
	order := r.Perm(nodes)
	f := Fault{
		Kind: soakKinds[r.IntN(len(soakKinds))], Nodes: order[:1],
		Gap: time.Duration(r.Int64N(int64(soakGap))), Hold: time.Duration(r.Int64N(int64(soakHold))),
	}
	if r.IntN(4) == 0 {
		f.Hold = 0 // back at once
	}
	ways := []string{faultKill, faultPause, faultCut}
	switch f.Kind {
	case faultTwo:
		f.Nodes, f.Ways = order[:2], []string{ways[r.IntN(len(ways))], ways[r.IntN(len(ways))]}
	case faultLink:
		f.Nodes = order[:2]
	}
	return f
}

// player plays faults on a cluster and keeps what the judge must know of them.
type player struct {
	cluster   *testcluster.Cluster
	relay     *relay
	began     time.Time
	losses    []diskLoss
	starts    map[int][]time.Duration
	restarted map[int]bool
}

func (p *player) now() time.Duration { return time.Since(p.began) }

// play plays one fault to its end.
func (p *player) play(ctx context.Context, f Fault) error {
	switch f.Kind {
	case faultWipe, faultRollBack:
		return p.loseDisk(ctx, f)
	case faultTwo:
		for i, n := range f.Nodes {
			if err := p.begin(ctx, f.Ways[i], n, -1); err != nil {
				return err
			}
		}
		if err := pause(ctx, f.Hold); err != nil {
			return err
		}
		for i, n := range f.Nodes {
			if err := p.end(ctx, f.Ways[i], n, -1, f.Hold); err != nil {
				return err
			}
		}
		return nil
	}
	other := -1
	if len(f.Nodes) > 1 {
		other = f.Nodes[1]
	}
	if err := p.begin(ctx, f.Kind, f.Nodes[0], other); err != nil {
		return err
	}
	if err := pause(ctx, f.Hold); err != nil {
		return err
	}
	return p.end(ctx, f.Kind, f.Nodes[0], other, f.Hold)
}

func (p *player) begin(ctx context.Context, kind string, node, other int) error {
	n := p.cluster.Node(node)
	if !n.Running() {
		return fmt.Errorf("%w: %s ended by itself\n%s", errWrong, n.Name(), n.Tail())
	}
	switch kind {
	case faultKill:
		return n.Kill()
	case faultStop:
		return n.Stop(ctx)
	case faultPause:
		return n.Pause()
	}
	p.cut(kind, node, other, true)
	return nil
}

func (p *player) end(ctx context.Context, kind string, node, other int, held time.Duration) error {
	n := p.cluster.Node(node)
	switch kind {
	case faultKill, faultStop:
		return p.start(ctx, node)
	case faultPause:
		at := p.now()
		_, err := n.Resume()
		if held > soakLease {
			p.starts[node] = append(p.starts[node], at)
		}
		return err
	}
	p.cut(kind, node, other, false)
	return nil
}

// start starts a node's process.
func (p *player) start(ctx context.Context, node int) error {
	p.starts[node], p.restarted[node] = append(p.starts[node], p.now()), true
	if _, err := p.cluster.Node(node).Start(ctx); err != nil {
		return err
	}
	return p.cluster.Node(node).WaitPorts(ctx)
}

// cut cuts links or heals them.
func (p *player) cut(kind string, node, other int, cut bool) {
	switch kind {
	case faultCut:
		p.relay.gates[node].cut.Store(cut)
	case faultLink:
		p.relay.links[node][other].cut.Store(cut)
		p.relay.links[other][node].cut.Store(cut)
	case faultOneWay:
		for _, l := range p.relay.links[node] {
			if l != nil {
				l.cut.Store(cut)
			}
		}
	}
}

// loseDisk takes a node's disk, or puts an older copy of it back, while all copies are level
// before, and waits until they are again: one disk at a time is what a quorum of two stands.
func (p *player) loseDisk(ctx context.Context, f Fault) error {
	n, loss := p.cluster.Node(f.Nodes[0]), diskLoss{From: p.now()}
	if err := waitSynced(ctx, p.cluster); err != nil {
		return err
	}
	lose := n.Wipe
	if f.Kind == faultRollBack {
		lose = n.RestoreDisk
		if err := n.SaveDisk(); err != nil {
			return err
		}
		if err := pause(ctx, f.Hold); err != nil {
			return err
		}
	}
	if err := n.Kill(); err != nil {
		return err
	}
	if err := lose(); err != nil {
		return err
	}
	if f.Kind == faultWipe {
		if err := pause(ctx, f.Hold); err != nil {
			return err
		}
	}
	loss.To = p.now()
	p.losses = append(p.losses, loss)
	if err := p.start(ctx, f.Nodes[0]); err != nil {
		return err
	}
	return waitSynced(ctx, p.cluster)
}

// waitSynced waits until all nodes say that the copies of their partitions are level.
func waitSynced(ctx context.Context, c *testcluster.Cluster) error {
	ctx, cancel := context.WithTimeout(ctx, syncedLimit)
	defer cancel()
	for _, n := range c.Nodes() {
		why := ""
		_, err := poll(ctx, watchEvery, func(context.Context) (bool, error) {
			if !n.Running() {
				return false, fmt.Errorf("%w: %s ended by itself\n%s", errWrong, n.Name(), n.Tail())
			}
			r, err := n.Admin().WaitSynced(ctx, time.Second)
			if err != nil {
				why = err.Error()
				return false, nil // one that is not there yet
			}
			why = r.Unsynced
			return r.Synced != nil && *r.Synced, nil
		})
		if err != nil {
			return fmt.Errorf("wait for a sync point of %s: %w: %s\n%s", n.Name(), err, why, n.Plight())
		}
	}
	return nil
}
