package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"edged.dev/edged/api/admin"
)

// maxValueBytes is the limit of a value in a cluster.
const maxValueBytes = 1 << 20

// rejoinOptions are the flags of `loadtest rejoin`.
type rejoinOptions struct {
	nodes, keys, valueBytes, conflicts  int
	changed, deleted                    amount
	outage, disk, mix, durability       string
	down, quietBefore, measure, timeout time.Duration
	seed                                uint64
	output, edged, dir, report          string
	repairPolicy                        string

	attach, resp, http           []string
	outageCmd, returnCmd, target string
	tokenFile                    string

	vs, redisServer string
	pairs           int
	scale, returns  int
	control         bool
	net             netProfile
	interrupt       int
	killDelay       time.Duration
}

// relayed reports whether a relay has to lie between the nodes.
func (o *rejoinOptions) relayed() bool {
	return o.net != netProfile{} || o.interrupt > 0 || o.outage == outagePartition
}

// outages is how many outages there are: the one that is told in full, those with
// clients alone and their stand-ins, those in turn with another server, another policy and another
// cluster, and the two of which one is cut.
func (o *rejoinOptions) outages() int {
	n := 1 + o.returns
	if o.control {
		n += o.returns
	}
	if o.vs != "" {
		n += o.pairs
	}
	if o.scale > 0 {
		n += o.pairs
	}
	if o.besideBuiltin() {
		n += 2 * o.pairs
	}
	if o.interrupt > 0 {
		n += 2
	}
	return n
}

// repeatable reports whether the outage can be had again and again: a process that
// is killed comes back as a new one each time.
func (o *rejoinOptions) repeatable() bool {
	return o.outage == outageKill && (o.disk == diskKept || o.disk == diskWiped)
}

// besideBuiltin reports whether the repair policy is measured in turn with the
// built-in plan.
func (o *rejoinOptions) besideBuiltin() bool {
	return o.repairPolicy != "" && o.repairPolicy != admin.BuiltinPlan && o.repeatable()
}

// amount is a number or a share of all keys.
type amount struct {
	number  int
	percent float64 // counts where the number is 0
}

// String writes it as Set reads it.
func (a *amount) String() string {
	if a.percent > 0 {
		return strconv.FormatFloat(a.percent, 'f', -1, 64) + "%"
	}
	return strconv.Itoa(a.number)
}

// Set reads a number such as 100 or a share such as 0.1%.
func (a *amount) Set(text string) error {
	if share, ok := strings.CutSuffix(text, "%"); ok {
		p, err := strconv.ParseFloat(share, 64)
		if err != nil || !(p >= 0 && p <= 100) {
			return fmt.Errorf("want a share of 0%% to 100%%, not %q", text)
		}
		*a = amount{percent: p}
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return fmt.Errorf("want a number or a share such as 1%%, not %q", text)
	}
	*a = amount{number: n}
	return nil
}

// Type is the name of the form in the help.
func (a *amount) Type() string { return "N|P%" }

// of returns how many of so many keys it is.
func (a *amount) of(keys int) int {
	if a.percent > 0 {
		return int(float64(keys)*a.percent/100 + 0.5)
	}
	return a.number
}

func defaultRejoin() *rejoinOptions {
	return &rejoinOptions{
		nodes: 3, keys: 100_000, valueBytes: 200, conflicts: 20,
		changed: amount{percent: 1}, deleted: amount{percent: 0.1},
		outage: outageKill, disk: diskKept, mix: mixJSON, durability: "sync",
		down: 3 * time.Second, quietBefore: 3 * time.Second, measure: 2 * time.Second, timeout: 2 * time.Minute,
		seed: 1, output: "table", redisServer: "redis-server", pairs: 5,
	}
}

func rejoinCommand(sys system) *cobra.Command {
	o := defaultRejoin()
	cmd := &cobra.Command{
		Use:   "rejoin",
		Short: "Take a node away, change data, bring it back, and measure",
		Long: `Take a node away, change data through the others, bring it back, and report
times, bytes, what clients saw, and whether every node's own copy holds what it
must. One in five of the changed keys is new, the others are overwritten.

It starts a cluster of its own, or attaches to one that runs:
  loadtest rejoin --attach URL,... --target NAME --outage-cmd CMD --return-cmd CMD
where URLs are the admin addresses of all nodes. The times then start before
the return command. The keys it writes begin with "loadtest:" and stay.

Exit codes: 0 ok; 4 something was lost, stale, resurrected or diverged; 3 timed
out; 2 wrong use; 1 failed.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.validate(); err != nil {
				return err
			}
			return rejoin(cmd.Context(), sys, o)
		},
	}
	o.addFlags(cmd.Flags())
	return cmd
}

func (o *rejoinOptions) addFlags(f *pflag.FlagSet) {
	f.IntVar(&o.nodes, "nodes", o.nodes, "nodes of the cluster that is started")
	f.IntVar(&o.keys, "keys", o.keys, "keys that are loaded before the outage")
	f.IntVar(&o.valueBytes, "value-bytes", o.valueBytes, "length of each value")
	f.Var(&o.changed, "changed", "keys that are overwritten or inserted during the outage")
	f.Var(&o.deleted, "deleted", "keys that are deleted during the outage")
	f.IntVar(&o.conflicts, "conflicts", o.conflicts, "keys that are written at two nodes with the same older token")
	f.StringVar(&o.outage, "outage", o.outage, "kill (SIGKILL), pause (SIGSTOP) or partition (cut off the others, while clients write to both sides)")
	f.StringVar(&o.disk, "disk", o.disk, "what becomes of the data directory: kept, wiped, rolledback (to a copy from before the changes) or cloned (to a second live node)")
	f.Var(&o.net, "net", "the network between the nodes, such as rtt=40ms,rate=100Mbit,loss=1%, by a relay in user space")
	f.IntVar(&o.interrupt, "interrupt", 0, "how often a further return is cut, by a kill at spread points of the bytes it receives")
	f.DurationVar(&o.down, "down", o.down, "how long the node is away, at least")
	f.DurationVar(&o.quietBefore, "quiet-before", o.quietBefore, "time without writes before the outage")
	f.DurationVar(&o.measure, "measure", o.measure, "how long the clients of the other nodes are measured before, and at least after")
	f.Uint64Var(&o.seed, "seed", o.seed, "seed of values, of which keys change, and of what is read")
	f.StringVar(&o.mix, "mix", o.mix, "values: json, base62 or constant")
	f.StringVar(&o.durability, "durability", o.durability, "of the cluster that is started: sync or relaxed")
	f.DurationVar(&o.timeout, "timeout", o.timeout, "how long any one step may take")
	f.StringVarP(&o.output, "output", "o", o.output, "table or json")
	f.DurationVar(&o.killDelay, "kill-delay", 0, "with --interrupt: time between the end of the connection and the kill")
	f.StringVar(&o.report, "report", "", "HTML file to write, with plots")
	f.StringVar(&o.edged, "edged", o.edged, "path of the edged binary (default: one that is built)")
	f.StringVar(&o.dir, "dir", o.dir, "directory for the cluster's files, which is kept (default: a temporary one)")
	f.StringVar(&o.repairPolicy, "repair-policy", "", "WebAssembly module of a repair policy, or built-in: deployed before, and its effect reported, beside that of the built-in plan in turn")
	f.IntVar(&o.returns, "returns", 0, "further returns with nothing but clients of the other nodes beside them, over which their latency is taken")
	f.BoolVar(&o.control, "control", false, "with --returns: in turn with them, a process that uses as much processor time and does nothing else, while the node stays away")
	f.IntVar(&o.scale, "scale", 0, "a cluster of so many times fewer keys, from which as many are changed, to measure beside this one, in turn")
	f.StringSliceVar(&o.attach, "attach", nil, "admin URLs of the nodes of a running cluster")
	f.StringSliceVar(&o.resp, "resp", nil, "with --attach: RESP addresses in the same order (default: as the nodes say)")
	f.StringSliceVar(&o.http, "http", nil, "with --attach: HTTP addresses in the same order (default: as the nodes say)")
	f.StringVar(&o.target, "target", "", "with --attach: name of the node that goes and returns")
	f.StringVar(&o.outageCmd, "outage-cmd", "", "with --attach: shell command that takes it away")
	f.StringVar(&o.returnCmd, "return-cmd", "", "with --attach: shell command that brings it back")
	f.StringVar(&o.vs, "vs", "", "another server to measure beside the node, in turn: redis, a master and its replica")
	f.IntVar(&o.pairs, "pairs", o.pairs, "with --vs, --scale and --repair-policy: returns of each")
	f.StringVar(&o.redisServer, "redis-server", o.redisServer, "with --vs: name or path of redis-server")
	f.StringVar(&o.tokenFile, "token-file", "", "with --attach: file with the admin token")
}

func (o *rejoinOptions) validate() error {
	if err := errors.Join(
		values{mix: o.mix, bytes: o.valueBytes}.validate(),
		validOutage(o.outage, o.disk, []string{outageKill, outagePause, outagePartition},
			[]string{diskKept, diskWiped, diskRolledBack, diskCloned}),
		oneOf("durability", o.durability, "sync", "relaxed"),
		validOutput(o.output),
		inRange("keys", o.keys, 1, maxKeys),
		inRange("pairs", o.pairs, minPairs, maxPairs),
		inRange("interrupt", o.interrupt, 0, maxInterruptions),
		inRange("returns", o.returns, 0, maxReturns),
		inRange("scale", o.scale, 0, maxScale),
	); err != nil {
		return err
	}
	switch {
	case o.conflicts < 0:
		return fmt.Errorf("%w: --conflicts %d: want 0 or more", errUsage, o.conflicts)
	case o.down < 0 || o.quietBefore < 0 || o.measure < 0 || o.killDelay < 0 || o.timeout <= 0:
		return fmt.Errorf("%w: --down, --quiet-before, --measure, --kill-delay and --timeout must not be negative", errUsage)
	}
	return errors.Join(o.validateCluster(), o.validateVersus(), o.validateOwn())
}

// validateOwn checks what needs a cluster of this run's own, or a relay between
// its nodes.
func (o *rejoinOptions) validateOwn() error {
	copied := o.disk == diskRolledBack || o.disk == diskCloned
	switch {
	case copied && len(o.attach) > 0:
		return fmt.Errorf("%w: --disk %s goes with a cluster that is started here, not with --attach", errUsage, o.disk)
	case o.disk == diskCloned && o.relayed():
		return fmt.Errorf("%w: --disk cloned goes without --net: the clone is at no address that a relay knows", errUsage)
	case o.relayed() && len(o.attach) > 0:
		return fmt.Errorf("%w: --net, --interrupt and --outage partition go with a cluster that is started here, not with --attach", errUsage)
	case o.scale > 0 && len(o.attach) > 0:
		return fmt.Errorf("%w: --scale goes with a cluster that is started here, not with --attach", errUsage)
	case o.scale > 0 && o.repairPolicy != "":
		return fmt.Errorf("%w: --scale goes without --repair-policy: the smaller cluster has none", errUsage)
	case o.killDelay > 0 && o.interrupt == 0:
		return fmt.Errorf("%w: --kill-delay goes with --interrupt", errUsage)
	case (o.scale > 0 || o.returns > 0) && !o.repeatable():
		return fmt.Errorf("%w: --scale and --returns go with --outage kill and --disk kept or wiped", errUsage)
	case o.control && (o.returns == 0 || len(o.attach) > 0):
		return fmt.Errorf("%w: --control goes with --returns, of a cluster that is started here", errUsage)
	case o.interrupt > 0 && (o.outage != outageKill || o.disk != diskKept):
		return fmt.Errorf("%w: --interrupt goes with --outage kill --disk kept", errUsage)
	case o.relayed() && o.vs != "":
		return fmt.Errorf("%w: --vs goes without --net and --interrupt: no relay lies between the other server's processes", errUsage)
	}
	return nil
}

// loadRate is how many keys a second a run loads, reads or verifies at least.
const loadRate = 1000

// loadTimeout bounds a step that touches every key.
func (o *rejoinOptions) loadTimeout() time.Duration {
	return o.timeout + time.Duration(o.keys)*time.Second/loadRate
}

// validateVersus checks what is asked for beside another server: it is killed,
// and so the node must be.
func (o *rejoinOptions) validateVersus() error {
	switch {
	case o.vs == "":
		return nil
	case len(o.attach) > 0:
		return fmt.Errorf("%w: --vs goes with a cluster that is started here, not with --attach", errUsage)
	case o.outage != outageKill || o.disk != diskKept:
		return fmt.Errorf("%w: --vs goes with --outage kill --disk kept", errUsage)
	}
	return errors.Join(oneOf("vs", o.vs, vsRedis), redisHere(o.redisServer))
}

// validOutage checks the words for how a node goes and what it loses.
func validOutage(outage, disk string, outages, disks []string) error {
	if err := errors.Join(oneOf("outage", outage, outages...), oneOf("disk", disk, disks...)); err != nil {
		return err
	}
	if outage != outageKill && disk != diskKept {
		return fmt.Errorf("%w: --outage %s --disk %s: a process that lives keeps its disk", errUsage, outage, disk)
	}
	return nil
}

func (o *rejoinOptions) validateCluster() error {
	attached := len(o.attach) > 0
	switch {
	case !attached && (o.target != "" || o.outageCmd != "" || o.returnCmd != "" || o.tokenFile != "" || len(o.resp)+len(o.http) > 0):
		return fmt.Errorf("%w: --target, --outage-cmd, --return-cmd, --token-file, --resp and --http go with --attach", errUsage)
	case attached && (o.target == "" || o.outageCmd == "" || o.returnCmd == ""):
		return fmt.Errorf("%w: --attach needs --target, --outage-cmd and --return-cmd", errUsage)
	case attached && len(o.attach) < 3, !attached && o.nodes < 3:
		return fmt.Errorf("%w: want 3 nodes or more: two must go on while one is away", errUsage)
	}
	return nil
}
