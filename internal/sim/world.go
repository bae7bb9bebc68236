package sim

import (
	"fmt"
	"io"
	"math/rand/v2"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/merkle"
	"edged.dev/edged/transport/wire"

	"github.com/zeebo/xxh3"
)

// Nodes is how many owners each partition has.
const Nodes = 3

const (
	maxStandIns = 2 // nodes beside them
	maxNodes    = Nodes + maxStandIns
)

// Options says what to run.
type Options struct {
	Seed  uint64
	Mix   Mix
	Bug   Bug
	Trace io.Writer // every event, one a line; nil: none
	// Shown is told what lies side by side behind a key at a node, when it is read
	// there. nil: nobody.
	Shown func(node int, key []byte, live []kv.Version)
	// Directed runs take their steps from a script: a session sends one object a
	// step and stays with its snapshot, and a bug takes every occasion.
	Directed bool
}

// Violation is a broken invariant.
type Violation struct {
	Rule string // I1, I4, ...
	Text string
}

// String returns rule and text.
func (v Violation) String() string { return v.Rule + ": " + v.Text }

// Stats counts what a run did. Where one of them is zero over many runs, the runs
// no longer reach what it counts.
type Stats struct {
	Events, Ops, Acked, Sessions, Crashes, Losses, Restores int

	Below     int // sessions that told which dots are live (L2)
	Collected int // tombstones given up
	Kept      int // records of what the receiver had already
	Tails     int // records of what changed during a session
	Resumed   int // sessions that went on where an earlier one broke off
	Siblings  int // keys seen with concurrent values
	Merged    int // writes that superseded concurrent values
	Torn      int // processes that died in a commit
	Reaps     int // removals of what has expired
	Evictions int // removals of what has not
	L4        int // copies that rotted, and were healed
	Given     int // objects that a damaged copy gave
	Apart     int // copies that were healed while an owner was away
	Unnamed   int // answers that had no room for all keys that were asked for
	Written   int // copies that were healed while others wrote
	Jumps     int // of a wall clock
	StoodIn   int // copies opened by nodes that stand in
	HandedOff int // sessions that brought an owner what such a node held
	Dropped   int // copies given up by the drop rule
	CameBack  int // of them, an owner's
	Sealed    int // copies that took a process that is gone as seen whole
	Late      int // writes of such processes that came late and were refused
	Unsealed  int // promises refused by copies that had lost their clock
	Records   int // copies that lost their clock
	L3        int // sessions that told what the receiver holds
	Adopted   int // versions that were such a copy's alone
}

// Add adds t to s.
func (s *Stats) Add(t Stats) {
	s.Events += t.Events
	s.Ops += t.Ops
	s.Acked += t.Acked
	s.Sessions += t.Sessions
	s.Crashes += t.Crashes
	s.Losses += t.Losses
	s.Restores += t.Restores
	s.Below += t.Below
	s.Collected += t.Collected
	s.Kept += t.Kept
	s.Tails += t.Tails
	s.Resumed += t.Resumed
	s.Siblings += t.Siblings
	s.Merged += t.Merged
	s.Torn += t.Torn
	s.Reaps += t.Reaps
	s.Evictions += t.Evictions
	s.L4 += t.L4
	s.Given += t.Given
	s.Apart += t.Apart
	s.Unnamed += t.Unnamed
	s.Written += t.Written
	s.Jumps += t.Jumps
	s.StoodIn += t.StoodIn
	s.HandedOff += t.HandedOff
	s.Dropped += t.Dropped
	s.CameBack += t.CameBack
	s.Sealed += t.Sealed
	s.Late += t.Late
	s.Unsealed += t.Unsealed
	s.Records += t.Records
	s.L3 += t.L3
	s.Adopted += t.Adopted
}

// World is one run: three owners and those that stand in for them, a network, sessions, and the oracle.
type World struct {
	mix       Mix
	bug       Bug
	pcg       *rand.PCG // that rng draws from
	rng       *rand.Rand
	trace     io.Writer
	shown     func(node int, key []byte, live []kv.Version)
	directed  bool
	now       int64 // virtual milliseconds
	events    []event
	total     int // of their weights
	digestKey merkle.Key

	nodes []*Node
	keys  [][]byte
	parts []kv.Partition

	ops       []*Op
	open      []*Op // not acknowledged yet
	byDot     map[identity]*Op
	net       []message
	sessions  []*Session
	sessionID uint64
	nodeID    uint64
	tokens    []*Token
	dead      opset // of one partition, when all copies were level
	budget    bool  // a disk may be lost: all that were are refilled

	recording bool
	recorded  []Event
	sealing   *sealRound  // under way, nil: none
	gone      []kv.NodeID // directories that were lost

	memory map[[2]uint64]kv.Clock // what BugOldKnowledge remembers

	codec *wire.Codec // made at first need

	digest     uint64 // of the event log
	line       []byte
	step       int
	violations []Violation
	stats      Stats
}

// identity is a dot in its partition: copies of one process share an actor.
type identity struct {
	part kv.Partition
	dot  kv.Dot
}

type event struct {
	weight int
	run    func()
}

// New returns a world whose nodes are up and empty.
func New(o Options) *World {
	pcg := rand.NewPCG(o.Seed, 0x9e3779b97f4a7c15)
	w := &World{
		mix: o.Mix, bug: o.Bug, trace: o.Trace, shown: o.Shown, directed: o.Directed, budget: true, now: 1_000_000,
		pcg: pcg, rng: rand.New(pcg),
		byDot: map[identity]*Op{}, digestKey: merkle.KeyOf([]byte("sim")),
		keys: [][]byte{[]byte("alpha"), []byte("beta"), []byte("gamma")}, parts: []kv.Partition{0},
	}
	if w.mix.System {
		w.keys = append(w.keys, []byte("sys"))
		w.parts = append(w.parts, kv.System)
	}
	w.events = w.table()
	for _, e := range w.events {
		w.total += e.weight
	}
	for i := range Nodes + w.mix.StandIns {
		w.nodes = append(w.nodes, &Node{w: w, index: i, id: w.newNodeID(), store: NewStore()})
		w.drawSkew(w.nodes[i])
	}
	for _, n := range w.nodes {
		n.start()
	}
	return w
}

func (w *World) newNodeID() kv.NodeID {
	w.nodeID++
	return kv.NodeID(w.nodeID)
}

// Violations returns what was broken so far.
func (w *World) Violations() []Violation { return w.violations }

// Digest is a hash of everything that happened: two runs of one seed have the
// same.
func (w *World) Digest() uint64 { return w.digest }

// Stats returns what was done so far.
func (w *World) Stats() Stats {
	s := w.stats
	s.Events, s.Ops = w.step, len(w.ops)
	return s
}

func (w *World) partOf(key int) kv.Partition {
	if key == 3 {
		return kv.System
	}
	return 0
}

func (w *World) keyOf(key []byte) int {
	for i, k := range w.keys {
		if string(k) == string(key) {
			return i
		}
	}
	w.fail("I2", "key %q was written by nobody", key)
	return 0
}

func (w *World) chance(perMille int) bool { return perMille > 0 && w.rng.IntN(1000) < perMille }

// bugPM is how many of a thousand occasions a bug takes.
func (w *World) bugPM(random int) int {
	if w.directed {
		return 1000
	}
	return random
}

func (w *World) chunkBytes() int {
	if w.directed {
		return 1
	}
	return []int{1, 40, 4096}[w.rng.IntN(3)]
}

// log notes an event.
func (w *World) log(format string, args ...any) {
	w.line = fmt.Appendf(w.line[:0], format, args...)
	w.hash(w.line)
	if w.trace != nil {
		fmt.Fprintf(w.trace, "%4d %s\n", w.step, w.line)
	}
}

func (w *World) hash(b []byte) { w.digest = xxh3.HashSeed(b, w.digest) }

func (w *World) fail(rule, format string, args ...any) {
	v := Violation{rule, fmt.Sprintf(format, args...)}
	w.violations = append(w.violations, v)
	w.log("!! %v", v)
}

func (w *World) must(err error) {
	if err != nil {
		w.fail("error", "%v", err)
	}
}

// Run makes random events, then heals and looks; it ends at the first violation.
func (w *World) Run(events int) {
	for range events {
		if len(w.violations) > 0 {
			return
		}
		w.note(w.step)
		w.Step()
	}
	w.note(endStep)
	w.end()
}

// end heals and looks.
func (w *World) end() {
	if len(w.violations) == 0 {
		w.Heal()
	}
	w.sweep()
	if len(w.violations) == 0 {
		w.Final()
		w.showAll()
	}
}

// Step makes one random event.
func (w *World) Step() {
	w.step++
	w.now += 10
	x := w.rng.IntN(w.total)
	for _, e := range w.events {
		if x -= e.weight; x < 0 {
			e.run()
			return
		}
	}
}

// spoilStore takes from a store what a broken run loses at a restart.
func (w *World) spoilStore(s *Store) {
	kind := map[Bug]byte{BugRecordLost: 's', BugMarkLost: 'c'}[w.bug]
	if kind == 0 {
		return
	}
	var b cache.Batch
	lower, upper := cache.PrefixRange(kind)
	w.must(s.Scan(lower, upper, func(key, _ []byte) (bool, error) {
		b.Delete(key)
		return true, nil
	}))
	w.must(s.Commit(&b, true))
}

// keepClock copies what a broken run keeps of a lost disk: clocks and actors.
func (w *World) keepClock(from, to *Store) {
	var b cache.Batch
	w.must(from.Scan(nil, nil, func(key, value []byte) (bool, error) {
		if key[0] == 'm' || key[0] == 'a' {
			b.Set(key, value)
		}
		return true, nil
	}))
	w.must(to.Commit(&b, true))
}

// remember returns the most that was ever heard of a node's copy, which a broken
// run goes by.
func (w *World) remember(node int, p kv.Partition, have kv.Clock) kv.Clock {
	if w.memory == nil {
		w.memory = map[[2]uint64]kv.Clock{}
	}
	at := [2]uint64{uint64(node), uint64(p)}
	c := w.memory[at]
	c = c.Clone()
	c.Join(have)
	w.memory[at] = c
	return c
}
