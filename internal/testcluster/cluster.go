package testcluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// BinaryEnv names the variable with the path of an edged binary to run; where
// it is empty, one is built.
const BinaryEnv = "TESTCLUSTER_BINARY"

// mainPackage is what is built.
const mainPackage = "edged.dev/edged/cmd/edged"

// maxNodes is how many nodes a cluster here may have: more do not run on one
// machine in any sensible way.
const maxNodes = 32

// Options say what a cluster is made of. The zero value is three nodes of a
// binary that is built for them, in a directory that Close removes.
type Options struct {
	// Binary is the path of the edged binary; empty is what BinaryEnv says, else
	// one that is built.
	Binary string
	// Dir gets all files of the cluster and is kept; empty is a temporary
	// directory, which is not.
	Dir string
	// Nodes is their number, 3 where it is 0. They are named n1, n2, ...
	Nodes int
	// Args are further arguments of each `edged serve`.
	Args []string
	// Routes say where each node listens for others and what it tells them; none
	// are free ports, told as they are.
	Routes []Route
}

// Route is where a node listens for other nodes, and the address at which they
// are to reach it, such as that of a relay. Both are HOST:PORT.
type Route struct{ Listen, Advertise string }

// Cluster is a set of nodes. Its methods are safe for concurrent use as long
// as no two of them concern the same node.
type Cluster struct {
	dir     string
	ownDir  bool
	binary  string
	args    []string
	starter *starter
	nodes   []*Node

	mu      sync.Mutex
	clones  []*Node
	founded bool // the first node has been started once
	closed  bool
}

// Build builds the edged binary into dir, without cgo, and returns its path.
// The working directory must be inside the module.
func Build(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, "edged")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, mainPackage)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", mainPackage, err, out)
	}
	return path, nil
}

// New makes a cluster's directories and certificates. Nothing runs yet. Close
// must be called.
func New(ctx context.Context, opts Options) (*Cluster, error) {
	if opts.Nodes == 0 {
		opts.Nodes = 3
	}
	if opts.Nodes < 1 || opts.Nodes > maxNodes {
		return nil, fmt.Errorf("make cluster: %d nodes, want 1 to %d", opts.Nodes, maxNodes)
	}
	if len(opts.Routes) != 0 && len(opts.Routes) != opts.Nodes {
		return nil, fmt.Errorf("make cluster: %d routes for %d nodes", len(opts.Routes), opts.Nodes)
	}
	c := &Cluster{dir: opts.Dir, args: opts.Args, starter: newStarter()}
	if err := c.prepare(ctx, opts); err != nil {
		return nil, errors.Join(fmt.Errorf("make cluster: %w", err), c.Close())
	}
	return c, nil
}

func (c *Cluster) prepare(ctx context.Context, opts Options) error {
	if c.dir == "" {
		dir, err := os.MkdirTemp("", "edged-cluster-")
		if err != nil {
			return err
		}
		c.dir, c.ownDir = dir, true
	} else if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	if err := c.findBinary(ctx, opts.Binary); err != nil {
		return err
	}
	authority := filepath.Join(c.dir, "ca")
	if err := c.command(ctx, "ca", "init", "--dir", authority); err != nil {
		return err
	}
	for i := range opts.Nodes {
		n := newNode(c, fmt.Sprintf("n%d", i+1))
		if len(opts.Routes) > 0 {
			n.route = opts.Routes[i]
		}
		if err := c.command(ctx, "ca", "issue", n.name, "--dir", authority, "--out", n.tlsDir()); err != nil {
			return err
		}
		c.nodes = append(c.nodes, n)
	}
	return nil
}

func (c *Cluster) findBinary(ctx context.Context, path string) error {
	if path == "" {
		path = os.Getenv(BinaryEnv)
	}
	if path == "" {
		built, err := Build(ctx, c.dir)
		c.binary = built
		return err
	}
	abs, err := filepath.Abs(path)
	c.binary = abs
	return err
}

// command runs the binary to its end.
func (c *Cluster) command(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, c.binary, args...)
	cmd.Env = environ()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run edged %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// environ is this process' environment without settings of a node: what a
// cluster does must not hang on the shell that it is started from.
func environ() []string {
	var out []string
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "EDGED_") {
			out = append(out, pair)
		}
	}
	return out
}

// Start starts every node and waits until all are ready: the first founds the
// cluster, the others join it.
func (c *Cluster) Start(ctx context.Context) error {
	for _, n := range c.nodes {
		if _, err := n.Start(ctx); err != nil {
			return err
		}
		if err := n.WaitPorts(ctx); err != nil {
			return err
		}
		if n == c.nodes[0] { // the others' joining goes through its system partition
			if err := n.WaitReady(ctx); err != nil {
				return err
			}
		}
	}
	for _, n := range c.nodes {
		if err := n.waitMembers(ctx, len(c.nodes)); err != nil {
			return err
		}
		if err := n.WaitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Nodes returns the nodes in the order of their names.
func (c *Cluster) Nodes() []*Node { return c.nodes }

// Node returns the i-th node, counted from 0.
func (c *Cluster) Node(i int) *Node { return c.nodes[i] }

// Dir returns the directory that all files of the cluster are in.
func (c *Cluster) Dir() string { return c.dir }

// Binary returns the path of the edged binary that the nodes run.
func (c *Cluster) Binary() string { return c.binary }

// Close kills the nodes that run, and removes the directory unless it was
// given. A second call does nothing.
func (c *Cluster) Close() error {
	c.mu.Lock()
	closed, all := c.closed, slices.Concat(c.nodes, c.clones)
	c.closed = true
	c.mu.Unlock()
	if closed {
		return nil
	}
	var errs []error
	for _, n := range all {
		errs = append(errs, n.Kill())
		n.closeClient()
		n.releasePorts()
	}
	c.starter.close()
	if c.ownDir {
		errs = append(errs, os.RemoveAll(c.dir))
	}
	return errors.Join(errs...)
}

// place says how a node finds its cluster at its next start: the first founds
// it once, and whoever starts later joins those whose addresses are known.
func (c *Cluster) place(n *Node) []string {
	if n == c.nodes[0] && c.foundsOnce() {
		return []string{"--cluster-found"}
	}
	var addrs []string
	for _, other := range c.nodes {
		if addr := other.nodeAddr(); other.name != n.name && addr != "" {
			addrs = append(addrs, addr)
		}
	}
	if len(addrs) == 0 {
		return nil
	}
	return []string{"--cluster-join", strings.Join(addrs, ",")}
}

// foundsOnce says yes at its first call alone.
func (c *Cluster) foundsOnce() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := !c.founded
	c.founded = true
	return first
}
