package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const (
	// minPairs: of fewer pairs the median says little on a machine that others
	// use too.
	minPairs = 1
	maxPairs = 100
	// maxBenchClients fits the usual 1,024 descriptors on both sides.
	maxBenchClients = 500
	maxBenchDepth   = 1024
)

// vsRedis is the other server that there is.
const vsRedis = "redis"

// benchOptions are the flags of `loadtest bench`.
type benchOptions struct {
	vs                       string
	pairs, gets, sets        int
	keys, valueBytes         int
	clients, depth           int
	minGet                   float64
	output, edged            string
	redisServer, redisClient string
}

func defaultBench() *benchOptions {
	return &benchOptions{
		pairs: 5, gets: 1_000_000, sets: 200_000, keys: 100_000, valueBytes: 100, clients: 50, depth: 16,
		output: "table", redisServer: "redis-server", redisClient: "redis-benchmark",
	}
}

func benchCommand(sys system) *cobra.Command {
	o := defaultBench()
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "GET and SET of one node beside another server, interleaved",
		Long: `Measure GET and SET of one edged node beside redis-server, both on loopback with
the same redis-benchmark, one run of each in turn, and print the median rates
and the median of the ratios of each pair.

Redis keeps an append-only file, as edged keeps its store: relaxed durability is
set beside appendfsync everysec, sync beside appendfsync always. Both servers
hold every key before the first run. Neither sees any data but its own temporary
directory's.

Exit codes: 0 ok; 4 GET was slower than --min-get asks for; 2 wrong use; 1 failed.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.validate(); err != nil {
				return err
			}
			return bench(cmd.Context(), sys, o)
		},
	}
	o.addFlags(cmd.Flags())
	return cmd
}

func (o *benchOptions) addFlags(f *pflag.FlagSet) {
	f.StringVar(&o.vs, "vs", "", "the other server: redis")
	f.IntVar(&o.pairs, "pairs", o.pairs, "runs of each server a measurement")
	f.IntVar(&o.gets, "gets", o.gets, "GETs a run")
	f.IntVar(&o.sets, "sets", o.sets, "SETs a run")
	f.IntVar(&o.keys, "keys", o.keys, "keys that are held, and read and overwritten at random")
	f.IntVar(&o.valueBytes, "value-bytes", o.valueBytes, "length of each value")
	f.IntVar(&o.clients, "clients", o.clients, "connections")
	f.IntVar(&o.depth, "pipeline", o.depth, "commands in flight on each")
	f.Float64Var(&o.minGet, "min-get", 0, "least ratio of GET to exit with 0")
	f.StringVarP(&o.output, "output", "o", o.output, "table or json")
	f.StringVar(&o.edged, "edged", "", "path of the edged binary (default: one that is built)")
	f.StringVar(&o.redisServer, "redis-server", o.redisServer, "name or path of redis-server")
	f.StringVar(&o.redisClient, "redis-benchmark", o.redisClient, "name or path of redis-benchmark, which loads both servers")
}

func (o *benchOptions) validate() error {
	if err := errors.Join(
		inRange("pairs", o.pairs, minPairs, maxPairs),
		inRange("gets", o.gets, 1, 1<<30),
		inRange("sets", o.sets, 1, 1<<30),
		inRange("keys", o.keys, 1, maxKeys),
		inRange("value-bytes", o.valueBytes, 1, maxValueBytes),
		inRange("clients", o.clients, 1, maxBenchClients),
		inRange("pipeline", o.depth, 1, maxBenchDepth),
		validOutput(o.output),
	); err != nil {
		return err
	}
	switch {
	case o.vs != vsRedis:
		return fmt.Errorf("%w: --vs %q: want redis", errUsage, o.vs)
	case o.minGet < 0:
		return fmt.Errorf("%w: --min-get %g: want 0 or more", errUsage, o.minGet)
	}
	return redisHere(o.redisServer, o.redisClient)
}

// bench measures under both durabilities and reports.
func bench(ctx context.Context, sys system, o *benchOptions) (err error) {
	dir, err := os.MkdirTemp("", "edged-bench-")
	if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	report := &BenchReport{
		Vs: o.vs, Pairs: o.pairs, Keys: o.keys, ValueBytes: o.valueBytes, Clients: o.clients, Pipeline: o.depth,
	}
	for _, d := range []benchMode{
		{"relaxed", "everysec", []benchOp{{"GET", o.gets}, {"SET", o.sets}}},
		{"sync", "always", []benchOp{{"SET", o.sets}}},
	} {
		rows, err := benchBoth(ctx, sys, o, dir, d)
		if err != nil {
			return fmt.Errorf("bench with durability %s: %w", d.durability, err)
		}
		report.Rows = append(report.Rows, rows...)
	}
	if o.output == "json" {
		err = writeJSON(sys.out, report)
	} else {
		err = report.writeTable(sys.out, sys.painterFor(sys.out))
	}
	if get := report.ratio("GET"); err == nil && get < o.minGet {
		err = fmt.Errorf("%w: GET at %.2f times the other server's rate, want %.2f", errSlow, get, o.minGet)
	}
	return err
}

// errSlow ends a run that missed what it was told to reach.
var errSlow = fmt.Errorf("%w: too slow", errWrong)

// benchOp is one kind of command and how many of them a run sends.
type benchOp struct {
	name     string
	requests int
}

// benchMode is what both servers promise of a write, and what is measured then.
type benchMode struct {
	durability, fsync string // edged's word, and Redis' appendfsync
	ops               []benchOp
}

// benchBoth runs both servers and measures the operations in turn.
func benchBoth(ctx context.Context, sys system, o *benchOptions, dir string, mode benchMode) (rows []BenchRow, err error) {
	pair := [2]*benchServer{}
	defer func() {
		for _, s := range pair {
			if s != nil {
				err = errors.Join(err, s.close())
			}
		}
	}()
	if pair[0], err = startEdged(ctx, o, dir, mode.durability); err != nil {
		return nil, err
	}
	if pair[1], err = startRedis(ctx, o, dir, mode.fsync); err != nil {
		return nil, err
	}
	for _, s := range pair {
		if err := s.fill(ctx, o); err != nil {
			return nil, fmt.Errorf("fill %s: %w", s.name, err)
		}
	}
	for _, op := range mode.ops {
		row := BenchRow{Op: op.name, Durability: mode.durability, Fsync: mode.fsync}
		for i := range 2 * o.pairs {
			which := (i + i/2) % 2 // who begins a pair changes with each
			run, err := pair[which].run(ctx, o, op)
			if err != nil {
				return nil, err
			}
			fmt.Fprintf(sys.err, "%s %-7s %-7s %9.0f/s %6.2f us of processor each\n", op.name, mode.durability, pair[which].name, run.rate, run.cpu)
			row.add(which == 0, run)
		}
		row.settle()
		rows = append(rows, row)
	}
	return rows, nil
}

// run has redis-benchmark send one run of an operation.
func (s *benchServer) run(ctx context.Context, o *benchOptions, op benchOp) (benchRun, error) {
	host, port, _ := strings.Cut(s.addr, ":")
	n := strconv.Itoa
	cmd := exec.CommandContext(ctx, o.redisClient, "-h", host, "-p", port, "-t", strings.ToLower(op.name), "-n", n(op.requests),
		"-r", n(o.keys), "-d", n(o.valueBytes), "-c", n(o.clients), "-P", n(o.depth), "--csv")
	before := processorUsed(s.pid)
	out, err := cmd.Output()
	if err != nil {
		return benchRun{}, fmt.Errorf("run %s against %s: %w", o.redisClient, s.name, err)
	}
	rate, err := rateOf(string(out), op.name)
	used := processorUsed(s.pid) - before
	return benchRun{rate, float64(used.Nanoseconds()) / 1e3 / float64(op.requests)}, err
}

// rateOf finds an operation's rate in what redis-benchmark --csv prints.
func rateOf(csv, op string) (float64, error) {
	for line := range strings.Lines(csv) {
		fields := strings.Split(strings.TrimSpace(line), ",")
		if len(fields) < 2 || !strings.EqualFold(strings.Trim(fields[0], `"`), op) {
			continue
		}
		rate, err := strconv.ParseFloat(strings.Trim(fields[1], `"`), 64)
		if err != nil || rate <= 0 {
			return 0, fmt.Errorf("read rate of %s: %q", op, line)
		}
		return rate, nil
	}
	return 0, fmt.Errorf("read rate of %s: not in %q", op, csv)
}
