package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"edged.dev/edged/api/admin"
	"edged.dev/edged/internal/testcluster"
)

// The ways to take a node away, and what becomes of its disk.
const (
	outageKill      = "kill"
	outagePause     = "pause"
	outagePartition = "partition"
	diskKept        = "kept"
	diskWiped       = "wiped"
	diskRolledBack  = "rolledback" // an older copy of it is put back
	diskCloned      = "cloned"     // a copy of it is another node's, which runs beside
)

// door is one node as clients and operators reach it.
type door struct {
	name  string
	resp  string // HOST:PORT
	http  string
	admin *admin.Client
}

// fleet is a cluster and the way to take its target away and to bring it back.
type fleet struct {
	doors  []door
	target int
	// leave takes the target away. back brings it back and returns the moment
	// just before.
	leave func(context.Context) error
	back  func(context.Context) (time.Time, error)
	// kill ends the target's process, where it is this run's own.
	kill func() error
	// pid is the target's process; nil where it is not this run's own.
	pid func() int
	// save copies the target's disk; nil where no copy is put back.
	save func() error
	// clone is a second node with a copy of the disk of original; nil where there
	// is none.
	clone, original *testcluster.Node
	// relay is what lies between the nodes, nil where nothing does.
	relay *relay
	// failed says why the returning node cannot come back any more, if so.
	failed func() error
	// logs is the end of each node's log, where there are any.
	logs  func() string
	close func() error
}

func (f *fleet) returning() door { return f.doors[f.target] }

// processor is what the target's process has used so far; 0 where nobody tells.
func (f *fleet) processor() time.Duration {
	if f.pid == nil {
		return 0
	}
	return processorUsed(f.pid())
}

// others are the nodes that stay.
func (f *fleet) others() []door {
	return slices.Concat(f.doors[:f.target], f.doors[f.target+1:])
}

// startFleet starts a cluster of its own, whose last node is the target.
func startFleet(ctx context.Context, o *rejoinOptions) (*fleet, error) {
	opts := testcluster.Options{Binary: o.edged, Dir: o.dir, Nodes: o.nodes, Args: []string{"--durability", o.durability}}
	var net *relay
	if o.relayed() {
		var err error
		if net, err = startRelay(o.nodes, o.net, o.seed); err != nil {
			return nil, err
		}
		opts.Routes = net.routes()
	}
	end := func(c *testcluster.Cluster) (err error) {
		if c != nil {
			err = c.Close()
		}
		if net != nil {
			err = errors.Join(err, net.close())
		}
		return err
	}
	cluster, err := testcluster.New(ctx, opts)
	if err != nil {
		return nil, errors.Join(err, end(nil))
	}
	if err := cluster.Start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("%w\n%s", err, logsOf(cluster)), end(cluster))
	}
	f := fleetOf(cluster, o.outage, o.disk)
	f.relay, f.close = net, func() error { return end(cluster) }
	if o.outage == outagePartition {
		f.partitioned()
	}
	return f, nil
}

// partitioned takes the target away by cutting it off the others at the relay,
// while its process and its clients go on.
func (f *fleet) partitioned() {
	gate := f.relay.gates[f.target]
	f.leave = func(context.Context) error {
		gate.cut.Store(true)
		return nil
	}
	f.back = func(context.Context) (time.Time, error) {
		at := time.Now()
		gate.heal()
		return at, nil
	}
}

// fleetOf is a cluster of this run's own, which has been started. Its last node
// is the target.
func fleetOf(cluster *testcluster.Cluster, outage, disk string) *fleet {
	f := &fleet{target: len(cluster.Nodes()) - 1, close: cluster.Close, logs: func() string { return logsOf(cluster) }}
	for _, n := range cluster.Nodes() {
		f.doors = append(f.doors, doorOf(n))
	}
	n := cluster.Node(f.target)
	f.leave = func(context.Context) error {
		if outage == outagePause {
			return n.Pause()
		}
		if err := n.Kill(); err != nil || disk != diskWiped {
			return err
		}
		return n.Wipe()
	}
	f.back = func(ctx context.Context) (time.Time, error) {
		if outage == outagePause {
			return n.Resume()
		}
		return n.Start(ctx)
	}
	switch disk {
	case diskRolledBack:
		f.rollBack(n)
	case diskCloned:
		f.clones(n)
	}
	f.kill, f.pid = n.Kill, n.PID
	f.failed = func() error {
		if n.Running() {
			return nil
		}
		return fmt.Errorf("%s: %w", n.Name(), testcluster.ErrNotRunning)
	}
	return f
}

// logsOf says what the nodes of a cluster wait for, and how their logs end.
func logsOf(c *testcluster.Cluster) string {
	var b strings.Builder
	for _, n := range c.Nodes() {
		if n.Running() {
			fmt.Fprintln(&b, n.Plight())
		}
		b.WriteString(n.Tail())
	}
	return b.String()
}

func doorOf(n *testcluster.Node) door {
	ports := n.Ports()
	return door{name: n.Name(), resp: ports.RESP, http: ports.HTTP, admin: n.Admin()}
}

// attachFleet takes a cluster that runs already, by the admin URLs of its
// nodes. Commands take the target away and bring it back.
func attachFleet(ctx context.Context, o *rejoinOptions) (*fleet, error) {
	token, err := o.adminToken()
	if err != nil {
		return nil, err
	}
	f := &fleet{target: -1}
	for i, url := range o.attach {
		client := admin.NewClient(url, token)
		status, err := client.Status(ctx)
		if err != nil {
			return nil, fmt.Errorf("attach to %s: %w", url, err)
		}
		d := door{name: status.Name, resp: status.Ports.RESP, http: status.Ports.HTTP, admin: client}
		if i < len(o.resp) {
			d.resp = o.resp[i]
		}
		if i < len(o.http) {
			d.http = o.http[i]
		}
		if d.name == o.target {
			f.target = i
		}
		f.doors = append(f.doors, d)
	}
	if f.target < 0 {
		return nil, fmt.Errorf("%w: --target %s: no node of --attach has that name", errUsage, o.target)
	}
	f.leave = func(ctx context.Context) error { return shell(ctx, o.outageCmd) }
	f.attachReturn(o.returnCmd)
	return f, nil
}

// attachReturn brings the target back by a shell command, beside which the
// watch begins: it may well end later than the node is back.
func (f *fleet) attachReturn(command string) {
	var wg sync.WaitGroup
	var ended atomic.Pointer[error]
	f.back = func(ctx context.Context) (time.Time, error) {
		at := time.Now()
		wg.Go(func() {
			if err := shell(ctx, command); err != nil {
				ended.Store(&err)
			}
		})
		return at, nil
	}
	f.failed = func() error {
		if err := ended.Load(); err != nil {
			return *err
		}
		return nil
	}
	f.logs = func() string { return "" }
	f.close = func() error {
		wg.Wait()
		for _, d := range f.doors {
			d.admin.Close()
		}
		return nil
	}
}

// shell runs a command of the user's. What it says goes to stderr.
func shell(ctx context.Context, command string) error {
	cmd := exec.CommandContext(ctx, "sh", "-c", command)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run %q: %w", command, err)
	}
	return nil
}

// adminToken reads the token that the admin API of an attached cluster asks
// for.
func (o *rejoinOptions) adminToken() (string, error) {
	if o.tokenFile == "" {
		return "", nil
	}
	text, err := os.ReadFile(o.tokenFile)
	if err != nil {
		return "", fmt.Errorf("read admin token: %w", err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSpace(line), nil
}
