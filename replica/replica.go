// Package replica keeps copies equal: quorum reads and writes, replication,
// the rejoin sync, the anti-entropy tick. It is the shell around package
// replica/core: it sends what core decides and hands back what came of it.
package replica

import (
	"context"
	"errors"
	"io"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/internal/layout"
	"edged.dev/edged/partition"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// ErrNotSent is what Peers returns for a call of which nothing was handed to the
// peer, so that it may be made elsewhere. Any other error of a call that has no
// answer means that its outcome is unknown.
var ErrNotSent = errors.New("not sent")

// Peers reaches the other nodes by name. Safe for concurrent use; none of the
// sends blocks, and neither does Hangup, which closes the connection to a peer that
// broke the protocol and tells it how.
type Peers interface {
	SendControl(name string, frame []byte) error
	SendLive(name string, frame []byte) error
	Call(ctx context.Context, name string, request []byte) ([]byte, error)
	OpenLane(ctx context.Context, name string) (LaneStream, error)
	Hangup(name string, b wire.Breach, why string)
}

// LaneStream is the writing end of a lane's stream. Its writes wait for a peer that reads
// slowly, and fail when the context that it was opened with ends.
type LaneStream interface {
	io.WriteCloser
	Done() <-chan struct{} // closed when nothing that is written is read any more
	RTT() time.Duration    // the least that was seen of the connection
}

// View is what a policy shows of concurrent versions.
type View struct {
	Found     bool
	Value     []byte
	ExpiresMS int64
	Mark      string // "", unresolved, truncated, or policy@epoch
	Policy    string // identity of what decided, part of the entity tag
}

// Merger resolves the live, unexpired versions of a key, newest first and two at
// least. An error means that this node cannot run the bound policy: it never
// shows another view.
type Merger interface {
	View(ctx context.Context, key []byte, live []kv.Version) (View, error)
}

// Config is what a Replica needs.
type Config struct {
	Self       string
	Node       kv.NodeID
	Boot       uint32
	Set        *partition.Set
	Peers      Peers
	Merger     Merger
	Partitions uint32
	R, W       int
	Refuse     bool     // isolated writes: refuse before minting
	TokenKey   [32]byte // of the cluster
	Relaxed    bool
	// Lanes bounds the lanes that this node streams at once over all sessions, of
	// which each has one in any case; 0: one.
	Lanes    int
	SyncRate func() int64 // bytes a second that this node streams to others, 0: no limit; may change; nil: none
	// SyncGuard is what the 99th percentile of what clients wait may grow to while
	// sessions are under way, in thousandths of what it is without any; sessions are
	// slowed down for it. 0: they are not. It may change; nil: 0.
	SyncGuard func() int64
	Horizon   time.Duration // tombstones older than this are not waited for; 0: all are
	// StoreLimit bounds the bytes of keys and values in this node's copies, by
	// evicting the coldest; 0 = no bound.
	StoreLimit int64
	// ScrubEvery is how long the background scrub takes for all copies once; 0: it
	// does not run.
	ScrubEvery time.Duration

	Boottime func() int64 // CLOCK_BOOTTIME, nanoseconds
	WallMS   func() int64
	Jitter   func() uint64
	Events   Events

	Planner Planner     // asked where PlansRepair says so; nil: never
	Load    func() Load // for plans; nil: not known
}

// Events tells what happened; all may be nil. They are called in order from one
// goroutine and may take their time: the queue to them is bounded by what core
// decides, not by traffic.
type Events struct {
	Note func(core.Note)
	Part func(core.Part)
	// Plan tells of a repair plan. It comes from a goroutine of its own.
	Plan func(PlanRecord)
	// Outlived tells, once, that this process must end: others have sealed it, for a
	// later one of its directory has run, with that boot at least.
	Outlived func(boot uint32)
}

// Replica is the replication of one node. Safe for concurrent use.
type Replica struct {
	cfg   Config
	codec *wire.Codec
	parts partTable
	hlc   atomic.Uint64
	stats Stats

	mu      sync.Mutex // of machine and the effects' order
	machine *core.Machine
	changed chan struct{} // closed and replaced when a part changes
	effects []core.Effect // to be carried out

	due     chan struct{} // there are effects
	tasks   *tasks
	leaving atomic.Bool   // serves nothing more, by its own word
	liveSeq atomic.Uint64 // of the last write sent, to whomever

	peersMu  sync.RWMutex
	peers    map[string]*remote
	time     atomic.Pointer[clusterTime] // changed under peersMu; nil: no two peers' clocks are known
	layout   atomic.Pointer[layout.Layout]
	sessions sessions

	checkpoints *checkpoints
	pace        pace // of what this node streams
	paceIn      pace // of what it receives: the guard's alone
	guard       guard
	applies     applyQueue
	laneBytes   uint64 // what is worth a lane more
	repairs     readRepairs
	heat        *heat
	plans       plans
	looking     looking
	giving      turn // of copies that are damaged
	drops       drops
	favours     favours
}

// Stats counts, for metrics and reports. All fields are totals of the process.
type Stats struct {
	SyncBytesIn, SyncBytesOut   atomic.Int64 // of session frames, lanes as they move
	EntriesIn, EntriesOut       atomic.Int64
	FirstHelloNS, LastPendNS    atomic.Int64 // boot-time clock, 0: not yet
	CaughtUpNS, VerifiedNS      atomic.Int64
	Writes, Reads, Forwards     atomic.Int64
	PartialContext, FewCopies   atomic.Int64
	Unknown, MarkedAnswers      atomic.Int64
	LiveSent, LiveApplied       atomic.Int64
	TicksEqual, TicksDifferent  atomic.Int64
	Sessions, SessionsCut       atomic.Int64
	LaneBytes                   atomic.Int64 // of lanes, both ways, as they move
	LaneBytesOut                atomic.Int64 // of them, what was sent
	LanesIn, LanesOut           atomic.Int64 // of sessions; LanesCut broke off and left their session to others
	LanesCut, LanesRefused      atomic.Int64 // LanesRefused: of no session that is open, or against the protocol
	StreamOverflows, LeaseWaits atomic.Int64
	Collected, CollectedForced  atomic.Int64
	ReadRepairs                 atomic.Int64
	Reaped, Evicted, ReapErrors atomic.Int64 // versions removed by their expiry, to make room; removals that failed
	StoreBytes                  atomic.Int64 // of keys and values, as last weighed; 0 without a limit
	Heals, Corruptions          atomic.Int64 // attempts of L4; dots put in or taken out by them
	HealLies                    atomic.Int64 // answers of peers to L4's questions that made no sense
	HealLeftOut                 atomic.Int64 // owners without which L4 decided, since they held it up
	Scrubs, ScrubsBad           atomic.Int64
	ScrubbedBytes               atomic.Int64
	StandInWrites               atomic.Int64 // acknowledged with a stand-in's copy
	StandInsOpened              atomic.Int64 // copies opened here for owners that are away
	CopiesDropped               atomic.Int64
	Sealed                      atomic.Int64 // seals closed in copies here
	LateRefused                 atomic.Int64 // writes of sealed processes that came late
	Requalified, Adopted        atomic.Int64 // copies out of quarantine; versions that were theirs alone
	LatePongs                   atomic.Int64 // answers to PINGs that this process did not send

	Buried   atomic.Int64                // versions that would have come back, and were dropped
	Steps    [5]atomic.Int64             // taken by copies here, as core.Steps has them
	Breaches [wire.Breaches]atomic.Int64 // of peers against the protocol
}

// note counts what a note tells.
func (s *Stats) note(n core.Note) {
	if i := slices.Index(core.Steps(), n.Step); i >= 0 {
		s.Steps[i].Add(1)
	}
	s.Buried.Add(int64(n.Versions))
}

// New returns a replica that does nothing until Run.
func New(cfg Config) (*Replica, error) {
	codec, err := wire.NewCodec()
	if err != nil {
		return nil, err
	}
	r := &Replica{
		cfg: cfg, codec: codec, peers: map[string]*remote{}, changed: make(chan struct{}),
		due: make(chan struct{}, 1), tasks: &tasks{}, heat: newHeat(cfg.Partitions),
	}
	r.plans.repaired, r.plans.started = map[kv.Partition]int64{}, cfg.Boottime()
	r.laneBytes = laneBytes
	r.pace = pace{limit: r.syncRate, now: cfg.Boottime}
	r.paceIn = pace{limit: r.guard.rate.Load, now: cfg.Boottime}
	// Numbers of an earlier process or connection, should an ACK of one come late,
	// are below all of this one's.
	r.liveSeq.Store(uint64(cfg.Boot) << 32)
	r.parts.data = make([]atomic.Pointer[core.Part], cfg.Partitions)
	r.sessions.init()
	known, err := recall(&cfg)
	if err != nil {
		return nil, err
	}
	if r.checkpoints, err = openCheckpoints(&cfg); err != nil {
		return nil, err
	}
	r.looking.parts, r.giving = map[kv.Partition]bool{}, make(turn, 1)
	r.machine = core.New(core.Config{
		Self: cfg.Self, Node: cfg.Node, Boot: cfg.Boot, Copies: copies{cfg.Set}, W: cfg.W, Jitter: cfg.Jitter, Known: known, Held: held(&cfg),
		Quarantined: cfg.Set.InQuarantine(),
	})
	return r, nil
}

// Stats returns the counters.
func (r *Replica) Stats() *Stats { return &r.stats }

// copies shows the machine the node's shards.
type copies struct{ set *partition.Set }

func (c copies) Copy(p kv.Partition) core.Copy {
	sh := c.set.Shard(p)
	if sh == nil {
		return core.Copy{}
	}
	st := sh.Status()
	return core.Copy{Held: true, Actor: st.Actor, Trust: st.Trust, Clock: st.Clock, Digest: st.Digest, Comparable: st.Comparable()}
}

func (c copies) Trust(p kv.Partition) kv.Trust {
	if sh := c.set.Shard(p); sh != nil {
		return sh.Trust()
	}
	return kv.New
}

func (c copies) Covers(p kv.Partition, clock kv.Clock) bool {
	sh := c.set.Shard(p)
	return sh != nil && sh.Covers(clock)
}

const (
	// passEvery is how finely the machine sees time while it has something to do.
	passEvery = 20 * time.Millisecond
	// calmPasses is every how many of them it is told of the time when it has nothing to
	// do: a twentieth of a lease is soon enough to see one lapse. A pass looks at every
	// partition.
	calmPasses = 5
)

// Run keeps the copies equal until ctx ends, and returns when everything it
// started has ended.
func (r *Replica) Run(ctx context.Context) error {
	r.tasks.open(ctx)
	defer r.tasks.wait()
	r.heat.tick(r.cfg.Boottime())
	r.tasks.run(r.carryOut)
	r.tasks.run(r.acknowledge)
	r.tasks.run(r.collect)
	r.tasks.run(r.guardClients)
	r.tasks.run(r.reap)
	if r.cfg.StoreLimit > 0 {
		r.tasks.run(r.evict)
	}
	r.tasks.run(r.scrubSuspects)
	if r.cfg.ScrubEvery > 0 {
		r.tasks.run(r.scrubs)
	}
	pass, ping := time.NewTicker(passEvery), time.NewTicker(time.Duration(core.PingEvery))
	keep := time.NewTicker(keepEvery)
	defer pass.Stop()
	defer ping.Stop()
	defer keep.Stop()
	defer r.keepKnown() // committed yet: the committer stops after this
	calm := 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ping.C:
			r.pingAll()
			r.heat.tick(r.cfg.Boottime())
		case <-keep.C:
			r.keepKnown()
		case <-pass.C:
			if calm++; calm >= calmPasses || !r.calm() {
				calm = 0
				r.step(core.Passed{})
			}
			r.expireStale()
			r.ackLate()
		}
	}
}

func (r *Replica) calm() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.machine.Calm()
}

// step hands one event to the machine. What requests go by is replaced before
// anybody can hand in the next one; the other effects follow in order.
func (r *Replica) step(ev core.Event) {
	r.advance(ev)
	r.watchPlan(ev)
}

func (r *Replica) advance(ev core.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	effects := r.machine.Step(r.cfg.Boottime(), ev)
	changed := false
	for _, e := range effects {
		set, ok := e.(core.SetPart)
		if ok {
			r.setPart(set.Part)
			changed = true
		}
		if !ok || !set.LeaseOnly {
			r.effects = append(r.effects, e)
		}
	}
	if changed {
		close(r.changed)
		r.changed = make(chan struct{})
	}
	if len(r.effects) > 0 {
		wake(r.due)
	}
}

// takeEffects returns what is to be carried out. The list has no bound of its
// own, for a step that waited for room would hold up everything, the carrying out
// included: what core decides is bounded by what changes, not by traffic.
func (r *Replica) takeEffects() []core.Effect {
	r.mu.Lock()
	defer r.mu.Unlock()
	effects := r.effects
	r.effects = nil
	return effects
}

// wake rings a bell that holds one ring: who hears it sees all there is.
func wake(bell chan struct{}) {
	select {
	case bell <- struct{}{}:
	default: // it rings already
	}
}

func (r *Replica) setPart(p core.Part) {
	if slot := r.parts.slot(p.Partition); slot != nil {
		slot.Store(&p)
	}
}

// partTable has what requests go by, a slot a partition, so that a request looks
// it up without a lock.
type partTable struct {
	data   []atomic.Pointer[core.Part] // by number
	system atomic.Pointer[core.Part]
}

// slot is nil for a number that is no partition's.
func (t *partTable) slot(p kv.Partition) *atomic.Pointer[core.Part] {
	switch {
	case int64(p) < int64(len(t.data)):
		return &t.data[p]
	case p == kv.System:
		return &t.system
	}
	return nil
}

// part returns what requests for a partition go by, nil if nothing is known.
func (r *Replica) part(p kv.Partition) *core.Part {
	if slot := r.parts.slot(p); slot != nil {
		return slot.Load()
	}
	return nil
}

// Parts are every partition's state, in no order, which nobody changes any more.
func (r *Replica) Parts() iter.Seq[*core.Part] {
	return func(yield func(*core.Part) bool) {
		if p := r.parts.system.Load(); p != nil && !yield(p) {
			return
		}
		for i := range r.parts.data {
			if p := r.parts.data[i].Load(); p != nil && !yield(p) {
				return
			}
		}
	}
}

// Part returns one partition's state.
func (r *Replica) Part(p kv.Partition) (core.Part, bool) {
	if x := r.part(p); x != nil {
		return *x, true
	}
	return core.Part{}, false
}

// SetLayout takes the layout as this node's system partition has it.
func (r *Replica) SetLayout(l *layout.Layout) {
	r.drops.mu.Lock()
	r.layout.Store(l) // no drop of what this node now owns begins any more
	r.drops.mu.Unlock()
	for p := range uint32(l.Partitions()) {
		if l.Owns(r.cfg.Self, p) {
			r.drops.wait(kv.Partition(p))
			r.cfg.Set.Add(kv.Partition(p))
		}
	}
	r.cfg.Set.Add(kv.System)
	for _, p := range r.remotes() {
		p.forgetFloors() // whose copies may have been dropped and come back
	}
	r.step(core.LayoutChanged{Layout: l})
}

// Layout returns the layout last set, nil before.
func (r *Replica) Layout() *layout.Layout { return r.layout.Load() }

// view returns the hash of the layout, 0 before there is one.
func (r *Replica) view() uint64 {
	if l := r.layout.Load(); l != nil {
		return l.ViewHash8()
	}
	return 0
}

// partitionOf returns where a request's key lives.
func (r *Replica) partitionOf(req *kv.Request) kv.Partition {
	if req.System {
		return kv.System
	}
	return kv.PartitionOf(kv.Hash(req.Key), r.cfg.Partitions)
}
