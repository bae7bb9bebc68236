package sim

import (
	"slices"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
	"edged.dev/edged/transport/wire"
)

// salvaged is what the oracle knows of copies that have lost their clocks: the writes
// that they hold and do not claim, and what of their contexts is left. It lasts: what
// is claimed later is in the ghosts too.
type salvaged struct {
	unclaimed opset
	kept      opset // covered by what is left
	since     int   // the life in which it was lost
}

// quarantined reports whether the copy of a node that is up has lost its clock.
func (n *Node) quarantined(p kv.Partition) bool {
	sh := n.shard(p)
	return sh != nil && sh.Quarantined()
}

// gives reports whether a node streams its copy to others: one that has lost its clock
// does not.
func (n *Node) gives(p kv.Partition) bool {
	return n.holds(p) && (!n.quarantined(p) || n.w.bug == BugDonorWithout)
}

// LoseRecords damages, on a node that is down, the records of copies. A backup of
// before would bring back what the others have to give up, and is lost with it.
func (w *World) LoseRecords(n *Node, parts []kv.Partition) {
	var b cache.Batch
	n.spoilt = map[kv.Partition]bool{}
	for _, p := range parts {
		rec, found, err := n.store.Get(nil, cache.AppendCopyKey(nil, p))
		w.must(err)
		if !found {
			continue
		}
		if w.directed || w.chance(500) {
			rec[len(rec)/2] ^= 1
			b.Set(cache.AppendCopyKey(nil, p), rec)
		} else {
			b.Delete(cache.AppendCopyKey(nil, p))
		}
		n.spoilt[p] = true
		w.stats.Records++
	}
	if b.Len() == 0 {
		return
	}
	w.log("n%d loses the records of %v", n.index, parts)
	if w.bug == BugHeldNotThere {
		n.hollow = true
	}
	w.must(n.store.Commit(&b, true))
	n.hasBackup = false
	n.mourn()
	w.forgetLate(n)
}

// salvage looks at what is left of copies whose records were damaged.
func (n *Node) salvage() {
	w := n.w
	for _, p := range n.set.Quarantined() {
		if !n.spoilt[p] {
			w.fail("I12", "n%d: copy %d does not open", n.index, p)
		}
	}
	for _, p := range w.parts {
		if !n.spoilt[p] {
			continue
		}
		if sh := n.set.Shard(p); sh == nil { // nothing was in it
			n.unlearn(p)
			continue
		}
		n.since = n.life + 1
		n.unlearn(p)
		for k, key := range w.keys {
			if w.partOf(k) == p {
				n.salvageKey(k, key)
			}
		}
		if w.bug == BugHeldClaimed {
			w.must(n.shard(p).Adopt(nil))
		}
	}
	n.spoilt = nil
}

// unlearn drops what the oracle knows of a partition's copy.
func (n *Node) unlearn(p kv.Partition) {
	for _, op := range n.w.ops {
		if n.w.partOf(op.Key) == p {
			n.unclaimed.remove(op.Index)
			n.kept.remove(op.Index)
		}
	}
	for k := range n.w.keys {
		if n.w.partOf(k) == p {
			n.durable[k] = opset{}
		}
	}
}

func (n *Node) salvageKey(k int, key []byte) {
	w := n.w
	o, base, err := n.shard(w.partOf(k)).Read(key)
	w.must(err)
	if len(base) > 0 {
		w.fail("I7", "n%d: a copy without its clock has base %v", n.index, base)
	}
	for _, op := range w.ops {
		if op.Key != k {
			continue
		}
		if _, there := o.Find(op.Dot); there {
			n.unclaimed.add(op.Index)
		} else if o.Ctx.Has(op.Dot) {
			n.kept.add(op.Index)
		}
	}
}

func (s *opset) remove(i int) { s[i/64] &^= 1 << (i % 64) }

// refills reports whether a lost node has had sessions from all others, for all copies.
func (n *Node) refills() bool {
	if n.w.bug == BugAdoptEarly && len(n.set.InQuarantine()) > 0 {
		return len(n.refilled) > 0
	}
	return len(n.refilled) == (Nodes-1)*len(n.w.parts)
}

// adopted lets quarantined copies claim what they hold, and reports whether all have.
func (n *Node) adopted() bool {
	w, all := n.w, true
	for _, p := range w.parts {
		if !n.quarantined(p) {
			continue
		}
		all = false
		if slices.Contains(n.adopting, p) {
			continue
		}
		n.adopting = append(n.adopting, p)
		dots, err := n.shard(p).Unclaimed()
		w.must(err)
		w.log("n%d claims %v of partition %d", n.index, dots, p)
		for _, op := range w.ops {
			if w.partOf(op.Key) == p && dots.Has(op.Dot) {
				n.claim(op)
			}
		}
		w.must(n.shard(p).Adopt(nil))
	}
	if all {
		n.adopting = nil
	}
	return all
}

// claim notes that a copy claims a write. Where nobody else knows of it, what was lost
// of its context is lost for good, and it supersedes no more than what is left.
func (n *Node) claim(op *Op) {
	n.w.stats.Adopted++
	n.planned[op.Key].add(op.Index)
	for _, m := range n.w.nodes {
		if m != n && (m.planned[op.Key].has(op.Index) || m.durable[op.Key].has(op.Index)) {
			return
		}
	}
	for i := range op.cover {
		op.cover[i] &= n.kept[i]
	}
}

// beginHolding opens the receiving side of a copy that has lost its clock.
func (s *Session) beginHolding(peer kv.NodeID) (*partition.Incoming, kv.Clock) {
	in, clock, held, err := s.to.shard(s.part).BeginHolding(s.record(), peer)
	s.w.must(err)
	if s.w.codec == nil {
		s.w.codec, err = wire.NewCodec()
		s.w.must(err)
	}
	if held.Len() == 0 {
		return in, clock
	}
	if s.to.hollow { // the entries went with the record, and it does not look
		held.Join(s.everything())
	}
	s.held = wire.Hello{Session: s.id, Pending: 1, Held: []wire.HeldDots{{Partition: s.part, Dots: held}}}.Append(nil, s.w.codec, nil)
	s.w.hash(s.held)
	return in, clock
}

// everything is all that was ever written to the partition.
func (s *Session) everything() (all kv.Clock) {
	for _, op := range s.w.ops {
		if s.w.partOf(op.Key) == s.part {
			all.Add(op.Dot)
		}
	}
	return all
}

// heldDots is what the donor reads of it.
func (s *Session) heldDots() kv.Clock {
	if s.held == nil {
		return kv.Clock{}
	}
	h, err := wire.ParseHello(s.held, s.w.codec, nil)
	s.w.must(err)
	if len(h.Held) != 1 {
		s.w.fail("wire", "s%d: hello has %v", s.id, h.Held)
		return kv.Clock{}
	}
	return h.Held[0].Dots
}

// keepAll is what a broken receiver does at the end: it keeps what it holds.
func (s *Session) keepAll(wire.End) {
	if s.w.bug == BugHeldKept {
		s.in.Keep(s.heldDots())
	}
}
