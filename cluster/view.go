package cluster

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/hashicorp/memberlist"
)

// view folds what memberlist says of lives into what is true of nodes, and tells
// of changes. memberlist calls it under its own lock, so it only notes; deliver
// tells, and compares with what it told last, so that however many changes come
// meanwhile, one node waits in the queue once.
type view struct {
	self uint64
	wake chan struct{}

	mu    sync.Mutex
	nodes map[uint64]Member
	told  map[uint64]Member
	dirty []uint64 // nodes with changes not told, oldest first
}

var _ memberlist.EventDelegate = (*view)(nil)

func newView(self uint64) *view {
	return &view{
		self: self, wake: make(chan struct{}, 1),
		nodes: map[uint64]Member{}, told: map[uint64]Member{},
	}
}

// NotifyJoin notes that a life is alive.
func (v *view) NotifyJoin(n *memberlist.Node) { v.note(n, true) }

// NotifyUpdate notes what a life says of itself.
func (v *view) NotifyUpdate(n *memberlist.Node) { v.note(n, true) }

// NotifyLeave notes that a life has left or is dead.
func (v *view) NotifyLeave(n *memberlist.Node) { v.note(n, false) }

func (v *view) note(n *memberlist.Node, alive bool) {
	node, boot, err := parseMemberName(n.Name)
	if err != nil || node == v.self {
		return
	}
	name, addresses, err := parseMeta(n.Meta)
	if err != nil {
		return
	}
	if gossiped := n.Address(); !slices.Contains(addresses, gossiped) {
		addresses = append(addresses, gossiped)
	}
	v.set(Member{Name: name, Node: node, Boot: boot, Addresses: addresses, Alive: alive})
}

// set takes in the state of one life; of a node's lives the highest boot counts.
func (v *view) set(m Member) {
	v.mu.Lock()
	defer v.mu.Unlock()
	old, known := v.nodes[m.Node]
	if known && m.Boot < old.Boot || !known && (!m.Alive || !v.roomLocked()) {
		return
	}
	v.nodes[m.Node] = m
	if !slices.Contains(v.dirty, m.Node) {
		v.dirty = append(v.dirty, m.Node)
	}
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// roomLocked says whether one more node may be known, letting go of a dead one
// whose end has been told if need be.
func (v *view) roomLocked() bool {
	if len(v.nodes) < maxMembers {
		return true
	}
	for node, m := range v.nodes {
		if !m.Alive && !slices.Contains(v.dirty, node) {
			delete(v.nodes, node)
			delete(v.told, node)
			return true
		}
	}
	return false
}

func (v *view) members() []Member {
	v.mu.Lock()
	defer v.mu.Unlock()
	members := slices.Collect(maps.Values(v.nodes))
	slices.SortFunc(members, func(a, b Member) int { return cmp.Compare(a.Node, b.Node) })
	for i := range members {
		members[i].Addresses = slices.Clone(members[i].Addresses)
	}
	return members
}

// deliver tells of changes until ctx ends.
func (v *view) deliver(ctx context.Context, tell func(Event)) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-v.wake:
		}
		for e, ok := v.next(); ok; e, ok = v.next() {
			tell(e)
		}
	}
}

// next takes the oldest change that is one.
func (v *view) next() (Event, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for len(v.dirty) > 0 {
		node := v.dirty[0]
		v.dirty = v.dirty[1:]
		was, is := v.told[node], v.nodes[node]
		kind, changed := compare(was, is)
		if !changed {
			continue
		}
		v.told[node] = is
		is.Addresses = slices.Clone(is.Addresses)
		return Event{Kind: kind, Member: is}, true
	}
	return Event{}, false
}

// compare says what to tell of a member that was and now is. A restart seen only
// by its new life is one Joined, with the new boot.
func compare(was, is Member) (EventKind, bool) {
	switch {
	case is.Alive && (!was.Alive || is.Boot != was.Boot):
		return Joined, true
	case !is.Alive:
		return Left, was.Alive
	}
	return Updated, is.Name != was.Name || !slices.Equal(is.Addresses, was.Addresses)
}
