package wire

import (
	"slices"

	"edged.dev/edged/internal/kv"
)

// laneState is what the records of a lane are told relative to. Writer and
// reader keep it in step.
type laneState struct {
	partition int64 // last begun
	base      kv.VV // of the last batch, whatever its partition
	floor     kv.VV // of the last batch or end
	actor     kv.Actor
	seq       uint64 // of the last version; 0 at the start of a partition
	ms        int64  // of the last version
}

func newLaneState() laneState { return laneState{partition: -1} }

func (s *laneState) begin(p kv.Partition) {
	s.partition = int64(p)
	s.seq = 0
}

// before is the sequence that the next version of actor a is told relative to:
// that of the version before it in this partition, if it has the same actor, or
// else the donor's base, which a stream of what another lacks ends near.
func (s *laneState) before(a kv.Actor) uint64 {
	if a == s.actor && s.seq != 0 {
		return s.seq
	}
	return s.base.Get(a)
}

func (s *laneState) after(v kv.Version) {
	s.actor, s.seq, s.ms = v.Dot.Actor, v.Dot.Seq, v.HLC.MS()
}

// vvFrom appends v as what differs from ref, or whole if that is shorter.
func (e *encoder) vvFrom(v, ref kv.VV) {
	n := 0
	for _, d := range v {
		n += int(b2u(ref.Get(d.Actor) != d.Seq))
	}
	for _, d := range ref {
		n += int(b2u(v.Get(d.Actor) == 0))
	}
	if n > len(v) {
		e.uvarint(uint64(len(v))<<1 | 1)
		for _, d := range v {
			e.actor(d.Actor)
			e.zigzag(int64(d.Seq))
		}
		return
	}
	e.uvarint(uint64(n) << 1)
	for _, d := range v {
		if was := ref.Get(d.Actor); was != d.Seq {
			e.actor(d.Actor)
			e.zigzag(int64(d.Seq - was))
		}
	}
	for _, d := range ref {
		if v.Get(d.Actor) == 0 {
			e.actor(d.Actor)
			e.zigzag(-int64(d.Seq))
		}
	}
}

func (r *reader) vvFrom(ref kv.VV) kv.VV {
	head := r.upTo("a vector", 2*kv.MaxClockActors+1)
	if head&1 == 1 {
		ref = nil
	}
	n := int(head >> 1)
	if n == 0 || n > len(r.b)/2 {
		if n > 0 {
			r.fail("it ends within a vector")
		}
		return ref
	}
	changed := make(kv.VV, 0, n)
	for range n {
		a := r.actor()
		changed = append(changed, kv.Dot{Actor: a, Seq: uint64(r.zigzag())})
	}
	byActor := func(d, e kv.Dot) int { return d.Actor.Compare(e.Actor) }
	slices.SortFunc(changed, byActor)
	out := make(kv.VV, 0, len(ref)+n)
	for _, d := range ref {
		if _, ok := slices.BinarySearchFunc(changed, d, byActor); !ok {
			out = append(out, d)
		}
	}
	for _, d := range changed {
		if d.Seq += ref.Get(d.Actor); d.Seq != 0 {
			out = append(out, d)
		}
	}
	if len(out) > kv.MaxClockActors {
		r.fail("a vector has %d actors, the limit is %d", len(out), kv.MaxClockActors)
	}
	return r.normalVV(out)
}

// entry appends one object of a batch. Its first version is told relative to
// the one before; what is rare (more versions, a context) comes behind.
func (e *encoder) entry(s *laneState, c *Copy) {
	o := &c.Object
	f := byte(0)
	if len(o.Ctx) > 0 {
		f |= flagContext
	}
	if len(o.Versions) == 0 {
		e.byte(f | flagNone)
		e.bytes(c.Key)
	} else {
		e.firstVersion(s, f, c)
	}
	if f&flagContext != 0 {
		e.vv(o.Ctx)
	}
	if len(o.Versions) > 1 {
		e.uvarint(uint64(len(o.Versions) - 1))
		for _, v := range o.Versions[1:] {
			e.version(v)
		}
	}
}

func (e *encoder) firstVersion(s *laneState, f byte, c *Copy) {
	v := c.Object.Versions[0]
	counter := uint64(v.HLC) & 0xffff
	f |= versionFlags(v)
	if len(c.Object.Versions) > 1 {
		f |= flagSiblings
	}
	if counter != 0 {
		f |= flagCounter
	}
	if v.Dot.Actor != s.actor {
		f |= flagActor
	}
	e.byte(f)
	if f&flagActor != 0 {
		e.actor(v.Dot.Actor)
	}
	e.zigzag(int64(v.Dot.Seq - s.before(v.Dot.Actor)))
	e.zigzag(v.HLC.MS() - s.ms)
	if counter != 0 {
		e.uvarint(counter)
	}
	s.after(v)
	e.bytes(c.Key)
	e.expiryAndValue(f, v)
}

// batch reads the objects of a batch, which fill the rest of the record. They
// are parts of it, and filled with the batch's base.
func (r *reader) batch(s *laneState) Batch {
	b := Batch{Base: r.vvFrom(s.base), Floor: r.vvFrom(s.floor)}
	s.base, s.floor = b.Base, b.Floor
	var versions []kv.Version
	var ends []int
	for len(r.b) > 0 {
		var c Copy
		versions = r.entry(s, &c, versions)
		b.Copies = append(b.Copies, c)
		ends = append(ends, len(versions))
		if len(ends) > MaxBatchCopies || len(versions) > MaxBatchVersions {
			r.fail("a batch has more than %d objects or %d versions", MaxBatchCopies, MaxBatchVersions)
		}
	}
	from := 0
	for i := range b.Copies {
		o := &b.Copies[i].Object
		if to := ends[i]; to > from {
			o.Versions = versions[from:to:to]
			r.checkOrder(o.Versions)
			from = to
		}
		*o = o.Filled(b.Base)
	}
	return b
}

// entry reads one object, its versions to the end of the given list.
func (r *reader) entry(s *laneState, c *Copy, versions []kv.Version) []kv.Version {
	f := r.byte()
	if f&flagNone != 0 {
		c.Key = r.key()
	} else {
		versions = append(versions, r.firstVersion(s, f, c))
	}
	if f&flagContext != 0 {
		c.Object.Ctx = r.vv()
	}
	if f&flagSiblings != 0 {
		for range r.count("siblings", MaxVersions-1, 11) {
			versions = append(versions, r.version())
		}
	}
	return versions
}

func (r *reader) firstVersion(s *laneState, f byte, c *Copy) kv.Version {
	v := kv.Version{Flags: kv.Flags(f & storedFlags), Dot: kv.Dot{Actor: s.actor}}
	if f&flagActor != 0 {
		v.Dot.Actor = r.actor()
	}
	if v.Dot.Seq = s.before(v.Dot.Actor) + uint64(r.zigzag()); v.Dot.Seq == 0 {
		r.fail("a dot has sequence 0")
	}
	v.HLC = kv.HLCAt(s.ms + r.zigzag())
	if f&flagCounter != 0 {
		v.HLC |= kv.HLC(r.upTo("a counter", 0xffff))
	}
	s.after(v)
	c.Key = r.key()
	r.expiryAndValue(f, &v)
	return v
}
