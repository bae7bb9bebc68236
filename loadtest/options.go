package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
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
	output, edged, dir                  string
	repairPolicy                        string

	attach, resp, http           []string
	outageCmd, returnCmd, target string
	tokenFile                    string
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
		seed: 1, output: "table",
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
	f.StringVar(&o.outage, "outage", o.outage, "kill (SIGKILL) or pause (SIGSTOP)")
	f.StringVar(&o.disk, "disk", o.disk, "kept or wiped: what becomes of the data directory")
	f.DurationVar(&o.down, "down", o.down, "how long the node is away, at least")
	f.DurationVar(&o.quietBefore, "quiet-before", o.quietBefore, "time without writes before the outage")
	f.DurationVar(&o.measure, "measure", o.measure, "how long the clients of the other nodes are measured before, and at least after")
	f.Uint64Var(&o.seed, "seed", o.seed, "seed of values, of which keys change, and of what is read")
	f.StringVar(&o.mix, "mix", o.mix, "values: json, base62 or constant")
	f.StringVar(&o.durability, "durability", o.durability, "of the cluster that is started: sync or relaxed")
	f.DurationVar(&o.timeout, "timeout", o.timeout, "how long any one step may take")
	f.StringVarP(&o.output, "output", "o", o.output, "table or json")
	f.StringVar(&o.edged, "edged", o.edged, "path of the edged binary (default: one that is built)")
	f.StringVar(&o.dir, "dir", o.dir, "directory for the cluster's files, which is kept (default: a temporary one)")
	f.StringVar(&o.repairPolicy, "repair-policy", "", "WebAssembly module of a repair policy, or built-in: deployed before, and its effect reported")
	f.StringSliceVar(&o.attach, "attach", nil, "admin URLs of the nodes of a running cluster")
	f.StringSliceVar(&o.resp, "resp", nil, "with --attach: RESP addresses in the same order (default: as the nodes say)")
	f.StringSliceVar(&o.http, "http", nil, "with --attach: HTTP addresses in the same order (default: as the nodes say)")
	f.StringVar(&o.target, "target", "", "with --attach: name of the node that goes and returns")
	f.StringVar(&o.outageCmd, "outage-cmd", "", "with --attach: shell command that takes it away")
	f.StringVar(&o.returnCmd, "return-cmd", "", "with --attach: shell command that brings it back")
	f.StringVar(&o.tokenFile, "token-file", "", "with --attach: file with the admin token")
}

func (o *rejoinOptions) validate() error {
	if err := (values{mix: o.mix, bytes: o.valueBytes}).validate(); err != nil {
		return err
	}
	if err := validOutage(o.outage, o.disk); err != nil {
		return err
	}
	if err := errors.Join(oneOf("durability", o.durability, "sync", "relaxed"), oneOf("output", o.output, "table", "json")); err != nil {
		return err
	}
	switch {
	case o.keys < 1 || o.keys > maxKeys:
		return fmt.Errorf("%w: --keys %d: want 1 to %d", errUsage, o.keys, maxKeys)
	case o.conflicts < 0:
		return fmt.Errorf("%w: --conflicts %d: want 0 or more", errUsage, o.conflicts)
	case o.down < 0 || o.quietBefore < 0 || o.measure < 0 || o.timeout <= 0:
		return fmt.Errorf("%w: --down, --quiet-before, --measure and --timeout must not be negative", errUsage)
	}
	return o.validateCluster()
}

// validOutage checks the words for how a node goes and what it loses.
func validOutage(outage, disk string) error {
	if outage == outagePause && disk == diskWiped {
		return fmt.Errorf("%w: --outage pause --disk wiped: a paused process keeps its disk", errUsage)
	}
	return errors.Join(oneOf("outage", outage, outageKill, outagePause), oneOf("disk", disk, diskKept, diskWiped))
}

func oneOf(flag, value, a, b string) error {
	if value != a && value != b {
		return fmt.Errorf("%w: --%s %s: want %s or %s", errUsage, flag, value, a, b)
	}
	return nil
}

func (o *rejoinOptions) validateCluster() error {
	attached := len(o.attach) > 0
	switch {
	case !attached && (o.target != "" || o.outageCmd != "" || o.returnCmd != "" || len(o.resp)+len(o.http) > 0):
		return fmt.Errorf("%w: --target, --outage-cmd, --return-cmd, --resp and --http go with --attach", errUsage)
	case attached && (o.target == "" || o.outageCmd == "" || o.returnCmd == ""):
		return fmt.Errorf("%w: --attach needs --target, --outage-cmd and --return-cmd", errUsage)
	case attached && len(o.attach) < 3, !attached && o.nodes < 3:
		return fmt.Errorf("%w: want 3 nodes or more: two must go on while one is away", errUsage)
	}
	return nil
}
