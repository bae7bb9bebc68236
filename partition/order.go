package partition

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"edged.dev/edged/internal/kv"
)

const (
	// MaxFirst bounds the keys that a session sends ahead of the rest: the most read
	// of a partition. Each costs a look into the directory and one at its versions,
	// some 30 us.
	MaxFirst = 128
	// fewDots is up to how many versions nothing is sent ahead: all of them are there
	// within a few chunks, and in the order of the index they take less bytes.
	fewDots = 4 * MaxFirst
)

// Rule puts the keys with a prefix before the others of a partition, or behind
// them. Of several the first that fits counts.
type Rule struct {
	Last   bool
	Prefix string
}

// order is which keys of a session go first: those named, and then by passes over
// the dot index, as the rules say. It decides when something is sent, never
// whether.
type order struct {
	first  []string // left to be sent ahead
	rules  []Rule
	passes []int // classes left to scan, of this pass and those behind it; nil: one pass takes all
	spans  []kv.Span
}

// The classes of keys, in the order of their passes.
const (
	classFirst = iota
	classRest
	classLast
)

// Order says which keys go first, ahead of the first call of Next: those named,
// MaxFirst of them at most, and of the rest those that the rules put before others.
func (o *Outgoing) Order(first []string, rules []Rule) {
	var dots uint64
	for _, s := range o.spans {
		dots += s.Runs[0].To - s.Base
	}
	if dots > fewDots {
		o.order.first = first[:min(len(first), MaxFirst)]
	}
	if o.order.rules = rules; len(rules) == 0 {
		return
	}
	o.order.spans = make([]kv.Span, len(o.spans))
	for i, s := range o.spans {
		o.order.spans[i] = kv.Span{Actor: s.Actor, Base: s.Base, Runs: slices.Clone(s.Runs)}
	}
	for class, any := range [...]bool{classFirst: has(rules, false), classRest: true, classLast: has(rules, true)} {
		if any {
			o.order.passes = append(o.order.passes, class)
		}
	}
}

func has(rules []Rule, last bool) bool {
	return slices.ContainsFunc(rules, func(r Rule) bool { return r.Last == last })
}

// takes reports whether a key is of the present pass.
func (o *order) takes(key []byte) bool { return len(o.passes) == 0 || o.class(key) == o.passes[0] }

func (o *order) class(key []byte) int {
	for _, r := range o.rules {
		if strings.HasPrefix(string(key), r.Prefix) {
			if r.Last {
				return classLast
			}
			return classFirst
		}
	}
	return classRest
}

// nextPass returns the spans of the next pass, none behind the last.
func (o *order) nextPass() []kv.Span {
	if len(o.passes) <= 1 {
		return nil
	}
	o.passes = o.passes[1:]
	return slices.Clone(o.spans)
}

// ahead adds the keys that go before the scan. What they bring the scan leaves out.
func (o *Outgoing) ahead(c *Chunk, maxBytes int) error {
	for len(o.order.first) > 0 && c.Bytes < maxBytes {
		key := o.order.first[0]
		o.order.first = o.order.first[1:]
		if err := o.addWhole(key, c); err != nil && !errors.Is(err, ErrDamaged) { // a damaged one has its turn in the scan
			return err
		}
	}
	return nil
}

// newestFirst puts what the latest processes wrote first: it is what was written
// while the receiver was away, and what is asked for.
func newestFirst(spans []kv.Span) {
	slices.SortStableFunc(spans, func(a, b kv.Span) int { return cmp.Compare(b.Actor.Boot, a.Actor.Boot) })
}
