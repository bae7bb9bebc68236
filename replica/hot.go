package replica

import (
	"cmp"
	"slices"
	"time"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/internal/repair"
	"edged.dev/edged/partition"
	"edged.dev/edged/transport/wire"
)

const (
	// maxHotOrders bounds the partitions that a HELLO without a plan names for their
	// reads, some five bytes each: the rest follows within moments.
	maxHotOrders = 64
	// maxStepBytes is past what a partition takes: a bound above it is none.
	maxStepBytes = 1 << 40
	// maxSlowed is how long an order may slow a partition down, from when its session
	// began: as long as a plan may keep it from being asked for.
	maxSlowed = int64(repair.MaxIntervalMS) * int64(time.Millisecond)
)

// wishes is what the receiver of a session asks of how it is streamed.
type wishes struct {
	planned bool
	orders  map[kv.Partition]wire.Order
	place   map[kv.Partition]int // in the receiver's order
}

func wishesOf(h wire.Hello) wishes {
	w := wishes{planned: h.Planned, orders: map[kv.Partition]wire.Order{}, place: map[kv.Partition]int{}}
	for i, o := range h.Orders {
		if _, twice := w.orders[o.Partition]; !twice {
			w.orders[o.Partition], w.place[o.Partition] = o, i
		}
	}
	return w
}

// arrange returns partitions in the order in which they are streamed: the system
// partition, what the receiver's plan names in its order, and the others by how
// often they are read, there and here.
func (w wishes) arrange(parts []kv.Partition, reads func(kv.Partition) uint32) []kv.Partition {
	rank := func(p kv.Partition) (place int, heat uint64) {
		at, named := w.place[p]
		switch {
		case p == kv.System:
			return -1, 0
		case w.planned && named:
			return at, 0
		}
		return len(w.place), uint64(reads(p)) + uint64(w.orders[p].Reads)
	}
	out := slices.Clone(parts)
	slices.SortStableFunc(out, func(a, b kv.Partition) int {
		placeA, heatA := rank(a)
		placeB, heatB := rank(b)
		return cmp.Or(cmp.Compare(placeA, placeB), cmp.Compare(heatB, heatA))
	})
	return out
}

// rules returns which keys of a partition go first.
func (w wishes) rules(p kv.Partition) []partition.Rule {
	var out []partition.Rule
	for _, r := range w.orders[p].Rules {
		out = append(out, partition.Rule{Last: r.Last, Prefix: r.Prefix})
	}
	return out
}

// rate returns how fast a partition may be streamed in bytes a second, 0 for no
// limit of its own. No receiver slows a donor, whose snapshot it holds, to less
// than what a plan may.
func (w wishes) rate(p kv.Partition) int64 {
	r := w.orders[p].RateKiBps
	if r == 0 {
		return 0
	}
	return int64(max(r, repair.MinRateKiBps)) << 10
}

// most returns how much of a partition may be streamed in this session, 0 for all of
// it. No receiver has a donor begin again and again for less than a plan may.
func (w wishes) most(p kv.Partition) int {
	n := w.orders[p].MaxBytes
	if n == 0 || n > maxStepBytes {
		return 0
	}
	return int(max(n, repair.MinStepBytes))
}

// group is how many of the partitions that come next share a snapshot, at most so
// many. One that is slowed down has its own, which is then held no longer than it
// must be.
func (w wishes) group(parts []kv.Partition, most int) int {
	if len(parts) == 0 || w.rate(parts[0]) != 0 {
		return min(len(parts), 1)
	}
	n := 1
	for n < min(len(parts), most) && w.rate(parts[n]) == 0 {
		n++
	}
	return n
}

// ordersOf says how a donor is to stream what is asked of it: as the plan in force
// says, or where there is none, what clients read of it here.
func (r *Replica) ordersOf(wants []kv.Partition) (orders []wire.Order, planned bool) {
	if orders = r.plans.wireOrders(wants); len(orders) > 0 {
		return orders, true
	}
	for _, p := range wants {
		if reads := r.heat.rate(p, r.cfg.Boottime()); reads > 0 {
			orders = append(orders, wire.Order{Partition: p, Reads: reads})
		}
	}
	slices.SortStableFunc(orders, func(a, b wire.Order) int { return cmp.Compare(b.Reads, a.Reads) })
	return orders[:min(len(orders), maxHotOrders)], false
}

// wireOrders tells what the plan in force says of partitions, in its order; none
// where no policy orders repair.
func (p *plans) wireOrders(wants []kv.Partition) []wire.Order {
	if !p.asks.Load() {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.ring) == 0 {
		return nil
	}
	e := p.ring[len(p.ring)-1]
	var at []int
	for _, id := range wants {
		if i, ok := e.orders[uint64(id)]; ok {
			at = append(at, i)
		}
	}
	slices.Sort(at)
	var out []wire.Order
	var sets [][]wire.OrderRule
	for _, i := range at {
		o := wire.Order{Partition: kv.Partition(e.Orders[i].Partition), RateKiBps: e.Orders[i].RateKiBps, MaxBytes: e.Orders[i].MaxBytes}
		rules := tellable(e.Orders[i].Rules)
		known := slices.ContainsFunc(sets, func(s []wire.OrderRule) bool { return slices.Equal(s, rules) })
		if !known && len(rules) > 0 && len(sets) < wire.MaxRuleSets {
			sets, known = append(sets, rules), true
		}
		if known {
			o.Rules = rules
		}
		out = append(out, o)
	}
	return out
}

// tellable returns the rules that a HELLO has room for. An order that nobody heeds
// costs time, and no data.
func tellable(rules []repair.Rule) []wire.OrderRule {
	var out []wire.OrderRule
	for _, r := range rules[:min(len(rules), wire.MaxOrderRules)] {
		if len(r.Prefix) <= wire.MaxRulePrefixBytes {
			out = append(out, wire.OrderRule{Last: r.Last, Prefix: r.Prefix})
		}
	}
	return out
}
