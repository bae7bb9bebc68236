package core_test

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/internal/layout"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// world runs several machines in virtual time, over a network that delays,
// breaks and heals, with clocks for data: a write is a dot, a session's end joins
// the donor's clock. A seed replays.
type world struct {
	t       *testing.T
	rng     *rand.Rand
	now     int64
	queue   events
	serial  int
	nodes   []*wnode
	cut     map[[2]int]bool
	w       int
	acked   []ackedWrite
	frail   *wnode // its disk was lost or rolled back, and it is not LIVE since
	hellos  int
	log     []string
	mass    bool
	planned bool // repair is ordered by plans that make little sense
	plans   int  // asked for
	still   bool // no more writes
}

type ackedWrite struct {
	dot kv.Dot
	at  int64
}

// wnode is one data directory and, while up, a process on it.
type wnode struct {
	w        *world
	i        int
	name     string
	id       kv.NodeID
	boot     uint32
	disk     copies
	older    copies // an earlier state of disk
	up       bool
	pausedTo int64
	held     []func() // what reached it while it was paused
	machine  *core.Machine
	part     core.Part
	seq      uint64
	since    int64 // acked before then must be covered while LIVE
	must     kv.Clock
	counted  int // of acked, those in must
	conns    map[int]*conn
}

// conn is one side's view of a connection; both sides share the epoch.
type conn struct{ epoch int }

type event struct {
	at     int64
	serial int
	fn     func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].serial < e[j].serial
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

const millisecond = int64(time.Millisecond)

func newWorld(t *testing.T, seed uint64, size, w int) *world {
	x := &world{t: t, rng: rand.New(rand.NewPCG(seed, 1)), now: 1000 * second, cut: map[[2]int]bool{}, w: w}
	for i := range size {
		n := &wnode{w: x, i: i, name: fmt.Sprintf("n%d", i+1), id: kv.NodeID(i + 1), conns: map[int]*conn{}}
		n.disk = copies{0: {trust: kv.Whole}, kv.System: {trust: kv.Whole}}
		x.nodes = append(x.nodes, n)
	}
	x.nodes[0].disk[0].clock = kv.ClockOf(kv.Span{Actor: kv.Actor{Node: 99}, Base: 1}) // of before
	return x
}

func (x *world) after(d int64, fn func()) {
	x.serial++
	heap.Push(&x.queue, event{x.now + d, x.serial, fn})
}

// run lets time go by.
func (x *world) run(d int64) {
	end := x.now + d
	for len(x.queue) > 0 && x.queue[0].at <= end {
		e := heap.Pop(&x.queue).(event)
		x.now = max(x.now, e.at)
		e.fn()
	}
	x.now = end
}

func (x *world) note(format string, args ...any) {
	x.log = append(x.log, fmt.Sprintf("%8.3f ", float64(x.now-1000*second)/float64(second))+fmt.Sprintf(format, args...))
}

// delay is what a message takes.
func (x *world) delay() int64 {
	if x.rng.IntN(20) == 0 {
		return x.rng.Int64N(300) * millisecond
	}
	return (1 + x.rng.Int64N(5)) * millisecond
}

func pair(a, b int) [2]int { return [2]int{min(a, b), max(a, b)} }

// start begins a process.
func (n *wnode) start() {
	x := n.w
	n.boot++
	n.up, n.seq, n.since, n.pausedTo, n.held = true, 0, x.now, 0, nil
	n.part = core.Part{}
	n.machine = core.New(core.Config{
		Self: n.name, Node: n.id, Boot: n.boot, Copies: n.disk, W: x.w, Jitter: x.rng.Uint64,
	})
	x.note("%s starts, boot %d, %v %v", n.name, n.boot, n.disk[0].trust, n.disk[0].clock)
	members := make([]layout.Member, len(x.nodes))
	for i, m := range x.nodes {
		members[i] = layout.Member{Name: m.name, Weight: 1}
	}
	l, err := layout.New(1, 3, members)
	require.NoError(x.t, err)
	n.step(core.LayoutChanged{Layout: l})
	n.plans()
	boot := n.boot
	n.every(20*millisecond, boot, func() { n.step(core.Passed{}) })
	n.every(500*millisecond, boot, n.ping)
	for _, m := range x.nodes {
		if m != n {
			x.connect(n, m)
		}
	}
}

func (n *wnode) every(d int64, boot uint32, fn func()) {
	n.w.after(d, func() {
		if !n.up || n.boot != boot {
			return
		}
		n.do(fn)
		n.every(d, boot, fn)
	})
}

// do runs what a process does: later, in any order, if it is paused.
func (n *wnode) do(fn func()) {
	if n.pausedTo > n.w.now {
		n.held = append(n.held, fn)
		return
	}
	fn()
}

func (n *wnode) stop() {
	n.w.note("%s dies", n.name)
	n.up, n.machine = false, nil
	for i := range n.conns {
		n.w.disconnect(n, n.w.nodes[i])
	}
}

// pause stops a process for a while, as SIGSTOP does.
func (n *wnode) pause(d int64) {
	x := n.w
	x.note("%s is paused for %v", n.name, time.Duration(d))
	n.pausedTo = x.now + d
	boot := n.boot
	if d > 3*second { // its connections time out
		for i := range n.conns {
			x.after(2*second+x.rng.Int64N(second), func() { x.disconnect(n, x.nodes[i]) })
		}
	}
	x.after(d, func() {
		if !n.up || n.boot != boot {
			return
		}
		if d >= core.Lease {
			n.since = x.now
		}
		x.note("%s goes on", n.name)
		held := n.held
		n.held = nil
		x.rng.Shuffle(len(held), func(i, j int) { held[i], held[j] = held[j], held[i] })
		for _, fn := range held {
			n.w.after(0, func() {
				if n.up && n.boot == boot {
					fn()
				}
			})
		}
		for _, m := range x.nodes {
			if m != n {
				x.connect(n, m)
			}
		}
	})
}

// connect makes a connection between two running nodes, soon.
func (x *world) connect(a, b *wnode) {
	x.after(x.delay()+50*millisecond, func() {
		switch {
		case !a.up || !b.up || a.conns[b.i] != nil || b.conns[a.i] != nil:
			return
		case x.cut[pair(a.i, b.i)] || a.pausedTo > x.now || b.pausedTo > x.now:
			x.connect(a, b)
			return
		}
		x.serial++
		c := &conn{x.serial}
		a.conns[b.i], b.conns[a.i] = c, c
		a.step(core.PeerUp{Name: b.name, Node: b.id, Boot: b.boot})
		b.step(core.PeerUp{Name: a.name, Node: a.id, Boot: a.boot})
		for _, n := range []*wnode{a, b} {
			st := n.machine.State()
			x.send(n, x.other(n, a, b), func(to *wnode) { to.step(core.Stated{Name: n.name, State: st}) })
			n.ping()
		}
	})
}

func (x *world) other(n, a, b *wnode) *wnode {
	if n == a {
		return b
	}
	return a
}

// disconnect ends a connection on both sides.
func (x *world) disconnect(a, b *wnode) {
	if a.conns[b.i] == nil {
		return
	}
	delete(a.conns, b.i)
	delete(b.conns, a.i)
	for _, n := range []*wnode{a, b} {
		if m := x.other(n, a, b); n.up {
			boot := m.boot
			n.do(func() { n.step(core.PeerDown{Name: m.name, Boot: boot}) })
		}
	}
	x.connect(a, b)
}

// send delivers over the connection there is, if it lives until then.
func (x *world) send(from, to *wnode, fn func(to *wnode)) {
	c, boot := from.conns[to.i], to.boot
	if c == nil {
		return
	}
	x.after(x.delay(), func() {
		if x.cut[pair(from.i, to.i)] || !to.up || to.boot != boot || to.conns[from.i] != c {
			return
		}
		to.do(func() {
			if to.conns[from.i] == c {
				fn(to)
			}
		})
	})
}

func (n *wnode) ping() {
	stamp := n.w.now
	for i := range n.w.nodes {
		if n.conns[i] == nil {
			continue
		}
		n.w.send(n, n.w.nodes[i], func(to *wnode) {
			n.w.send(to, n, func(*wnode) { n.step(core.Ponged{Name: to.name, Stamp: stamp}) })
		})
	}
}

func (n *wnode) peer(name string) *wnode {
	return n.w.nodes[slices.IndexFunc(n.w.nodes, func(m *wnode) bool { return m.name == name })]
}

func (n *wnode) copyClock(p kv.Partition) wire.CopyClock {
	c := n.disk[p]
	st := n.part.State
	if p == kv.System {
		st = kv.CatchingUp
		for _, x := range n.machine.Parts() {
			if x.Partition == p {
				st = x.State
			}
		}
	}
	return wire.CopyClock{Partition: p, Actor: n.actor(), Trust: c.trust, State: st, Clock: c.clock.Clone()}
}

func (n *wnode) actor() kv.Actor { return kv.Actor{Node: n.id, Boot: n.boot, Rand: n.boot} }

func (n *wnode) step(ev core.Event) {
	for _, e := range n.machine.Step(n.w.now, ev) {
		n.carryOut(e)
	}
	n.check()
}

func (n *wnode) carryOut(e core.Effect) {
	x := n.w
	switch e := e.(type) {
	case core.SetPart:
		if e.Part.Partition != 0 {
			return
		}
		if n.part.State != e.Part.State {
			x.note("%s %v: %s (%v)", n.name, e.Part.State, e.Part.Reason, n.disk[0].clock)
			if n.part.State == kv.Live {
				n.since = max(n.since, x.now)
			}
		}
		n.part = e.Part
		if e.Part.State == kv.Live && x.frail == n {
			x.frail = nil
		}
	case core.SetTrust:
		boot := n.boot
		x.after(x.rng.Int64N(5)*millisecond, func() {
			if n.up && n.boot == boot {
				n.disk[e.Partition].trust = e.Trust
			}
		})
	case core.SendState:
		for i := range x.nodes {
			if n.conns[i] != nil {
				x.send(n, x.nodes[i], func(to *wnode) { to.step(core.Stated{Name: n.name, State: e.State}) })
			}
		}
	case core.PingAll:
		n.ping()
	case core.SendHello:
		n.hello(e)
	case core.WantPlan:
		n.plan()
	default:
		n.ask(e)
	}
}

// check holds a copy that serves as LIVE against what was acknowledged.
func (n *wnode) check() {
	if n.part.State != kv.Live || n.w.now > n.part.Until {
		return
	}
	for ; n.counted < len(n.w.acked) && n.w.acked[n.counted].at < n.since; n.counted++ {
		n.must.Add(n.w.acked[n.counted].dot)
	}
	if clock := n.disk[0].clock; !clock.Covers(n.must) {
		n.w.fail("%s is LIVE without %v, acknowledged before %.3f", n.name, n.must.Minus(clock), float64(n.since-1000*second)/float64(second))
	}
}

func (x *world) fail(format string, args ...any) {
	x.t.Helper()
	from := max(0, len(x.log)-80)
	for _, line := range x.log[from:] {
		x.t.Log(line)
	}
	x.t.Fatalf("%.3f "+format, append([]any{float64(x.now-1000*second) / float64(second)}, args...)...)
}

// hello is a session, as the shell runs it.
func (n *wnode) hello(e core.SendHello) {
	x, peer, boot, at := n.w, n.peer(e.Name), n.boot, n.w.now
	x.hellos++
	asked := []wire.CopyClock{n.copyClock(0), n.copyClock(kv.System)}
	c := n.conns[peer.i]
	answered := false
	// What never comes is told as failed, at the latest after the call's time.
	x.after(2*second, func() {
		if !answered && n.up && n.boot == boot {
			answered = true
			n.do(func() {
				n.step(core.HelloAnswered{Name: e.Name, Session: e.Session, Wants: e.Wants, Failed: true, AskAt: at})
			})
		}
	})
	x.send(n, peer, func(to *wnode) {
		ack, stream := to.answer(n.name, n.id, asked, e.Wants)
		x.send(to, n, func(*wnode) {
			if answered || n.boot != boot {
				return
			}
			answered = true
			n.step(core.HelloAnswered{Name: e.Name, Session: e.Session, Wants: e.Wants, Ack: ack, AskAt: at})
			if len(stream) > 0 {
				n.stream(to, e, stream, c)
			}
		})
	})
}

// answer is a donor's side of HELLO.
func (n *wnode) answer(name string, id kv.NodeID, asked []wire.CopyClock, wants []kv.Partition) (ack wire.HelloAck, stream []kv.Partition) {
	if n.w.rng.IntN(20) == 0 && len(wants) > 0 {
		return wire.HelloAck{Code: wire.HelloBusy}, nil
	}
	for _, c := range asked {
		mine := n.copyClock(c.Partition)
		mine.Lost = n.machine.Greet(name, c)
		if mine.Lost {
			n.w.note("%s tells %s that it was rolled back", n.name, name)
		}
		if !mine.Lost && mine.Clock.Equal(c.Clock) {
			ack.Equal = append(ack.Equal, mine)
			continue
		}
		ack.Copies = append(ack.Copies, mine)
		if slices.Contains(wants, c.Partition) {
			stream = append(stream, c.Partition)
		}
	}
	n.step(core.HelloAsked{Name: name, Node: id, Copies: asked})
	return ack, stream
}

// stream brings partitions one after the other, or is cut.
func (n *wnode) stream(from *wnode, e core.SendHello, parts []kv.Partition, c *conn) {
	x, boot, donor := n.w, n.boot, from.boot
	var ended []kv.Partition
	var next func(i int)
	over := func(rest []kv.Partition) {
		for _, p := range rest {
			n.step(core.PartEnded{Name: e.Name, Session: e.Session, Partition: p, Failed: true})
		}
		n.step(core.SessionEnded{Name: e.Name, Session: e.Session, Parts: ended})
	}
	next = func(i int) {
		x.after(x.rng.Int64N(200)*millisecond, func() {
			if !n.up || n.boot != boot {
				return
			}
			n.do(func() {
				lost := !from.up || from.boot != donor || n.conns[from.i] != c || x.cut[pair(n.i, from.i)] || from.pausedTo > x.now
				if i == len(parts) || lost || x.rng.IntN(15) == 0 {
					over(parts[i:])
					return
				}
				n.disk[parts[i]].clock.Join(from.disk[parts[i]].clock)
				n.step(core.PartEnded{Name: e.Name, Session: e.Session, Partition: parts[i]})
				ended = append(ended, parts[i])
				next(i + 1)
			})
		})
	}
	next(0)
}

// ask carries out the questions that have one answer.
func (n *wnode) ask(e core.Effect) {
	x, at := n.w, n.w.now
	switch e := e.(type) {
	case core.SendDone:
		n.compare(e.Name, []kv.Partition{0, kv.System})
	case core.Compare:
		n.compare(e.Name, e.Parts)
	case core.SendClocks:
		x.send(n, n.peer(e.Name), func(to *wnode) {
			var out []wire.CopyClock
			for _, p := range e.Parts {
				out = append(out, to.copyClock(p))
			}
			x.send(to, n, func(*wnode) { n.step(core.ClocksAnswered{Name: e.Name, Boot: to.boot, Copies: out, AskAt: at}) })
		})
	case core.SendTick:
		mine := []wire.CopyClock{n.copyClock(0), n.copyClock(kv.System)}
		x.send(n, n.peer(e.Name), func(to *wnode) {
			ack := wire.TickAck{Code: wire.HelloEqual}
			theirs := []wire.CopyClock{to.copyClock(0), to.copyClock(kv.System)}
			if !mine[0].Clock.Equal(theirs[0].Clock) || !mine[1].Clock.Equal(theirs[1].Clock) {
				ack = wire.TickAck{Copies: theirs}
			}
			x.send(to, n, func(*wnode) { n.step(core.TickAnswered{Name: e.Name, Boot: to.boot, Ack: ack, AskAt: at}) })
		})
	}
}

func (n *wnode) compare(name string, parts []kv.Partition) {
	var mine []wire.CopyClock
	for _, p := range parts {
		mine = append(mine, n.copyClock(p))
	}
	n.w.send(n, n.peer(name), func(to *wnode) {
		to.step(core.DoneAsked{Name: n.name, Node: n.id, Copies: mine})
		var equal []kv.Partition
		for _, c := range mine {
			if to.disk[c.Partition].clock.Equal(c.Clock) {
				equal = append(equal, c.Partition)
			}
		}
		n.w.send(to, n, func(*wnode) {
			n.step(core.DoneAnswered{Name: name, Parts: parts, Ack: wire.DoneAck{Compared: equal}})
		})
	})
}

// write runs one write at a node, if it may.
func (n *wnode) write() {
	x := n.w
	if !n.up || n.pausedTo > x.now || !n.part.State.Serves() || n.part.First != n.name || x.now > n.part.Until {
		return
	}
	n.seq++
	dot := kv.Dot{Actor: n.actor(), Seq: n.seq}
	n.disk[0].clock.Add(dot)
	copies, boot, began := 1, n.boot, x.now
	if x.w == 1 {
		x.acked = append(x.acked, ackedWrite{dot, x.now})
	}
	for _, name := range n.part.Owners {
		m := n.peer(name)
		if m == n {
			continue
		}
		x.send(n, m, func(to *wnode) {
			to.disk[0].clock.Add(dot)
			ack := []wire.CopyClock{to.copyClock(0)}
			x.send(to, n, func(*wnode) {
				n.step(core.Acked{Name: to.name, Copies: ack})
				if copies++; n.boot == boot && copies == x.w && x.now < began+2*second {
					x.acked = append(x.acked, ackedWrite{dot, x.now})
				}
			})
		})
	}
}

// load writes somewhere, some times a second, until the world ends.
func (x *world) load(every int64) {
	x.after(every/2+x.rng.Int64N(every), func() {
		if !x.still {
			x.nodes[x.rng.IntN(len(x.nodes))].write()
			x.load(every)
		}
	})
}
