package kv

import "slices"

// Merge is the one place where two states of a key become one, for every path:
// replication, rejoin, anti-entropy, read repair, hand-off. local is the object
// as stored (explicit context) in a copy whose clock is given; remote must be
// filled by its sender. The result is filled: store it Stripped, after adding
// the remote's dots to the clock.
//
// A version survives if both have it, or if the side that lacks it has never
// seen it: neither that side's context, nor (for the local side) its clock,
// covers the dot. So a delete cannot come back and a write beside it survives.
//
// A local version that the clock lacks says nothing of others: its copy has lost the
// clock, and with it most of the version's context. What its place in its actor's order
// implies would be half of the truth: that others are dead, and not why.
func Merge(local Object, clock *Clock, remote Object) Object {
	mine := Object{local.Versions, local.Ctx.Join(clock.Base())}
	for _, v := range local.Versions {
		if clock.Has(v.Dot) {
			mine.Ctx = mine.Ctx.With(v.Dot)
		}
	}
	out := Object{Ctx: mine.Ctx.Join(remote.Ctx)}
	i, j := 0, 0
	for i < len(mine.Versions) || j < len(remote.Versions) {
		switch side(mine.Versions, i, remote.Versions, j) {
		case 0:
			out.Versions = append(out.Versions, mine.Versions[i])
			i++
			j++
		case -1:
			if v := mine.Versions[i]; !remote.Ctx.Has(v.Dot) {
				out.Versions = append(out.Versions, v)
			}
			i++
		default:
			if v := remote.Versions[j]; !mine.Ctx.Has(v.Dot) && !clock.Has(v.Dot) {
				out.Versions = append(out.Versions, v)
			}
			j++
		}
	}
	return out
}

// side tells which list has the next dot: -1 the first, 1 the second, 0 both.
func side(a []Version, i int, b []Version, j int) int {
	switch {
	case i == len(a):
		return 1
	case j == len(b):
		return -1
	}
	return a[i].Dot.Compare(b[j].Dot)
}

// Write returns the object after a write v whose author had seen ctx: versions
// that ctx covers go, v is added. local is as stored, ctx any vector; the result
// has an explicit context that is still to be Stripped with the base.
func Write(local Object, ctx VV, v Version) Object {
	out := Object{Ctx: local.Ctx.Join(ctx).With(v.Dot)}
	for _, w := range local.Versions {
		if !ctx.Has(w.Dot) {
			out.Versions = append(out.Versions, w)
		}
	}
	i, _ := slices.BinarySearchFunc(out.Versions, v.Dot, func(w Version, d Dot) int { return w.Dot.Compare(d) })
	out.Versions = slices.Insert(out.Versions, i, v)
	return out
}

// Context is what a reader of the filled object has seen: its context and all
// its dots. A write that takes it supersedes everything in the object.
func Context(filled Object) VV {
	ctx := filled.Ctx
	for _, v := range filled.Versions {
		ctx = ctx.With(v.Dot)
	}
	return ctx
}

// Without returns the object with the dots in drop removed and their knowledge
// kept: base, the donor's, joins the context, so that a late copy of a dropped
// version is still known to be dead. So does what the dropped ones implied, those that
// the copy's clock has: a stored context is without it. The result is to be Stripped.
func Without(o Object, clock *Clock, base VV, drop func(Dot) bool) (Object, bool) {
	out := Object{Ctx: o.Ctx.Join(base)}
	for _, v := range o.Versions {
		switch {
		case !drop(v.Dot):
			out.Versions = append(out.Versions, v)
		case clock.Has(v.Dot):
			out.Ctx = out.Ctx.With(v.Dot)
		}
	}
	if len(out.Versions) == len(o.Versions) {
		return o, false
	}
	return out, true
}
