package core

import "slices"

// Mixed is what an acknowledgement names as the first owner where that changed among
// the writes that it is for. No node is called so.
const Mixed = "?"

// Quorum counts the durable owner copies of one write. It is a value: no lock,
// no clock. The coordinator's own copy counts like any other.
//
// An owner's acknowledgement names who that owner held to be the first serving one
// when its copy became durable. It counts if that is the coordinator or the owner
// itself, if whoever is named has acknowledged too, or if the owner knew nobody. So
// of two nodes that each hold themselves to be first, one that a third knows not to
// be gets no full acknowledgement by it alone: the other, which goes by what it
// holds, has the write or the write was not promised.
type Quorum struct {
	Need   int    // copies a full acknowledgement has
	Self   string // the coordinator
	acked  []ack
	failed []string
	asked  int
	stands []string // who stands in beside the owners
	stood  []string // of them, those whose copy is durable
}

type ack struct{ owner, first string }

// NewQuorum returns the quorum of a write of self that owners are asked to store.
func NewQuorum(need int, self string, owners []string) Quorum {
	return Quorum{Need: need, Self: self, asked: len(owners)}
}

// StandIns names the nodes that were asked beside the owners. Their copies never make
// a full acknowledgement: they are told apart.
func (q *Quorum) StandIns(names []string) {
	q.stands = names
	q.asked += len(names)
}

// Stood is the number of durable copies of nodes that stand in.
func (q *Quorum) Stood() int { return len(q.stood) }

// Ack counts an owner's durable copy, once; first is whom it held to be first, ""
// where it knew nobody.
func (q *Quorum) Ack(owner, first string) {
	if q.settled(owner) {
		return
	}
	if slices.Contains(q.stands, owner) {
		q.stood = append(q.stood, owner)
		return
	}
	q.acked = append(q.acked, ack{owner, first})
}

// settled reports whether it is known what became of the copy of one that was asked.
func (q *Quorum) settled(name string) bool {
	return q.Has(name) || slices.Contains(q.stood, name) || slices.Contains(q.failed, name)
}

// Fail says that no acknowledgement of an owner will come: it went, or its
// incarnation did.
func (q *Quorum) Fail(owner string) {
	if !q.settled(owner) {
		q.failed = append(q.failed, owner)
	}
}

func (q *Quorum) counts(a ack) bool {
	return a.first == "" || a.first == q.Self || a.first == a.owner || q.Has(a.first)
}

// Copies is the number of durable copies that count.
func (q *Quorum) Copies() int {
	n := 0
	for _, a := range q.acked {
		if q.counts(a) {
			n++
		}
	}
	return n
}

// Doubted reports whether some owner named another first, which has not
// acknowledged: what that one holds may not be covered.
func (q *Quorum) Doubted() bool { return q.Copies() < len(q.acked) }

// Partial reports whether a write of the coordinator may have missed another that was
// acknowledged before it began, or may be missed by one that begins later. began is
// what the coordinator saw then, now what it sees at the answer. byLead says that the
// write went by the coordinator's copy alone: then its lead must have lasted. And
// whoever was or is first in its view must have the write: it may go by its own copy
// alone when the next one comes.
func (q *Quorum) Partial(began, now *Part, byLead bool) bool {
	if byLead && (!now.Lead || now.Term != began.Term) {
		return true
	}
	if now.First != "" && now.First != q.Self && !q.Has(now.First) {
		return true
	}
	return began.First != q.Self && !q.Has(began.First) || q.Doubted()
}

// Has reports whether an owner's copy is durable.
func (q *Quorum) Has(owner string) bool {
	return slices.ContainsFunc(q.acked, func(a ack) bool { return a.owner == owner })
}

// Settled reports whether the answer can be given: enough copies, or nobody left
// who could make one. A node cut off from the rest so acknowledges with the
// copies it could make, and says how many.
func (q *Quorum) Settled() bool {
	return q.Copies() >= q.Need || len(q.acked)+len(q.stood)+len(q.failed) >= q.asked
}
