package node

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"edged.dev/edged/api"
	"edged.dev/edged/api/admin"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/internal/layout"
	"edged.dev/edged/partition"
	"edged.dev/edged/partition/state"
	"edged.dev/edged/policies"
)

// Keys of the system partition beside those of package policies.
const (
	clusterKey   = "cluster"
	memberPrefix = "member/"
)

// clusterEntry is the founder's: what is fixed for the cluster's life.
type clusterEntry struct {
	ID         string `json:"id"`
	Partitions uint32 `json:"partitions"`
}

// memberEntry is one member's place in the layout.
type memberEntry struct {
	Name      string    `json:"name"`
	Node      kv.NodeID `json:"node"`
	Epoch     uint64    `json:"epoch"`
	Addresses []string  `json:"addresses"`
	Weight    float64   `json:"weight"`
	// Former are the data directories that held the name before, the newest last:
	// a process on one of them is turned away.
	Former []kv.NodeID `json:"former,omitempty"`
	Zone   string      `json:"zone,omitempty"`
	Status string      `json:"status"`
}

// system keeps what this node's copy of the system partition says: the layout
// and the policies; and this node's own entry in it true.
type system struct {
	node    *Node
	changed chan struct{}
	redial  chan struct{}

	taken atomic.Uint64 // what the partition's change count was when it was last taken, plus one

	mu      sync.Mutex
	took    chan struct{} // closed and replaced when the partition was taken
	members map[string]layout.Member
	former  map[string][]kv.NodeID // by member's name
	records []policies.Record
	losses  []admin.AcceptedLoss
}

// maxFormer bounds the former directories of one name that are remembered.
const maxFormer = 16

func newSystem(n *Node) *system {
	return &system{node: n, changed: make(chan struct{}, 1), redial: make(chan struct{}, 1), took: make(chan struct{}), members: map[string]layout.Member{}}
}

// wake says that the partition changed.
func (s *system) wake() { poke(s.changed) }

func (s *system) dialSoon() { poke(s.redial) }

func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default: // it is due already
	}
}

func (s *system) member(name string) (layout.Member, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.members[name]
	return m, ok
}

// currentWait bounds how long a read waits for the policies of this node's own
// copy to be in force; then it is answered elsewhere, or not at all.
const currentWait = 500 * time.Millisecond

// errNotCurrent says that this node may not know which policy is bound: it shows
// no view rather than another one.
var errNotCurrent = errors.New("the system partition is not level yet, or its policies are not in force here")

// current returns when the policies in force are those of this node's own copy of
// the system partition, and that copy serves.
func (s *system) current(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, currentWait)
	defer cancel()
	for {
		s.mu.Lock()
		took := s.took
		s.mu.Unlock()
		p, ok := s.node.replica.Part(kv.System)
		sh := s.node.set.Shard(kv.System)
		serves := ok && p.State.Serves()
		if serves && sh != nil && s.taken.Load() == sh.Changes()+1 {
			return nil
		}
		if !serves {
			return errNotCurrent // another owner can tell at once
		}
		select {
		case <-took:
		case <-ctx.Done():
			return errNotCurrent
		}
	}
}

// displaced reports whether a data directory held a name and does not any more.
func (s *system) displaced(name string, node kv.NodeID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.former[name], node) && s.members[name].Node != uint64(node)
}

// fenced says that another data directory has taken this one's place.
func fenced(name string, by kv.NodeID) error {
	return fmt.Errorf("another data directory (node ID %s) has joined as %s since: this one is fenced; stop it, or give it a certificate of its own and an empty data directory", by, name)
}

// begin writes the first entries of a cluster that this node founds, and takes
// the layout that its own copy has.
func (s *system) begin(ctx context.Context) error {
	n := s.node
	sh := n.set.Add(kv.System)
	if n.self.founding {
		if err := s.found(sh); err != nil {
			return err
		}
	}
	return s.take(ctx)
}

func (s *system) found(sh *partition.Shard) error {
	n := s.node
	entries := map[string]any{
		clusterKey:               clusterEntry{ID: n.id.Cluster, Partitions: n.self.Partitions},
		memberPrefix + n.id.Name: s.own(1, nil),
	}
	for key, entry := range entries {
		value, err := json.Marshal(entry)
		if err != nil {
			return fmt.Errorf("found cluster: %w", err)
		}
		done := make(chan error, 1)
		sh.Write([]byte(key), func(kv.Object) (*partition.Mutation, error) {
			return &partition.Mutation{
				Version: kv.Version{HLC: kv.HLCAt(n.clocks.wallMS()), Value: value},
				Covers:  state.Covers{Held: true},
			}, nil
		}, func(_ *state.Change, err error) { done <- err })
		if err := <-done; err != nil {
			return fmt.Errorf("found cluster: %w", err)
		}
	}
	n.self.founding = false
	return n.self.save(n.store)
}

func (s *system) own(epoch uint64, former []kv.NodeID) memberEntry {
	n := s.node
	return memberEntry{
		Name: n.id.Name, Node: n.self.Node, Epoch: epoch, Addresses: n.links.transport.Addresses(),
		Weight: 1, Zone: n.cfg.NodeZone, Status: layout.Active.String(), Former: former,
	}
}

// lifeEvery is how exactly a node can tell, after a kill, how long it was away.
const lifeEvery = 5 * time.Second

// run follows the partition and keeps this node's entry in it true.
func (s *system) run(ctx context.Context) error {
	tick, life := time.NewTicker(500*time.Millisecond), time.NewTicker(lifeEvery)
	defer tick.Stop()
	defer life.Stop()
	for {
		s.enlist(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-life.C:
			if err := s.node.self.seen(s.node.store, s.node.clocks.wallMS()); err != nil {
				return err
			}
		case <-s.changed:
			if err := s.take(ctx); err != nil && ctx.Err() == nil {
				s.node.log.Error("system partition not taken", slog.Any("error", err))
			}
		}
	}
}

// enlist writes this node's entry where its own copy does not show it as it is.
// A node does so only once it has seen the cluster's entry: it has synced.
func (s *system) enlist(ctx context.Context) {
	n := s.node
	s.mu.Lock()
	known := len(s.members) > 0
	m, ok := s.members[n.id.Name]
	former := slices.Clone(s.former[n.id.Name])
	s.mu.Unlock()
	if !known {
		return
	}
	mine := ok && m.Node == uint64(n.self.Node)
	switch {
	case mine && m.Status != layout.Active:
		n.fence(forgotten(n.id.Name))
		return
	case mine && m.Epoch != n.self.Epoch:
		if err := n.self.enlisted(n.store, m.Epoch); err != nil {
			n.log.Error("epoch not kept", slog.Any("error", err))
		}
		fallthrough
	case mine:
		if slices.Equal(m.Addresses, n.links.transport.Addresses()) && m.Zone == n.cfg.NodeZone {
			return
		}
	case ok && n.self.Epoch > 0 && m.Epoch > n.self.Epoch:
		n.fence(fenced(n.id.Name, kv.NodeID(m.Node)))
		return
	case ok:
		former = append(former, kv.NodeID(m.Node))
		former = former[max(0, len(former)-maxFormer):]
	}
	epoch := uint64(1)
	if ok {
		epoch = m.Epoch + 1
	}
	value, err := json.Marshal(s.own(epoch, former))
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_, err = s.write(ctx, memberPrefix+n.id.Name, value)
	if err != nil {
		n.log.Info("not enlisted yet", slog.Any("error", err))
	}
}

// write puts one entry into the system partition.
func (s *system) write(ctx context.Context, key string, value []byte) (*kv.Response, error) {
	req := &kv.Request{Op: kv.OpSet, Key: []byte(key), Value: value, System: true}
	return api.Do(ctx, apiStore{s.node}, req)
}

// take reads the partition and puts in force what it says.
func (s *system) take(ctx context.Context) error {
	sh := s.node.set.Shard(kv.System)
	if sh == nil {
		return errors.New("no copy of the system partition")
	}
	seen := sh.Changes() // before it is read: what comes meanwhile is taken next
	members, former := map[string]layout.Member{}, map[string][]kv.NodeID{}
	var records []policies.Record
	var losses []admin.AcceptedLoss
	var keys [][]byte
	for from, done := uint64(0), false; !done; {
		var err error
		from, done, err = sh.Scan(from, 1024, func(key []byte, _ kv.Object) { keys = append(keys, bytes.Clone(key)) })
		if err != nil {
			return err
		}
	}
	for _, key := range keys {
		o, _, err := sh.Read(key)
		if err != nil {
			return err
		}
		live := o.Live(nil, 0)
		switch name := string(key); {
		case policies.IsRecord(name):
			for _, v := range live {
				records = append(records, policies.Record{Key: name, Value: v.Value, HLC: uint64(v.HLC), Actor: actorHash(v.Dot.Actor), Counter: v.Dot.Seq})
			}
		case bytes.HasPrefix(key, []byte(lossPrefix)):
			losses = append(losses, lossesOf(live)...)
		case bytes.HasPrefix(key, []byte(memberPrefix)):
			if m, was, ok := resolveMember(live); ok {
				members[m.Name], former[m.Name] = m, was
			}
		}
	}
	if err := s.node.fault.Point(ctx, "node.take-system"); err != nil {
		return err
	}
	s.mu.Lock()
	s.former, s.losses = former, losses
	s.mu.Unlock()
	if err := s.adopt(ctx, members, records); err != nil {
		return err
	}
	s.dropForgotten(members)
	s.taken.Store(seen + 1)
	s.mu.Lock()
	close(s.took)
	s.took = make(chan struct{})
	s.mu.Unlock()
	return nil
}

func (s *system) adopt(ctx context.Context, members map[string]layout.Member, records []policies.Record) error {
	n := s.node
	list := make([]layout.Member, 0, len(members))
	for _, m := range members {
		list = append(list, m)
	}
	l, err := layout.New(int(n.self.Partitions), n.cfg.ClusterCopies, list)
	if err != nil {
		return fmt.Errorf("layout: %w", err)
	}
	s.mu.Lock()
	s.members, s.records = members, records
	s.mu.Unlock()
	if old := n.replica.Layout(); old == nil || old.ViewHash8() != l.ViewHash8() || !slices.EqualFunc(old.Members(), l.Members(), sameMember) {
		n.replica.SetLayout(l)
		s.dialSoon()
	}
	err = n.policies.Update(ctx, records)
	n.replica.PlansRepair(n.policies.PlansRepair())
	return err
}

func sameMember(a, b layout.Member) bool {
	return a.Name == b.Name && a.Node == b.Node && a.Epoch == b.Epoch && slices.Equal(a.Addresses, b.Addresses) && slices.Equal(a.Former, b.Former)
}

// resolveMember chooses among concurrent entries of one member: LEFT and
// FORGOTTEN win, then the highest (epoch, hlc, dot). live is newest first.
func resolveMember(live []kv.Version) (best layout.Member, former []kv.NodeID, found bool) {
	for _, v := range live {
		var e memberEntry
		if err := json.Unmarshal(v.Value, &e); err != nil {
			continue // of a newer version, or damaged: the others decide
		}
		m := layout.Member{
			Name: e.Name, Node: uint64(e.Node), Epoch: e.Epoch, Weight: e.Weight, Zone: e.Zone, Addresses: e.Addresses,
			Status: statusOf(e.Status),
		}
		for _, id := range e.Former[max(0, len(e.Former)-maxFormer):] {
			m.Former = append(m.Former, uint64(id))
		}
		if !found || cmp.Or(cmp.Compare(m.Status, best.Status), cmp.Compare(m.Epoch, best.Epoch)) > 0 {
			best, former, found = m, e.Former, true
		}
	}
	return best, former, found
}

func statusOf(word string) layout.Status {
	for _, s := range []layout.Status{layout.Left, layout.Forgotten} {
		if word == s.String() {
			return s
		}
	}
	return layout.Active
}
