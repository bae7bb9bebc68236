// Package layout has the layout as a value: members, weights, zones, the
// number of partitions, and which members own a partition in which order.
//
// Everything here is a pure function of its arguments and of no machine: the
// scores are integers and one IEEE division, so that nodes of different
// architectures, which must agree on every owner, do.
package layout

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// Status says whether a member takes part in placement.
type Status uint8

// The statuses of a member. Their numbers are part of the view's hash.
const (
	// Active members own partitions, whether they are up or not.
	Active Status = iota
	// Left members were taken out by an operator in good order.
	Left
	// Forgotten members were given up by an operator, with what only they held.
	Forgotten
)

// String names the status as the admin API does.
func (s Status) String() string {
	switch s {
	case Active:
		return "active"
	case Left:
		return "left"
	case Forgotten:
		return "forgotten"
	}
	return fmt.Sprintf("status(%d)", uint8(s))
}

// Member is one entry of the layout. Name, Weight, Zone and Status decide
// placement; the rest travels with them.
type Member struct {
	// Name is the placement key: a node that lost its disk returns under it.
	Name string
	// Node is the node ID, 64 random bits of the data directory.
	Node uint64
	// Epoch grows by one when a name comes back with another node ID.
	Epoch uint64
	// Weight is the member's share relative to the others'; 1 is usual.
	Weight float64
	// Zone is a failure domain. Members without one are of one zone together.
	Zone string
	// Addresses are where other nodes reach it, HOST:PORT.
	Addresses []string
	Status    Status
	// Former are the node IDs of earlier data directories under the name, which are
	// gone: what their processes wrote may be sealed.
	Former []uint64
}

// ErrInvalid is wrapped by every error of New.
var ErrInvalid = errors.New("invalid layout")

// Layout is an immutable layout, safe for concurrent use. Two layouts of the
// same partitions, copies and members are equal whatever order the members
// came in.
type Layout struct {
	partitions int
	copies     int
	members    []Member // sorted by name
	active     []uint16 // indexes into members
	width      int      // owners a partition has: min(copies, active members)
	names      []string // width names a partition, in rendezvous order
	view       uint64
}

// New returns the layout of these members, with its owners computed. The
// layout keeps no reference to members.
func New(partitions, copies int, members []Member) (*Layout, error) {
	sorted := slices.Clone(members)
	slices.SortFunc(sorted, func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
	if err := validate(partitions, copies, sorted); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	l := &Layout{
		partitions: partitions,
		copies:     copies,
		members:    sorted,
		view:       viewHash(sorted),
	}
	for i := range sorted {
		sorted[i].Addresses = slices.Clone(sorted[i].Addresses)
		sorted[i].Former = slices.Clone(sorted[i].Former)
		if sorted[i].Status == Active {
			l.active = append(l.active, uint16(i))
		}
	}
	l.width = min(copies, len(l.active))
	l.names = l.place()
	return l, nil
}

// Partitions is P, the number of partitions, fixed at the cluster's founding.
func (l *Layout) Partitions() int { return l.partitions }

// Copies is N, the copies wanted of each partition.
func (l *Layout) Copies() int { return l.copies }

// Width is how many owners each partition has: Copies, or the number of
// active members where there are fewer.
func (l *Layout) Width() int { return l.width }

// Members returns a copy of all members, sorted by name.
func (l *Layout) Members() []Member {
	out := slices.Clone(l.members)
	for i := range out {
		out[i].Addresses = slices.Clone(out[i].Addresses)
		out[i].Former = slices.Clone(out[i].Former)
	}
	return out
}

// Member returns the member of that name.
func (l *Layout) Member(name string) (Member, bool) {
	i, ok := slices.BinarySearchFunc(l.members, name, func(m Member, name string) int { return cmp.Compare(m.Name, name) })
	if !ok {
		return Member{}, false
	}
	m := l.members[i]
	m.Addresses = slices.Clone(m.Addresses)
	m.Former = slices.Clone(m.Former)
	return m, true
}

// Owners returns the names of the members that own partition p, best first.
// The slice belongs to the layout: the caller must not change it. A partition
// that does not exist has no owners.
func (l *Layout) Owners(p uint32) []string {
	if uint64(p) >= uint64(l.partitions) {
		return nil
	}
	at := int(p) * l.width
	return l.names[at : at+l.width : at+l.width]
}

// Owns says whether the member of that name owns partition p.
func (l *Layout) Owns(name string, p uint32) bool { return slices.Contains(l.Owners(p), name) }

// OwnedBy returns the partitions that the member of that name owns, rising.
func (l *Layout) OwnedBy(name string) []uint32 {
	var out []uint32
	for p := range uint32(l.partitions) {
		if l.Owns(name, p) {
			out = append(out, p)
		}
	}
	return out
}

// Order returns all active members by their score for partition p, best
// first. It is computed at each call. Owners is its head, but where zones say
// otherwise.
func (l *Layout) Order(p uint32) []string {
	ranked := l.rank(p, make([]candidate, 0, len(l.active)))
	out := make([]string, len(ranked))
	for i, c := range ranked {
		out[i] = l.members[c.member].Name
	}
	return out
}

// ViewHash8 is a hash over every member's name, weight, zone and status, in
// the order of names. Nodes with equal hashes place data equally.
func (l *Layout) ViewHash8() uint64 { return l.view }
