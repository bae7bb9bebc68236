// Package core is the pure step machine that keeps a node's copies equal to the
// others': whom to ask, from whom to stream, when a copy may serve, when its
// lease ends, who leads a partition. It is handed events with their time and
// returns effects; it has no clock, goroutine, socket, lock or randomness of its
// own, so that a seed replays it. Package replica is its shell.
//
// The rules it keeps, by name: LIVE by (a) or (b), the lease, ISOLATED and
// DEGRADED, the lead, R8, and the anti-entropy tick; DESIGN.md in package replica
// tells them.
package core

import (
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/internal/layout"
	"edged.dev/edged/merkle"
	"edged.dev/edged/transport/wire"
)

// Durations in nanoseconds of the boot-time clock.
const (
	ms = int64(1e6)

	// Lease is how long a PONG lets a copy answer: four missed PINGs.
	Lease = 2000 * ms
	// SuspectWait is how long a request may wait for a lapsed lease to be
	// renewed while the owners are asked.
	SuspectWait = 500 * ms
	// Fresh is how long a peer's STATE is believed without a PONG.
	Fresh = 1500 * ms
	// AnswerWait is how long rule (b) waits for every connected owner.
	AnswerWait = 1000 * ms
	// DoneWait is how long LIVE waits for the answer to DONE.
	DoneWait = 500 * ms
	// DegradedAfter is how long a copy waits for enough owners to answer.
	DegradedAfter = 5000 * ms
	// PingEvery is the PING interval on every connection.
	PingEvery = 500 * ms
	// TickEvery is the mean anti-entropy interval a peer; jitter is a quarter.
	TickEvery = 10_000 * ms
	// idleAfter is how long after the last ACK of a peer roots are compared out of
	// turn: both sides then know that they are level, and have a checkpoint.
	idleAfter = 1000 * ms
	// retryEvery spaces repeated questions to one peer.
	retryEvery = 100 * ms
	// settle is how long a gap to a running peer may be replication under way.
	settle = 250 * ms
	// courtesy is how long a node with nothing to ask leaves it to a newly
	// connected peer to say HELLO first: the one that returns does so at once.
	courtesy = 3000 * ms
	// BreachWait is how long a peer that broke the protocol is asked for entries only
	// where no other can be, and how far apart it is asked then: what made it do so
	// may pass with a restart, and a bug must not keep a copy from the only one that
	// has its entries.
	BreachWait = 60_000 * ms
	// shunEvery spaces the questions to it meanwhile.
	shunEvery = 2000 * ms
	// compareEvery spaces the comparisons of what is LIVE and not verified yet.
	compareEvery = 200 * ms
	// leadEvery spaces the questions for the lead.
	leadEvery = 250 * ms
)

// Copy is what the machine reads of a copy of this node.
type Copy struct {
	Held       bool
	Actor      kv.Actor
	Trust      kv.Trust
	Clock      kv.Clock // on stable storage
	Digest     merkle.Digest
	Comparable bool // the digest may be held against another's at an equal clock
}

// Copies gives the machine its node's copies as they are now.
type Copies interface {
	Copy(p kv.Partition) Copy
	Trust(p kv.Partition) kv.Trust
	Covers(p kv.Partition, c kv.Clock) bool
}

// Config is fixed for the machine's life.
type Config struct {
	Self   string // this node's name
	Node   kv.NodeID
	Copies Copies
	Boot   uint32         // of this process; makes session numbers unique
	W      int            // acknowledgements configured
	Jitter func() uint64  // randomness for the tick's jitter
	Known  []Known        // what earlier processes of this node knew of the peers (R8)
	Held   []kv.Partition // of which an earlier process left a copy
	// Quarantined are the copies that have lost their clock.
	Quarantined []kv.Partition
}

// Part is what the shell needs of one partition at every request. It is replaced
// when it changes.
type Part struct {
	Partition kv.Partition
	Owners    []string // in rendezvous order
	Self      bool     // this node is one of them
	State     kv.State
	Verified  bool
	Lead      bool
	Term      uint64 // of its lead: another one whenever it must be asked for anew
	First     string // first serving owner in this node's view, "" if none
	Serving   []string
	Live      []string // other owners believed LIVE
	Until     int64    // the lease ends; a large number where there is none
	Path      string   // the step the last sync took
	Why       string   // it was that one
	Reason    string   // of the state, or of the step that led to it
	Trust     kv.Trust
	StandIns  []string // who takes its writes beside the owners, too few of which are up
	Held      bool     // a copy is here that this node does not own: it stands in, or was displaced
}

// Forever is the lease of a copy that needs none.
const Forever = int64(1<<63 - 1)

// Machine is the state. Not safe for concurrent use.
type Machine struct {
	cfg    Config
	now    int64
	layout *layout.Layout
	zones  map[string]string // of the layout's members
	// newcomer: this process began without the system partition, and fetches it
	newcomer bool
	peers    map[string]*peer
	names    []string // of peers, sorted
	parts    map[kv.Partition]*part
	order    []kv.Partition // of parts, sorted, System first
	out      []Effect
	stateV   uint64

	sessions uint64 // last session number given
	known    map[string]map[kv.Partition]*known
	taken    knownAt // where TakeKnown goes on, if it could not hand out all
	fenced   bool    // this process serves nothing more
	pinged   bool    // PingAll is among the effects already
	plan     planning
	holds    map[kv.Partition]*holding
	offers   uint64 // last number of one
	seals    sealing
	damaged  map[kv.Partition]bool // quarantined when this process began
	graves   map[string]grave      // by donor, of sessions under way

	serving, live, marked []string // room for servingOrder
}

type peer struct {
	name     string
	node     kv.NodeID
	boot     uint32
	up       bool
	upAt     int64
	pongAt   int64 // stamp of the newest PING it answered
	state    wire.State
	load     wire.Load
	loadTold bool // over this connection
	hello    bool // the HELLO of this connection was sent
	answered bool
	busyTill int64
	askedAt  int64
	tickAt   int64
	ackAt    int64 // of the newest ACK since roots were equal, 0: none, or asked since
	clocksAt int64
	compared int64  // when digests were last compared for want of verification
	leaveIt  int64  // the first HELLO is left to the peer until then
	asking   int    // HELLOs that wait for their answer
	shunTill int64  // it broke the protocol: until then others are asked before it
	since    uint64 // sessions up to this number are of an earlier connection
}

type report struct {
	copy wire.CopyClock
	at   int64 // since when it told of more than this copy has, or when it came
	node kv.NodeID
}

type part struct {
	Part
	others    []string
	reports   map[string]report // since asked
	asked     int64             // reports count from here
	began     int64             // of CATCHING_UP
	pull      string            // peer that streams it now
	session   uint64            // by which
	doneBy    int64             // LIVE waits for the answer to DONE until then
	suspect   int64             // the lease was found lapsed then, 0: not
	contact   bool              // some owner was heard since asked
	first     int64             // since when this node is first in its view, 0: is not
	leadClock map[string]kv.Clock
	lost      bool            // told to be rolled back, and that is not durable yet
	record    kv.Trust        // the last that its record was asked to say
	recorded  bool            // it was
	claims    claims          // of a quarantined copy
	equal     map[string]bool // peers whose digest was compared at an equal clock: it agreed
	heal      healing
	shown     Part
	plan      planPart
	next      []string // in the order of placement behind the owners; nil: not asked for yet
}

// New returns a machine that knows of no layout and no peers.
func New(cfg Config) *Machine {
	m := &Machine{
		cfg: cfg, sessions: uint64(cfg.Boot) << 32, peers: map[string]*peer{}, parts: map[kv.Partition]*part{},
		known: map[string]map[kv.Partition]*known{}, holds: map[kv.Partition]*holding{},
		damaged: map[kv.Partition]bool{}, graves: map[string]grave{},
	}
	for _, p := range cfg.Quarantined {
		m.damaged[p] = true
	}
	for _, p := range cfg.Held {
		m.hold(p).fromDisk = true
	}
	for _, k := range cfg.Known {
		m.knownOf(k.Peer)[k.Partition] = &known{actor: k.Actor, clock: k.Clock, lost: k.Lost}
	}
	return m
}

// Step takes one event at its time and returns what is to be done, in order.
// Times never go back.
func (m *Machine) Step(now int64, ev Event) []Effect {
	before := m.now
	m.now = max(m.now, now)
	m.out, m.pinged = nil, false
	stood := before != 0 && m.now > before+Fresh
	if _, ok := ev.(Acked); ok && !stood { // the one event of the data path; it settles nothing
		m.handle(ev)
		return m.out
	}
	m.noticeLapses()
	if stood {
		m.stoodStill()
	}
	m.handle(ev)
	m.settleAll()
	return m.out
}

func (m *Machine) emit(e Effect) { m.out = append(m.out, e) }
