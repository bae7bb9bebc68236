package sim

import (
	"errors"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
)

// Node is a data directory and, while it is up, the process on it.
type Node struct {
	w     *World
	index int
	id    kv.NodeID
	boot  uint32
	life  int // counts the processes there were; 0 = none yet
	up    bool
	store *Store
	set   *partition.Set
	tier  partition.Tier
	skew  int64 // of its wall clock, milliseconds

	// The oracle's view of the three states, and of each commit not yet synced.
	planned, published, durable ghost
	group                       ghost // planned when the present commit began
	tail                        []ghost

	seq    map[kv.Partition]uint64   // dots issued by this process
	known  [maxNodes]int             // the lives of peers, as heard of
	said   map[peerCopy]said         // durable clocks, as peers told them
	shown  map[kv.Partition]kv.Clock // what peers were told; a disk that is whole keeps it
	due    []due                     // acknowledgements owed once it is durable
	copies map[kv.Partition]*copyState

	offer    *offer // of the copy that it would drop
	promised int64  // it drops nothing before
	formerly kv.VV  // what BugSeqKept claims for copies that were dropped
	salvaged
	spoilt   map[kv.Partition]bool // records that were damaged since it stopped
	adopting []kv.Partition        // whose quarantine ends with a commit under way
	rotten   bool                  // its copy rotted, and is healed while others write
	hollow   bool                  // a broken run: it says that it holds what is not there

	was       *Backup // when all copies were level, nil: it has another disk since
	backup    Backup
	backupOf  ghost
	backupSal salvaged
	hasBackup bool

	broken   bool // a session that had brought something broke off
	peeked   bool // a commit is visible in the store and not published yet
	lost     bool // its disk was lost or rolled back, and it is not refilled yet
	refilled map[refill]bool
	fresh    []refill // sessions that have ended, to be marked once they are durable
}

// refill is a session that a lost copy must complete.
type refill struct {
	from int
	part kv.Partition
}

// due is an acknowledgement that is owed: to the op's coordinator.
type due struct {
	op   *Op
	part kv.Partition
}

func (n *Node) shard(p kv.Partition) *partition.Shard { return n.set.Shard(p) }

// start opens the node's copies under a new boot.
func (n *Node) start() {
	w := n.w
	if w.bug != BugActorReused || n.boot == 0 {
		n.boot++
	}
	draw := w.rng.Uint32
	if w.bug == BugActorReused {
		draw = func() uint32 { return 7 }
	}
	w.spoilStore(n.store)
	n.open(draw)
	n.salvage()
	n.up, n.offer, n.promised, n.formerly = true, nil, w.now+promiseMS, nil
	n.planned, n.published = n.durable, n.durable
	n.tail, n.due, n.fresh = nil, nil, nil
	n.known, n.said = [maxNodes]int{}, map[peerCopy]said{}
	n.life++
	n.seq, n.copies = map[kv.Partition]uint64{}, map[kv.Partition]*copyState{}
	if n.lost {
		n.refilled = map[refill]bool{}
	}
	for _, p := range w.parts {
		if n.owner() {
			n.set.Add(p)
		}
		shown := n.shown[p]
		if sh := n.shard(p); sh == nil && shown.Len() > 0 {
			w.fail("R4", "n%d: comes back without the copy of which it had told %v", n.index, shown)
		} else if sh != nil && !sh.Covers(shown) {
			w.fail("R4", "n%d: comes back with %v and had told %v", n.index, n.shard(p).Clock(), n.shown[p])
		}
	}
	w.check(n)
}

// open opens the store's copies, whose actors take the random bits drawn.
func (n *Node) open(draw func() uint32) {
	w := n.w
	cfg := partition.Config{
		Store: n.store, Partitions: 1, DigestKey: w.digestKey, Sync: !w.mix.Relaxed, Boot: n.boot, Node: n.id, Rand: draw,
		Fail: func(err error) { w.fail("store", "n%d: %v", n.index, err) },
	}
	if w.mix.Tier {
		tier, err := cache.NewTier(tierBytes)
		w.must(err)
		cfg.Tier = tier
	}
	set, err := partition.Open(cfg)
	w.must(err)
	n.set, n.tier = set, cfg.Tier
}

// show notes a clock that leaves the node.
func (n *Node) show(p kv.Partition, c kv.Clock) {
	if n.shown == nil {
		n.shown = map[kv.Partition]kv.Clock{}
	}
	old := n.shown[p]
	old = old.Clone()
	old.Join(c)
	n.shown[p] = old
}

// tierBytes is the least a tier may have.
const tierBytes = 64 << 10

// Commit commits and publishes everything that is planned.
func (n *Node) Commit() {
	for n.commitGroup() {
	}
}

// commitGroup commits one group, and reports whether there was one.
func (n *Node) commitGroup() bool {
	n.group = n.planned
	done, err := n.set.Committer().CommitGroup()
	if errors.Is(err, ErrCrash) {
		n.w.log("n%d dies in its commit", n.index)
		n.w.stats.Torn++
		n.durable = n.group
		n.stop()
		return false
	}
	n.w.must(err)
	if done == 0 {
		return false
	}
	n.published = n.group
	n.committed()
	return true
}

// committed notes that a group was published.
func (n *Node) committed() {
	switch tail := n.store.Tail(); {
	case tail > len(n.tail): // published ahead of a sync
		n.tail = append(n.tail, n.published)
	case tail > 0: // there was nothing to write
	case n.w.mix.Relaxed: // a sync came between its commit and its publishing
		n.durable = n.published
	default:
		n.settled()
	}
	n.w.check(n)
}

// Sync makes what was published ahead of a sync durable.
func (n *Node) Sync() {
	n.w.must(n.set.Committer().SyncApplied())
	n.settled()
	if n.peeked { // it has made the commit durable too, which is not published yet
		n.durable = n.group
		return
	}
	n.w.check(n)
}

// settled notes that everything published is durable.
func (n *Node) settled() {
	n.durable, n.tail = n.published, nil
	for _, d := range n.due {
		n.w.acknowledge(n, d)
	}
	n.due = nil
	if n.lost {
		for _, r := range n.fresh {
			if r.from < Nodes {
				n.refilled[r] = true
			}
		}
		if n.refills() && n.adopted() {
			n.lost, n.w.budget = false, true
			n.w.log("n%d is refilled", n.index)
		}
	}
	n.fresh = nil
}

// crash ends the process. It takes what was planned and of what was published and
// not synced all commits but the first keep.
func (n *Node) crash(keep int) {
	n.store.Crash(keep)
	if keep > 0 {
		n.durable = n.tail[keep-1]
	}
	n.stop()
}

func (n *Node) stop() {
	n.up, n.set, n.tail, n.due, n.copies = false, nil, nil, nil, nil
	n.adopting = nil
	n.planned, n.published = n.durable, n.durable
}

// loseDisk replaces the data directory by an empty one.
func (n *Node) loseDisk() {
	w := n.w
	old := n.store
	w.gone = append(w.gone, n.id)
	n.store, n.durable, n.hasBackup, n.boot = NewStore(), ghost{}, false, 0
	n.salvaged = salvaged{}
	n.id = w.newNodeID()
	if w.bug == BugLossKeepsClock {
		w.keepClock(old, n.store)
	}
	n.stop()
	n.mourn()
	w.forgetLate(n)
}

// restore replaces the data directory by an older copy of itself.
func (n *Node) restore() {
	n.store.Restore(n.backup)
	n.durable, n.salvaged = n.backupOf, n.backupSal
	n.stop()
	n.mourn()
	n.w.forgetLate(n)
}

// mourn notes that the copy has lost what it acknowledged.
func (n *Node) mourn() {
	n.was = nil
	n.shown = nil
	if !n.owner() {
		return
	}
	n.lost, n.refilled = true, map[refill]bool{}
	n.w.budget = false
}

func (n *Node) saveBackup() {
	n.backup, n.backupOf, n.backupSal, n.hasBackup = n.store.Backup(), n.durable, n.salvaged, true
}

// meet notes a process of a peer: acknowledgements of an earlier one count no
// more in writes that are not acknowledged yet.
func (n *Node) meet(peer, life int) {
	if life <= n.known[peer] {
		return
	}
	n.known[peer] = life
	for _, op := range n.w.open {
		if op.coord == n && op.life == n.life && op.acks[peer] != life {
			op.acks[peer] = 0
		}
	}
}
