// Package repair is the repair plan as a value: what a node tells a repair policy,
// what the policy answers, and what the host makes of that; pure.
//
// A plan says in which order, from whom, how fast and how late a node fetches what
// its copies lack. It says nothing of the data: whatever a policy answers, the
// copies end equal. A policy may delay, order and slow repair, and never starve it;
// Guard is what holds it to that.
package repair

import "math"

// Limits of a plan. Guard and the frame's parser hold policies to them.
const (
	// MaxRanges bounds the ranges of one plan: a request of 256 KiB, and some 1,200
	// units of fuel for each. What is beyond is planned in a later round.
	MaxRanges = 4096
	// MaxPeers bounds the replicas of one plan, as the members of a layout.
	MaxPeers = 256
	// MaxHot bounds the hot prefixes that a policy is told.
	MaxHot = 32
	// MaxRules bounds the rules of one step: a donor looks through them for each
	// key that it sends.
	MaxRules = 16
	// MaxWaves is how many groups of partitions a plan's order is kept in: each
	// wave asks anew, which costs a question and its answer.
	MaxWaves = 4

	// MaxIntervalMS is how long a policy may keep a range from being repaired, in
	// milliseconds: the age at which the built-in plan takes it over. Delete markers
	// live for days, so it may be long; a copy that does not serve may not.
	MaxIntervalMS = 10 * 60 * 1000
	// RoundMS is for how long a plan stands, in milliseconds, while it delays
	// anything: what it was made of has changed by then.
	RoundMS = 5000
	// MinRateKiBps is the slowest rate of a step in KiB/s: 64 MiB within the longest
	// delay, so a slowed partition is repaired in it too.
	MinRateKiBps = 128
	// MaxRateKiBps is the fastest rate that means anything: 10 GiB/s.
	MaxRateKiBps = 10 << 20
	// MinStepBytes is the least that a step may be limited to: a chunk of a lane.
	MinStepBytes = 64 << 10
)

// State is what a peer does.
type State uint16

// The states of a peer, with their numbers in the frame.
const (
	Up State = iota
	Suspect
	Draining
	Rejoining
)

// Link is how far away a peer is.
type Link uint16

// The classes of a link, with their numbers in the frame. They follow from the
// round trip, as LinkOf says.
const (
	LinkUnknown Link = iota
	LinkLocal        // below 1 ms: one room
	LinkNear         // below 20 ms: one region
	LinkFar          // anything else
)

// LinkOf returns the class of a link with a round trip of so many microseconds; 0
// is not measured yet.
func LinkOf(rttUS uint32) Link {
	switch {
	case rttUS == 0:
		return LinkUnknown
	case rttUS < 1000:
		return LinkLocal
	case rttUS < 20_000:
		return LinkNear
	}
	return LinkFar
}

// Input is what a plan is made of. It is recorded with the plan, so that the plan
// can be made again.
type Input struct {
	// TickS is the Unix time in seconds, UTCOffsetS what to add for local time.
	TickS      uint64 `json:"tick_s"`
	UTCOffsetS int32  `json:"utc_offset_s"`
	// BudgetBytes is what repair may move in this round, 0: no limit is set.
	BudgetBytes uint64 `json:"budget_bytes"`
	// MaxSteps is the most steps that a policy may answer.
	MaxSteps uint32 `json:"max_steps"`
	// CPUPermille is the processor time this node uses, of all processors.
	CPUPermille uint32 `json:"cpu_permille"`
	// Inflight counts the sessions under way.
	Inflight uint32 `json:"inflight"`
	// ForegroundP99US is the 99th percentile of this node's answers to clients in
	// microseconds, RequestsPerS their rate; 0 where nothing was asked lately.
	ForegroundP99US uint32 `json:"foreground_p99_us"`
	RequestsPerS    uint32 `json:"requests_per_s"`

	Ranges []Range `json:"ranges"`
	// Peers are the replicas; the first is this node.
	Peers []Peer `json:"peers"`
	// Hot are the prefixes of keys that are read most, the most read first.
	Hot []Hot `json:"hot,omitempty"`
}

// Range is one partition that this node may fetch from one peer. A partition that
// several peers have more of comes once for each.
type Range struct {
	// Partition is the range's id. From indexes Peers: who has more; To: this node.
	Partition uint64 `json:"partition"`
	From      uint32 `json:"from"`
	To        uint32 `json:"to"`
	// Keys, Total, Bytes and Dots are estimates: of the keys that differ, of those in
	// the partition, of the bytes to fetch, of the versions not seen.
	Keys  uint64 `json:"diverging_keys"`
	Total uint64 `json:"total_keys"`
	Bytes uint64 `json:"bytes"`
	Dots  uint64 `json:"dots_missing"`
	// AgeMS is since when the copy is known to lack something, RepairMS since when it
	// was last repaired, or this process started.
	AgeMS    int64  `json:"age_ms"`
	RepairMS int64  `json:"last_repair_ms"`
	Reads    uint32 `json:"reads_per_s"`
	// Serves is set where the copy that lacks something serves all the same.
	Serves bool `json:"serves,omitempty"`
	// RTTMS is the peer's round trip in milliseconds, Failures how often its
	// sessions for this partition broke off.
	RTTMS    uint16 `json:"rtt_ms"`
	Failures uint16 `json:"failures"`
}

// Peer is one replica. What is not known of another node is 0.
type Peer struct {
	Name        string `json:"name"` // not told to policies
	Node        uint64 `json:"node"`
	CPUPermille uint32 `json:"cpu_permille"`
	MemPermille uint32 `json:"mem_permille"`
	EgressKiBps uint32 `json:"egress_kib_s"`
	RTTUS       uint32 `json:"rtt_us"`
	// Zone numbers the layout's zones from 1 in the order of their names; 0 is none.
	Zone  uint16 `json:"zone"`
	State State  `json:"state"`
	Link  Link   `json:"link"`
}

// Hot is a prefix of keys and how often they are read.
type Hot struct {
	Prefix string `json:"prefix"`
	Reads  uint32 `json:"reads_per_s"`
}

// Strategy is what is done with a range.
type Strategy uint8

// The strategies, with their numbers in the frame.
const (
	// Skip leaves the range alone in this round.
	Skip Strategy = iota
	// Defer leaves it for the step's delay.
	Defer
	// Sync repairs it by the ladder, which picks the step itself.
	Sync
	// Scrub recomputes it first.
	Scrub
)

// String returns the strategy's name.
func (s Strategy) String() string {
	if s > Scrub {
		return "unknown"
	}
	return [...]string{"skip", "defer", "sync", "scrub"}[s]
}

// Direction is which of a range's two replicas gets what it lacks.
type Direction uint8

// The directions, with their numbers in the frame.
const (
	Both Direction = iota
	Fetch
	Push
)

// Step is one step of a policy's answer, unchecked.
type Step struct {
	// Range indexes Input.Ranges.
	Range     uint32    `json:"range"`
	Strategy  Strategy  `json:"strategy"`
	Direction Direction `json:"direction"`
	// Priority orders the steps, the highest first; equal ones as they stand.
	Priority uint16 `json:"priority"`
	// RateKiBps is 0 for the default, DelayMS 0 for now, MaxBytes 0 for all.
	RateKiBps uint32 `json:"rate_kib_s"`
	DelayMS   uint32 `json:"delay_ms"`
	MaxBytes  uint64 `json:"max_bytes"`
	// Rules say which keys go first and which last. They leave nothing out: a
	// partition is repaired whole, or its clock would claim what never came.
	Rules []Rule `json:"rules,omitempty"`
	// Bad says what of the step could not be read; it is then dropped.
	Bad string `json:"bad,omitempty"`
}

// Rule puts the keys with a prefix before the others, or behind them.
type Rule struct {
	Last   bool   `json:"last,omitempty"`
	Prefix string `json:"prefix"`
}

// seconds rounds milliseconds down to what a frame's 32 bits of seconds hold.
func seconds(ms int64) uint32 { return uint32(min(max(ms/1000, 0), math.MaxUint32)) }

// AgeS is the range's age in whole seconds, as a policy is told.
func (r Range) AgeS() uint32 { return seconds(r.AgeMS) }

// RepairS is since when it was last repaired, in whole seconds.
func (r Range) RepairS() uint32 { return seconds(r.RepairMS) }
