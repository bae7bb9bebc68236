package node

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"reflect"
	goruntime "runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"edged.dev/edged/api/admin"
	"edged.dev/edged/internal/repair"
	"edged.dev/edged/policies"
	"edged.dev/edged/replica"
)

// planner shows the repair policy to the replica.
type planner struct{ n *Node }

var _ replica.Planner = planner{}

// PlanRepair implements replica.Planner.
func (p planner) PlanRepair(ctx context.Context, in repair.Input) replica.PlanDecision {
	d := p.n.policies.PlanRepair(ctx, in)
	return replica.PlanDecision{
		Policy: d.PolicyID, Epoch: d.Epoch, Plan: d.Plan, Fallback: d.Fallback, Detail: d.Detail, FuelUsed: d.FuelUsed, Log: d.Log,
	}
}

// planned tells of a plan that an operator's policy made, or failed to make.
func (n *Node) planned(rec replica.PlanRecord) {
	if !rec.Asked {
		return
	}
	head := planHead(rec)
	n.plans.made.Add(1)
	text := fmt.Sprintf("%d ranges planned by %s", head.Ranges, viewName(head.Policy, head.Epoch))
	if head.Fallback != "" {
		n.plans.fellBack.Add(1)
		text = fmt.Sprintf("%s failed (%s): the built-in plan took over", viewName(head.Policy, head.Epoch), head.Fallback)
		n.log.Warn("repair policy failed; the built-in plan took over", slog.String("policy", head.Policy),
			slog.String("reason", rec.Fallback), slog.String("detail", rec.Detail))
	}
	fields := map[string]string{"seq": strconv.FormatUint(head.Seq, 10)}
	for i, fate := range repair.Fates() {
		if count := head.Steps[string(fate)]; count > 0 {
			fields[string(fate)] = strconv.Itoa(count)
			n.plans.steps[i].Add(uint64(count))
		}
	}
	n.events.emit(admin.Event{Kind: "repair.plan", Text: text, Fields: fields})
}

// planCounts counts the plans of operators' policies, and their steps by fate.
type planCounts struct {
	made, fellBack atomic.Int64
	steps          [5]atomic.Uint64 // as repair.Fates has them
}

func (m metrics) collectRepair(ch chan<- prometheus.Metric) {
	steps := map[string]uint64{}
	for i, fate := range repair.Fates() {
		steps[string(fate)] = m.n.plans.steps[i].Load()
	}
	byName(ch, "edged_repair_steps_total", "Steps of repair policies' plans, by what the host made of them.", "fate", steps)
}

// loadEvery is over how long load is measured: peers ask twice a second.
const loadEvery = int64(time.Second)

// load measures what this process takes of its machine and its link, for plans.
type load struct {
	mu          sync.Mutex
	atNS        int64
	cpu         int64 // nanoseconds used until then
	sent        int64 // bytes sent until then
	cpuPermille uint32
	egressKiBps uint32
}

// look returns the processor time used lately, of all processors, and what was sent.
func (l *load) look(nowNS, sent int64) (cpuPermille, egressKiBps uint32) {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // it does not fail; 0 is not known
	l.mu.Lock()
	defer l.mu.Unlock()
	cpu := u.Utime.Nano() + u.Stime.Nano()
	if d := nowNS - l.atNS; d >= loadEvery {
		if l.atNS != 0 {
			l.cpuPermille = uint32((cpu - l.cpu) * 1000 / (d * int64(goruntime.NumCPU())))
			// A new transport counts from 0.
			perSecond := float64(max(sent-l.sent, 0)) * float64(time.Second) / float64(d)
			l.egressKiBps = uint32(min(perSecond/1024, math.MaxUint32))
		}
		l.atNS, l.cpu, l.sent = nowNS, cpu, sent
	}
	return l.cpuPermille, l.egressKiBps
}

func (n *Node) planLoad() replica.Load {
	_, offset := time.Now().Zone()
	cpu, egress := n.load.look(n.clocks.boottime(), n.links.transport.BytesOut()-n.replica.Stats().LaneBytesOut.Load())
	return replica.Load{
		CPUPermille: cpu, EgressKiBps: egress, UTCOffsetS: int32(offset),
		MemPermille: uint32(n.tier.Stats().Bytes * 1000 / max(n.cfg.MemoryBytes, 1)),
	}
}

// repairAdmin shows plans, and deploys repair policies as ordinary writes of the
// system partition.
type repairAdmin struct{ n *Node }

// RepairPlans implements httpapi.Repair.
func (a repairAdmin) RepairPlans(ctx context.Context, seq uint64, replay bool) (admin.RepairPlans, error) {
	out := a.inForce()
	var shown *replica.PlanRecord
	for _, rec := range a.n.replica.Plans() {
		out.History = append(out.History, planHead(rec))
		if shown == nil && (seq == 0 || rec.Seq == seq) {
			shown = &rec
		}
	}
	if shown == nil {
		if seq != 0 {
			return out, &admin.Problem{Type: "no-such-plan", Title: "no such plan", Status: http.StatusNotFound, Detail: fmt.Sprintf("plan %d is not remembered", seq)}
		}
		return out, nil
	}
	out.Plan = planOf(*shown)
	if replay {
		out.Replay = a.replay(ctx, *shown)
	}
	return out, nil
}

func (a repairAdmin) inForce() admin.RepairPlans {
	out := admin.RepairPlans{Policy: policies.BuiltinPlan, ID: policies.BuiltinPlan, Ready: true}
	b, ok := a.n.policies.RepairBinding()
	if !ok {
		return out
	}
	out.Policy, out.ID, out.Epoch, out.Conflict, out.Ready = b.Policy, b.Policy, b.Epoch, b.Conflict, b.Ready
	for _, p := range policyAdmin(a).Policies() {
		if p.ID == b.Policy && p.Kind == policies.KindRepair {
			out.Policy, out.Error, out.Counters = p.Name, p.Error, p.Counters
		}
	}
	return out
}

// replay makes a recorded plan again and compares.
func (a repairAdmin) replay(ctx context.Context, rec replica.PlanRecord) *admin.RepairReplay {
	d, err := a.n.policies.ReplayRepair(ctx, a.n.system.policyRecords(), rec.Policy, rec.Input)
	switch {
	case err != nil:
		return &admin.RepairReplay{Failed: true, Detail: err.Error()}
	case d.Fallback != rec.Fallback || !reflect.DeepEqual(d.Plan, rec.Plan):
		return &admin.RepairReplay{Detail: "the same input gives another plan now"}
	}
	return &admin.RepairReplay{Same: true}
}

// DeployRepair implements httpapi.Repair.
func (a repairAdmin) DeployRepair(ctx context.Context, name string, wasm []byte) (admin.Deployed, error) {
	ctx, cancel := context.WithTimeout(ctx, deployWait)
	defer cancel()
	records := a.n.system.policyRecords()
	plan, err := policies.PlanBindRepair(records, policies.BuiltinPlan)
	if name != policies.BuiltinPlan {
		if _, err = policies.CheckRepair(ctx, wasm, nil); err == nil {
			plan, err = policies.PlanDeploy(records, wasm, policies.DeploySpec{Name: name, Kind: policies.KindRepair, NowMS: a.n.clocks.wallMS()})
		}
	}
	if err != nil {
		a.n.badUpload.Add(1)
		return admin.Deployed{}, &admin.Problem{Type: "policy-refused", Title: "policy refused", Status: http.StatusUnprocessableEntity, Detail: err.Error()}
	}
	copies, err := policyAdmin(a).write(ctx, plan)
	if err != nil {
		return admin.Deployed{}, err
	}
	return admin.Deployed{Name: name, ID: plan.PolicyID, Epoch: plan.Epoch, Copies: copies}, nil
}

// RollbackRepair implements httpapi.Repair.
func (a repairAdmin) RollbackRepair(ctx context.Context) (admin.RolledBack, error) {
	ctx, cancel := context.WithTimeout(ctx, deployWait)
	defer cancel()
	plan, err := policies.PlanRollbackRepair(a.n.system.policyRecords())
	if err != nil {
		return admin.RolledBack{}, &admin.Problem{Type: "no-binding", Title: "nothing to roll back", Status: http.StatusNotFound, Detail: err.Error()}
	}
	return policyAdmin(a).back(ctx, "", plan, func() bool {
		b, bound := a.n.policies.RepairBinding()
		return !bound || b.Epoch >= plan.Epoch
	})
}

func planHead(rec replica.PlanRecord) admin.RepairPlanHead {
	h := admin.RepairPlanHead{
		Seq: rec.Seq, AtMS: rec.AtMS, Policy: rec.Policy, Epoch: rec.Epoch, Fallback: rec.Fallback, Ranges: len(rec.Input.Ranges),
		Steps: map[string]int{},
	}
	for _, fate := range repair.Fates() {
		if count := rec.Plan.Count(fate); count > 0 {
			h.Steps[string(fate)] = count
		}
	}
	for _, o := range rec.Outcomes {
		h.Asked++
		h.Failures += o.Failures
		if o.EndedMS != 0 {
			h.Repaired++
		}
	}
	return h
}

func planOf(rec replica.PlanRecord) *admin.RepairPlan {
	out := &admin.RepairPlan{
		RepairPlanHead: planHead(rec), Enforced: rec.Asked, Detail: rec.Detail, FuelUsed: rec.FuelUsed, Log: rec.Log,
		Input: planInput(rec.Input), Steps: []admin.RepairStep{}, MoreDropped: rec.Plan.MoreDropped, Outcomes: []admin.RepairOutcome{},
	}
	for _, s := range rec.Plan.Steps {
		step := admin.RepairStep{
			Partition: s.Partition, Peer: s.Peer, Strategy: s.Strategy.String(), Priority: s.Priority, RateKiBps: s.RateKiBps,
			DelayMS: s.DelayMS, MaxBytes: s.MaxBytes, Fate: string(s.Fate), Why: s.Why,
		}
		for _, r := range s.Rules {
			if r.Last {
				step.Last = append(step.Last, r.Prefix)
			} else {
				step.First = append(step.First, r.Prefix)
			}
		}
		out.Steps = append(out.Steps, step)
	}
	for _, o := range rec.Outcomes {
		out.Outcomes = append(out.Outcomes, admin.RepairOutcome(o))
	}
	return out
}

func planInput(in repair.Input) admin.RepairInput {
	out := admin.RepairInput{
		TickS: in.TickS, UTCOffsetS: in.UTCOffsetS, BudgetBytes: in.BudgetBytes, MaxSteps: in.MaxSteps, CPUPermille: in.CPUPermille,
		Inflight: in.Inflight, ForegroundP99US: in.ForegroundP99US, RequestsPerS: in.RequestsPerS,
		Ranges: []admin.RepairRange{}, Peers: []admin.RepairPeer{}, Hot: []admin.RepairHot{},
	}
	for _, r := range in.Ranges {
		out.Ranges = append(out.Ranges, admin.RepairRange{
			Partition: r.Partition, Peer: in.Peers[r.From].Name, Dots: r.Dots, Bytes: r.Bytes, Keys: r.Total, AgeMS: r.AgeMS,
			LastRepairMS: r.RepairMS, ReadsPerS: r.Reads, Serves: r.Serves, RTTMS: r.RTTMS, Failures: r.Failures,
		})
	}
	for _, p := range in.Peers {
		out.Peers = append(out.Peers, admin.RepairPeer{
			Name: p.Name, CPUPermille: p.CPUPermille, MemPermille: p.MemPermille, EgressKiBps: p.EgressKiBps, RTTUS: p.RTTUS,
			Zone: p.Zone, State: uint16(p.State), Link: uint16(p.Link),
		})
	}
	for _, h := range in.Hot {
		out.Hot = append(out.Hot, admin.RepairHot{Prefix: h.Prefix, ReadsPerS: h.Reads})
	}
	return out
}
