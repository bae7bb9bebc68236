package sim

import (
	"container/heap"
	"fmt"
	"io"
	"math/rand/v2"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/internal/layout"
	"edged.dev/edged/merkle"
	"edged.dev/edged/replica/core"

	"github.com/zeebo/xxh3"
)

// Lie is a rule of liveness that a cluster breaks on purpose.
type Lie string

// What can be broken.
const (
	NoLie          Lie = ""
	LieCovers      Lie = "a clock is said to cover what it does not"
	LieTrust       Lie = "a copy on a new disk says that it is whole, and nobody remembers it"
	LieNotLost     Lie = "a copy that was rolled back is not told so"
	LieForgets     Lie = "what peers were known to hold goes with the process"
	LieLease       Lie = "a copy answers without its lease"
	LieEarlyReport Lie = "a report from before it was asked counts"
	LieStands      Lie = "a stand-in's copy counts as an owner's"
	LieStandReads  Lie = "a stand-in answers reads"
	LieLeadAlways  Lie = "whoever is first goes by its own copy alone"
	LieLeadKept    Lie = "the lead outlives the return of an owner that was out of sight"
	LieOldView     Lie = "who must have a write is decided by the view when it was begun"
	LieAnyAck      Lie = "an acknowledgement counts whomever it names"
	LieNoFavours   Lie = "an owner does not tell that it acknowledged another coordinator's writes"
	LieAnyWhole    Lie = "a copy counts as whole whatever it says"
	LieRetry       Lie = "a write without an answer is tried elsewhere"
	LieNobodyAsked Lie = "without the lead no other owner is asked"
)

// Lies returns all of them.
func Lies() []Lie {
	return []Lie{
		LieCovers, LieTrust, LieNotLost, LieForgets, LieLease, LieEarlyReport, LieStands, LieStandReads,
		LieLeadAlways, LieLeadKept, LieOldView, LieAnyAck, LieNoFavours, LieNobodyAsked,
		LieAnyWhole, LieRetry,
	}
}

// silent reports whether owners do not tell of the writes that they acknowledged for
// others: what they tell makes up for some other rules, which could be broken unseen.
func (l Lie) silent() bool { return l == LieNoFavours }

// Mode returns the mode that is biased to a broken rule.
func (l Lie) Mode() Mode {
	switch l {
	case LieNoFavours, LieOldView:
		return Glimpses
	}
	return Safety
}

// Mode is what a run is after.
type Mode string

// What a run may be after.
const (
	Safety   Mode = "safety"   // long times of faults, then one of rest
	Liveness Mode = "liveness" // faults and rest in turns: each time all must soon be level
	Rejoin   Mode = "rejoin"   // nodes that go and return, asked as soon as they answer
	Glimpses Mode = "glimpses" // pauses, cuts and deaf links that are short
)

// Modes returns all of them.
func Modes() []Mode { return []Mode{Safety, Liveness, Rejoin, Glimpses} }

// ClusterOptions says what to run.
type ClusterOptions struct {
	Seed uint64
	Mode Mode // Safety, if none is given
	Lie  Lie
	Skip []int // faults that do not happen, by their number
	// Directed clusters are a script's: nothing happens to them but what it calls for,
	// and whatever takes a while takes the middle of what it may.
	Directed bool
	// Plan orders repair at a node, by its name, as a repair policy does: what it lacks,
	// and whom it is connected with. nil: nothing orders it.
	Plan  func(self string, now int64, gaps []core.Gap, peers []string) []core.Order
	Trace io.Writer // nil: none
}

// ClusterStats counts what a run did.
type ClusterStats struct {
	Steps, Ops, Acked, Lives, Reads, Boots, Wipes, Restores, Cuts, Pauses, Exempt, Collected, Below int

	Promised  int // plain writes that had to supersede all that was promised before
	ByLead    int // of them, by their coordinator's copy alone
	Partial   int // that told they might not
	Doubted   int // acknowledgements that named another first owner
	Favours   int // of them, for another coordinator's writes that were acknowledged
	StoodIn   int // copies opened by the node that stands in
	HandedOff int // sessions in which it streamed to an owner
	Dropped   int // copies it dropped
	Deaf      int // links that lost what went one way
	Plans     int // of repair, by a policy
	Rests     int // times of rest after which all was level
	RestMS    int // how long that took, all together
	Jumps     int // of a node's wall clock
	Unknown   int // writes whose copies did not answer in time
	Sealed    int // copies that took processes that are gone as seen whole
	Refused   int // times that a member would not promise or close
}

// Cluster is three owners of one partition and a node that stands in for them, in
// virtual time: real copies, and real machines of replica/core that decide when a copy
// may serve, who leads, who stands in and when it drops its copy.
type Cluster struct {
	rng       *rand.Rand
	seed      uint64
	mode      Mode
	lie       Lie
	skip      []int
	directed  bool
	faults    int // there were so far
	clients   int
	plan      func(self string, now int64, gaps []core.Gap, peers []string) []core.Order
	trace     io.Writer
	now       int64 // nanoseconds
	queue     timers
	order     uint64
	digestKey merkle.Key
	layout    *layout.Layout

	names   [clusterNodes]string // in the order of placement: owners first
	members [clusterNodes]*member
	cut     [clusterNodes][clusterNodes]bool
	deaf    [clusterNodes][clusterNodes]int64 // what goes this way arrives no earlier
	epoch   [clusterNodes][clusterNodes]int   // of the connection, 0: none
	epochs  int
	lanes   [clusterNodes][clusterNodes]int64 // when the last message arrives

	ops    []*clusterOp
	nodeID uint64
	boots  uint32
	budget bool // a disk may be lost
	quiet  bool // no faults, no writes any more
	stats  ClusterStats
	digest uint64
	line   []byte
	broken []Violation
}

// clusterNodes are the owners and one node more, which stands in.
const clusterNodes = Nodes + 1

// clusterOp is one write, as the oracle remembers it.
type clusterOp struct {
	index    int
	client   int // whose request it was; each makes one
	key      string
	dot      kv.Dot
	cover    opset             // the writes of the key that it supersedes
	holders  [clusterNodes]int // lives of the copies that have it durably
	ackedAt  int64             // 0: it was not acknowledged by W of them
	promised bool              // then, and with its whole context: later writes supersede it
}

type timer struct {
	at    int64
	order uint64
	run   func()
}

type timers []timer

func (t timers) Len() int { return len(t) }
func (t timers) Less(i, j int) bool {
	return t[i].at < t[j].at || t[i].at == t[j].at && t[i].order < t[j].order
}
func (t timers) Swap(i, j int) { t[i], t[j] = t[j], t[i] }

// Push implements heap.Interface.
func (t *timers) Push(x any) { *t = append(*t, x.(timer)) }

// Pop implements heap.Interface.
func (t *timers) Pop() any {
	old := *t
	x := old[len(old)-1]
	*t = old[:len(old)-1]
	return x
}

const (
	millisecond = int64(1e6)
	second      = 1000 * millisecond
	// faultyTime is how long faults last in a run, faultyTurn where they alternate with
	// times of rest, of which there are turns; healTime is how long after them all copies
	// must be LIVE and equal.
	faultyTime = 60 * second
	faultyTurn = 12 * second
	turns      = 4
	healTime   = 40 * second
)

// NewCluster returns a cluster that was founded: its copies are whole and empty.
func NewCluster(o ClusterOptions) *Cluster {
	c := &Cluster{
		rng: rand.New(rand.NewPCG(o.Seed, 0x243f6a8885a308d3)), seed: o.Seed, mode: o.Mode, lie: o.Lie, skip: o.Skip, directed: o.Directed, plan: o.Plan, trace: o.Trace,
		now: 1000 * second, digestKey: merkle.KeyOf([]byte("sim")), budget: true,
	}
	for i := range c.names {
		c.names[i] = fmt.Sprintf("n%d", i)
	}
	c.place()
	copy(c.names[:], c.layout.Order(0))
	for i := range c.members {
		c.members[i] = &member{c: c, index: i, id: c.newID(), store: NewStore()}
	}
	c.place()
	for _, m := range c.members[:Nodes] {
		m.found()
	}
	for _, m := range c.members {
		m.boot()
	}
	return c
}

// place makes the layout anew, of what directories the members have and had.
func (c *Cluster) place() {
	members := make([]layout.Member, clusterNodes)
	for i, name := range c.names {
		members[i] = layout.Member{Name: name, Node: uint64(i + 1), Weight: 1}
		if m := c.members[i]; m != nil {
			members[i].Node, members[i].Former = uint64(m.id), m.former
		}
	}
	var err error
	c.layout, err = layout.New(1, Nodes, members)
	c.must(err)
}

func (c *Cluster) newID() kv.NodeID {
	c.nodeID++
	return kv.NodeID(c.nodeID)
}

// Violations returns what was broken so far.
func (c *Cluster) Violations() []Violation { return c.broken }

// Digest is a hash of everything that happened.
func (c *Cluster) Digest() uint64 { return c.digest }

// Stats returns what was done so far.
func (c *Cluster) Stats() ClusterStats {
	s := c.stats
	s.Ops = len(c.ops)
	for _, op := range c.ops {
		if op.ackedAt != 0 {
			s.Acked++
		}
	}
	return s
}

func (c *Cluster) log(format string, args ...any) {
	c.line = fmt.Appendf(c.line[:0], format, args...)
	c.digest = xxh3.HashSeed(c.line, c.digest)
	if c.trace != nil {
		fmt.Fprintf(c.trace, "%9.3f %s\n", float64(c.now)/float64(second)-1000, c.line)
	}
}

func (c *Cluster) fail(rule, format string, args ...any) {
	v := Violation{rule, fmt.Sprintf(format, args...)}
	c.broken = append(c.broken, v)
	c.log("!! %v", v)
}

func (c *Cluster) must(err error) {
	if err != nil {
		c.fail("error", "%v", err)
	}
}

// after runs fn a while from now.
func (c *Cluster) after(d int64, fn func()) {
	c.order++
	heap.Push(&c.queue, timer{c.now + d, c.order, fn})
}

// between returns a random duration, in milliseconds from lo to hi.
func (c *Cluster) between(lo, hi int64) int64 {
	if c.directed {
		return (lo + hi) * millisecond / 2
	}
	return lo*millisecond + c.rng.Int64N((hi-lo)*millisecond+1)
}

// Run makes writes and faults for a while, then heals and looks.
func (c *Cluster) Run() {
	if c.mode != Liveness {
		c.turn(faultyTime)
		return
	}
	for range turns {
		c.turn(faultyTurn)
	}
}

// turn makes faults for a while, and then has all copies level within healTime.
func (c *Cluster) turn(faulty int64) {
	if len(c.broken) > 0 {
		return
	}
	c.quiet = false
	c.after(c.between(0, 100), c.write)
	c.after(c.between(1000, 3000), c.fault)
	c.runUntil(c.now + faulty)
	c.rest()
}

// rest ends the faults and waits until all is level.
func (c *Cluster) rest() {
	c.heal()
	began := c.now
	for !c.level() && c.now < began+healTime && len(c.broken) == 0 {
		c.runUntil(c.now + 250*millisecond)
	}
	if len(c.broken) == 0 {
		c.stats.Rests++
		c.stats.RestMS += int((c.now - began) / millisecond)
		c.final()
	}
}

// level reports whether all owners are LIVE and equal, and nobody stands in that could
// stop to.
func (c *Cluster) level() bool {
	first := c.members[0].shard().Status()
	for _, m := range c.members {
		if m.index >= Nodes {
			if sh := m.shard(); sh != nil && (!m.fromDisk || !first.Clock.Covers(sh.Clock())) {
				return false // it has not handed over what it holds
			}
			continue
		}
		if st := m.shard().Status(); m.part.State != kv.Live || !st.Clock.Equal(first.Clock) {
			return false
		}
	}
	return true
}

func (c *Cluster) runUntil(end int64) {
	for len(c.queue) > 0 && c.queue[0].at <= end && len(c.broken) == 0 {
		t := heap.Pop(&c.queue).(timer)
		c.now = max(c.now, t.at)
		c.stats.Steps++
		t.run()
	}
	c.now = max(c.now, end)
}

// final checks what must hold once faults have stopped for long enough.
func (c *Cluster) final() {
	first := c.members[0].shard().Status()
	for _, m := range c.members[:Nodes] {
		if m.part.State != kv.Live {
			c.fail("I15", "%s is %v (%s) long after the last fault", m.name(), m.part.State, m.part.Reason)
		}
		st := m.shard().Status()
		if !st.Clock.Equal(first.Clock) || st.Digest != first.Digest {
			c.fail("I4", "%s holds %v, %s %v", m.name(), st.Clock, c.names[0], first.Clock)
		}
		for i, op := range c.ops {
			if op.ackedAt != 0 && !st.Clock.Has(op.dot) {
				c.fail("I1", "%s lacks op%d, which was acknowledged", m.name(), i)
			}
		}
	}
	for _, m := range c.members[Nodes:] {
		if sh := m.shard(); sh != nil && (!m.fromDisk || !first.Clock.Covers(sh.Clock())) {
			c.fail("I10", "%s still holds %v long after the last fault, and the owners %v", m.name(), sh.Clock(), first.Clock)
		}
	}
}

// send lets fn happen at a peer, if the connection lasts until then. What one
// node sends another arrives in order.
func (c *Cluster) send(from, to *member, fn func()) {
	e := c.epoch[from.index][to.index]
	if e == 0 {
		return
	}
	at := max(c.lanes[from.index][to.index], c.now+c.between(0, 20), c.deaf[from.index][to.index])
	c.lanes[from.index][to.index] = at
	life := to.life
	c.after(at-c.now, func() {
		if to.life == life && c.epoch[from.index][to.index] == e {
			to.run(fn)
		}
	})
}

// connect joins two nodes that are up and not cut off from each other.
func (c *Cluster) connect(a, b *member) {
	if max(c.deaf[a.index][b.index], c.deaf[b.index][a.index]) > c.now { // no handshake comes through
		c.redial(a, b)
		return
	}
	if !a.up || !b.up || c.cut[a.index][b.index] || c.epoch[a.index][b.index] != 0 {
		return
	}
	c.epochs++
	c.epoch[a.index][b.index], c.epoch[b.index][a.index] = c.epochs, c.epochs
	a.peerUp(b)
	b.peerUp(a)
}

// disconnect ends the connection of two nodes; each that is up notices it.
func (c *Cluster) disconnect(a, b *member) {
	if c.epoch[a.index][b.index] == 0 {
		return
	}
	c.epoch[a.index][b.index], c.epoch[b.index][a.index] = 0, 0
	c.lanes[a.index][b.index], c.lanes[b.index][a.index] = c.now, c.now
	a.peerDown(b)
	b.peerDown(a)
}

// redial connects what may be connected, every now and then.
func (c *Cluster) redial(a, b *member) {
	c.after(c.between(5, 300), func() { c.connect(a, b) })
}
