package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/zeebo/xxh3"

	"edged.dev/edged/api/admin"
	"edged.dev/edged/internal/testcluster"
)

const (
	// The keys of the story: the first are there before the outage, the second
	// are written during it.
	demoBefore = 100
	demoAfter  = 150
	// demoProbe is the key that a returning node without repair does not find.
	demoProbe = 125
	// Of the keys before, some are deleted and some overwritten meanwhile.
	demoDeletedFrom, demoDeletedTo         = 10, 14
	demoOverwrittenFrom, demoOverwrittenTo = 20, 29

	// demoPrefix are the keys that the policy decides, and demoPair is the one
	// that is written at two nodes at once.
	demoPrefix = "cart:"
	demoPair   = "cart:ada"
	demoPolicy = "union"
	// demoUnion is what the policy makes of the pair.
	demoUnion = "apples\nbread\ncherries"

	// demoPause is longer than the lease of 2 s, so that a node that was paused
	// must notice.
	demoPause = 3 * time.Second
	// demoStep bounds one step of the story.
	demoStep = time.Minute
)

// demoOptions are the flags of `loadtest demo`.
type demoOptions struct {
	exit   bool
	edged  string
	dir    string
	module string
	outage string
	disk   string
	within time.Duration
}

func demoCommand(sys system) *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Play an outage on three real nodes, step by step",
		Long: `Start three nodes on loopback, write keys 1 to 100, kill a node, write keys 101
to 150, overwrite and delete some and make a conflict, start the node again, and
show what it holds, how long that took and what went over the wire; then deploy a
merge policy and show the conflict merged. It ends with the cluster running, until
Ctrl-C. Exit code 4 means that something did not hold.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := validOutage(o.outage, o.disk, []string{outageKill, outagePause}, []string{diskKept, diskWiped}); err != nil {
				return err
			}
			return runDemo(cmd.Context(), sys, &o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.exit, "exit", false, "end when the story is told")
	f.StringVar(&o.edged, "edged", "", "path of the edged binary (default: one that is built)")
	f.StringVar(&o.dir, "dir", "", "directory for the cluster's files, which is kept (default: a temporary one)")
	f.StringVar(&o.outage, "outage", outageKill, "kill (SIGKILL) or pause (SIGSTOP)")
	f.StringVar(&o.disk, "disk", diskKept, "kept or wiped: what becomes of the data directory")
	f.DurationVar(&o.within, "within", time.Second, "how soon after its return the node must be caught up")
	f.StringVar(&o.module, "policy", "", "module to deploy (default: wasm-examples/union-c/union.wasm)")
	return cmd
}

// demo is the story while it is told.
type demo struct {
	show    *stage
	opts    *demoOptions
	cluster *testcluster.Cluster
	fleet   *fleet // the same cluster, once it runs
	kv      *kvClient
	wasm    []byte

	keys    map[string]string // what each key must hold
	deleted []string
	pair    []string          // the values of the conflict
	written map[uint64][]byte // every value, by its hash

	// What the third node held and said before it went, when that was, and its
	// first answer after.
	own    nodeDump
	before admin.Rejoin
	wire   wireCount
	left   time.Time
	probe  kvAnswer
}

func runDemo(ctx context.Context, sys system, o *demoOptions) (err error) {
	wasm, err := readPolicy(o.module)
	if err != nil {
		return err
	}
	d := &demo{
		opts: o, show: newStage(sys.out, sys.painterFor(sys.out)), kv: newKVClient(), wasm: wasm,
		keys: map[string]string{}, written: map[uint64][]byte{},
	}
	defer d.kv.close()
	d.own.node = "n3" // which holds nothing where its disk is wiped
	d.show.headline("edged: three nodes, one outage, and what becomes of the data")
	building, cancel := context.WithTimeout(ctx, 5*demoStep) // a first build takes a while
	defer cancel()
	d.show.begin("--", "The binary is built, certificates are issued")
	if d.cluster, err = testcluster.New(building, testcluster.Options{Binary: o.edged, Dir: o.dir}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.cluster.Close()) }()
	if err := d.story(ctx); err != nil {
		d.show.abort()
		fmt.Fprint(sys.err, logsOf(d.cluster))
		return err
	}
	d.show.summary()
	if !o.exit {
		d.next()
		<-ctx.Done()
	}
	if d.show.failed > 0 {
		return fmt.Errorf("%w: %d checks of the demo failed", errWrong, d.show.failed)
	}
	return nil
}

// story tells all steps in their order, each under a deadline.
func (d *demo) story(ctx context.Context) error {
	for _, part := range []func(context.Context) error{
		d.start, d.writeBefore, d.takeAway, d.writeMeanwhile, d.bringBack, d.verify, d.policy,
	} {
		step, cancel := context.WithTimeout(ctx, demoStep)
		err := part(step)
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

func demoKey(i int) string { return fmt.Sprintf("key-%d", i) }

// wrote notes that a key holds a value from now on.
func (d *demo) wrote(key, value string) {
	d.keys[key] = value
	d.written[xxh3.HashString(value)] = []byte(value)
}

// value finds a value of the story by its hash.
func (d *demo) value(_ string, sum uint64) ([]byte, bool) {
	value, ok := d.written[sum]
	return value, ok
}

// wanted returns what every copy must hold of each key.
func (d *demo) wanted() []wanted {
	var out []wanted
	for key, value := range d.keys {
		out = append(out, wanted{key: key, sums: []uint64{xxh3.HashString(value)}})
	}
	for _, key := range d.deleted {
		out = append(out, wanted{key: key})
	}
	if len(d.pair) > 0 {
		w := wanted{key: demoPair}
		for _, value := range d.pair {
			w.sums = append(w.sums, xxh3.HashString(value))
		}
		out = append(out, w)
	}
	return out
}

// doors returns some nodes as clients reach them, by their numbers from 0.
func (d *demo) doors(nodes ...int) []door {
	var out []door
	for _, i := range nodes {
		out = append(out, doorOf(d.cluster.Node(i)))
	}
	return out
}

// readPolicy reads the module from its path, or the committed example's from
// the module that the working directory is in.
func readPolicy(path string) ([]byte, error) {
	if path == "" {
		root, err := moduleRoot()
		if err != nil {
			return nil, err
		}
		path = filepath.Join(root, "wasm-examples", "union-c", "union.wasm")
	}
	wasm, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read policy: %w", err)
	}
	return wasm, nil
}

// moduleRoot finds the directory with go.mod, from the working directory up.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("%w: run this inside the module, or name the files with --edged and --policy", errUsage)
		}
		dir = parent
	}
}
