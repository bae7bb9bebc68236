package kv

import (
	"cmp"
	"slices"

	"github.com/zeebo/xxh3"
)

// Flags of a version.
type Flags uint8

// A version is a value unless it is a tombstone. Reap marks the tombstone of an
// expiry or an eviction, which deletes only the dots it lists.
const (
	Tombstone Flags = 1 << iota
	Reap
)

// Version is one write: a value or a tombstone with the identity it keeps for ever.
type Version struct {
	Dot       Dot
	HLC       HLC
	ExpiresMS int64 // absolute Unix milliseconds, 0 = never
	Flags     Flags
	Value     []byte // never changed after the version is made; may be shared
	Sum       uint64 // xxh3-64 of Value, 0 = not computed yet; never taken from a peer
}

// ValueSum returns Sum, computing it where it is not there yet.
func (v Version) ValueSum() uint64 {
	if v.Sum == 0 {
		return xxh3.Hash(v.Value)
	}
	return v.Sum
}

// Tombstone reports whether the version is a delete.
func (v Version) Tombstone() bool { return v.Flags&Tombstone != 0 }

// Expired reports whether the version is hidden at now (Unix milliseconds).
func (v Version) Expired(now int64) bool { return v.ExpiresMS != 0 && v.ExpiresMS <= now }

// Newer orders versions by (hlc, actor, seq): the order of last-writer-wins, the
// same on every node. Causality never depends on it.
func (v Version) Newer(w Version) bool { return compareAge(v, w) > 0 }

func compareAge(v, w Version) int {
	if c := cmp.Compare(v.HLC, w.HLC); c != 0 {
		return c
	}
	return v.Dot.Compare(w.Dot)
}

// Object is all that a copy holds of one key: concurrent versions, sorted by
// dot, and the causal context. A stored object's Ctx is explicit: without what
// the copy's clock base covers and without what its own dots imply, so it is
// normally empty. A filled object's Ctx is whole; only filled objects travel.
type Object struct {
	Versions []Version
	Ctx      VV
}

// IsZero reports whether nothing is known of the key.
func (o Object) IsZero() bool { return len(o.Versions) == 0 && len(o.Ctx) == 0 }

// Find returns the version with dot d.
func (o Object) Find(d Dot) (Version, bool) {
	for _, v := range o.Versions {
		if v.Dot == d {
			return v, true
		}
	}
	return Version{}, false
}

// SameDots reports whether both hold exactly the same versions.
func (o Object) SameDots(p Object) bool {
	return slices.EqualFunc(o.Versions, p.Versions, func(v, w Version) bool { return v.Dot == w.Dot })
}

// Filled returns o with its context whole: what base covers and what its own
// dots imply are added.
func (o Object) Filled(base VV) Object {
	ctx := o.Ctx.Join(base)
	for _, v := range o.Versions {
		ctx = ctx.With(v.Dot)
	}
	return Object{o.Versions, ctx}
}

// Stripped returns o with its context explicit again: without what base covers
// and without what its own dots imply, which is all of their actors up to them.
func (o Object) Stripped(base VV) Object {
	ctx := o.Ctx.Beyond(base)
	if len(ctx) > 0 {
		ctx = slices.DeleteFunc(ctx, o.implies)
	}
	if len(ctx) == 0 {
		ctx = nil
	}
	return Object{o.Versions, ctx}
}

// implies reports whether one of o's own dots says that d was seen.
func (o Object) implies(d Dot) bool {
	return slices.ContainsFunc(o.Versions, func(v Version) bool {
		return v.Dot.Actor == d.Actor && v.Dot.Seq >= d.Seq
	})
}

// Live appends the versions a view is made of: values that are not expired at
// now, newest first. Tombstones are never shown to a policy. Without dst the
// result may be o's own list, which the caller must not change.
func (o Object) Live(dst []Version, now int64) []Version {
	if dst == nil && len(o.Versions) == 1 && !o.Versions[0].Tombstone() && !o.Versions[0].Expired(now) {
		return o.Versions[:1:1]
	}
	from := len(dst)
	for _, v := range o.Versions {
		if !v.Tombstone() && !v.Expired(now) {
			dst = append(dst, v)
		}
	}
	slices.SortFunc(dst[from:], func(v, w Version) int { return -compareAge(v, w) })
	return dst
}

// Bytes is the sum of the value lengths.
func (o Object) Bytes() int {
	n := 0
	for _, v := range o.Versions {
		n += len(v.Value)
	}
	return n
}
