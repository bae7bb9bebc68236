package sim

import (
	"math"
	"slices"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// member is an owner: a data directory and, while it is up, a machine that
// decides what its copy may do.
type member struct {
	c        *Cluster
	index    int
	id       kv.NodeID
	former   []uint64 // of the disks it lost
	bootNo   uint32
	life     int
	up       bool
	paused   bool
	pausedAt int64
	since    int64    // what was acknowledged before must be known where it answers
	inbox    []func() // what happened while it was paused
	waits    []*plainWrite
	sealing  []core.SendSeal // questions without an answer
	fromDisk bool            // its copy is of an earlier process, which may have promised to keep it
	favours  core.Favours
	toldOf   [clusterNodes]int64 // when each was told of other coordinators' writes
	hadLead  bool                // what LieLeadKept goes by
	store    *Store
	set      *partition.Set
	machine  *core.Machine
	part     core.Part
	system   kv.State // of its copy of the system partition
	due      bool     // a commit is on its way
	pulls    map[uint64]*pull
	told     told
	kept     told // what of it is durable

	skew    int64 // of its wall clock
	lost    bool  // it lost a disk, and has not been LIVE since
	excused map[*clusterOp]bool
	backup  Backup
	backed  told // kept, in the backup
	saved   bool
	rolled  bool // it came back from a backup
}

func (m *member) name() string            { return m.c.names[m.index] }
func (m *member) shard() *partition.Shard { return m.set.Shard(0) }

// open opens the copies under a new boot.
func (m *member) open() {
	c := m.c
	c.boots++
	m.bootNo = c.boots
	set, err := partition.Open(partition.Config{
		Store: m.store, Partitions: 1, DigestKey: c.digestKey, Sync: true, Boot: m.bootNo, Node: m.id,
		Rand: c.rng.Uint32, Fail: func(err error) { c.fail("store", "%s: %v", m.name(), err) },
	})
	c.must(err)
	m.set = set
	m.fromDisk = set.Shard(0) != nil
	if m.index < Nodes {
		set.Add(0)
	}
	set.Add(kv.System)
}

// found makes the copies whole, as those of a new cluster are.
func (m *member) found() {
	m.open()
	m.shard().SetTrust(kv.Whole, nil)
	_, err := m.set.Committer().CommitGroup()
	m.c.must(err)
}

// boot starts the process.
func (m *member) boot() {
	c := m.c
	m.life++
	m.open()
	if sh := m.shard(); c.lie == LieTrust && sh != nil && sh.Trust() == kv.New {
		m.shard().SetTrust(kv.Whole, nil)
	}
	m.up, m.paused, m.inbox, m.due, m.since = true, false, nil, false, c.now
	m.system = kv.Cold
	m.pulls, m.part, m.excused = map[uint64]*pull{}, core.Part{}, map[*clusterOp]bool{}
	c.stats.Boots++
	m.waits, m.sealing, m.hadLead, m.favours, m.toldOf = nil, nil, false, core.Favours{}, [clusterNodes]int64{}
	c.log("%s boots as %v.%d, %v", m.name(), m.id, m.bootNo, m.Trust(0))
	held := m.set.Partitions()
	slices.Sort(held)
	m.machine = core.New(core.Config{
		Held: held, Self: m.name(), Node: m.id, Boot: m.bootNo, Copies: m, W: W, Jitter: c.rng.Uint64, Known: m.recall(),
	})
	m.commit()
	m.join()
	m.step(core.LayoutChanged{Layout: c.layout})
	if c.plan != nil {
		m.step(core.Planning{On: true})
	}
	life := m.life
	m.every(life, core.PingEvery, m.ping)
	m.every(life, 3*second, m.collect)
	m.every(life, 50*millisecond, func() { m.step(core.Passed{}) })
	m.every(life, second, m.keepKnown)
	for _, o := range c.members {
		if o != m {
			c.redial(m, o)
		}
	}
}

// join tells the others, in time, of a new disk under the member's name.
func (m *member) join() {
	c := m.c
	if entry, _ := c.layout.Member(m.name()); entry.Node == uint64(m.id) {
		return
	}
	c.place()
	for _, o := range c.members {
		if o == m || !o.up {
			continue
		}
		life := o.life
		c.after(c.between(0, 500), func() {
			if o.life == life {
				o.run(func() { o.step(core.LayoutChanged{Layout: c.layout}) })
			}
		})
	}
}

// every repeats fn while this life lasts; paused, it comes late.
func (m *member) every(life int, d int64, fn func()) {
	m.c.after(d, func() {
		if m.life != life || !m.up {
			return
		}
		m.run(fn)
		m.every(life, d, fn)
	})
}

// run runs fn now, or when the process goes on.
func (m *member) run(fn func()) {
	if m.paused {
		m.inbox = append(m.inbox, fn)
		return
	}
	fn()
}

// crash ends the process.
func (m *member) crash() {
	m.c.log("%s crashes", m.name())
	for _, o := range m.c.members {
		if o != m {
			m.c.disconnect(m, o)
		}
	}
	m.store.Crash(0)
	m.up, m.paused, m.inbox = false, false, nil
	m.life++
}

// Copy implements core.Copies.
func (m *member) Copy(p kv.Partition) core.Copy {
	sh := m.set.Shard(p)
	if sh == nil {
		return core.Copy{}
	}
	st := sh.Status()
	return core.Copy{
		Held: true, Actor: st.Actor, Trust: st.Trust, Clock: st.Clock, Digest: st.Digest, Comparable: st.Comparable(),
	}
}

// Trust implements core.Copies.
func (m *member) Trust(p kv.Partition) kv.Trust {
	if sh := m.set.Shard(p); sh != nil {
		return sh.Trust()
	}
	return kv.New
}

// Covers implements core.Copies.
func (m *member) Covers(p kv.Partition, c kv.Clock) bool {
	sh := m.set.Shard(p)
	return sh != nil && (m.c.lie == LieCovers || sh.Covers(c))
}

func (m *member) step(ev core.Event) {
	for _, e := range m.machine.Step(m.c.now, ev) {
		m.perform(e)
	}
}

func (m *member) perform(effect core.Effect) {
	switch e := effect.(type) {
	case core.SetPart:
		m.setPart(e.Part)
	case core.SetTrust:
		m.set.Shard(e.Partition).SetTrust(e.Trust, nil)
		m.commitSoon()
	case core.SendHello:
		m.hello(e)
	case core.SendDone:
		m.done(e.Name)
	case core.Compare:
		m.done(e.Name)
	case core.SendClocks:
		m.askClocks(e)
	case core.SendTick:
		m.tick(e.Name)
	case core.SendState:
		m.tell(e.State)
	case core.WantPlan:
		m.planRepair()
	case core.SendCover:
		m.askCover(e)
	case core.Drop:
		m.dropHeld(e)
	case core.SendSeal:
		m.askSeal(e)
	case core.Outlived:
		m.c.fail("seal", "%s is told that others sealed its process", m.name())
	case core.PingAll:
		m.ping()
	case core.Note:
		m.c.log("%s notes %s %s p%d: %s", m.name(), e.Kind, e.Peer, e.Partition, e.Text)
	}
}

// planRepair has the policy order what is lacking.
func (m *member) planRepair() {
	c := m.c
	if c.plan == nil {
		return
	}
	var peers []string
	for _, o := range c.members {
		if c.epoch[m.index][o.index] != 0 {
			peers = append(peers, o.name())
		}
	}
	gaps := m.machine.Gaps()
	if len(gaps) == 0 {
		return
	}
	c.stats.Plans++
	orders := c.plan(m.name(), c.now, gaps, peers)
	c.log("%s plans %v", m.name(), orders)
	life := m.life
	c.after(c.between(0, 5), func() {
		if m.life == life && m.up {
			m.run(func() { m.step(core.Planned{Orders: orders}) })
		}
	})
}

// setPart takes what requests go by; a copy that becomes LIVE must know what was
// acknowledged before it began to ask.
func (m *member) setPart(p core.Part) {
	if p.Partition == kv.System {
		m.system = p.State
		return
	}
	was := m.part.State
	m.part = p
	m.hadLead = p.State == kv.Live && p.First == m.name() && (p.Lead || m.hadLead)
	if was == p.State {
		return
	}
	m.c.log("%s is %v: %s", m.name(), p.State, p.Reason)
	if p.State != kv.Live {
		m.since = m.c.now
		return
	}
	m.c.stats.Lives++
	m.look("becomes live")
}

// look holds what the copy knows against what was acknowledged before. A copy
// that had lost its disk and is LIVE with all of it is refilled.
func (m *member) look(what string) {
	clock := m.shard().Clock()
	full := true
	for i, op := range m.c.ops {
		if op.ackedAt == 0 || op.ackedAt >= m.since || clock.Has(op.dot) {
			continue
		}
		full = false
		if !m.excused[op] && !m.exempt(op) {
			m.c.fail("I18", "%s %s and lacks op%d, acknowledged %d ms before it began", m.name(), what, i, (m.since-op.ackedAt)/millisecond)
			return
		}
		m.excused[op] = true // until it comes, for it comes later
	}
	if full && m.lost {
		m.lost, m.rolled, m.c.budget = false, false, true
		m.c.log("%s is refilled", m.name())
	}
}

// exempt reports whether a rollback explains the lack and nobody in reach
// remembers it: that is outside the promise.
func (m *member) exempt(op *clusterOp) bool {
	for _, h := range m.c.members {
		if h.rolled && op.holders[h.index] != 0 && op.holders[h.index] < h.life && !m.remembered(h, op) {
			m.c.stats.Exempt++
			return true
		}
	}
	return false
}

func (m *member) remembered(h *member, op *clusterOp) bool {
	for _, o := range m.c.members {
		near := o == m || m.c.epoch[m.index][o.index] != 0
		if o != h && o.up && !o.paused && near && o.told.clock[h.index].Has(op.dot) {
			return true
		}
	}
	return false
}

// read answers a request, if the copy may.
func (m *member) read() {
	if m.c.lie == LieStandReads && m.up && !m.paused && m.part.Held {
		m.look("answers")
		return
	}
	if !m.up || m.paused || m.part.State != kv.Live || m.c.now > m.part.Until && m.c.lie != LieLease {
		return
	}
	m.c.stats.Reads++
	m.look("answers")
}

// collect gives up the tombstones that all owners are known to hold, and at times
// the others too.
func (m *member) collect() {
	if m.part.State != kv.Live || !m.shard().Tombstoned() {
		return
	}
	c := partition.Collection{Stable: m.machine.Stable(0), Limit: maxOps}
	if m.c.rng.IntN(8) == 0 {
		c.Horizon = math.MaxUint64
	}
	got, err := m.shard().Collect(c)
	m.c.must(err)
	if n := got.Stable + got.Forced; n > 0 {
		m.c.stats.Collected += n
		m.c.log("%s collects %d and %d", m.name(), got.Stable, got.Forced)
		m.commitSoon()
	}
}

// commitSoon lets what is planned be durable after a moment.
func (m *member) commitSoon() {
	if m.due {
		return
	}
	m.due = true
	life := m.life
	m.c.after(m.c.between(0, 8), func() {
		if m.life == life && m.up {
			m.run(func() {
				m.due = false
				m.commit()
			})
		}
	})
}

func (m *member) commit() {
	for {
		n, err := m.set.Committer().CommitGroup()
		m.c.must(err)
		if n == 0 {
			return
		}
	}
}

func (m *member) copyClock(p kv.Partition) wire.CopyClock {
	st := m.set.Shard(p).Status()
	c := wire.CopyClock{Partition: p, Actor: st.Actor, Trust: st.Trust, Clock: st.Clock}
	c.State = m.part.State
	if p == kv.System {
		c.State = m.system
	}
	return c
}
