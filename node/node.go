// Package node is one running node: it builds every part, runs them, and stops
// them in order; it turns events into logs, metrics and hooks.
//
// The boot story: open the data directory and take a boot number; be somebody
// (certificates, or a cluster of one); found a cluster, or learn how many
// partitions the one to join has; open the store and the copies; take the layout
// from this node's own system partition; then run, all at once, the committer,
// the transport, gossip, replication, the keeper of membership, and the doors.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"edged.dev/edged/cache"
	"edged.dev/edged/cluster"
	"edged.dev/edged/internal/fault"
	"edged.dev/edged/partition"
	"edged.dev/edged/policies"
	"edged.dev/edged/replica"
	wasmrt "edged.dev/edged/runtime"
	"edged.dev/edged/transport"
)

// Options are what a program hands to a node beside its configuration.
type Options struct {
	// Logger takes the node's log lines; nil discards them.
	Logger *slog.Logger
	// SyncRate, if not nil, is in force in the place of the setting sync.rate, and
	// may be changed at any time: bytes a second, 0 for no limit.
	SyncRate *atomic.Int64
	// SyncGuard, if not nil, is in force in the place of the setting sync.guard, and
	// may be changed at any time: thousandths, 0 for off.
	SyncGuard *atomic.Int64
	// Version is shown in the status.
	Version string
	// Exit ends the process when the store failed: what was planned on top of a
	// write that did not reach the disk cannot be unplanned. nil is os.Exit.
	Exit func(code int)
	// Fault may hold a named step, in tests; nil holds none.
	Fault *fault.Set
}

// Node is one node. New opens its data and binds its addresses; Run runs it.
type Node struct {
	cfg     Config
	log     *slog.Logger
	version string
	fault   *fault.Set
	clocks  clocks

	syncRate  *atomic.Int64
	syncGuard *atomic.Int64
	self      self
	id        transport.Identity

	store    *cache.Store
	tier     *cache.Tier
	set      *partition.Set
	replica  *replica.Replica
	links    *links
	gossip   *cluster.Cluster
	wasm     *wasmrt.Host
	policies *policies.Table
	system   *system
	events   *hub
	doors    *doors

	exit      func(code int)
	draining  atomic.Bool
	serving   atomic.Pointer[replica.Replica] // nil while the node is joining
	halted    chan error                      // why this node must stop, first reason only
	refusals  atomic.Int64                    // dials that ended for want of trust
	badFrames atomic.Int64                    // frames of peers that were refused
	hungUpOn  atomic.Int64                    // connections that peers closed for a breach of this node's
	badUpload atomic.Int64                    // policies that were refused
	plans     planCounts
	load      load
	refusedBy sync.Map    // address -> true: told in the log
	fenced    atomic.Bool // it coordinates nothing more
	standing  atomic.Bool // by, until another process of its data directory is gone
	caught    caught
}

// New opens the data directory, decides which cluster the node is of, and binds
// every address. A joining node waits in Run, not here.
func New(cfg Config, opts Options) (*Node, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	log := opts.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	n := &Node{
		cfg: cfg, log: log, version: opts.Version, clocks: newClocks(), exit: opts.Exit, fault: opts.Fault, halted: make(chan error, 1),
		syncRate: opts.SyncRate, syncGuard: opts.SyncGuard,
	}
	n.events = newHub(n.partitions)
	if n.syncRate == nil {
		n.syncRate = new(atomic.Int64)
		n.syncRate.Store(cfg.SyncRateBytes)
	}
	if n.syncGuard == nil {
		n.syncGuard = new(atomic.Int64)
		n.syncGuard.Store(cfg.SyncGuardPermille())
	}
	if n.exit == nil {
		n.exit = os.Exit
	}
	if err := n.open(); err != nil {
		return nil, errors.Join(err, n.close())
	}
	return n, nil
}

func (n *Node) open() error {
	if n.cfg.HugePages {
		if err := hugePages(); err != nil {
			n.log.Debug("no huge pages", slog.Any("error", err))
		}
	}
	if err := os.MkdirAll(n.cfg.DataDir, 0o700); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	if err := n.identify(); err != nil {
		return err
	}
	if err := n.setAsideCorrupt(); err != nil {
		return err
	}
	store := cache.Default(n.storeDir())
	store.Events = n.storeEvents()
	var err error
	store.Fault = n.fault
	if n.store, err = cache.Open(store); err != nil {
		return err
	}
	if n.tier, err = cache.NewTier(n.cfg.MemoryBytes); err != nil {
		return err
	}
	if n.self, err = openSelf(n.store, n.clocks.wallMS(), n.cfg.Durability); err != nil {
		return err
	}
	if err := n.self.belongs(n.store, n.id); err != nil {
		return err
	}
	if n.wasm, err = wasmrt.NewHost(context.Background(), wasmrt.Default()); err != nil {
		return err
	}
	n.policies = policies.NewTable(n.wasm)
	if err := n.mayFound(); err != nil {
		return err
	}
	n.doors, err = bindDoors(n)
	return err
}

// identify loads the node's certificates, or makes those of a cluster of one.
func (n *Node) identify() error {
	var err error
	if n.cfg.TLSDir != "" {
		n.id, err = transport.LoadIdentity(n.cfg.TLSDir)
	} else {
		name := n.cfg.NodeName
		if name == "" {
			name = "local"
		}
		n.id, err = transport.SelfIdentity(filepath.Join(n.cfg.DataDir, "identity"), name)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if n.cfg.NodeName != "" && n.cfg.NodeName != n.id.Name {
		return Invalid("node.name", n.cfg.NodeName, "the certificate is of "+n.id.Name)
	}
	return nil
}

func (n *Node) storeEvents() cache.Events {
	return cache.Events{
		BackgroundError: func(err error) { n.log.Error("store background work failed", slog.Any("error", err)) },
		CorruptFile:     n.corrupted,
		DiskSlow: func(op, path string, elapsed time.Duration) {
			n.log.Warn("disk is slow", slog.String("op", op), slog.String("path", path), slog.Duration("elapsed", elapsed))
		},
		CommitStalled: func(elapsed time.Duration) {
			n.log.Error("commits make no progress", slog.Duration("elapsed", elapsed))
		},
		Writable: func(writable bool, free, total uint64) {
			n.log.Warn("disk watermark passed", slog.Bool("writable", writable), slog.Uint64("free_bytes", free), slog.Uint64("total_bytes", total))
		},
		Fatal: n.fail,
	}
}

// fail ends the process: a failed log write must not be retried, and what waits
// for it waits for ever.
func (n *Node) fail(err error) {
	n.log.Error("store failed; this process ends", slog.Any("error", err))
	n.exit(1)
}

// Run runs the node until ctx ends, then drains and stops it in order.
func (n *Node) Run(ctx context.Context) error {
	err := n.run(ctx)
	return errors.Join(err, n.close())
}

func (n *Node) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := make(chan struct{})
	defer close(stop)
	go func() { // ends with run
		select {
		case err := <-n.halted:
			cancel(haltError{err})
		case <-stop:
		}
	}()
	front, frontCtx := errgroup.WithContext(ctx)
	n.doors.run(front, frontCtx)
	err := n.learn(frontCtx)
	if err == nil && frontCtx.Err() == nil {
		err = n.standBy(frontCtx)
	}
	if err == nil && frontCtx.Err() == nil {
		err = n.build()
	}
	if err == nil && frontCtx.Err() == nil {
		err = n.serve(frontCtx, front)
	}
	cancel(nil)
	if doorErr := front.Wait(); err == nil {
		err = doorErr
	}
	var halt haltError
	if errors.As(context.Cause(ctx), &halt) {
		return errors.Join(halt.error, n.noteAgain(halt.error), err)
	}
	if err != nil || n.replica == nil {
		return err
	}
	return n.self.stopped(n.store, n.clocks.wallMS())
}

// haltError is why a node stops by itself.
type haltError struct{ error }

// halt makes Run end with a reason: this node must not go on.
func (n *Node) halt(err error) {
	select {
	case n.halted <- err:
	default: // it stops already
	}
}

// build makes the parts that need to know how many partitions there are.
func (n *Node) build() error {
	n.system = newSystem(n)
	var err error
	n.set, err = partition.Open(partition.Config{
		Store: n.store, Tier: n.tier, Partitions: n.self.Partitions, DigestKey: digestKey(n.id),
		Sync: n.cfg.Durability == DurabilitySync, Boot: n.self.Boot, Node: n.self.Node,
		Rand: rand.Uint32, Fail: n.fail, Suspect: n.self.suspect, SystemChanged: n.system.wake,
		Full: n.store.Full, Damaged: n.damaged,
	})
	if err != nil {
		return err
	}
	for _, p := range n.set.Quarantined() {
		n.log.Error("record of a copy was damaged or lost; what it holds is compared with the others' copies", slog.Uint64("partition", uint64(p)))
	}
	n.replica, err = replica.New(replica.Config{
		Self: n.id.Name, Node: n.self.Node, Boot: n.self.Boot, Set: n.set, Peers: n.links, Merger: merger{n},
		Partitions: n.self.Partitions, R: n.cfg.ReadQuorum, W: n.cfg.WriteQuorum,
		Refuse: n.cfg.IsolatedWrites == IsolatedRefuse, TokenKey: tokenKey(n.id), Relaxed: n.cfg.Durability == DurabilityRelaxed,
		SyncRate: n.syncRate.Load, SyncGuard: n.syncGuard.Load, Lanes: n.cfg.lanes(runtime.GOMAXPROCS(0)), Horizon: n.cfg.TombstoneHorizon, StoreLimit: n.cfg.StoreLimitBytes, ScrubEvery: n.cfg.ScrubEvery,
		Boottime: n.clocks.boottime, WallMS: n.clocks.wallMS, Jitter: rand.Uint64, Events: n.replicaEvents(),
		Planner: planner{n}, Load: n.planLoad,
	})
	if err != nil {
		return err
	}
	n.links.use(n.replica)
	n.gossip, err = cluster.New(cluster.Config{
		Cluster: n.id.Cluster, Name: n.id.Name, Node: uint64(n.self.Node), Boot: n.self.Boot,
		Addresses: n.links.transport.Addresses(), Link: n.links.transport.Gossip(), Join: n.cfg.ClusterJoin,
		Peers: n.peersFile(), OnEvent: n.onGossip,
	})
	return err
}

// serve runs everything. What stops first stops last: the doors, then
// replication and the network, then the committer.
func (n *Node) serve(ctx context.Context, front *errgroup.Group) error {
	below, stopBelow := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBelow()
	var base errgroup.Group
	base.Go(n.watched(below, n.store.Run))
	base.Go(n.watched(below, n.set.Run))
	if err := n.system.begin(below); err != nil {
		stopBelow()
		return errors.Join(err, base.Wait())
	}
	middle, stopMiddle := context.WithCancel(context.WithoutCancel(ctx))
	defer stopMiddle()
	var mid errgroup.Group
	mid.Go(n.watched(middle, n.replica.Run))
	mid.Go(n.watched(middle, n.links.transport.Run))
	mid.Go(n.watched(middle, n.gossip.Run))
	mid.Go(n.watched(middle, n.system.run))
	mid.Go(n.watched(middle, n.keepConnected))
	n.serving.Store(n.replica)
	n.log.Info("serving", slog.String("node", n.id.Name), slog.String("resp", n.doors.ports.RESP),
		slog.String("http", n.doors.ports.HTTP), slog.String("admin", n.doors.ports.Admin), slog.String("node_address", n.doors.ports.Node))
	leave := context.AfterFunc(ctx, func() {
		n.draining.Store(true)
		n.replica.Leave()
	})
	defer leave()
	err := front.Wait()
	n.drain()
	stopMiddle()
	err = errors.Join(err, ignoreCancel(mid.Wait()))
	stopBelow()
	return errors.Join(err, ignoreCancel(base.Wait()))
}

// watched runs a part of the node that is to run as long as the node does: one
// that ends before it is told to takes the node with it.
func (n *Node) watched(ctx context.Context, run func(context.Context) error) func() error {
	return func() error {
		err := run(ctx)
		if err != nil && ctx.Err() == nil {
			n.halt(err)
		}
		return err
	}
}

// drainWait is how long a node that leaves goes on answering what peers had sent
// before they heard that it serves no more: some round trips of a slow link.
const drainWait = 300 * time.Millisecond

// drain tells the peers, and answers what is on its way.
func (n *Node) drain() {
	n.draining.Store(true)
	n.replica.Leave()
	if n.fenced.Load() || len(n.replica.Connected()) == 0 {
		return
	}
	wait := time.NewTimer(drainWait)
	defer wait.Stop()
	<-wait.C
}

func ignoreCancel(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, transport.ErrClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// close lets go of what New and Run opened.
func (n *Node) close() error {
	var err error
	if n.doors != nil {
		n.doors.close()
	}
	if n.policies != nil {
		err = errors.Join(err, n.policies.Close(context.Background()))
	}
	if n.wasm != nil {
		err = errors.Join(err, n.wasm.Close(context.Background()))
	}
	if n.store != nil {
		err = errors.Join(err, n.store.Close())
	}
	return err
}

// Ports returns where the node listens.
func (n *Node) Ports() Ports { return n.doors.ports }
