package node

import (
	"context"
	"encoding/hex"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"time"

	"edged.dev/edged/api/admin"
	"edged.dev/edged/api/resp"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/internal/layout"
	"edged.dev/edged/replica"
	"edged.dev/edged/replica/core"
)

// status answers what the admin API asks of the node.
type status struct{ n *Node }

func count(c *admin.PartitionCounts, p core.Part) {
	if !p.Self || p.Partition == kv.System {
		return
	}
	c.Owned++
	switch p.State {
	case kv.Cold:
		c.Cold++
	case kv.CatchingUp:
		c.CatchingUp++
	case kv.Live:
		c.Live++
		if p.Verified || len(p.Owners) == 1 {
			c.Verified++
		}
	case kv.Isolated:
		c.Isolated++
	case kv.Degraded:
		c.Degraded++
	}
}

func (s status) counts() (c admin.PartitionCounts) {
	for p := range s.n.replica.Parts() {
		count(&c, *p)
		if sh := s.n.set.Shard(p.Partition); p.Held && sh != nil {
			c.StandIn++
			c.StandInKeys += sh.Count()
		}
	}
	return c
}

// degraded says why answers may promise less than the configuration does.
func (s status) degraded(c admin.PartitionCounts) []string {
	var out []string
	l := s.n.replica.Layout()
	if l != nil && l.Width() < l.Copies() {
		out = append(out, fmt.Sprintf("%d of %d copies: the layout has too few members", l.Width(), l.Copies()))
	}
	out = append(out, s.n.links.copiesDiffer()...)
	if c.Isolated > 0 {
		out = append(out, fmt.Sprintf("%d partitions are isolated: no other owner answers", c.Isolated))
	}
	out = append(out, degradedBy(s.n.replica.Parts())...)
	lost := 0
	for _, l := range s.n.replica.Losses() {
		if l.Refused == "" {
			lost++
		}
	}
	if lost > 0 {
		out = append(out, fmt.Sprintf("%d partitions are served by nobody: every copy in reach is new (see edged accept-loss)", lost))
	}
	return out
}

// degradedBy counts the degraded partitions by the reason that their copies give.
func degradedBy(parts iter.Seq[*core.Part]) []string {
	by := map[string]int{}
	for p := range parts {
		if p.Self && p.Partition != kv.System && p.State == kv.Degraded {
			by[p.Reason]++
		}
	}
	var out []string
	for _, reason := range slices.Sorted(maps.Keys(by)) {
		out = append(out, fmt.Sprintf("%d partitions are degraded: %s", by[reason], reason))
	}
	return out
}

// Ready implements httpapi.Status: ready means that every partition this node
// owns serves.
func (s status) Ready() admin.Ready {
	c := s.counts()
	ready := c.Owned > 0 && c.Live+c.Isolated+c.Degraded == c.Owned && !s.n.draining.Load()
	if p, ok := s.n.replica.Part(kv.System); ok && p.Self && !p.State.Serves() {
		ready = false
	}
	return admin.Ready{Ready: ready, Degraded: s.degraded(c), Partitions: c}
}

func (s status) state(ready bool) string {
	switch {
	case s.n.draining.Load():
		return "draining"
	case ready:
		return "ready"
	case s.counts().Owned == 0:
		return "starting"
	}
	return "not_ready"
}

// Status implements httpapi.Status.
func (s status) Status() admin.Status {
	n := s.n
	ready := s.Ready()
	st := admin.Status{
		Name: n.id.Name, Node: n.self.Node.String(), Cluster: n.id.Cluster, Version: n.version, Boot: n.self.Boot,
		State: s.state(ready.Ready), StartedMS: n.startedMS(), Degraded: ready.Degraded, Partitions: ready.Partitions,
		Policies: policyAdmin{n}.Policies(), Nodes: s.Nodes(), Ports: n.doors.ports, Counters: n.counters(),
	}
	if l := n.replica.Layout(); l != nil {
		st.Layout = n.layoutStatus(l)
	}
	for p := range n.replica.Parts() {
		if sh := n.set.Shard(p.Partition); sh != nil && p.Self && p.Partition != kv.System {
			st.Keys += sh.Count()
		}
	}
	st.BytesBehind = n.replica.Behind() * meanEntryBytes
	return st
}

// meanEntryBytes estimates a version that is not here yet; what is here tells no
// better without a scan.
const meanEntryBytes = 256

func (n *Node) startedMS() int64 {
	return n.clocks.wallMS() - (n.clocks.boottime()-n.clocks.startNS)/1e6
}

func (n *Node) layoutStatus(l *layout.Layout) admin.Layout {
	out := admin.Layout{
		Partitions: l.Partitions(), Copies: l.Copies(), WriteQuorum: n.cfg.WriteQuorum, ReadQuorum: n.cfg.ReadQuorum,
		View: fmt.Sprintf("%016x", l.ViewHash8()),
	}
	for _, m := range l.Members() {
		out.Members = append(out.Members, admin.Member{
			Name: m.Name, Node: kv.NodeID(m.Node).String(), Epoch: m.Epoch, Weight: m.Weight, Zone: m.Zone,
			Addresses: m.Addresses, Status: m.Status.String(),
		})
	}
	return out
}

// Nodes implements httpapi.Status.
func (s status) Nodes() []admin.Node {
	n := s.n
	l := n.replica.Layout()
	if l == nil {
		return nil
	}
	peers := n.replica.Connected()
	live := n.replica.LiveOf()
	c := s.counts()
	var out []admin.Node
	for _, m := range l.Members() {
		node := admin.Node{Name: m.Name, ID: kv.NodeID(m.Node).String(), Owned: len(l.OwnedBy(m.Name)), State: "down"}
		if len(m.Addresses) > 0 {
			node.Address = m.Addresses[0]
		}
		if m.Name == n.id.Name {
			node.Self, node.Alive, node.Boot = true, true, n.self.Boot
			node.Live, node.Verified, node.State = c.Live, c.Verified, s.state(s.Ready().Ready)
			node.SeenMS = n.clocks.wallMS()
		}
		if i := slices.IndexFunc(peers, func(p replica.Peer) bool { return p.Name == m.Name }); i >= 0 {
			p := peers[i]
			node.Boot, node.Alive, node.Live = p.Boot, p.Fresh, live[m.Name]
			node.RTTMS = float64(p.RTTNS) / 1e6
			node.SeenMS = n.clocks.wallMS() - (n.clocks.boottime()-p.SeenNS)/1e6
			node.State = "not_ready"
			if node.Live == node.Owned {
				node.State = "ready"
			}
		}
		out = append(out, node)
	}
	return out
}

// Partitions implements httpapi.Status.
func (s status) Partitions() []admin.Partition {
	n := s.n
	var out []admin.Partition
	for p := range n.replica.Parts() {
		a := admin.Partition{ID: uint32(p.Partition), Owners: p.Owners, Owned: p.Self, StandIns: p.StandIns}
		if sh := n.set.Shard(p.Partition); sh != nil {
			st := sh.Status()
			a.State, a.Trust, a.Verified, a.Keys = p.State.String(), st.Trust.String(), p.Verified, st.Digest.Count
			a.Path, a.Reason, a.Lead, a.ClockActors = p.Path, p.Reason, p.Lead, st.Clock.Len()
			a.Sealed = len(st.Clock.Seals())
			sum := st.Digest.Bytes()
			if p.Held {
				a.State = admin.StateStandIn
			}
			a.Root = hex.EncodeToString(sum[:])
		}
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b admin.Partition) int { return int(int64(a.ID) - int64(b.ID)) })
	return out
}

// Rejoin implements httpapi.Status.
func (s status) Rejoin(ctx context.Context, wait time.Duration) admin.Rejoin {
	if wait == 0 {
		return s.rejoin()
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	err := s.n.replica.Level(ctx)
	out, synced := s.rejoin(), err == nil
	if out.Synced = &synced; err != nil {
		out.Unsynced = err.Error()
	}
	return out
}

func (s status) rejoin() admin.Rejoin {
	n := s.n
	st := n.replica.Stats()
	out := admin.Rejoin{
		StartedMS: n.startedMS(), OfflineMS: n.self.offlineMS, Partitions: s.counts(), PerStep: map[string]int{},
		SyncBytesIn: uint64(st.SyncBytesIn.Load()), SyncBytesOut: uint64(st.SyncBytesOut.Load()),
		EntriesReceived: uint64(st.EntriesIn.Load()), EntriesSent: uint64(st.EntriesOut.Load()),
		FirstHelloMS: n.moment(st.FirstHelloNS.Load()), LastPendMS: n.moment(st.LastPendNS.Load()),
		CaughtUpMS: n.moment(st.CaughtUpNS.Load()), VerifiedMS: n.moment(st.VerifiedNS.Load()),
	}
	out.WireBytesIn, out.WireBytesOut = n.wireAtCatchUp()
	out.Healed = n.healed()
	g := n.replica.Guard()
	out.Guard = admin.SyncGuard{
		Factor: float64(g.Factor) / 1000, QuietP99MS: float64(g.QuietP99US) / 1000, P99MS: float64(g.P99US) / 1000,
		RateBytes: g.RateBytes, Slowed: g.Slowed,
	}
	for p := range n.replica.Parts() {
		if p.Self && p.Path != "" && p.Partition != kv.System {
			out.PerStep[p.Path]++
		}
	}
	out.Steps = stepsOf(n.replica.Parts())
	return out
}

func (n *Node) moment(ns int64) *float64 {
	if ns == 0 {
		return nil
	}
	ms := n.clocks.sinceStart(ns)
	return &ms
}

// info adds edged's own sections to INFO.
func (n *Node) info() []resp.Section {
	if n.serving.Load() == nil {
		return nil
	}
	c := status{n}.counts()
	number := func(v int) string { return strconv.Itoa(v) }
	return []resp.Section{{Name: "Edged", Fields: []resp.Field{
		{Name: "edged_node", Value: n.id.Name},
		{Name: "edged_cluster", Value: n.id.Cluster},
		{Name: "edged_partitions_owned", Value: number(c.Owned)},
		{Name: "edged_partitions_live", Value: number(c.Live)},
		{Name: "edged_partitions_verified", Value: number(c.Verified)},
	}}}
}
