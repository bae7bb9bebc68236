package partition

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition/state"
)

const (
	// maxGroupBytes bounds one commit group, so that its one write stays short
	// beside the fsync behind it.
	maxGroupBytes = 4 << 20
	// maxQueueBytes bounds what is planned and not committed; past it planners
	// wait before they lock anything.
	maxQueueBytes = 32 << 20
)

// op is one planned change on its way to the store.
type op struct {
	shard   *Shard
	change  *state.Change
	entries cache.Batch // directories and marks
	batch   cache.Batch // everything else
	done    func()
	logged  func()                     // ahead of done: it outlives the process, and not the machine yet
	repair  bool                       // it is with its donor: it is published ahead of the next sync
	wrote   func(*state.Change, error) // of a write, instead of done
}

// maxKeptOpBytes bounds the buffer that an op keeps for its next use: few changes
// are larger, and what is kept is held as long as the garbage collector likes.
const maxKeptOpBytes = 4 << 10

func (o *op) bytes() int { return o.entries.Bytes() + o.batch.Bytes() }

// newOp returns an op for one change of a shard.
func (c *Committer) newOp(s *Shard, ch *state.Change) *op {
	o, ok := c.used.Get().(*op)
	if !ok {
		o = &op{}
	}
	o.shard, o.change = s, ch
	return o
}

// settle calls whoever waits for the op, and keeps it for the next change.
func (c *Committer) settle(o *op) {
	switch {
	case o.wrote != nil:
		o.wrote(o.change, nil)
	case o.done != nil:
		o.done()
	}
	if o.bytes() > maxKeptOpBytes {
		o.batch, o.entries = cache.Batch{}, cache.Batch{}
	}
	o.batch.Reset()
	o.entries.Reset()
	o.shard, o.change, o.done, o.logged, o.wrote, o.repair = nil, nil, nil, nil, nil, false
	c.used.Put(o)
}

// Committer writes planned changes to the store in groups and publishes them.
// The order of an actor's dots is the order of its commits.
type Committer struct {
	store  Store
	actors *actors
	sync   bool
	fail   func(error)

	systemChanged func()

	mu       sync.Mutex
	wake     sync.Cond // of queue and bytes
	queue    []*op
	bytes    int
	closed   bool
	started  uint64 // groups handed to the store
	finished uint64 // groups published
	unsynced map[*Shard]struct{}

	syncs chan struct{} // holds one: who syncs what was published without

	used sync.Pool // of *op, to be used again

	// Of the group being built; the one committing goroutine's.
	batch   cache.Batch
	buf     []byte
	spare   []*op           // the next queue
	sorted  []*op           // by shard
	changes []*state.Change // of sorted
	shares  []share
}

// share is what a group has of one shard.
type share struct {
	shard   *Shard
	changes []*state.Change // in the order they were planned in
	next    state.Published
}

func newCommitter(store Store, actors *actors, sync bool, fail func(error)) *Committer {
	c := &Committer{store: store, actors: actors, sync: sync, fail: fail, unsynced: map[*Shard]struct{}{}, syncs: make(chan struct{}, 1)}
	c.wake.L = &c.mu
	return c
}

// admit waits while the queue is over its bound.
func (c *Committer) admit() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.bytes > maxQueueBytes && !c.closed {
		c.wake.Wait()
	}
}

// admitBy is admit for as long as ctx lasts; false: the queue is over its bound still.
func (c *Committer) admitBy(ctx context.Context) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bytes <= maxQueueBytes || c.closed {
		return true
	}
	stop := context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.wake.Broadcast()
	})
	defer stop()
	for c.bytes > maxQueueBytes && !c.closed {
		if ctx.Err() != nil {
			return false
		}
		c.wake.Wait()
	}
	return true
}

// enqueue takes a planned change. The caller holds the shard's mu, so that the
// order here is the order of planning.
func (c *Committer) enqueue(o *op) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue = append(c.queue, o)
	c.bytes += o.bytes()
	if len(c.queue) == 1 {
		c.wake.Broadcast()
	}
}

// Run commits until ctx ends and the queue is empty. A group that fails ends the
// process by way of fail: nothing of it was published, and what was planned on
// top of it cannot be unplanned.
func (c *Committer) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		c.mu.Lock()
		c.closed = true
		c.wake.Broadcast()
		c.mu.Unlock()
	})
	defer stop()
	for {
		c.mu.Lock()
		for len(c.queue) == 0 && !c.closed {
			c.wake.Wait()
		}
		idle := len(c.queue) == 0
		c.mu.Unlock()
		if idle {
			return nil
		}
		if _, err := c.CommitGroup(); err != nil {
			c.fail(err)
			return err
		}
	}
}

// CommitGroup commits and publishes one group and returns how many changes it
// had. Run calls it; the simulator does so itself, one call at a time.
func (c *Committer) CommitGroup() (int, error) {
	group := c.take()
	if len(group) == 0 {
		return 0, nil
	}
	c.batch.Reset()
	c.actors.record(&c.batch)
	shares := c.gather(group)
	for i := range shares {
		c.stage(&shares[i])
	}
	c.actors.record(&c.batch) // the copy records may have brought new ones
	synced, err := c.write(group)
	if err != nil {
		return 0, fmt.Errorf("commit group: %w", err)
	}
	system := false
	for i := range shares {
		sh := &shares[i]
		sh.shard.publish(sh.next, sh.changes, c, synced)
		system = system || sh.shard.id == kv.System
	}
	c.finish()
	if system && c.systemChanged != nil {
		c.systemChanged()
	}
	n := len(group)
	for _, o := range group {
		c.settle(o)
	}
	c.forget(group)
	return n, nil
}

// write writes the group's batch, and reports whether all of it is on stable storage,
// as a group is that has more than repairs in it. What sessions bring needs no sync of
// its own: the donor has it, and no clock claims it before SyncApplied. A sync a group
// kept the store from the next one for a quarter of the time in which a node caught up.
func (c *Committer) write(group []*op) (synced bool, err error) {
	synced = c.sync && slices.ContainsFunc(group, func(o *op) bool { return !o.repair })
	ahead := synced && slices.ContainsFunc(group, func(o *op) bool { return o.logged != nil })
	if c.batch.Len() > 0 {
		if err := c.store.Commit(&c.batch, synced && !ahead); err != nil {
			return false, err
		}
	} else { // what it leans on may be a repair
		ahead = ahead || synced && c.owes()
	}
	for _, o := range group {
		if o.logged != nil {
			o.logged()
			o.logged = nil
		}
	}
	if ahead {
		return synced, c.store.Sync()
	}
	return synced, nil
}

// stage fixes what is published of a shard, and appends its copy record.
func (c *Committer) stage(sh *share) {
	s := sh.shard
	s.mu.Lock()
	sh.next = s.copy.Stage(sh.changes)
	s.mu.Unlock()
	if alters(sh.changes) {
		var key [8]byte
		c.buf = s.copyRecord(c.buf[:0], sh.next)
		c.batch.Set(cache.AppendCopyKey(key[:0], s.id), c.buf)
	}
}

// maxKeptGroup bounds what is kept for the next groups; a larger one is rare.
const maxKeptGroup = 4096

// forget keeps the group's slices for the next ones, without what they point at.
func (c *Committer) forget(group []*op) {
	clear(group)
	if cap(group) <= maxKeptGroup {
		c.spare = group[:0]
	}
	clear(c.shares)
	clear(c.sorted)
	clear(c.changes)
	if cap(c.sorted) > maxKeptGroup {
		c.sorted, c.changes = nil, nil
	}
}

func (c *Committer) take() []*op {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, bytes := 0, 0
	for n < len(c.queue) && (n == 0 || bytes < maxGroupBytes) {
		bytes += c.queue[n].bytes()
		n++
	}
	group := c.queue[:n:n]
	c.queue = c.queue[n:]
	if len(c.queue) == 0 {
		c.queue, c.spare = c.spare, nil
	}
	if n > 0 {
		c.started++
	}
	c.bytes -= bytes
	c.wake.Broadcast()
	return group
}

// gather appends the group's records and sorts its changes by shard. Records lie
// in the order of the store's keys as far as that costs nothing, which spares the
// store much of its search: directories of one partition after the other, then
// versions; those of one shard in the order they were planned in.
func (c *Committer) gather(group []*op) []share {
	c.sorted = append(c.sorted[:0], group...)
	slices.SortStableFunc(c.sorted, func(a, b *op) int { return cmp.Compare(a.shard.id, b.shard.id) })
	c.changes = c.changes[:0]
	for _, o := range c.sorted {
		c.batch.Append(&o.entries)
		c.changes = append(c.changes, o.change)
	}
	c.shares = c.shares[:0]
	from := 0
	for i, o := range c.sorted {
		c.batch.Append(&o.batch)
		if i+1 == len(c.sorted) || c.sorted[i+1].shard != o.shard {
			c.shares = append(c.shares, share{shard: o.shard, changes: c.changes[from : i+1]})
			from = i + 1
		}
	}
	return c.shares
}

func alters(changes []*state.Change) bool {
	for _, ch := range changes {
		if ch.Alters {
			return true
		}
	}
	return false
}

func (c *Committer) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.finished++
}

// owes reports whether something is published that is not on stable storage: what is
// noted, or what a sync that runs has taken the notes of.
func (c *Committer) owes() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.unsynced) > 0 || len(c.syncs) > 0
}

// owesSync notes that what a shard publishes is not on stable storage. The caller holds
// the shard's mu: whoever sees the clock that is published finds it noted, and a
// SyncApplied that takes the note finds that clock.
func (c *Committer) owesSync(s *Shard) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unsynced[s] = struct{}{}
}

// generation is the number of the newest group that a snapshot taken before the
// call may show; published reports whether it is published.
func (c *Committer) generation() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.started
}

func (c *Committer) published(generation uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.finished >= generation
}

// SyncApplied makes what was published ahead of a sync durable (all under relaxed
// durability, else what sessions bring), and with that its clocks fit to leave the node
// (R4). One call waits for another: the shards that the other took are durable only when
// it is done.
func (c *Committer) SyncApplied() error {
	c.syncs <- struct{}{}
	defer func() { <-c.syncs }()
	c.mu.Lock()
	shards := make([]*Shard, 0, len(c.unsynced))
	for s := range c.unsynced {
		shards = append(shards, s)
	}
	clear(c.unsynced)
	c.mu.Unlock()
	if len(shards) == 0 {
		return nil
	}
	points := make([]state.Point, len(shards))
	for i, s := range shards {
		s.mu.Lock()
		points[i] = s.copy.Point()
		s.mu.Unlock()
	}
	if err := c.store.Sync(); err != nil {
		return fmt.Errorf("sync applied groups: %w", err)
	}
	for i, s := range shards {
		s.mu.Lock()
		s.copy.Sync(points[i])
		s.mu.Unlock()
	}
	return nil
}
