package wire

import (
	"slices"

	"edged.dev/edged/internal/kv"
)

// laneState is what the records of a lane are told relative to. Writer and
// reader keep it in step.
type laneState struct {
	place int64 // of the partition last begun: its row in the table the lane leans on, or its number
	base  kv.VV // of the last batch, whatever its partition
	floor kv.VV // of the last batch or end
	actor kv.Actor
	seq   uint64 // of the last version; 0 at the start of a partition
	ms    int64  // of the last version
}

func newLaneState() laneState { return laneState{place: -1} }

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
		n += int(b2u(ref.Entry(d.Actor) != d.Seq))
	}
	for _, d := range ref {
		n += int(b2u(v.Entry(d.Actor) == 0))
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
		if was := ref.Entry(d.Actor); was != d.Seq {
			e.actor(d.Actor)
			e.zigzag(int64(d.Seq - was))
		}
	}
	for _, d := range ref {
		if v.Entry(d.Actor) == 0 {
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
		if d.Seq += ref.Entry(d.Actor); d.Seq != 0 {
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
		e.to(colFlags)
		e.byte(f | flagNone)
		e.split(colKeyLens, colKeys, c.Key)
	} else {
		e.firstVersion(s, f, c)
	}
	e.to(colRare)
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
	e.to(colFlags)
	e.byte(f)
	e.to(colSeqs)
	if f&flagActor != 0 {
		e.actor(v.Dot.Actor)
	}
	e.zigzag(int64(v.Dot.Seq - s.before(v.Dot.Actor)))
	e.to(colTimes)
	e.zigzag(v.HLC.MS() - s.ms)
	if counter != 0 {
		e.uvarint(counter)
	}
	s.after(v)
	e.split(colKeyLens, colKeys, c.Key)
	if f&flagExpiry != 0 {
		e.to(colTimes)
		e.zigzag(v.ExpiresMS - v.HLC.MS())
	}
	if f&flagTombstone == 0 {
		e.split(colValueLens, colValues, v.Value)
	}
}

// batch reads the n objects of a batch. They are parts of the chunk, and filled
// with the batch's base.
func (r *reader) batch(s *laneState, base, floor kv.VV) Batch {
	b := Batch{Base: base, Floor: floor}
	s.base, s.floor = b.Base, b.Floor
	r.to(colCounts)
	n := r.upTo("a batch", MaxBatchCopies)
	var versions []kv.Version
	var ends []int
	for range n {
		var c Copy
		versions = r.entry(s, &c, versions)
		if len(versions) > MaxBatchVersions {
			r.fail("a batch has more than %d versions", MaxBatchVersions)
		}
		if r.err != nil {
			return Batch{}
		}
		b.Copies = append(b.Copies, c)
		ends = append(ends, len(versions))
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
	r.to(colFlags)
	f := r.byte()
	if f&flagNone != 0 {
		c.Key = r.splitKey()
	} else {
		versions = append(versions, r.firstVersion(s, f, c))
	}
	r.to(colRare)
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
	r.to(colSeqs)
	if f&flagActor != 0 {
		v.Dot.Actor = r.issuer()
	}
	if v.Dot.Seq = s.before(v.Dot.Actor) + uint64(r.zigzag()); v.Dot.Seq == 0 {
		r.fail("a dot has sequence 0")
	}
	r.to(colTimes)
	v.HLC = kv.HLCAt(s.ms + r.zigzag())
	if f&flagCounter != 0 {
		v.HLC |= kv.HLC(r.upTo("a counter", 0xffff))
	}
	s.after(v)
	c.Key = r.splitKey()
	if f&flagExpiry != 0 {
		r.to(colTimes)
		if v.ExpiresMS = v.HLC.MS() + r.zigzag(); v.ExpiresMS == 0 {
			r.fail("an expiry is 0")
		}
	}
	if f&flagTombstone == 0 {
		v.Value = r.split(colValueLens, colValues, "a value", kv.MaxRecordBytes)
	}
	return v
}

func (r *reader) splitKey() []byte {
	k := r.split(colKeyLens, colKeys, "a key", kv.MaxKeyBytes)
	if len(k) == 0 {
		r.fail("a key is empty")
	}
	return k
}
