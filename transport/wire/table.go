package wire

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/zeebo/xxh3"

	"edged.dev/edged/internal/kv"
)

// A table is a list of CopyClocks, written by columns, because neighbours in a
// column are alike: partitions ascend by one, states are equal, and the bases
// of one actor lie close to their median. Of each actor in any clock there is
// one column: which rows have it, the base in each as its distance from what is
// expected there, and, rarely, runs.
//
// A table may lean on another one (the reference), which both sides hold: an
// answer on the table that it answers, a HELLO on a checkpoint. Rows whose clock is
// as it is there are not told; in the others what is expected is the base of the
// same actor in the same partition there, and the actors named there need no
// dictionary entry. A fingerprint refuses a reader that holds another reference
// than the writer.

// reference is a table that both sides hold; nil: there is none.
type reference struct {
	rows []CopyClock
	at   map[kv.Partition]int
}

// clock is what the reference has of a partition.
func (ref *reference) clock(p kv.Partition) kv.Clock {
	if ref != nil {
		if i, ok := ref.at[p]; ok {
			return ref.rows[i].Clock
		}
	}
	return kv.Clock{}
}

// has reports whether copies are of the reference's partitions, in its order.
func (ref *reference) has(copies []CopyClock) bool {
	return slices.EqualFunc(ref.rows, copies, func(a, b CopyClock) bool { return a.Partition == b.Partition })
}

// lean makes e's table lean on ref and writes the fingerprint. It comes first
// in the body, before the dictionary.
func (e *encoder) lean(ref []CopyClock) *reference {
	e.byte(b2u(len(ref) > 0))
	var by *reference
	if len(ref) > 0 {
		e.b = binary.LittleEndian.AppendUint32(e.b, fingerprint(ref))
		by = refer(&e.dict, ref)
		e.known = len(e.dict.actors)
	}
	e.head = len(e.b)
	return by
}

func (r *reader) lean(ref []CopyClock) *reference {
	var by *reference
	switch leans := r.byte(); {
	case r.err != nil || leans == 0:
	case len(ref) == 0:
		r.refuse(fmt.Errorf("%w: it leans on a table that is not here", ErrNeedClocks))
	case binary.LittleEndian.Uint32(r.take(4)) != fingerprint(ref):
		r.refuse(fmt.Errorf("%w: it leans on another table than the one here", ErrNeedClocks))
	default:
		by = refer(r.dict, ref)
	}
	r.dictionary()
	return by
}

func fingerprint(ref []CopyClock) uint32 {
	e := newEncoder(nil, 0)
	e.table(ref, nil)
	return uint32(xxh3.Hash(e.finish()))
}

func refer(d *dict, ref []CopyClock) *reference {
	by := &reference{rows: ref, at: make(map[kv.Partition]int, len(ref))}
	for i := range ref {
		c := &ref[i]
		d.add(c.Actor)
		for _, s := range c.Clock.Spans() {
			d.add(s.Actor)
		}
		by.at[c.Partition] = i
	}
	return by
}

func b2u(b bool) byte {
	if b {
		return 1
	}
	return 0
}

const (
	packTrust = 3
	packLost  = 5
	// packDamaged stands in the place of the trust of a damaged copy, which is
	// suspect; the bits above are those of an answer's rows.
	packDamaged = 3
	// packQuarantined stands in the place of the state of a quarantined copy, which is
	// new and catches up.
	packQuarantined = 7
)

func (e *encoder) table(copies []CopyClock, ref *reference) {
	e.uvarint(uint64(len(copies)))
	if len(copies) == 0 {
		return
	}
	same := ref != nil && ref.has(copies)
	if ref != nil {
		e.byte(b2u(same))
	}
	if !same {
		ps := make([]kv.Partition, len(copies))
		for i := range copies {
			ps[i] = copies[i].Partition
		}
		e.partitions(ps)
	}
	e.heads(copies)
	e.clocks(copies, ref)
}

// heads appends what a table has of copies beside their clocks.
func (e *encoder) heads(copies []CopyClock) {
	e.repeated(len(copies), func(i int) uint64 { return uint64(pack(&copies[i])) })
	e.repeated(len(copies), func(i int) uint64 {
		n, _ := e.dict.add(copies[i].Actor)
		return uint64(n)
	})
}

// clocks appends the clocks of copies, of which a reference has some already.
func (e *encoder) clocks(copies []CopyClock, ref *reference) {
	if ref == nil {
		e.columns(copies, nil)
		return
	}
	var other []int
	var moved []CopyClock
	for i := range copies {
		if was := ref.clock(copies[i].Partition); !copies[i].Clock.Equal(was) {
			other, moved = append(other, i), append(moved, copies[i])
		}
	}
	e.subset(other, len(copies))
	if len(moved) > 0 {
		e.columns(moved, ref)
	}
}

func pack(c *CopyClock) byte {
	trust := byte(c.Trust)
	if c.Damaged {
		trust = packDamaged
	}
	if c.Quarantined {
		return packQuarantined | b2u(c.Lost)<<packLost
	}
	return byte(c.State) | trust<<packTrust | b2u(c.Lost)<<packLost
}

// table reads a table that leans on ref, if that is not nil.
func (r *reader) table(ref *reference) []CopyClock {
	n := int(r.upTo("how many copies", MaxCopies))
	if n == 0 || r.err != nil {
		return nil
	}
	var ps []kv.Partition
	if ref != nil && r.upTo("a mark", 1) == 1 {
		for i := range ref.rows {
			ps = append(ps, ref.rows[i].Partition)
		}
	} else {
		ps = r.partitions()
	}
	if len(ps) != n {
		r.fail("a table of %d copies has %d partitions", n, len(ps))
		return nil
	}
	copies := make([]CopyClock, n)
	for i, p := range ps {
		copies[i].Partition = p
	}
	r.heads(copies)
	r.clocks(copies, ref)
	if r.err != nil {
		return nil
	}
	return copies
}

func (r *reader) heads(copies []CopyClock) {
	r.repeated("a copy's state", len(copies), 0xff, func(i int, v uint64) { r.unpackRow(byte(v), &copies[i]) })
	actors := r.dict.actors
	r.repeated("an actor", len(copies), MaxDictActors, func(i int, v uint64) {
		if v >= uint64(len(actors)) {
			r.fail("actor %d is not in its dictionary of %d", v, len(actors))
			return
		}
		copies[i].Actor = actors[v]
	})
}

// clocks reads the clocks of copies, of which a reference has some already.
func (r *reader) clocks(copies []CopyClock, ref *reference) {
	if ref == nil {
		r.columns(copies, nil)
		return
	}
	other := r.subset(len(copies))
	moved := make([]CopyClock, len(other))
	for i, row := range other {
		moved[i].Partition = copies[row].Partition
	}
	if len(moved) > 0 {
		r.columns(moved, ref)
	}
	for i := range copies {
		if len(other) > 0 && other[0] == i {
			copies[i].Clock, other, moved = moved[0].Clock, other[1:], moved[1:]
			continue
		}
		was := ref.clock(copies[i].Partition)
		copies[i].Clock = was.Clone()
	}
}

func (r *reader) unpackRow(b byte, c *CopyClock) {
	c.State = kv.State(b & 7)
	c.Trust = kv.Trust(b >> packTrust & 3)
	c.Lost = b>>packLost&1 == 1
	if c.Damaged = c.Trust == packDamaged; c.Damaged {
		c.Trust = kv.Suspect
	}
	if c.Quarantined = c.State == packQuarantined; c.Quarantined {
		if c.State = kv.CatchingUp; c.Trust != kv.New {
			r.fail("a quarantined copy is not new")
		}
		c.Damaged = false
	}
	if c.State > kv.Degraded {
		r.fail("a copy is in state %d", c.State)
	}
}
