package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"edged.dev/edged/internal/testcluster"
)

const (
	// soakQuorum is how many copies a write of the clusters here waits for.
	soakQuorum = 2
	// soakCalm is how long clients go on once the faults are over.
	soakCalm = livenessLimit + 2*time.Second
	// maxClients bounds what one machine can be asked for.
	maxClients = 256
	// maxBreaches is how many breaches are told with all that is known of their keys.
	maxBreaches = 5
)

// soakOptions are the flags of `loadtest soak`.
type soakOptions struct {
	nodes, clients, keys, faults   int
	lasts                          time.Duration
	seed                           uint64
	output, edged, dir, durability string
}

func soakCommand(sys system) *cobra.Command {
	o := &soakOptions{nodes: 5, clients: 8, keys: 400, lasts: time.Minute, seed: 1, output: "table", durability: "sync"}
	cmd := &cobra.Command{
		Use:   "soak",
		Short: "Random faults on a real cluster, and whether every promise held",
		Long: `Start a cluster, have clients write, delete and read through all nodes, and play
random faults all the while: kills, pauses, cuts, disks that are wiped or put back
to an older copy. Then heal it, wait until it is level, read every node's own copy,
and judge what clients were told. One seed draws one series of faults.

Exit codes: 0 ok; 4 a promise was broken; 3 timed out; 2 wrong use; 1 failed.
The cluster's files are kept then, with history.jsonl among them.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.validate(); err != nil {
				return err
			}
			return soak(cmd.Context(), sys, o)
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.nodes, "nodes", o.nodes, "nodes of the cluster")
	f.IntVar(&o.clients, "clients", o.clients, "clients, each with one operation at a time")
	f.IntVar(&o.keys, "keys", o.keys, "keys that they write and read")
	f.DurationVar(&o.lasts, "for", o.lasts, "how long faults are begun")
	f.IntVar(&o.faults, "faults", 0, "how many faults, in the place of --for")
	f.Uint64Var(&o.seed, "seed", o.seed, "seed of the faults and of what clients do")
	f.StringVar(&o.durability, "durability", o.durability, "of the cluster: sync or relaxed, under which a kill may lose what one copy had")
	f.StringVarP(&o.output, "output", "o", o.output, "table or json")
	f.StringVar(&o.edged, "edged", o.edged, "path of the edged binary (default: one that is built)")
	f.StringVar(&o.dir, "dir", o.dir, "directory for the cluster's files, which is kept (default: a temporary one)")
	return cmd
}

func (o *soakOptions) validate() error {
	if o.lasts <= 0 {
		return fmt.Errorf("%w: --for %s: want more than 0", errUsage, o.lasts)
	}
	return errors.Join(
		inRange("nodes", o.nodes, 3, 32),
		inRange("clients", o.clients, 1, maxClients),
		inRange("keys", o.keys, 1, maxKeys),
		inRange("faults", o.faults, 0, 1_000_000),
		oneOf("durability", o.durability, "sync", "relaxed"),
		validOutput(o.output),
	)
}

// SoakReport is what a run of `loadtest soak` found.
type SoakReport struct {
	Seed     uint64         `json:"seed"`
	Nodes    int            `json:"nodes"`
	Clients  int            `json:"clients"`
	Keys     int            `json:"keys"`
	Faults   []Fault        `json:"faults"`
	Kinds    map[string]int `json:"kinds"`
	Ops      int            `json:"operations"`
	Results  map[string]int `json:"results"`
	Marked   int            `json:"reads_marked"`    // isolated or degraded, and judged by I2 alone
	Fenced   int            `json:"reads_of_own"`    // behind the session's own write
	Returned int            `json:"reads_rejoined"`  // at a node that had come back, of its own partitions
	Up       int            `json:"operations_up"`   // at nodes that had no fault while at most one had
	UpOK     int            `json:"operations_upok"` // those of them that succeeded
	Breaches []Breach       `json:"breaches"`
	Dir      string         `json:"dir,omitempty"` // where its files are
}

// soakRun is one run.
type soakRun struct {
	opts    *soakOptions
	sys     system
	player  *player
	clients []*soakClient
	report  SoakReport
}

// soak runs it all and writes the report.
func soak(ctx context.Context, sys system, o *soakOptions) (err error) {
	r := &soakRun{opts: o, sys: sys}
	r.report = SoakReport{Seed: o.seed, Nodes: o.nodes, Clients: o.clients, Keys: o.keys, Kinds: map[string]int{}, Results: map[string]int{}}
	dir := o.dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "edged-soak-"); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
	}
	defer func() {
		if err == nil && o.dir == "" {
			err = os.RemoveAll(dir)
		}
	}()
	r.report.Dir = dir
	net, err := startRelay(o.nodes, netProfile{}, o.seed)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, net.close()) }()
	cluster, err := testcluster.New(ctx, testcluster.Options{
		Binary: o.edged, Dir: dir, Nodes: o.nodes, Routes: net.routes(), Args: []string{"--durability", o.durability},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cluster.Close()) }()
	if err := cluster.Start(ctx); err != nil {
		return fmt.Errorf("%w\n%s", err, logsOf(cluster))
	}
	r.player = &player{cluster: cluster, relay: net, began: time.Now(), starts: map[int][]time.Duration{}, restarted: map[int]bool{}}
	h, err := r.story(ctx)
	if err != nil {
		return fmt.Errorf("seed %d, files in %s: %w", o.seed, dir, errors.Join(err, r.keep(h)))
	}
	return r.judge(ctx, h)
}

// story is the clients' work and the faults beside it, until all faults are over and the
// copies are level.
func (r *soakRun) story(ctx context.Context) (*history, error) {
	doors := make([]door, r.opts.nodes)
	for i, n := range r.player.cluster.Nodes() {
		doors[i] = doorOf(n)
	}
	working, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	for i := range r.opts.clients {
		c := newSoakClient(i, r.opts, doors, r.player.began)
		r.clients = append(r.clients, c)
		wg.Go(func() { c.run(working) })
	}
	err := r.faults(ctx)
	healed := r.player.now()
	if err == nil {
		err = pause(ctx, soakCalm)
	}
	stop()
	wg.Wait()
	h := &history{Losses: r.player.losses, Starts: r.player.starts, Restarted: r.player.restarted, Healed: healed, Quorum: soakQuorum}
	for _, c := range r.clients {
		h.Ops = append(h.Ops, c.ops...)
	}
	for _, d := range doors {
		h.Names = append(h.Names, d.name)
	}
	if err != nil {
		return h, err
	}
	return h, waitSynced(ctx, r.player.cluster)
}

// faults plays faults until the time is over, or as many as were asked for.
func (r *soakRun) faults(ctx context.Context) error {
	rnd := rand.New(rand.NewPCG(r.opts.seed, 0))
	fmt.Fprintf(r.sys.err, "seed %d\n", r.opts.seed)
	for i := 0; ; i++ {
		if n := r.opts.faults; n > 0 && i == n || n == 0 && r.player.now() > r.opts.lasts {
			return nil
		}
		f := drawFault(rnd, r.opts.nodes)
		if err := pause(ctx, f.Gap); err != nil {
			return err
		}
		f.At = r.player.now()
		fmt.Fprintf(r.sys.err, "%7.2f s  %s\n", f.At.Seconds(), f)
		r.report.Faults = append(r.report.Faults, f)
		r.report.Kinds[f.Kind]++
		if err := r.player.play(ctx, f); err != nil {
			return fmt.Errorf("fault %d, %s: %w", i+1, f, err)
		}
	}
}

// judge reads the copies and judges. Copies that differ are read again for a while: a seal,
// or a value that has expired, is told by a later tick.
func (r *soakRun) judge(ctx context.Context, h *history) error {
	var doors []door
	for _, n := range r.player.cluster.Nodes() {
		doors = append(doors, doorOf(n))
	}
	late := time.Now().Add(quietLimit)
	for {
		where, err := readPlacement(ctx, doors[0])
		if err != nil {
			return err
		}
		dumps, err := readDumps(ctx, doors)
		if err != nil {
			return err
		}
		h.Ended = r.player.now()
		j := judgeSoak(h, where, dumps)
		if len(j.breaches) == 0 || time.Now().After(late) {
			return r.conclude(h, j)
		}
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
	}
}

// conclude writes the report, and with breaches all that is known of their keys.
func (r *soakRun) conclude(h *history, j *judgement) error {
	r.count(h, j)
	if len(j.breaches) == 0 && r.opts.dir == "" {
		r.report.Dir = ""
	}
	write := r.writeTable
	if r.opts.output == "json" {
		write = func() error { return writeJSON(r.sys.out, r.report) }
	}
	if err := write(); err != nil {
		return err
	}
	if len(j.breaches) == 0 {
		return nil
	}
	for _, b := range j.breaches[:min(maxBreaches, len(j.breaches))] {
		j.tell(r.sys.err, b)
	}
	return errors.Join(fmt.Errorf("%w: %d breaches; seed %d, files in %s", errWrong, len(j.breaches), r.opts.seed, r.report.Dir), r.keep(h))
}

func (r *soakRun) count(h *history, j *judgement) {
	r.report.Ops, r.report.Breaches = len(h.Ops), j.breaches
	r.report.Marked, r.report.Fenced, r.report.Returned = j.marked, j.fenced, j.returned
	for _, o := range h.Ops {
		r.report.Results[o.Result]++
		if r.spared(o) {
			r.report.Up++
			if o.ok() {
				r.report.UpOK++
			}
		}
	}
}

// spared reports whether an operation met no fault of its own node, nor of more than one.
func (r *soakRun) spared(o *op) bool {
	for _, f := range r.report.Faults {
		over := f.At + f.Hold + soakLease // until it serves again
		if o.Returned < f.At || o.Invoked > over {
			continue
		}
		if len(f.Nodes) > 1 || f.Nodes[0] == o.Node {
			return false
		}
	}
	return true
}

func (r *soakRun) writeTable() error {
	s := &sheet{paint: r.sys.painterFor(r.sys.out)}
	p := &r.report
	s.section(fmt.Sprintf("Soak of %d nodes with seed %d: %d faults", p.Nodes, p.Seed, len(p.Faults)))
	for _, kind := range soakKinds {
		if p.Kinds[kind] > 0 {
			s.row(kind, "%d", p.Kinds[kind])
		}
	}
	s.section("Clients")
	s.row("operations", "%d of %d clients: %d ok, %d failed, %d unknown", p.Ops, p.Clients, p.Results[resultOK], p.Results[resultFail], p.Results[resultUnknown])
	s.row("at nodes without fault", "%.3f %% of %d ok, with one node down", 100*float64(p.UpOK)/float64(max(p.Up, 1)), p.Up)
	s.row("reads", "%d behind the session's own write, %d at nodes that came back, %d marked", p.Fenced, p.Returned, p.Marked)
	s.section("Judged")
	s.row("breaches", "%d", len(p.Breaches))
	for _, b := range p.Breaches[:min(maxFaults, len(p.Breaches))] {
		s.row(b.Invariant, "%s: %s", b.Key, b.What)
	}
	if _, err := fmt.Fprint(r.sys.out, s.String()); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// keep writes the history beside the cluster's files.
func (r *soakRun) keep(h *history) error {
	if h == nil {
		return nil
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	for _, o := range h.Ops {
		if err := enc.Encode(o); err != nil {
			return fmt.Errorf("keep history: %w", err)
		}
	}
	if err := os.WriteFile(filepath.Join(r.report.Dir, "history.jsonl"), []byte(b.String()), 0o600); err != nil {
		return fmt.Errorf("keep history: %w", err)
	}
	return nil
}
