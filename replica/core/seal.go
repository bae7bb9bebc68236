package core

import (
	"fmt"
	"math"
	"slices"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/internal/layout"
	"edged.dev/edged/partition/state"
	"edged.dev/edged/transport/wire"
)

// Sealing takes the former processes of a node out of the clocks: one entry stands
// for all of them. The first serving owner of a partition asks for it, in two rounds.
// In the first every member promises to take nothing more that comes late from those
// processes, and tells what it has seen of them; only if all are there, and every
// owner's copy is whole and has seen the same, are the owners told to close. Each
// holds the processes to be gone by what it knows itself: that another process of
// that node is connected, or this node's own record, or the layout.
const (
	// SealEvery spaces the looks for what might be sealed: a restart leaves one entry,
	// and there is no hurry to be rid of it.
	SealEvery = 10_000 * ms
	// sealWait is for how long a round waits for its answers, some times a call's
	// deadline.
	sealWait = 5000 * ms
)

type (
	// SealAnswered brings a member's answer to a SEAL.
	SealAnswered struct {
		Name   string
		Round  uint64
		Ack    wire.SealAck
		Failed bool
	}
	// SendSeal asks a member, this node among them, to promise or to close.
	SendSeal struct {
		Name  string
		Round uint64
		Seal  wire.Seal
	}
)

// Outlived says that others have sealed this very process, up to a boot: a later
// one of its directory has run, so that what this one writes counts as dead. It is to
// end, and to start again above that boot.
type Outlived struct{ Boot uint32 }

func (SealAnswered) event() {}
func (SendSeal) effect()    {}
func (Outlived) effect()    {}

// sealing is the machine's part of it: one seal at a time.
type sealing struct {
	due    int64
	last   kv.Dot // the seal that was tried last
	rounds uint64
	round  *sealRound

	outlived bool // others have sealed this process, and that was told
}

type sealRound struct {
	number  uint64
	seal    kv.Dot
	view    uint64
	until   int64
	closing bool
	parts   []kv.Partition
	waits   []string // members that have not answered
	answers map[string]map[kv.Partition]wire.SealState
}

// outlived looks whether a peer's clock has sealed this process: its disk and its
// machine's clock were both set back, and no living peer remembered a later boot.
func (m *Machine) outlived(c wire.CopyClock) {
	own := kv.SealOf(m.cfg.Node, m.cfg.Boot)
	if m.fenced || m.seals.outlived || !c.Clock.Has(own) {
		return
	}
	m.seals.outlived = true
	seals := c.Clock.Seals()
	for _, s := range seals {
		if s.Actor.Node == m.cfg.Node {
			m.emit(Outlived{s.Actor.Boot})
		}
	}
}

// goneUpTo returns the highest boot of a node of which this one knows that no process
// up to it lives.
func (m *Machine) goneUpTo(node kv.NodeID) (boot uint32, known bool) {
	before := func(b uint32) (uint32, bool) { return b - 1, b > 0 }
	if node == m.cfg.Node {
		return before(m.cfg.Boot)
	}
	for _, name := range m.names {
		if p := m.peers[name]; p.up && p.node == node {
			return before(p.boot)
		}
	}
	if m.layout == nil {
		return 0, false
	}
	gone := false
	for _, mem := range m.layout.Members() {
		switch {
		case kv.NodeID(mem.Node) == node && mem.Status != layout.Forgotten:
			return 0, false // it may return, with what it wrote
		case kv.NodeID(mem.Node) == node, slices.Contains(mem.Former, uint64(node)):
			gone = true
		}
	}
	return math.MaxUint32, gone
}

// MaySeal reports whether this node knows by itself that the processes which a SEAL
// names are gone, and goes by the same layout.
func (m *Machine) MaySeal(s wire.Seal) bool {
	if m.layout == nil || m.fenced || s.View != m.layout.ViewHash8() {
		return false
	}
	boot, known := m.goneUpTo(s.Node)
	return known && s.Boot <= boot
}

// settleSeals goes on with the round under way, or begins one where it is time.
func (m *Machine) settleSeals() {
	s := &m.seals
	switch {
	case m.layout == nil || m.fenced:
		s.round = nil
	case s.round != nil:
		if m.now >= s.round.until || s.round.view != m.layout.ViewHash8() {
			s.round, s.due = nil, m.now+SealEvery
		}
	case s.due == 0:
		s.due = m.now + SealEvery
	case m.now >= s.due:
		s.due = m.now + SealEvery
		if m.allPresent() {
			m.beginSeal()
		}
	}
}

// allPresent reports whether every member is there.
func (m *Machine) allPresent() bool {
	for _, name := range m.parts[kv.System].Owners {
		if name != m.cfg.Self && !m.fresh(m.peers[name]) {
			return false
		}
	}
	return true
}

// beginSeal asks every member about the next seal that could be made.
func (m *Machine) beginSeal() {
	seals := map[kv.Dot][]kv.Partition{}
	for _, id := range m.order {
		if x := m.parts[id]; x.Self && x.State == kv.Live && x.First == m.cfg.Self && !x.sick() {
			m.sealable(x, seals)
		}
	}
	var all []kv.Dot
	for seal := range seals {
		all = append(all, seal)
	}
	if len(all) == 0 {
		return
	}
	slices.SortFunc(all, kv.Dot.Compare)
	i, found := slices.BinarySearchFunc(all, m.seals.last, kv.Dot.Compare)
	if found {
		i++
	}
	m.seals.last = all[i%len(all)]
	m.ask(&sealRound{seal: m.seals.last, parts: seals[m.seals.last]}, m.parts[kv.System].Owners, func(kv.Partition) uint64 { return 0 })
}

// sealable adds the seals that a partition's clock has a use for, and of which every
// other owner is known to have seen the same.
func (m *Machine) sealable(x *part, seals map[kv.Dot][]kv.Partition) {
	clock := m.cfg.Copies.Copy(x.Partition).Clock
	var node kv.NodeID
	for i, s := range clock.Spans() {
		if s.Actor.IsSeal() || i > 0 && s.Actor.Node == node {
			continue
		}
		node = s.Actor.Node
		boot, gone := m.goneUpTo(node)
		if !gone || s.Actor.Boot > boot {
			continue
		}
		seal := kv.SealOf(node, boot)
		mine, equal := kv.ClockOf(clock.Former(seal)...), true
		for _, name := range x.others {
			k := m.known[name][x.Partition]
			equal = equal && k != nil && !k.lost && mine.Equal(kv.ClockOf(k.clock.Former(seal)...))
		}
		if equal {
			seals[seal] = append(seals[seal], x.Partition)
		}
	}
}

// ask begins a round: what is found of each partition goes with the second.
func (m *Machine) ask(r *sealRound, members []string, found func(kv.Partition) uint64) {
	m.seals.rounds++
	r.number, r.view, r.until = m.seals.rounds, m.layout.ViewHash8(), m.now+sealWait
	r.answers = map[string]map[kv.Partition]wire.SealState{}
	q := wire.Seal{View: r.view, Node: r.seal.Actor.Node, Boot: r.seal.Actor.Boot, Close: r.closing}
	for _, p := range r.parts {
		q.Parts = append(q.Parts, wire.SealPart{Partition: p, Found: found(p)})
	}
	r.waits = slices.Clone(members)
	m.seals.round = r
	for _, name := range members {
		of := q
		if r.closing {
			of.Parts = slices.DeleteFunc(slices.Clone(q.Parts), func(p wire.SealPart) bool {
				return !slices.Contains(m.parts[p.Partition].Owners, name)
			})
		}
		m.emit(SendSeal{Name: name, Round: r.number, Seal: of})
	}
}

// sealAnswered takes an answer; the last one of a round decides.
func (m *Machine) sealAnswered(e SealAnswered) {
	r := m.seals.round
	if r == nil || e.Round != r.number || !slices.Contains(r.waits, e.Name) {
		return
	}
	if e.Failed && !r.closing {
		m.seals.round = nil // not all are there
		return
	}
	r.waits = slices.DeleteFunc(r.waits, func(n string) bool { return n == e.Name })
	r.answers[e.Name] = map[kv.Partition]wire.SealState{}
	for _, s := range e.Ack.Parts {
		r.answers[e.Name][s.Partition] = s
	}
	switch {
	case len(r.waits) > 0:
	case r.closing:
		m.sealed(r)
	default:
		m.seals.round = nil
		m.closeSeal(r)
	}
}

// closeSeal has the owners close what all were found to hold alike.
func (m *Machine) closeSeal(r *sealRound) {
	next := &sealRound{seal: r.seal, closing: true}
	found := map[kv.Partition]uint64{}
	var owners []string
	for _, p := range r.parts {
		x := m.parts[p]
		if m.layout.ViewHash8() != r.view || x == nil || !x.Self {
			continue
		}
		told := map[string]wire.SealState{}
		for name, of := range r.answers {
			told[name] = of[p]
		}
		if sum, ok := Unanimous(x.Owners, told); ok {
			next.parts, found[p] = append(next.parts, p), sum
			for _, name := range x.Owners {
				if !slices.Contains(owners, name) {
					owners = append(owners, name)
				}
			}
		}
	}
	if len(next.parts) > 0 {
		slices.Sort(owners)
		m.ask(next, owners, func(p kv.Partition) uint64 { return found[p] })
	}
}

// SealState is what a copy answers to SEAL once its promise, or its close, is durable:
// what it has seen of the processes asked about, and whether it counts.
func SealState(p kv.Partition, seen state.Former, trust kv.Trust) wire.SealState {
	s := wire.SealState{Partition: p, Promise: wire.SealFenced, Whole: trust == kv.Whole}
	switch {
	case seen.Sealed:
		s.Promise = wire.SealClosed
	case seen.None:
		s.Promise = wire.SealNothing
	default:
		s.Sum = seen.Sum
	}
	return s
}

// Unanimous returns what all owners of a partition have seen of the processes asked
// about, if it is the same and whoever else holds a copy has seen nothing of them.
// told has the answer of every member. An owner whose copy is closed already was
// found equal to these in an earlier round, and nothing was taken since.
func Unanimous(owners []string, told map[string]wire.SealState) (sum uint64, ok bool) {
	some := false
	for _, name := range owners {
		switch t := told[name]; {
		case t.Promise == wire.SealClosed && t.Whole:
		case t.Promise != wire.SealFenced || !t.Whole || some && t.Sum != sum:
			return 0, false
		default:
			sum, some = t.Sum, true
		}
	}
	for name, t := range told {
		if !slices.Contains(owners, name) && t.Promise != wire.SealNoCopy && t.Promise != wire.SealNothing {
			return 0, false
		}
	}
	return sum, some
}

// sealed tells what came of the second round. Whom it did not reach learns the seal
// by a session.
func (m *Machine) sealed(r *sealRound) {
	m.seals.round, m.seals.due = nil, m.now+ms // there may be more
	n := 0
	for _, p := range r.parts {
		if r.answers[m.cfg.Self][p].Promise == wire.SealClosed {
			n++
		}
	}
	if n > 0 {
		m.emit(Note{Kind: "actor.sealed", Partition: kv.System, Text: fmt.Sprintf(
			"processes of node %v up to boot %d are gone, and are one entry in the clocks of %d partitions now", r.seal.Actor.Node, r.seal.Actor.Boot, n,
		)})
	} else {
		m.seals.due = m.now + SealEvery
	}
}
