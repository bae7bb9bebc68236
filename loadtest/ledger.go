package main

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
)

const (
	// trafficKeys is how many keys the background clients read and write. Few,
	// so that nearly every partition is quiet.
	trafficKeys = 16
	// maxKeys bounds a run: write numbers are 31 bits, and each key may be
	// written three times.
	maxKeys = 1 << 28
)

// expectation is what a key must hold: one write, or two concurrent ones, or,
// once deleted, nothing.
type expectation struct {
	a, b uint32 // numbers of writes; b is 0 but for a conflict
	gone bool   // deleted
}

func (e expectation) allows(write uint32) bool { return write == e.a || e.b != 0 && write == e.b }

// plan is which keys a run changes while a node is away, by their indices. No
// key is in two of the lists.
type plan struct {
	overwritten, inserted, deleted, conflicting []int
}

// changes is what the plan's writes are called in the report: overwritten and
// inserted keys.
func (p plan) changes() int { return len(p.overwritten) + len(p.inserted) }

// insertedShare is the part of the changed keys that are new: one in so many.
const insertedShare = 5

// writes returns the plan's writes but for the conflicts, each with a number of
// its own.
func (p plan) writes(l *ledger) []write {
	var out []write
	for _, list := range [][]int{p.overwritten, p.inserted} {
		for _, key := range list {
			out = append(out, write{key: key, number: l.number()})
		}
	}
	for _, key := range p.deleted {
		out = append(out, write{key: key, remove: true})
	}
	return out
}

// planSize is how many keys there are, and what becomes of how many in each of
// so many outages.
type planSize struct{ keys, changed, deleted, conflicts, outages int }

// inserted is how many of the changed keys are new.
func (s planSize) inserted() int { return s.changed / insertedShare }

// makePlans draws a plan for each outage from r. No key is in two of them. One
// in five of the changed keys is new, with an index from keys on; the others are
// keys that exist.
func makePlans(r *rand.Rand, s planSize) ([]plan, error) {
	overwritten := s.changed - s.inserted()
	if s.outages*(overwritten+s.deleted+s.conflicts) > s.keys {
		return nil, fmt.Errorf("%w: %d keys are too few to change %d, delete %d and make %d conflicts, %d times",
			errUsage, s.keys, overwritten, s.deleted, s.conflicts, s.outages)
	}
	order := r.Perm(s.keys)
	take := func(n int) []int {
		out := order[:n:n]
		order = order[n:]
		return out
	}
	var out []plan
	for i := range s.outages {
		p := plan{overwritten: take(overwritten), deleted: take(s.deleted), conflicting: take(s.conflicts)}
		for j := range s.inserted() {
			p.inserted = append(p.inserted, s.keys+i*s.inserted()+j)
		}
		out = append(out, p)
	}
	return out, nil
}

// ledger is what a run has written and was told is durable. Each key has one
// writer at a time; the traffic's part may be read while it is written.
type ledger struct {
	prefix string
	values values
	want   []expectation // by the key's index

	nextWrite   atomic.Uint32
	traffic     [trafficKeys]atomic.Uint32 // last acknowledged write of each
	nextTraffic atomic.Uint32
	// begun is the last write of each that was sent: after a failure it may or
	// may not be there.
	begun [trafficKeys]atomic.Uint32
}

// newLedger returns the ledger of a run over so many keys, those that it will
// insert among them.
func newLedger(prefix string, v values, keys int) *ledger {
	l := &ledger{prefix: prefix, values: v, want: make([]expectation, keys)}
	l.nextTraffic.Store(firstTraffic)
	return l
}

// number returns the number of a new write.
func (l *ledger) number() uint32 { return l.nextWrite.Add(1) }

// key returns the name of the key with an index.
func (l *ledger) key(i int) string { return fmt.Sprintf("%skey-%08d", l.prefix, i) }

// trafficKey returns the name of a background client's key.
func (l *ledger) trafficKey(i int) string { return fmt.Sprintf("%straffic-%02d", l.prefix, i) }

// index returns the index of the key with a name.
func (l *ledger) index(name string) (int, bool) {
	return numbered(name, l.prefix+"key-", len(l.want))
}

// numbered returns the number below limit that follows a prefix.
func numbered(name, prefix string, limit int) (int, bool) {
	digits, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return 0, false
	}
	i, err := strconv.Atoi(digits)
	return i, err == nil && i >= 0 && i < limit
}

// find returns the writes that the key with a name may hold, zeros among them,
// and whether the run knows the key.
func (l *ledger) find(name string) (writes []uint32, known bool) {
	if i, ok := l.index(name); ok {
		return []uint32{l.want[i].b, l.want[i].a}, true
	}
	if i, ok := numbered(name, l.prefix+"traffic-", trafficKeys); ok {
		return []uint32{l.begun[i].Load(), l.traffic[i].Load()}, true
	}
	return nil, false
}
