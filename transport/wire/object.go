package wire

import "edged.dev/edged/internal/kv"

// Bits of a version's first byte. The two lowest are kv's own flags.
const (
	flagTombstone = byte(kv.Tombstone)
	flagReap      = byte(kv.Reap)
	flagExpiry    = 1 << 2 // an expiry follows
	flagSiblings  = 1 << 3 // in a batch: further versions follow
	flagContext   = 1 << 4 // in a batch: an explicit context follows
	flagCounter   = 1 << 5 // in a batch: the hybrid time has a counter
	flagActor     = 1 << 6 // in a batch: another actor than the version before
	flagNone      = 1 << 7 // in a batch: no version at all, only key and context
)

const storedFlags = flagTombstone | flagReap

func versionFlags(v kv.Version) byte {
	f := byte(v.Flags) & storedFlags
	if v.ExpiresMS != 0 {
		f |= flagExpiry
	}
	return f
}

// version appends a version by itself: flags, dot, hybrid time, what is left of
// its life when it was written (most writes of an application give the same),
// and the value, which a tombstone has not.
func (e *encoder) version(v kv.Version) {
	f := versionFlags(v)
	e.byte(f)
	e.actor(v.Dot.Actor)
	e.uvarint(v.Dot.Seq)
	e.u64(uint64(v.HLC))
	e.expiryAndValue(f, v)
}

func (e *encoder) expiryAndValue(f byte, v kv.Version) {
	if f&flagExpiry != 0 {
		e.zigzag(v.ExpiresMS - v.HLC.MS())
	}
	if f&flagTombstone == 0 {
		e.bytes(v.Value)
	}
}

func (r *reader) version() kv.Version {
	f := r.byte()
	v := kv.Version{Flags: kv.Flags(f & storedFlags)}
	v.Dot = kv.Dot{Actor: r.issuer(), Seq: r.seq()}
	v.HLC = kv.HLC(r.u64())
	r.expiryAndValue(f, &v)
	return v
}

func (r *reader) seq() uint64 {
	s := r.uvarint()
	if s == 0 {
		r.fail("a dot has sequence 0")
	}
	return s
}

func (r *reader) expiryAndValue(f byte, v *kv.Version) {
	if f&flagExpiry != 0 {
		if v.ExpiresMS = v.HLC.MS() + r.zigzag(); v.ExpiresMS == 0 {
			r.fail("an expiry is 0")
		}
	}
	if f&flagTombstone == 0 {
		v.Value = r.bytes("a value", kv.MaxRecordBytes)
	}
}

func (e *encoder) object(o kv.Object) {
	e.uvarint(uint64(len(o.Versions)))
	for _, v := range o.Versions {
		e.version(v)
	}
	e.vv(o.Ctx)
}

// object reads an object; its values are parts of the frame.
func (r *reader) object() kv.Object {
	n := r.count("versions", MaxVersions, 11)
	var o kv.Object
	for range n {
		o.Versions = append(o.Versions, r.version())
	}
	r.checkOrder(o.Versions)
	o.Ctx = r.vv()
	return o
}

// checkOrder refuses versions that are not in dot order, in which they are kept
// everywhere and which Merge relies on.
func (r *reader) checkOrder(vs []kv.Version) {
	for i := 1; i < len(vs); i++ {
		if vs[i-1].Dot.Compare(vs[i].Dot) >= 0 {
			r.fail("versions are not in the order of their dots")
			return
		}
	}
}
