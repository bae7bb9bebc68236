package replica_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/internal/layout"
	"edged.dev/edged/internal/sim"
	"edged.dev/edged/merkle"
	"edged.dev/edged/partition"
	"edged.dev/edged/replica"
	"edged.dev/edged/transport/wire"
)

const testPartitions = 16

// cluster is several replicas in one process, in the virtual time of a synctest
// bubble, over a network that does what a test tells it.
type cluster struct {
	t     *testing.T
	w, r  int
	width int // copies of a partition
	began time.Time
	wires *wires
	nodes map[string]*member
	names []string

	hangups sync.WaitGroup
}

// member is one data directory and the process on it, if there is one.
type member struct {
	c       *cluster
	name    string
	id      kv.NodeID
	boot    uint32
	store   *sim.Store
	set     *partition.Set
	replica *replica.Replica
	stop    func()
	cfg     func(*replica.Config) // changes what the next start takes; may be nil
	serving atomic.Pointer[replica.Replica]
}

func (m *member) damaged(p kv.Partition) {
	if r := m.serving.Load(); r != nil {
		r.Damaged(p)
	}
}

// inBubble runs a test in virtual time.
func inBubble(t *testing.T, fn func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, fn)
}

func newCluster(t *testing.T, names ...string) *cluster {
	c := &cluster{t: t, w: 2, r: 1, width: 3, began: time.Now().Add(-time.Hour), nodes: map[string]*member{}, names: names}
	c.wires = &wires{c: c, conns: map[[2]string]*wireConn{}}
	for i, name := range names {
		c.nodes[name] = &member{c: c, name: name, id: kv.NodeID(i + 1), store: sim.NewStore()}
	}
	t.Cleanup(c.close)
	return c
}

// up starts all nodes, the first of which has been LIVE before, connects them,
// and waits until all are LIVE.
func (c *cluster) up() {
	c.t.Helper()
	c.found(c.names[0])
	for _, name := range c.names {
		c.nodes[name].start()
	}
	c.mesh()
	c.live(c.names...)
}

// found lets a node be the sole member for a moment, so that its copies are whole.
func (c *cluster) found(name string) {
	m := c.nodes[name]
	m.start()
	m.replica.SetLayout(c.layout(name))
	c.wait("founded", func() bool { return c.isLive(name) && m.whole() })
	m.kill()
}

func (m *member) whole() bool {
	for p := range kv.Partition(testPartitions) {
		if m.set.Add(p).Trust() != kv.Whole {
			return false
		}
	}
	return true
}

func (c *cluster) mesh() {
	for i, a := range c.names {
		for _, b := range c.names[i+1:] {
			c.wires.connect(a, b)
		}
	}
}

func (c *cluster) layout(names ...string) *layout.Layout {
	members := make([]layout.Member, len(names))
	for i, name := range names {
		members[i] = layout.Member{Name: name, Weight: 1}
	}
	l, err := layout.New(testPartitions, c.width, members)
	require.NoError(c.t, err)
	return l
}

// start begins a process on the data directory.
func (m *member) start() {
	c := m.c
	m.boot++
	draws := m.boot * 1000
	set, err := partition.Open(partition.Config{
		Store: m.store, Partitions: testPartitions, DigestKey: merkle.KeyOf([]byte("cluster")), Sync: true, Boot: m.boot, Node: m.id,
		Rand: func() uint32 { draws++; return draws }, Fail: func(err error) { c.t.Errorf("store of %s: %v", m.name, err) },
		Damaged: m.damaged,
	})
	require.NoError(c.t, err)
	cfg := replica.Config{
		Self: m.name, Node: m.id, Boot: m.boot, Set: set, Peers: &end{c.wires, m.name}, Merger: newest{}, Partitions: testPartitions,
		R: c.r, W: c.w, TokenKey: [32]byte{7},
		Boottime: func() int64 { return int64(time.Since(c.began)) },
		WallMS:   func() int64 { return time.Now().UnixMilli() },
		Jitter:   func() uint64 { return uint64(2500 * time.Millisecond) },
	}
	if m.cfg != nil {
		m.cfg(&cfg)
	}
	r, err := replica.New(cfg)
	require.NoError(c.t, err)
	// As in a node, the replica stops first and what it had planned is committed:
	// only then is every request answered.
	setCtx, stopSet := context.WithCancel(context.Background())
	ctx, cancel := context.WithCancel(context.Background())
	var below, running errgroup.Group
	below.Go(func() error { return set.Run(setCtx) })
	running.Go(func() error { return r.Run(ctx) })
	synctest.Wait()
	m.set, m.replica = set, r
	m.serving.Store(r)
	m.stop = func() {
		cancel()
		require.NoError(c.t, running.Wait())
		stopSet()
		require.NoError(c.t, below.Wait())
	}
	r.SetLayout(c.layout(c.names...))
}

// kill ends the process; what it had not committed is gone.
func (m *member) kill() {
	if m.stop == nil {
		return
	}
	for _, name := range m.c.names {
		m.c.wires.disconnect(m.name, name)
	}
	m.stop()
	m.stop, m.replica = nil, nil
}

// wipe loses the disk.
func (m *member) wipe() {
	m.store = sim.NewStore()
	m.id += 100
}

func (c *cluster) close() {
	c.hangups.Wait()
	for _, name := range c.names {
		c.nodes[name].kill()
	}
	synctest.Wait()
}

// wait lets virtual time pass until cond holds; it fails after a minute.
func (c *cluster) wait(what string, cond func() bool) {
	c.t.Helper()
	for range 6000 {
		synctest.Wait()
		if cond() {
			return
		}
		time.Sleep(10 * time.Millisecond) // virtual
	}
	for _, name := range c.names {
		if r := c.nodes[name].replica; r != nil {
			for p := range r.Parts() {
				st := c.nodes[name].set.Add(p.Partition).Status()
				c.t.Logf("%s: %d %v serving=%v reason=%s %v %v %d beyond, leans %v", name, p.Partition, p.State, p.Serving, p.Reason, st.Clock, st.Digest.Count, len(st.Beyond), st.Leans)
			}
		}
	}
	require.FailNow(c.t, "not "+what+" in a minute")
}

func (c *cluster) isLive(names ...string) bool {
	for _, name := range names {
		for p := range c.nodes[name].replica.Parts() {
			if p.Self && p.State != kv.Live {
				return false
			}
		}
	}
	return true
}

func (c *cluster) live(names ...string) {
	c.t.Helper()
	c.wait("all live", func() bool { return c.isLive(names...) })
}

// equal waits until the copies of nodes have equal clocks and digests.
func (c *cluster) equal(names ...string) {
	c.t.Helper()
	c.wait("equal", func() bool {
		for p := range kv.Partition(testPartitions) {
			first := c.nodes[names[0]].set.Add(p).Status()
			for _, name := range names[1:] {
				st := c.nodes[name].set.Add(p).Status()
				if !st.Clock.Equal(first.Clock) || !st.Digest.Equal(first.Digest) {
					return false
				}
			}
		}
		return true
	})
}

// do runs a request at a node and waits for the answer, which must come once.
func (c *cluster) do(name string, req kv.Request) (*kv.Response, error) {
	c.t.Helper()
	type answer struct {
		resp *kv.Response
		err  error
	}
	answers := make(chan answer, 2)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	c.nodes[name].replica.Start(ctx, &req, func(resp *kv.Response, err error) { answers <- answer{resp, err} })
	var a answer
	select {
	case a = <-answers:
	case <-time.After(10 * time.Second):
		require.FailNow(c.t, "no answer of "+name)
	}
	synctest.Wait()
	require.Empty(c.t, answers, "answered twice")
	return a.resp, a.err
}

func (c *cluster) set(name, key, value string) *kv.Response {
	c.t.Helper()
	resp, err := c.do(name, kv.Request{Op: kv.OpSet, Key: []byte(key), Value: []byte(value)})
	require.NoError(c.t, err)
	return resp
}

func (c *cluster) get(name, key string) (string, bool) {
	c.t.Helper()
	resp, err := c.do(name, kv.Request{Op: kv.OpGet, Key: []byte(key)})
	require.NoError(c.t, err)
	return string(resp.Value), resp.Found
}

// holds returns what a node's own copy shows of a key.
func (m *member) holds(key string) string {
	o, _, err := m.set.Add(partOf(key)).Read([]byte(key))
	require.NoError(m.c.t, err)
	if live := o.Live(nil, 0); len(live) > 0 {
		return string(live[0].Value)
	}
	return ""
}

func partOf(key string) kv.Partition {
	return kv.PartitionOf(kv.Hash([]byte(key)), testPartitions)
}

// keyFirstAt returns a key whose partition has the owners in an order that begins
// with name.
func (c *cluster) keyFirstAt(name string) string {
	l := c.layout(c.names...)
	for i := range 10_000 {
		key := fmt.Sprintf("key-%d", i)
		if l.Owners(uint32(partOf(key)))[0] == name {
			return key
		}
	}
	require.FailNow(c.t, "no key")
	return ""
}

// wires is the network: a connection a pair, frames in order on each stream, and
// the faults that tests ask for.
type wires struct {
	c  *cluster
	mu sync.Mutex
	// conns are the living connections, by the names in order.
	conns map[[2]string]*wireConn
	// faults, by sender and receiver; nil: none
	live  func(from, to string) liveFate
	call  func(from, to string, t wire.Type) error               // before it is served
	reply func(from, to string, t wire.Type) error               // after
	full  func(from, to string) bool                             // no control frame is queued
	dead  func(from, to string) bool                             // nothing that is sent arrives, and nobody is told
	lane  func(from, to string, w io.WriteCloser) io.WriteCloser // nil: it cannot be opened
	rtt   time.Duration                                          // that lanes are told of
	seen  func(kind string, frame []byte)                        // every frame that is sent; may be nil

	answer   func(from, to string, request, resp []byte) []byte // in place of to's answer
	hungUp   []hangup
	onHangup func(by, on string) // nil: nobody is to hang up
}

func (w *wires) show(kind string, frame []byte) {
	w.mu.Lock()
	seen := w.seen
	w.mu.Unlock()
	if seen != nil {
		seen(kind, frame)
	}
}

type liveFate int

const (
	deliver liveFate = iota
	refuse           // the queue is full
	swallow          // lost without a word
)

var (
	errQueueFull = errors.New("queue is full")
	errDown      = errors.New("peer is down")
)

type wireConn struct {
	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup
	ends   map[string]*replica.Replica // whom it joins, as they were when it was made
	queues map[string]chan func()      // by receiver and kind
}

func linkOf(a, b string) [2]string {
	if a > b {
		a, b = b, a
	}
	return [2]string{a, b}
}

func (w *wires) conn(a, b string) *wireConn {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.conns[linkOf(a, b)]
}

// connect makes a connection, as the transport does: PeerUp on both sides before
// any frame.
func (w *wires) connect(a, b string) {
	ctx, cancel := context.WithCancel(context.Background())
	k := &wireConn{ctx: ctx, cancel: cancel, queues: map[string]chan func(){}, ends: map[string]*replica.Replica{
		a: w.c.nodes[a].replica, b: w.c.nodes[b].replica,
	}}
	for _, q := range []string{a + " control", b + " control", a + " live", b + " live"} {
		queue := make(chan func(), 4096)
		k.queues[q] = queue
		k.tasks.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case fn := <-queue:
					fn()
				}
			}
		})
	}
	w.mu.Lock()
	w.conns[linkOf(a, b)] = k
	w.mu.Unlock()
	ma, mb := w.c.nodes[a], w.c.nodes[b]
	ma.replica.PeerUp(b, mb.id, mb.boot)
	mb.replica.PeerUp(a, ma.id, ma.boot)
}

// disconnect ends the connection of two nodes, if there is one.
func (w *wires) disconnect(a, b string) {
	w.mu.Lock()
	k := w.conns[linkOf(a, b)]
	delete(w.conns, linkOf(a, b))
	w.mu.Unlock()
	if k == nil {
		return
	}
	k.cancel()
	k.tasks.Wait()
	ma, mb := w.c.nodes[a], w.c.nodes[b]
	ma.replica.PeerDown(b, mb.boot)
	mb.replica.PeerDown(a, ma.boot)
}

// end is the network as one node sees it: replica.Peers.
type end struct {
	w    *wires
	name string
}

func (e *end) push(to, kind string, fn func(*replica.Replica)) error {
	k := e.w.conn(e.name, to)
	if k == nil {
		return errDown
	}
	if e.w.isDead(e.name, to) {
		return nil
	}
	select {
	case k.queues[to+" "+kind] <- func() { fn(k.ends[to]) }:
		return nil
	default:
		return errQueueFull
	}
}

func (e *end) SendControl(name string, frame []byte) error {
	frame = slices.Clone(frame)
	e.w.show("control", frame)
	e.w.mu.Lock()
	full := e.w.full
	e.w.mu.Unlock()
	if full != nil && full(e.name, name) {
		return errQueueFull
	}
	return e.push(name, "control", func(to *replica.Replica) { to.ControlFrame(e.name, frame) })
}

func (e *end) SendLive(name string, frame []byte) error {
	frame = slices.Clone(frame)
	e.w.show("live", frame)
	e.w.mu.Lock()
	fate := e.w.live
	e.w.mu.Unlock()
	if fate != nil {
		switch fate(e.name, name) {
		case refuse:
			return errQueueFull
		case swallow:
			return nil
		}
	}
	return e.push(name, "live", func(to *replica.Replica) {
		if err := to.LiveFrame(e.name, frame); err != nil {
			e.w.c.t.Errorf("live frame of %s at %s: %v", e.name, name, err)
		}
	})
}

func (e *end) Call(ctx context.Context, name string, request []byte) ([]byte, error) {
	k := e.w.conn(e.name, name)
	if k == nil {
		return nil, fmt.Errorf("call %s: %w", name, replica.ErrNotSent)
	}
	t, err := wire.TypeOf(request)
	if err != nil {
		return nil, err
	}
	e.w.show("call", request)
	if e.w.isDead(e.name, name) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	before, after := e.w.faults()
	if err := before(e.name, name, t); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(k.ctx, cancel)()
	resp, err := k.ends[name].Serve(ctx, e.name, slices.Clone(request))
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err == nil {
		e.w.show("answer", resp)
		err = after(e.name, name, t)
	}
	e.w.mu.Lock()
	lie := e.w.answer
	e.w.mu.Unlock()
	if lie != nil && err == nil {
		resp = lie(e.name, name, request, resp)
	}
	return resp, err
}

func (w *wires) isDead(from, to string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dead != nil && w.dead(from, to)
}

func (w *wires) faults() (before, after func(from, to string, t wire.Type) error) {
	none := func(string, string, wire.Type) error { return nil }
	w.mu.Lock()
	defer w.mu.Unlock()
	before, after = w.call, w.reply
	if before == nil {
		before = none
	}
	if after == nil {
		after = none
	}
	return before, after
}

func (e *end) OpenLane(ctx context.Context, name string) (replica.LaneStream, error) {
	k := e.w.conn(e.name, name)
	if k == nil {
		return nil, errDown
	}
	rd, wr := io.Pipe()
	to := k.ends[name]
	gone := make(chan struct{})
	k.tasks.Go(func() {
		defer close(gone)
		defer context.AfterFunc(k.ctx, func() { rd.CloseWithError(errDown) })()
		to.Lane(k.ctx, e.name, rd)
		rd.CloseWithError(errDown)
	})
	e.w.mu.Lock()
	lane, rtt := e.w.lane, e.w.rtt
	e.w.mu.Unlock()
	out := &laneEnd{WriteCloser: wr, gone: gone, rtt: rtt}
	if lane != nil {
		if out.WriteCloser = lane(e.name, name, wr); out.WriteCloser == nil {
			_ = wr.Close()
			return nil, errDown
		}
	}
	out.stop = context.AfterFunc(ctx, func() {
		if p, ok := out.WriteCloser.(*io.PipeWriter); ok {
			_ = p.CloseWithError(errDown)
		}
		_ = wr.CloseWithError(errDown)
	})
	return out, nil
}

// laneEnd is the writing end of a lane.
type laneEnd struct {
	io.WriteCloser
	gone chan struct{}
	rtt  time.Duration
	stop func() bool
}

func (l *laneEnd) Done() <-chan struct{} { return l.gone }
func (l *laneEnd) RTT() time.Duration    { return l.rtt }

func (l *laneEnd) Close() error {
	l.stop()
	return l.WriteCloser.Close()
}

// Hangup ends the connection, as a transport does: not in the caller's goroutine.
func (e *end) Hangup(name string, b wire.Breach, why string) {
	e.w.mu.Lock()
	e.w.hungUp = append(e.w.hungUp, hangup{e.name, name, b, why})
	hear := e.w.onHangup
	e.w.mu.Unlock()
	if hear == nil {
		e.w.c.t.Errorf("%s hung up on %s: %s: %s", e.name, name, b, why)
		return
	}
	e.w.c.hangups.Go(func() { hear(e.name, name) })
}

// hangup is a connection that one node closed since the other broke the protocol.
type hangup struct {
	by, on string
	breach wire.Breach
	why    string
}

// with changes the faults.
func (w *wires) with(fn func(w *wires)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fn(w)
}
