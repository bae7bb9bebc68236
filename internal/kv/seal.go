package kv

import (
	"math"
	"slices"
)

// A seal stands in vectors and clocks for every actor of a node up to a boot: all
// that they ever issued counts as seen. It is an entry like any other, under an
// actor that issues no dots and sorts behind those it covers, with the highest
// sequence. Entries that a seal covers never stand beside it, so that a clock holds
// one entry for all former processes of a node, however many there were.
//
// Who makes one, and when that is safe, is told in package replica's DESIGN.md.

// sealRand are the random bits of no actor that issues dots.
const sealRand = math.MaxUint32

// AllSeqs is above every sequence number that an actor reaches, and leaves room to
// add to it.
const AllSeqs = 1 << 48

// SealOf returns the seal of a node's actors up to a boot.
func SealOf(node NodeID, boot uint32) Dot {
	return Dot{Actor{node, boot, sealRand}, math.MaxUint64}
}

// IsSeal reports whether a stands for all actors of its node up to its boot.
func (a Actor) IsSeal() bool { return a.Rand == sealRand }

// IssuingBits returns random bits as an actor that issues dots may have them.
func IssuingBits(random uint32) uint32 {
	if random == sealRand {
		return 0
	}
	return random
}

// Sealed reports whether v has sealed a.
func (v VV) Sealed(a Actor) bool {
	i, _ := v.find(a)
	return v.sealAt(i, a)
}

// Entry returns the sequence of the entry of a itself, whatever seals cover.
func (v VV) Entry(a Actor) uint64 {
	if i, ok := v.find(a); ok {
		return v[i].Seq
	}
	return 0
}

// Entry returns the span of the entry of a itself, whatever seals cover.
func (c *Clock) Entry(a Actor) Span {
	if i, ok := c.find(a); ok {
		return c.spans[i]
	}
	return Span{Actor: a}
}

// WellFormed reports whether v is as a VV must be: in order, no actor twice or at
// 0, no seal that is not whole, and nothing beside a seal that covers it.
func (v VV) WellFormed() bool {
	for i, d := range v {
		switch {
		case d.Seq == 0, d.Actor.IsSeal() && d.Seq != math.MaxUint64:
			return false
		case i == 0:
		case v[i-1].Actor.Compare(d.Actor) >= 0, d.Actor.IsSeal() && v[i-1].Actor.Node == d.Actor.Node:
			return false
		}
	}
	return true
}

func (c *Clock) sealAt(i int, a Actor) bool {
	return i < len(c.spans) && c.spans[i].Actor.Node == a.Node && c.spans[i].Actor.IsSeal()
}

// Sealed reports whether the clock has any seal.
func (c *Clock) Sealed() bool {
	return slices.ContainsFunc(c.spans, func(s Span) bool { return s.Actor.IsSeal() })
}

// Seals returns the seals of the clock.
func (c *Clock) Seals() VV {
	var out VV
	for _, s := range c.spans {
		if s.Actor.IsSeal() {
			out = append(out, Dot{s.Actor, s.Base})
		}
	}
	return out
}

// Seal adds a seal.
func (c *Clock) Seal(seal Dot) {
	c.Join(Clock{[]Span{{Actor: seal.Actor, Base: seal.Seq}}})
}

// Former returns what the clock holds of a node's actors up to a boot, an earlier
// seal among them. The caller must not change it.
func (c *Clock) Former(seal Dot) []Span {
	from, _ := slices.BinarySearchFunc(c.spans, Actor{Node: seal.Actor.Node}, func(s Span, a Actor) int { return s.Actor.Compare(a) })
	to := from
	for to < len(c.spans) && c.spans[to].Actor.Node == seal.Actor.Node && c.spans[to].Actor.Compare(seal.Actor) <= 0 {
		to++
	}
	return c.spans[from:to]
}

// absorb takes out what seals cover. Runs and entries of other clocks that share
// the list are left alone.
func (c *Clock) absorb() {
	if !c.Sealed() {
		return
	}
	out := make([]Span, 0, len(c.spans))
	for _, s := range c.spans {
		for s.Actor.IsSeal() && len(out) > 0 && out[len(out)-1].Actor.Node == s.Actor.Node {
			out = out[:len(out)-1]
		}
		out = append(out, s)
	}
	c.spans = out
}

// upToSealed adds to spans what v names of actors that c has sealed.
func (c *Clock) upToSealed(v VV, spans []Span) []Span {
	for _, d := range v {
		if i, ok := c.find(d.Actor); !ok && c.sealAt(i, d.Actor) {
			spans = append(spans, Span{Actor: d.Actor, Base: d.Seq})
		}
	}
	return spans
}
