package core

import (
	"fmt"
	"slices"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/transport/wire"
)

// A holder is a node with a copy of a partition that it does not own: a stand-in,
// or an owner that the layout displaced. It takes replicated writes, streams what it
// holds to owners, receives no session, and serves nobody. It offers its clock to
// the owners (COVER) and drops the copy once all of them cover it (the drop rule).
const (
	// OfferEvery spaces a holder's offers to the owners: some hundred bytes each.
	OfferEvery = 2000 * ms
	// Promise is for how long an owner that was asked keeps its own copy, should the
	// layout displace it, and so how long a copy is kept of which nobody knows what
	// an earlier process promised. It is far above what a drop takes.
	Promise = 600_000 * ms
)

type (
	// Held says that this node has a copy of a partition, if it had none before.
	Held struct{ Partition kv.Partition }
	// Covered brings an owner's answer to an offer: what its durable clocks cover,
	// and what it promises to keep.
	Covered struct {
		Name  string
		Offer uint64
		Parts []kv.Partition
	}
	// Dropped says what came of a Drop.
	Dropped struct {
		Partition kv.Partition
		Gone      bool
	}
	// SendCover offers clocks of copies that this node does not own to an owner.
	SendCover struct {
		Name   string
		Offer  uint64
		View   uint64
		Copies []wire.CopyClock
	}
	// Drop forgets a copy, if nothing came to it since its clock was taken.
	Drop struct {
		Partition kv.Partition
		Clock     kv.Clock
	}
)

func (Held) event()       {}
func (Covered) event()    {}
func (Dropped) event()    {}
func (SendCover) effect() {}
func (Drop) effect()      {}

// holding is what the machine keeps of a copy, owned or not.
type holding struct {
	fromDisk bool  // of an earlier process, which may have promised to keep it
	promised int64 // it is kept until then
	offerAt  int64 // the next offer
	offer    uint64
	view     uint64
	clock    kv.Clock        // that was offered
	covered  map[string]bool // owners that answered yes to it
	dropping bool
}

func (m *Machine) handleHolding(ev Event) {
	switch e := ev.(type) {
	case Held:
		m.heldNow(e.Partition)
	case Covered:
		m.coveredBy(e)
	case Dropped:
		m.dropped(e)
	case SealAnswered:
		m.sealAnswered(e)
	case Adopted:
		m.adopted(e)
	}
}

// hold notes that there is a copy.
func (m *Machine) hold(p kv.Partition) *holding {
	h := m.holds[p]
	if h == nil {
		h = &holding{}
		m.holds[p] = h
	}
	return h
}

// heldNow takes that a copy was opened for a write that came. Of a partition that this
// node does not own, it stands in.
func (m *Machine) heldNow(p kv.Partition) {
	if m.holds[p] != nil {
		return
	}
	h := m.hold(p)
	if x := m.parts[p]; x != nil && !x.Self && p != kv.System {
		h.offerAt = m.now + OfferEvery
		m.emit(Note{Kind: "stand-in.opened", Partition: p, Text: fmt.Sprintf("too few of its owners %v are up: this node takes its writes until they are", x.Owners)})
	}
}

// standIns names who takes the writes of a partition beside its owners, in the order
// of placement: as many as owners are missing to W.
func (m *Machine) standIns(x *part) []string {
	if !x.Self || x.Partition == kv.System || !x.State.Serves() {
		return nil
	}
	missing := m.w(x) - 1
	for _, name := range x.others {
		if m.fresh(m.peers[name]) {
			missing--
		}
	}
	if missing <= 0 {
		return nil
	}
	var out []string
	for _, name := range m.behind(x) {
		if len(out) < missing && m.fresh(m.peers[name]) {
			out = append(out, name)
		}
	}
	return out
}

// settleHolds says what this node holds without owning it, and offers it to the
// owners when it is time to.
func (m *Machine) settleHolds() {
	offers := map[string][]wire.CopyClock{}
	for _, id := range m.order {
		x, h := m.parts[id], m.holds[id]
		x.Held = h != nil && !x.Self && id != kv.System
		if h == nil {
			continue
		}
		if h.fromDisk && h.promised == 0 {
			h.promised = m.now + Promise
		}
		if !x.Held {
			h.covered = nil // an answer of before is none
			continue
		}
		if m.layout != nil && m.now >= h.offerAt && !h.dropping && !m.fenced {
			m.offer(x, h, offers)
		}
	}
	for _, name := range m.names {
		if copies := offers[name]; len(copies) > 0 {
			m.emit(SendCover{Name: name, Offer: m.offers, View: m.layout.ViewHash8(), Copies: copies})
		}
	}
}

// offer takes a copy's clock and has it offered to every owner that is there. It is
// dropped only if nothing has changed it when all of them have answered: what comes
// meanwhile lifts the fence, and the next offer has it.
func (m *Machine) offer(x *part, h *holding, offers map[string][]wire.CopyClock) {
	if len(offers) == 0 {
		m.offers++
	}
	c := m.cfg.Copies.Copy(x.Partition)
	h.offerAt, h.offer, h.view = m.now+OfferEvery, m.offers, m.layout.ViewHash8()
	h.clock, h.covered = c.Clock, map[string]bool{}
	for _, name := range x.Owners {
		if m.fresh(m.peers[name]) {
			offers[name] = append(offers[name], wire.CopyClock{
				Partition: x.Partition, Actor: c.Actor, State: kv.Cold, Trust: c.Trust, Clock: c.Clock,
			})
		}
	}
}

// Cover takes a holder's offer and returns the partitions that this node owns, in
// the same view of the layout, whose copies are WHOLE, and whose durable clocks cover
// what was offered: a NEW copy of an empty partition covers the one that founds it. It
// promises to keep its own copies of those for a while, whatever becomes of the layout.
func (m *Machine) Cover(now int64, view uint64, copies []wire.CopyClock) []kv.Partition {
	if m.layout == nil || view != m.layout.ViewHash8() || m.fenced {
		return nil
	}
	var out []kv.Partition
	for _, c := range copies {
		x := m.parts[c.Partition]
		if x == nil || !x.Self || x.Partition == kv.System || x.lost || x.sick() || x.claims.quarantined {
			continue
		}
		if m.cfg.Copies.Trust(c.Partition) == kv.Whole && m.cfg.Copies.Covers(c.Partition, c.Clock) {
			h := m.hold(c.Partition)
			h.promised = max(h.promised, now+Promise)
			out = append(out, c.Partition)
		}
	}
	return out
}

// coveredBy takes an owner's answer to an offer.
func (m *Machine) coveredBy(e Covered) {
	for _, p := range e.Parts {
		x, h := m.parts[p], m.holds[p]
		if x == nil || h == nil || h.offer != e.Offer || h.covered == nil || h.dropping {
			continue
		}
		h.covered[e.Name] = true
		if x.Self || h.view != m.layout.ViewHash8() || !m.allCover(x, h) {
			continue
		}
		if m.now < h.promised {
			m.surpassed(x)
			continue
		}
		h.dropping = true
		m.emit(Drop{Partition: p, Clock: h.clock})
	}
}

// surpassed ends a displaced owner's copy being whole, which every owner has: it is kept,
// and lacks what they take in from now on. Were it still whole and theirs lost, it would
// found them anew without that.
func (m *Machine) surpassed(x *part) {
	m.record(x, kv.New)
}

func (m *Machine) allCover(x *part, h *holding) bool {
	for _, name := range x.Owners {
		if !h.covered[name] {
			return false
		}
	}
	return len(x.Owners) > 0
}

// dropped takes what came of a drop. With the copy goes what was known of the others'
// (R6): the next copy here is another's peer.
func (m *Machine) dropped(e Dropped) {
	h := m.holds[e.Partition]
	if h == nil {
		return
	}
	h.dropping, h.covered = false, nil
	if !e.Gone {
		return
	}
	delete(m.holds, e.Partition)
	for _, of := range m.known {
		delete(of, e.Partition)
	}
	if x := m.parts[e.Partition]; x != nil {
		clear(x.reports)
		clear(x.equal)
		x.Path, x.Reason, x.recorded = "", "", false
	}
	m.emit(Note{Kind: "stand-in.dropped", Partition: e.Partition, Text: "every owner durably covers what this node held for them"})
}

// flushed notes that an owner's copy took in what a holder had.
func (m *Machine) flushed(x *part, name string) {
	if x.Self && x.Partition != kv.System && !slices.Contains(x.others, name) {
		m.emit(Note{Kind: "stand-in.flushed", Peer: name, Partition: x.Partition, Text: "this copy has what the node held, which does not own the partition"})
	}
}
