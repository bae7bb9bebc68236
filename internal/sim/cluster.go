package sim

import (
	"container/heap"
	"fmt"
	"io"
	"math/rand/v2"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/internal/layout"
	"edged.dev/edged/merkle"

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
)

// ClusterOptions says what to run.
type ClusterOptions struct {
	Seed  uint64
	Lie   Lie
	Trace io.Writer // nil: none
}

// ClusterStats counts what a run did.
type ClusterStats struct {
	Steps, Ops, Acked, Lives, Reads, Boots, Wipes, Restores, Cuts, Pauses, Exempt, Collected, Below int
}

// Cluster is three owners of one partition in virtual time: real copies, and
// real machines of replica/core that decide when a copy may serve.
type Cluster struct {
	rng       *rand.Rand
	lie       Lie
	trace     io.Writer
	now       int64 // nanoseconds
	queue     timers
	order     uint64
	digestKey merkle.Key
	layout    *layout.Layout

	members [Nodes]*member
	cut     [Nodes][Nodes]bool
	epoch   [Nodes][Nodes]int // of the connection, 0: none
	epochs  int
	lanes   [Nodes][Nodes]int64 // when the last message arrives

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

// clusterOp is one write, as the oracle remembers it.
type clusterOp struct {
	dot     kv.Dot
	holders [Nodes]int // lives of the copies that have it durably
	ackedAt int64      // 0: it was not acknowledged by W of them
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
	// faultyTime is how long faults last in a run; healTime is how long after
	// them all copies must be LIVE and equal.
	faultyTime = 60 * second
	healTime   = 40 * second
)

// NewCluster returns a cluster that was founded: its copies are whole and empty.
func NewCluster(o ClusterOptions) *Cluster {
	c := &Cluster{
		rng: rand.New(rand.NewPCG(o.Seed, 0x243f6a8885a308d3)), lie: o.Lie, trace: o.Trace,
		now: 1000 * second, digestKey: merkle.KeyOf([]byte("sim")), budget: true,
	}
	var err error
	members := make([]layout.Member, Nodes)
	for i := range members {
		members[i] = layout.Member{Name: nameOf(i), Node: uint64(i + 1), Weight: 1}
	}
	c.layout, err = layout.New(1, Nodes, members)
	c.must(err)
	for i := range c.members {
		c.members[i] = &member{c: c, index: i, id: c.newID(), store: NewStore()}
		c.members[i].found()
	}
	for _, m := range c.members {
		m.boot()
	}
	return c
}

func nameOf(i int) string { return fmt.Sprintf("n%d", i) }

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
	return lo*millisecond + c.rng.Int64N((hi-lo)*millisecond+1)
}

// Run makes writes and faults for a while, then heals and looks.
func (c *Cluster) Run() {
	c.after(c.between(0, 100), c.write)
	c.after(c.between(1000, 3000), c.fault)
	c.runUntil(c.now + faultyTime)
	c.heal()
	c.runUntil(c.now + healTime)
	if len(c.broken) == 0 {
		c.final()
	}
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
	for _, m := range c.members {
		if m.part.State != kv.Live {
			c.fail("I15", "%s is %v (%s) long after the last fault", m.name(), m.part.State, m.part.Reason)
		}
		st := m.shard().Status()
		if !st.Clock.Equal(first.Clock) || st.Digest != first.Digest {
			c.fail("I4", "%s holds %v, n0 %v", m.name(), st.Clock, first.Clock)
		}
		for i, op := range c.ops {
			if op.ackedAt != 0 && !st.Clock.Has(op.dot) {
				c.fail("I1", "%s lacks op%d, which was acknowledged", m.name(), i)
			}
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
	at := max(c.lanes[from.index][to.index], c.now+c.between(0, 20))
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
	a.peerDown(b)
	b.peerDown(a)
}

// redial connects what may be connected, every now and then.
func (c *Cluster) redial(a, b *member) {
	c.after(c.between(5, 300), func() { c.connect(a, b) })
}
