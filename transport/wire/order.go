package wire

import (
	"slices"

	"edged.dev/edged/internal/kv"
)

// Order is what the receiver of a session asks of how one of the partitions it
// wants is streamed. It is a wish: what a donor cannot do for it, it leaves.
type Order struct {
	Partition kv.Partition
	// Reads is how often the receiver's clients read of it, a second.
	Reads uint32
	// RateKiBps is how fast it may be streamed, 0: as fast as anything.
	RateKiBps uint32
	// MaxBytes is how much of it may be streamed in one session, 0: all. A plan says it.
	MaxBytes uint64
	// Rules say which of its keys go first and which last, the first that fits.
	Rules []OrderRule
}

// OrderRule puts the keys with a prefix before the others, or behind them.
type OrderRule struct {
	Last   bool
	Prefix string
}

// orders appends the orders of a HELLO; the rules that several share come once.
func (e *encoder) orders(orders []Order, planned bool) {
	e.uvarint(uint64(len(orders)))
	if len(orders) == 0 {
		return
	}
	e.byte(b2u(planned))
	var sets [][]OrderRule
	of := make([]int, len(orders)) // 0: none
	for i := range orders {
		rules := orders[i].Rules
		if len(rules) == 0 {
			continue
		}
		at := slices.IndexFunc(sets, func(s []OrderRule) bool { return slices.Equal(s, rules) })
		if at < 0 {
			at = len(sets)
			sets = append(sets, rules)
		}
		of[i] = at + 1
	}
	e.uvarint(uint64(len(sets)))
	for _, s := range sets {
		e.uvarint(uint64(len(s)))
		for _, rule := range s {
			e.byte(b2u(rule.Last))
			e.string(rule.Prefix)
		}
	}
	prev := noPartition
	for i, o := range orders {
		e.partitionAfter(&prev, o.Partition)
		e.uvarint(uint64(o.Reads))
		e.uvarint(uint64(o.RateKiBps))
		if planned {
			e.uvarint(o.MaxBytes)
		}
		e.uvarint(uint64(of[i]))
	}
}

// orders reads what orders wrote.
func (r *reader) orders() (orders []Order, planned bool) {
	n := r.count("orders", MaxCopies, 4)
	if n == 0 {
		return nil, false
	}
	planned = r.upTo("a mark", 1) == 1
	sets := make([][]OrderRule, r.count("sets of rules", MaxRuleSets, 1))
	for i := range sets {
		rules := make([]OrderRule, r.count("rules", MaxOrderRules, 2))
		for j := range rules {
			rules[j].Last = r.upTo("a mark", 1) == 1
			rules[j].Prefix = string(r.bytes("a rule's prefix", MaxRulePrefixBytes))
		}
		sets[i] = rules
	}
	orders = make([]Order, 0, n)
	prev := noPartition
	for range n {
		o := Order{Partition: r.partitionAfter(&prev), Reads: r.u32("reads"), RateKiBps: r.u32("a rate")}
		if planned {
			o.MaxBytes = r.uvarint()
		}
		if set := r.upTo("a set of rules", uint64(len(sets))); set > 0 {
			o.Rules = sets[set-1]
		}
		orders = append(orders, o)
	}
	return orders, planned
}

// u32 reads a number of 32 bits.
func (r *reader) u32(what string) uint32 { return uint32(r.upTo(what, 1<<32-1)) }
