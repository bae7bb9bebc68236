package repair

import (
	"cmp"
	"fmt"
	"slices"
)

// Fate is what became of a step.
type Fate string

// The fates of a step.
const (
	// Kept: as the policy asked.
	Kept Fate = "kept"
	// Clamped: kept within the limits.
	Clamped Fate = "clamped"
	// Dropped: it asks for what there is not, or what may not be.
	Dropped Fate = "dropped"
	// Overdue: the policy would delay what was delayed for long enough.
	Overdue Fate = "overdue"
	// Added: by the host, for a partition that no step of the policy's repairs.
	Added Fate = "added"
)

// Fates returns all of them.
func Fates() []Fate { return []Fate{Kept, Clamped, Dropped, Overdue, Added} }

// Planned is a step and what became of it.
type Planned struct {
	Step
	Fate Fate `json:"fate"`
	// Why says it in words, where it is not kept as it was.
	Why string `json:"why,omitempty"`
	// Partition and Peer are those of the step's range; Dropped ones may have none.
	Partition uint64 `json:"partition"`
	Peer      string `json:"peer,omitempty"`
}

// Order is what a plan has done with one partition.
type Order struct {
	Partition uint64
	// Wave is the group it is fetched in, 0 first.
	Wave int
	// Peers are whom to ask, the preferred first. Others are asked where none of
	// these can be.
	Peers []string
	// DelayMS counts from when the plan was made.
	DelayMS int64
	// RateKiBps and MaxBytes are 0 for no limit of the plan's.
	RateKiBps uint32
	MaxBytes  uint64
	Rules     []Rule
}

// Plan is a plan that keeps the limits.
type Plan struct {
	// Steps are all steps in the order of their doing, the dropped ones last.
	Steps []Planned `json:"steps"`
	// MoreDropped counts the dropped ones that Steps leaves out.
	MoreDropped int `json:"more_dropped,omitempty"`
}

// Count returns how many steps met a fate.
func (p Plan) Count(f Fate) (n int) {
	if f == Dropped {
		n = p.MoreDropped
	}
	for i := range p.Steps {
		if p.Steps[i].Fate == f {
			n++
		}
	}
	return n
}

// Builtin is the plan for those who have no policy: everything now, what is read
// most first, from whoever has it, at the default rate.
func Builtin(in Input) Plan {
	var p Plan
	for i := range in.Ranges {
		p.Steps = append(p.Steps, in.add(i))
	}
	slices.SortStableFunc(p.Steps, func(a, b Planned) int {
		return cmp.Compare(in.Ranges[b.Range].Reads, in.Ranges[a.Range].Reads)
	})
	for i := range p.Steps {
		p.Steps[i].Fate = Kept
		p.Steps[i].Why = ""
	}
	return p
}

func (in Input) add(i int) Planned {
	r := in.Ranges[i]
	return Planned{
		Step: Step{Range: uint32(i), Strategy: Sync, Direction: Fetch}, Fate: Added, Why: "no step of the policy repairs it",
		Partition: r.Partition, Peer: in.peer(r.From),
	}
}

func (in Input) peer(i uint32) string {
	if int64(i) < int64(len(in.Peers)) {
		return in.Peers[i].Name
	}
	return ""
}

// maxDroppedShown bounds what is kept of dropped steps: a frame holds 32,000.
const maxDroppedShown = 256

// Guard makes a plan of what a policy answered, which may be anything. It drops
// what asks for ranges that there are not or that were named before, clamps
// delays, rates and sizes, takes over what is overdue, and adds what the policy
// forgot; so every partition of the input is in the plan, no later than
// MaxIntervalMS after it was found to lack something.
func Guard(in Input, answer []Step) Plan {
	var kept, dropped []Planned
	seen, planned := map[uint32]bool{}, map[uint64]bool{}
	for i := range answer {
		p := Planned{Step: answer[i], Fate: Kept}
		if int64(p.Range) < int64(len(in.Ranges)) {
			r := in.Ranges[p.Range]
			p.Partition, p.Peer = r.Partition, in.peer(r.From)
		}
		if why := in.forbidden(&p, i, seen); why != "" {
			p.Fate, p.Why = Dropped, why
			dropped = append(dropped, p)
			continue
		}
		seen[p.Range] = true
		planned[p.Partition] = true
		in.clamp(&p)
		kept = append(kept, p)
	}
	slices.SortStableFunc(kept, func(a, b Planned) int {
		return cmp.Or(cmp.Compare(rank(b.Fate), rank(a.Fate)), cmp.Compare(b.Priority, a.Priority))
	})
	for i := range in.Ranges {
		if !planned[in.Ranges[i].Partition] {
			kept = append(kept, in.add(i))
		}
	}
	shown := min(len(dropped), maxDroppedShown)
	return Plan{Steps: append(kept, dropped[:shown]...), MoreDropped: len(dropped) - shown}
}

// rank puts what is overdue before everything that the policy put first.
func rank(f Fate) int {
	if f == Overdue {
		return 1
	}
	return 0
}

func (in Input) forbidden(p *Planned, position int, seen map[uint32]bool) string {
	switch {
	case p.Bad != "":
		return p.Bad
	case uint64(position) >= uint64(in.MaxSteps):
		return fmt.Sprintf("more steps than %d", in.MaxSteps)
	case uint64(p.Range) >= uint64(len(in.Ranges)):
		return fmt.Sprintf("range %d of %d: there is no such range", p.Range, len(in.Ranges))
	case seen[p.Range]:
		return fmt.Sprintf("range %d was named before", p.Range)
	case p.Strategy > Scrub:
		return fmt.Sprintf("unknown strategy %d", p.Strategy)
	case p.Direction > Push:
		return fmt.Sprintf("unknown direction %d", p.Direction)
	case p.Direction == Push:
		return "a node fetches and never pushes: the other side asks by itself"
	}
	return ""
}

// clamp holds a step to the limits.
func (in Input) clamp(p *Planned) {
	note := func(format string, args ...any) {
		p.Fate = Clamped
		if p.Why != "" {
			p.Why += "; "
		}
		p.Why += fmt.Sprintf(format, args...)
	}
	if p.Strategy == Scrub {
		p.Strategy = Sync
		note("a scrub brings nothing that is missing: synced")
	}
	if p.RateKiBps != 0 && p.RateKiBps < MinRateKiBps {
		note("rate of %d KiB/s raised to %d", p.RateKiBps, MinRateKiBps)
		p.RateKiBps = MinRateKiBps
	}
	if p.RateKiBps > MaxRateKiBps {
		note("rate of %d KiB/s lowered to %d", p.RateKiBps, MaxRateKiBps)
		p.RateKiBps = MaxRateKiBps
	}
	if p.RateKiBps != 0 && in.Ranges[p.Range].AgeMS >= MaxIntervalMS {
		note("it has waited for %d s: at full speed", in.Ranges[p.Range].AgeS())
		p.RateKiBps = 0
	}
	if p.MaxBytes != 0 && p.MaxBytes < MinStepBytes {
		note("%d bytes raised to %d", p.MaxBytes, MinStepBytes)
		p.MaxBytes = MinStepBytes
	}
	if p.MaxBytes != 0 && in.Ranges[p.Range].AgeMS >= MaxIntervalMS {
		note("it has waited for %d s: all of it", in.Ranges[p.Range].AgeS())
		p.MaxBytes = 0
	}
	if len(p.Rules) > MaxRules {
		note("%d rules cut to %d", len(p.Rules), MaxRules)
		p.Rules = p.Rules[:MaxRules]
	}
	in.clampDelay(p, note)
}

func (in Input) clampDelay(p *Planned, note func(string, ...any)) {
	switch {
	case p.Strategy == Skip:
		p.DelayMS = MaxIntervalMS
	case p.Strategy == Defer && p.DelayMS == 0:
		p.DelayMS = RoundMS
	}
	left := MaxIntervalMS - in.Ranges[p.Range].AgeMS
	if p.DelayMS == 0 || int64(p.DelayMS) <= left {
		return
	}
	if left <= 0 {
		note("it has waited for %d s, and %d are the limit", in.Ranges[p.Range].AgeS(), MaxIntervalMS/1000)
		p.Fate, p.Strategy, p.DelayMS = Overdue, Sync, 0
		return
	}
	if p.Strategy != Skip { // a skip has no delay of its own to be cut
		note("delay of %d ms cut to %d", p.DelayMS, left)
	}
	p.DelayMS = uint32(left)
}

// Orders returns what the plan does with each partition, in the order of its doing.
//
// Of several steps for one partition the first sets its place, the first of those
// that are due soonest its rate and rules, and those due with it whom to ask.
func (p Plan) Orders() []Order {
	var out []Order
	at := map[uint64]int{}
	var priorities []uint64 // of out: equal ones share a wave
	for i := range p.Steps {
		s := &p.Steps[i]
		if s.Fate == Dropped {
			continue
		}
		j, known := at[s.Partition]
		if !known {
			j = len(out)
			at[s.Partition] = j
			out = append(out, Order{Partition: s.Partition})
			priorities = append(priorities, priority(s))
		}
		o := &out[j]
		switch {
		case !known || int64(s.DelayMS) < o.DelayMS:
			o.DelayMS, o.RateKiBps, o.MaxBytes, o.Rules = int64(s.DelayMS), s.RateKiBps, s.MaxBytes, s.Rules
			o.Peers = []string{s.Peer}
		case int64(s.DelayMS) == o.DelayMS:
			o.Peers = append(o.Peers, s.Peer)
		}
		if s.Fate == Added {
			o.Peers = nil // any
		}
	}
	waves(out, priorities)
	return out
}

// priority is above any that a policy can give for what is overdue, and below it
// for what was added.
func priority(s *Planned) uint64 {
	switch s.Fate {
	case Overdue:
		return 1 << 20
	case Added:
		return 0
	case Kept, Clamped, Dropped:
	}
	return 1 + uint64(s.Priority)
}

// waves groups orders: those of equal priority together, and where that makes too
// many groups, the first eighth, quarter and half of them apart from the rest.
func waves(orders []Order, priorities []uint64) {
	groups := 0
	for i := range orders {
		if i > 0 && priorities[i] != priorities[i-1] {
			groups++
		}
		orders[i].Wave = groups
	}
	if groups < MaxWaves {
		return
	}
	n := len(orders)
	wave := func(i int) int {
		switch {
		case 8*i < n:
			return 0
		case 4*i < n:
			return 1
		case 2*i < n:
			return 2
		}
		return MaxWaves - 1
	}
	for i := range orders {
		orders[i].Wave = wave(i)
		if i > 0 && priorities[i] == priorities[i-1] {
			orders[i].Wave = orders[i-1].Wave
		}
	}
}
