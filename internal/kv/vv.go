package kv

import (
	"math"
	"slices"
)

// VV is a version vector: for each actor the highest sequence number seen, all
// below it included. It is a slice sorted by actor with one dot an actor and no
// zero sequence, so that iteration is deterministic and a small vector costs one
// allocation. The zero value is the empty vector. Methods never change the
// receiver: a VV may be shared.
type VV []Dot

func (v VV) find(a Actor) (int, bool) {
	if len(v) <= 8 { // a partition has a handful of actors; a loop beats the search
		for i := range v {
			if c := v[i].Actor.Compare(a); c >= 0 {
				return i, c == 0
			}
		}
		return len(v), false
	}
	return slices.BinarySearchFunc(v, a, func(d Dot, a Actor) int { return d.Actor.Compare(a) })
}

// Get returns the highest sequence of a, 0 if there is none, and MaxUint64 for an
// actor that v has sealed.
func (v VV) Get(a Actor) uint64 {
	i, ok := v.find(a)
	switch {
	case ok:
		return v[i].Seq
	case v.sealAt(i, a):
		return math.MaxUint64
	}
	return 0
}

// sealAt reports whether the entry at the place of a is a seal that covers it: no
// entry that a seal covers stands beside it.
func (v VV) sealAt(i int, a Actor) bool {
	return i < len(v) && v[i].Actor.Node == a.Node && v[i].Actor.IsSeal()
}

// Has reports whether v covers d.
func (v VV) Has(d Dot) bool { return d.Seq <= v.Get(d.Actor) }

// With returns v with d covered.
func (v VV) With(d Dot) VV {
	if d.Seq == 0 {
		return v
	}
	i, ok := v.find(d.Actor)
	if !ok {
		if v.sealAt(i, d.Actor) {
			return v
		}
		out := make(VV, 0, len(v)+1)
		out = append(append(append(out, v[:i]...), d), v[i:]...)
		if d.Actor.IsSeal() {
			out = out.normal()
		}
		return out
	}
	if v[i].Seq >= d.Seq {
		return v
	}
	out := slices.Clone(v)
	out[i].Seq = d.Seq
	return out
}

// Join returns the least vector that covers both.
func (v VV) Join(w VV) VV {
	switch {
	case len(w) == 0:
		return v
	case len(v) == 0:
		return w
	case v.Covers(w):
		return v
	}
	out := make(VV, 0, len(v)+len(w))
	i, j := 0, 0
	for i < len(v) && j < len(w) {
		switch c := v[i].Actor.Compare(w[j].Actor); {
		case c < 0:
			out = append(out, v[i])
			i++
		case c > 0:
			out = append(out, w[j])
			j++
		default:
			out = append(out, Dot{v[i].Actor, max(v[i].Seq, w[j].Seq)})
			i++
			j++
		}
	}
	out = append(out, v[i:]...)
	return append(out, w[j:]...).normal()
}

// normal takes out, in place, what a seal of the vector covers.
func (v VV) normal() VV {
	if !slices.ContainsFunc(v, func(d Dot) bool { return d.Actor.IsSeal() }) {
		return v
	}
	out := v[:0]
	for _, d := range v {
		for d.Actor.IsSeal() && len(out) > 0 && out[len(out)-1].Actor.Node == d.Actor.Node {
			out = out[:len(out)-1]
		}
		out = append(out, d)
	}
	return out
}

// Covers reports whether v covers every dot of w.
func (v VV) Covers(w VV) bool {
	for _, d := range w {
		if v.Get(d.Actor) < d.Seq {
			return false
		}
	}
	return true
}

// Beyond returns the entries of v that w does not cover.
func (v VV) Beyond(w VV) VV {
	var out VV
	for _, d := range v {
		if w.Get(d.Actor) < d.Seq {
			out = append(out, d)
		}
	}
	return out
}
