package main

import (
	"math"
	"time"
)

// The kinds of operations of a history. Those over RESP carry no token: what
// they supersede is what their coordinator saw.
const (
	opPut    = "PUT"
	opDelete = "DELETE"
	opGet    = "GET"
	opSet    = "SET"
	opDel    = "DEL"
	opRead   = "READ" // GET over RESP: one value, which may be another sibling, and no marks
)

// What became of an operation. After unknown it may or may not have taken effect.
const (
	resultOK      = "ok"
	resultFail    = "fail"
	resultUnknown = "unknown"
)

// op is one operation as its client saw it. Times are since the run began.
type op struct {
	Session int           `json:"session"`
	Node    int           `json:"node"`
	Kind    string        `json:"kind"`
	Key     string        `json:"key"`
	Value   string        `json:"value,omitempty"`
	TTL     time.Duration `json:"ttl_ns,omitempty"`
	// Token says that the operation had one, and Covers which values it was the token of.
	Token  bool     `json:"token,omitempty"`
	Covers []string `json:"covers,omitempty"`
	// Before is when a write had been answered whose token it was: that token is of all
	// that the key then held, which its writer was not told.
	Before time.Duration `json:"before_ns,omitempty"`
	// After is the session's own write whose fence a read carried.
	After string `json:"after,omitempty"`

	Invoked  time.Duration `json:"invoked_ns"`
	Returned time.Duration `json:"returned_ns"`
	Result   string        `json:"result"`
	Why      string        `json:"why,omitempty"`
	Values   []string      `json:"values,omitempty"` // of a read: all siblings
	Dots     []string      `json:"dots,omitempty"`   // of the same
	State    string        `json:"state,omitempty"`  // isolated or degraded
	Copies   int           `json:"copies,omitempty"` // of owners, durable at the answer
}

func (o *op) writes() bool  { return o.Kind == opPut || o.Kind == opSet }
func (o *op) removes() bool { return o.Kind == opDelete || o.Kind == opDel }
func (o *op) reads() bool   { return o.Kind == opGet || o.Kind == opRead }
func (o *op) ok() bool      { return o.Result == resultOK }

// changes reports whether it may have changed its key.
func (o *op) changes() bool { return !o.reads() && o.Result != resultFail }

// until is when it can have taken effect at the latest.
func (o *op) until() time.Duration {
	if o.Result == resultUnknown {
		return math.MaxInt64
	}
	return o.Returned
}

// unseen is the moment before which a write must have begun for o to supersede it unseen:
// without a token it supersedes what its coordinator has.
func (o *op) unseen() time.Duration {
	if o.Token {
		return o.Before
	}
	return o.until()
}

// diskLoss is a disk that was wiped or rolled back: what one copy alone held of
// this while may be gone.
type diskLoss struct{ From, To time.Duration }

// history is what a run did and was told.
type history struct {
	Ops    []*op
	Losses []diskLoss
	// Starts are, by node, when it was started again or resumed after a pause longer
	// than a lease.
	Starts map[int][]time.Duration
	// Restarted are the nodes whose process was started again: it keeps a copy that it does not
	// own, and finds on its disk, for ten minutes, since nobody knows what was promised of it.
	Restarted map[int]bool
	Healed    time.Duration // when all faults were over
	Ended     time.Duration // when the copies were read
	Names     []string      // of the nodes
	// Quorum is how many copies a write waits for.
	Quorum int
}

// excused reports whether a change may be gone although it was acknowledged: it had fewer
// copies than a quorum when a disk was lost. Over RESP nobody is told how many it had.
func (h *history) excused(o *op) bool {
	if o.Copies >= h.Quorum {
		return false
	}
	for _, l := range h.Losses {
		if o.Invoked < l.To && o.Returned > l.From {
			return true
		}
	}
	return false
}

// startBefore is the last start of a node before a moment.
func (h *history) startBefore(node int, at time.Duration) (time.Duration, bool) {
	var last time.Duration
	found := false
	for _, s := range h.Starts[node] {
		if s <= at && s >= last {
			last, found = s, true
		}
	}
	return last, found
}

// keyHistory is what concerns one key, in the order in which it was begun.
type keyHistory struct {
	key     string
	changes []*op
	reads   []*op
	wrote   map[string]*op   // by value
	covered map[string][]*op // by value: what carried a token of it
}

// byKey sorts a history by keys.
func (h *history) byKey() map[string]*keyHistory {
	out := map[string]*keyHistory{}
	for _, o := range h.Ops {
		k := out[o.Key]
		if k == nil {
			k = &keyHistory{key: o.Key, wrote: map[string]*op{}, covered: map[string][]*op{}}
			out[o.Key] = k
		}
		switch {
		case o.reads():
			k.reads = append(k.reads, o)
		case o.changes():
			k.changes = append(k.changes, o)
		}
		if o.writes() {
			k.wrote[o.Value] = o
		}
		if o.changes() {
			for _, v := range o.Covers {
				k.covered[v] = append(k.covered[v], o)
			}
		}
	}
	return out
}
