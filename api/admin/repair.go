package admin

import (
	"context"
	"net/url"
	"strconv"
)

// PathRepairPlan is the plan by which a node repairs its copies. ?seq=N shows an
// earlier one, ?replay=1 makes it again.
const PathRepairPlan = "/v1/repair/plan"

// KindRepair is the kind of a policy that plans repair; it is bound to no prefix.
const KindRepair = "repair"

// BuiltinPlan is the repair policy that needs no module.
const BuiltinPlan = "built-in"

// RepairPlans is the answer of /v1/repair/plan.
type RepairPlans struct {
	// Policy names what plans now: built-in, or a policy.
	Policy string `json:"policy"`
	ID     string `json:"id"`
	Epoch  uint64 `json:"epoch,omitempty"`
	// Conflict says that another binding was made concurrently and lost.
	Conflict bool `json:"conflict,omitempty"`
	// Ready says that this node can run it; Error says why it cannot.
	Ready bool   `json:"ready"`
	Error string `json:"error,omitempty"`
	// Counters are its plans and failures since the process started.
	Counters map[string]uint64 `json:"counters,omitempty"`
	// Plan is the newest, or the one asked for; nil where nothing was lacking since
	// the process started.
	Plan *RepairPlan `json:"plan,omitempty"`
	// History has the plans that are remembered, the newest first.
	History []RepairPlanHead `json:"history"`
	// Replay is there where it was asked for.
	Replay *RepairReplay `json:"replay,omitempty"`
}

// RepairPlanHead is a plan in short.
type RepairPlanHead struct {
	Seq  uint64 `json:"seq"`
	AtMS int64  `json:"at_ms"` // Unix milliseconds
	// Policy is the id of what planned; Fallback says why the built-in plan stood in
	// for it.
	Policy   string `json:"policy"`
	Epoch    uint64 `json:"epoch,omitempty"`
	Fallback string `json:"fallback,omitempty"`
	Ranges   int    `json:"ranges"`
	// Steps counts them by what became of them: kept, clamped, dropped, overdue, added.
	Steps map[string]int `json:"steps"`
	// Repaired of Asked partitions have arrived; Failures counts broken streams.
	Asked    int `json:"asked"`
	Repaired int `json:"repaired"`
	Failures int `json:"failures"`
}

// RepairPlan is one plan as it was made.
type RepairPlan struct {
	RepairPlanHead
	// Enforced says that the plan orders repair. Without a policy a plan is only a
	// record of what is done anyway.
	Enforced bool     `json:"enforced"`
	Detail   string   `json:"detail,omitempty"` // of Fallback
	FuelUsed int64    `json:"fuel_used,omitempty"`
	Log      []string `json:"log,omitempty"`

	Input RepairInput  `json:"input"`
	Steps []RepairStep `json:"plan_steps"`
	// MoreDropped counts the dropped steps that are not shown.
	MoreDropped int             `json:"more_dropped,omitempty"`
	Outcomes    []RepairOutcome `json:"outcomes"`
}

// RepairInput is what a plan was made of.
type RepairInput struct {
	TickS           uint64        `json:"tick_s"`
	UTCOffsetS      int32         `json:"utc_offset_s"`
	BudgetBytes     uint64        `json:"budget_bytes"`
	MaxSteps        uint32        `json:"max_steps"`
	CPUPermille     uint32        `json:"cpu_permille"`
	Inflight        uint32        `json:"inflight"`
	ForegroundP99US uint32        `json:"foreground_p99_us"`
	RequestsPerS    uint32        `json:"requests_per_s"`
	Ranges          []RepairRange `json:"ranges"`
	Peers           []RepairPeer  `json:"peers"` // the first is the node itself
	Hot             []RepairHot   `json:"hot"`
}

// RepairRange is a partition that may be fetched from a peer.
type RepairRange struct {
	Partition    uint64 `json:"partition"`
	Peer         string `json:"peer"`
	Dots         uint64 `json:"dots_missing"`
	Bytes        uint64 `json:"bytes"`
	Keys         uint64 `json:"keys"`
	AgeMS        int64  `json:"age_ms"`
	LastRepairMS int64  `json:"last_repair_ms"`
	ReadsPerS    uint32 `json:"reads_per_s"`
	Serves       bool   `json:"serves"`
	RTTMS        uint16 `json:"rtt_ms"`
	Failures     uint16 `json:"failures"`
}

// RepairPeer is a node that a plan may name.
type RepairPeer struct {
	Name        string `json:"name"`
	CPUPermille uint32 `json:"cpu_permille"`
	MemPermille uint32 `json:"mem_permille"`
	EgressKiBps uint32 `json:"egress_kib_s"`
	RTTUS       uint32 `json:"rtt_us"`
	Zone        uint16 `json:"zone"`
	State       uint16 `json:"state"` // 0 up, 1 suspect, 2 draining, 3 rejoining
	Link        uint16 `json:"link"`  // 0 unknown, 1 local, 2 near, 3 far
}

// RepairHot is a prefix that is read much.
type RepairHot struct {
	Prefix    string `json:"prefix"`
	ReadsPerS uint32 `json:"reads_per_s"`
}

// RepairStep is a step and what became of it.
type RepairStep struct {
	Partition uint64 `json:"partition"`
	Peer      string `json:"peer,omitempty"`
	Strategy  string `json:"strategy"`
	Priority  uint16 `json:"priority"`
	RateKiBps uint32 `json:"rate_kib_s"`
	DelayMS   uint32 `json:"delay_ms"`
	MaxBytes  uint64 `json:"max_bytes"`
	// First and Last are the prefixes whose keys go before and behind the others.
	First []string `json:"first,omitempty"`
	Last  []string `json:"last,omitempty"`
	// Fate is kept, clamped, dropped, overdue or added; Why says it in words.
	Fate string `json:"fate"`
	Why  string `json:"why,omitempty"`
}

// RepairOutcome is what came of a partition. Times are milliseconds since the
// plan.
type RepairOutcome struct {
	Partition uint64 `json:"partition"`
	Peer      string `json:"peer"`
	AskedMS   int64  `json:"asked_ms"`
	EndedMS   int64  `json:"ended_ms,omitempty"` // left out: not yet
	Failures  int    `json:"failures,omitempty"`
}

// RepairReplay is what came of making a plan again.
type RepairReplay struct {
	Same   bool   `json:"same"`
	Failed bool   `json:"failed,omitempty"` // it could not be made, so that nothing was compared
	Detail string `json:"detail,omitempty"` // where it is not the same, or cannot be made
}

// RepairPlan returns the plan by which the node repairs, or an earlier one by its
// number. With replay the node makes it again, of the recorded input.
func (c *Client) RepairPlan(ctx context.Context, seq uint64, replay bool) (RepairPlans, error) {
	query := url.Values{}
	if seq > 0 {
		query.Set("seq", strconv.FormatUint(seq, 10))
	}
	if replay {
		query.Set("replay", "1")
	}
	path := PathRepairPlan
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return get[RepairPlans](ctx, c, path)
}

// DeployRepair uploads a repair policy and puts it in force for the cluster. With
// the name BuiltinPlan wasm must be empty.
func (c *Client) DeployRepair(ctx context.Context, wasm []byte, name string) (Deployed, error) {
	query := url.Values{"name": {name}, "kind": {KindRepair}}
	return post[Deployed](ctx, c, PathPolicies+"?"+query.Encode(), wasm)
}

// RollbackRepair puts the repair policy before the present one in force again.
func (c *Client) RollbackRepair(ctx context.Context) (RolledBack, error) {
	query := url.Values{"kind": {KindRepair}}
	return post[RolledBack](ctx, c, PathRollback+"?"+query.Encode(), nil)
}
