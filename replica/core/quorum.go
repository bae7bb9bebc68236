package core

import "slices"

// Quorum counts the durable owner copies of one write. It is a value: no lock,
// no clock. The coordinator's own copy counts like any other.
type Quorum struct {
	Need   int // copies a full acknowledgement has
	acked  []string
	failed []string
	asked  int
}

// NewQuorum returns the quorum of a write that owners are asked to store.
func NewQuorum(need int, owners []string) Quorum { return Quorum{Need: need, asked: len(owners)} }

// Ack counts an owner's durable copy, once.
func (q *Quorum) Ack(owner string) {
	if !slices.Contains(q.acked, owner) && !slices.Contains(q.failed, owner) {
		q.acked = append(q.acked, owner)
	}
}

// Fail says that no acknowledgement of an owner will come: it went, or its
// incarnation did.
func (q *Quorum) Fail(owner string) {
	if !slices.Contains(q.acked, owner) && !slices.Contains(q.failed, owner) {
		q.failed = append(q.failed, owner)
	}
}

// Copies is the number of durable copies.
func (q *Quorum) Copies() int { return len(q.acked) }

// Has reports whether an owner's copy is durable.
func (q *Quorum) Has(owner string) bool { return slices.Contains(q.acked, owner) }

// Settled reports whether the answer can be given: enough copies, or nobody left
// who could make one. A node cut off from the rest so acknowledges with the
// copies it could make, and says how many.
func (q *Quorum) Settled() bool {
	return len(q.acked) >= q.Need || len(q.acked)+len(q.failed) >= q.asked
}
