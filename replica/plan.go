package replica

import (
	"context"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/internal/layout"
	"edged.dev/edged/internal/repair"
	"edged.dev/edged/replica/core"
)

// Planner makes repair plans. It answers always, by the built-in plan where the
// operator's policy fails.
type Planner interface {
	PlanRepair(ctx context.Context, in repair.Input) PlanDecision
}

// PlanDecision is a plan and how it came about.
type PlanDecision struct {
	Policy string // identity of what planned
	Epoch  uint64
	Plan   repair.Plan
	// Fallback says why the built-in plan stands in for the policy's, "": it does
	// not. Detail says more.
	Fallback, Detail string
	FuelUsed         int64
	Log              []string
}

// Load is what a node tells a plan of itself.
type Load struct {
	CPUPermille, MemPermille uint32
	UTCOffsetS               int32
	// EgressKiBps is what it sends to other nodes, the streams of sessions aside: what
	// they may take is the plan's to say.
	EgressKiBps uint32
}

const (
	// keptPlans bounds the plans remembered: half a minute of rounds. One of the
	// most ranges takes some megabytes.
	keptPlans = 8
	// meanObjectBytes estimates a version that is not here yet.
	meanObjectBytes = 256
)

// PlanRecord is one plan as it was made: what it was made of, what it says, and
// what came of it. The input, given to the same policy, gives the same plan.
type PlanRecord struct {
	Seq  uint64
	AtMS int64 // Unix milliseconds
	// Asked says that the plan orders repair. Otherwise no policy is in force, and
	// the record only shows what was done.
	Asked bool
	Input repair.Input
	PlanDecision
	Orders   []repair.Order
	Outcomes []PlanOutcome // by partition
}

// PlanOutcome is what came of a partition that a plan names. Times are in
// milliseconds since the plan.
type PlanOutcome struct {
	Partition uint64
	Peer      string // asked last
	AskedMS   int64
	EndedMS   int64 // 0: not yet
	Failures  int   // streams that broke off
}

// plans remembers the plans of this process.
type plans struct {
	asks     atomic.Bool // a policy orders repair
	mu       sync.Mutex
	seq      uint64
	ring     []*planEntry // oldest first
	repaired map[kv.Partition]int64
	started  int64
}

type planEntry struct {
	PlanRecord
	at       int64 // boot-time clock
	orders   map[uint64]int
	outcomes map[uint64]*PlanOutcome
}

// PlansRepair says whether an operator's policy orders repair. It is told whenever
// that may have changed.
func (r *Replica) PlansRepair(on bool) {
	if r.plans.asks.Swap(on) != on {
		r.step(core.Planning{On: on})
	}
}

// Plans returns the plans remembered, the newest first.
func (r *Replica) Plans() []PlanRecord {
	r.plans.mu.Lock()
	defer r.plans.mu.Unlock()
	out := make([]PlanRecord, 0, len(r.plans.ring))
	for _, e := range slices.Backward(r.plans.ring) {
		rec := e.PlanRecord
		for _, o := range e.outcomes {
			rec.Outcomes = append(rec.Outcomes, *o)
		}
		slices.SortFunc(rec.Outcomes, func(a, b PlanOutcome) int { return int(int64(a.Partition) - int64(b.Partition)) })
		out = append(out, rec)
	}
	return out
}

// watchPlan follows what becomes of a plan. Without a policy it notes the built-in
// plan by which a session went.
func (r *Replica) watchPlan(ev core.Event) {
	switch e := ev.(type) {
	case core.PartEnded:
		r.plans.ended(e, r.cfg.Boottime())
	case core.PartsEnded:
		for _, x := range e {
			r.plans.ended(x, r.cfg.Boottime())
		}
	case core.HelloAnswered:
		if len(e.Wants) > 0 && !e.Failed && !r.plans.asks.Load() && r.plans.due(r.cfg.Boottime()) {
			r.tasks.run(func(ctx context.Context) { r.plan(ctx, e.Wants, e.Name) })
		}
	}
}

// plan has a plan made over what is lacking now, and hands it to the machine where
// a policy orders repair. begun are partitions that name streams already.
func (r *Replica) plan(ctx context.Context, begun []kv.Partition, name string) {
	in, rest := r.planInput()
	if len(in.Ranges) == 0 {
		return
	}
	asks := r.plans.asks.Load()
	d := PlanDecision{Policy: "built-in", Plan: repair.Builtin(in)}
	if asks {
		d = r.cfg.Planner.PlanRepair(ctx, in)
	}
	orders := d.Plan.Orders()
	for _, p := range rest { // in a later round, or when nothing of this one is left
		orders = append(orders, repair.Order{Partition: p, Wave: repair.MaxWaves - 1})
	}
	now := r.cfg.Boottime()
	rec := r.plans.add(PlanRecord{AtMS: r.cfg.WallMS(), Asked: asks, Input: in, PlanDecision: d, Orders: orders}, now)
	r.plans.asked(begun, name, now)
	if asks {
		r.step(core.Planned{Orders: coreOrders(orders)})
	}
	if r.cfg.Events.Plan != nil {
		r.cfg.Events.Plan(rec)
	}
}

func coreOrders(orders []repair.Order) []core.Order {
	out := make([]core.Order, len(orders))
	for i, o := range orders {
		out[i] = core.Order{Partition: kv.Partition(o.Partition), Wave: o.Wave, Peers: o.Peers, Delay: o.DelayMS * int64(time.Millisecond)}
	}
	return out
}

// planInput gathers what a plan is made of, and returns the partitions for which
// there was no room.
func (r *Replica) planInput() (in repair.Input, rest []uint64) {
	r.mu.Lock()
	gaps := r.machine.Gaps()
	r.mu.Unlock()
	in = repair.Input{TickS: uint64(max(0, r.NowMS()/1000)), MaxSteps: repair.MaxRanges, Inflight: r.sessions.open()}
	peers, index := r.planPeers(&in)
	slices.SortStableFunc(gaps, func(a, b core.Gap) int { // what does not serve first, if there is no room for all
		switch {
		case a.Serves == b.Serves:
			return 0
		case b.Serves:
			return -1
		}
		return 1
	})
	now, known := r.cfg.Boottime(), map[kv.Partition]bool{}
	for _, g := range gaps {
		from, ok := index[g.Peer]
		if !ok {
			continue
		}
		if len(in.Ranges) == repair.MaxRanges {
			if !known[g.Partition] {
				known[g.Partition] = true
				rest = append(rest, uint64(g.Partition))
			}
			continue
		}
		known[g.Partition] = true
		rg := repair.Range{
			Partition: uint64(g.Partition), From: from, Keys: g.Dots, Bytes: g.Dots * meanObjectBytes, Dots: g.Dots,
			AgeMS: g.Age / int64(time.Millisecond), RepairMS: r.plans.sinceRepair(g.Partition, now), Serves: g.Serves,
			RTTMS: uint16(min(peers[from].RTTUS/1000, math.MaxUint16)), Failures: uint16(min(g.Failures, math.MaxUint16)),
		}
		if sh := r.cfg.Set.Shard(g.Partition); sh != nil {
			rg.Total = sh.Count()
		}
		in.Ranges = append(in.Ranges, rg)
	}
	r.heat.show(&in, now, r.toldHeat())
	return in, rest
}

// planPeers fills in this node, first, and the connected peers, by name.
func (r *Replica) planPeers(in *repair.Input) ([]repair.Peer, map[string]uint32) {
	zones := zonesOf(r.layout.Load())
	var load Load
	if r.cfg.Load != nil {
		load = r.cfg.Load()
	}
	in.CPUPermille, in.UTCOffsetS = load.CPUPermille, load.UTCOffsetS
	in.BudgetBytes = uint64(max(r.syncRate(), 0)) * repair.RoundMS / 1000
	peers := []repair.Peer{{
		Name: r.cfg.Self, Node: uint64(r.cfg.Node), CPUPermille: load.CPUPermille, MemPermille: load.MemPermille,
		EgressKiBps: load.EgressKiBps, Zone: zones[r.cfg.Self], State: r.ownState(),
	}}
	index := map[string]uint32{}
	live := r.LiveOf()
	for _, p := range r.Connected() {
		if len(peers) == repair.MaxPeers {
			break
		}
		rtt := uint32(min(max(p.RTTNS, 0)/1000, math.MaxUint32))
		peer := repair.Peer{
			Name: p.Name, Node: uint64(p.Node), RTTUS: rtt, Zone: zones[p.Name], Link: repair.LinkOf(rtt),
			CPUPermille: 10 * uint32(p.Load.Busy), MemPermille: 10 * uint32(p.Load.Mem), EgressKiBps: p.Load.EgressKiBps,
		}
		switch {
		case p.Load.Leaving:
			peer.State = repair.Draining
		case !p.Fresh:
			peer.State = repair.Suspect
		case live[p.Name] == 0:
			peer.State = repair.Rejoining
		}
		index[p.Name] = uint32(len(peers))
		peers = append(peers, peer)
	}
	in.Peers = peers
	return peers, index
}

// ownState is what this node does.
func (r *Replica) ownState() repair.State {
	if r.leaving.Load() {
		return repair.Draining
	}
	for p := range r.Parts() {
		if p.Self && p.State != kv.Live {
			return repair.Rejoining
		}
	}
	return repair.Up
}

// zonesOf numbers the zones of a layout from 1, in the order of their names, and
// returns each member's.
func zonesOf(l *layout.Layout) map[string]uint16 {
	out := map[string]uint16{}
	if l == nil {
		return out
	}
	var names []string
	for _, m := range l.Members() {
		if m.Zone != "" {
			names = append(names, m.Zone)
		}
	}
	slices.SortFunc(names, strings.Compare)
	names = slices.Compact(names)
	for _, m := range l.Members() {
		if i, ok := slices.BinarySearch(names, m.Zone); ok {
			out[m.Name] = uint16(i + 1)
		}
	}
	return out
}

func (p *plans) add(rec PlanRecord, now int64) PlanRecord {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seq++
	rec.Seq = p.seq
	e := &planEntry{PlanRecord: rec, at: now, orders: map[uint64]int{}, outcomes: map[uint64]*PlanOutcome{}}
	for i, o := range rec.Orders {
		e.orders[o.Partition] = i
	}
	p.ring = append(p.ring, e)
	p.ring = slices.Clone(p.ring[max(0, len(p.ring)-keptPlans):])
	return rec
}

// due reports whether the built-in plan is to be noted again.
func (p *plans) due(now int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.ring) == 0 || now >= p.ring[len(p.ring)-1].at+int64(repair.RoundMS*time.Millisecond)
}

// asked notes that partitions are asked of a peer, under the newest plan.
func (p *plans) asked(parts []kv.Partition, name string, now int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.ring) == 0 {
		return
	}
	e := p.ring[len(p.ring)-1]
	for _, id := range parts {
		if _, planned := e.orders[uint64(id)]; !planned {
			continue
		}
		o := e.outcomes[uint64(id)]
		if o == nil {
			o = &PlanOutcome{Partition: uint64(id)}
			e.outcomes[uint64(id)] = o
		}
		o.Peer, o.AskedMS = name, (now-e.at)/int64(time.Millisecond)
	}
}

// ended notes how a stream ended, in the newest plan under which it was asked for.
func (p *plans) ended(ev core.PartEnded, now int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ev.Stopped {
		return
	}
	if !ev.Failed {
		p.repaired[ev.Partition] = now
	}
	for _, e := range slices.Backward(p.ring) {
		o := e.outcomes[uint64(ev.Partition)]
		if o == nil || o.EndedMS != 0 {
			continue
		}
		if ev.Failed {
			o.Failures++
		} else {
			o.EndedMS = max(1, (now-e.at)/int64(time.Millisecond))
		}
		return
	}
}

// sinceRepair is how long ago a partition was last repaired, or since this process
// started, in milliseconds.
func (p *plans) sinceRepair(id kv.Partition, now int64) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	at, ok := p.repaired[id]
	if !ok {
		at = p.started
	}
	return (now - at) / int64(time.Millisecond)
}

// open counts the sessions under way, both ways.
func (s *sessions) open() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint32(len(s.pulls) + s.outgoing)
}
