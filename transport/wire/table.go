package wire

import (
	"encoding/binary"
	"math/bits"
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
// An answer's table may lean on the table it answers (the reference), which
// both sides hold: what is expected then is the base of the same actor in the
// same partition there, and the actors named there need no dictionary entry. A
// fingerprint refuses a reader that holds another reference than the writer.

// How a column says which rows have its actor.
const (
	rowsAll    = iota // every row
	rowsRef           // the rows where the reference has it
	rowsBitmap        // a bit a row
	rowsSparse        // gaps between rows
)

// reference is a table that both sides hold, by partition.
type reference map[kv.Partition]kv.Clock

// lean makes e's table lean on ref and writes the fingerprint. It comes first
// in the body, before the dictionary.
func (e *encoder) lean(ref []CopyClock) reference {
	e.byte(b2u(len(ref) > 0))
	var by reference
	if len(ref) > 0 {
		e.b = binary.LittleEndian.AppendUint32(e.b, fingerprint(ref))
		by = refer(&e.dict, ref)
		e.known = len(e.dict.actors)
	}
	e.head = len(e.b)
	return by
}

func (r *reader) lean(ref []CopyClock) reference {
	var by reference
	switch leans := r.byte(); {
	case r.err != nil || leans == 0:
	case len(ref) == 0:
		r.fail("it leans on a table that is not here")
	case binary.LittleEndian.Uint32(r.take(4)) != fingerprint(ref):
		r.fail("it leans on another table than the one here")
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

func refer(d *dict, ref []CopyClock) reference {
	by := make(reference, len(ref))
	for i := range ref {
		c := &ref[i]
		d.add(c.Actor)
		for _, s := range c.Clock.Spans() {
			d.add(s.Actor)
		}
		by[c.Partition] = c.Clock
	}
	return by
}

func b2u(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// cell is what one row holds of a column's actor.
type cell struct {
	row      int
	base     uint64
	expected uint64 // base in the reference
	known    bool   // the reference has it
	runs     []kv.Run
}

type column struct {
	actor    kv.Actor
	cells    []cell
	expected []int // rows where the reference has the actor
}

const (
	packTrust = 3
	packLost  = 5
)

func (e *encoder) table(copies []CopyClock, ref reference) {
	e.uvarint(uint64(len(copies)))
	prev := int64(-1)
	for i := range copies {
		p := int64(copies[i].Partition)
		e.zigzag(p - prev - 1)
		prev = p
	}
	for i := range copies {
		c := &copies[i]
		e.byte(byte(c.State) | byte(c.Trust)<<packTrust | b2u(c.Lost)<<packLost)
	}
	for i := range copies {
		e.actor(copies[i].Actor)
	}
	cols := columnsOf(copies, ref)
	e.uvarint(uint64(len(cols)))
	for _, c := range cols {
		e.actor(c.actor)
		e.column(c, len(copies))
	}
}

// columnsOf gathers the columns in the order in which their actors appear.
func columnsOf(copies []CopyClock, ref reference) []*column {
	var seen dict
	var cols []*column
	at := func(a kv.Actor) *column {
		i, fresh := seen.add(a)
		if fresh {
			cols = append(cols, &column{actor: a})
		}
		return cols[i]
	}
	for row := range copies {
		base, known := ref[copies[row].Partition]
		if known {
			for _, s := range base.Spans() {
				c := at(s.Actor)
				c.expected = append(c.expected, row)
			}
		}
		for _, s := range copies[row].Clock.Spans() {
			c := at(s.Actor)
			x := cell{row: row, base: s.Base, runs: s.Runs}
			if n := len(c.expected); n > 0 && c.expected[n-1] == row {
				x.known, x.expected = true, base.BaseOf(s.Actor)
			}
			c.cells = append(c.cells, x)
		}
	}
	return slices.DeleteFunc(cols, func(c *column) bool { return len(c.cells) == 0 })
}

func (e *encoder) column(c *column, rows int) {
	e.rows(c, rows)
	if mid, ok := median(c.cells); ok {
		e.uvarint(mid)
		for i := range c.cells {
			if x := &c.cells[i]; !x.known {
				x.expected = mid
			}
		}
	}
	withRuns := 0
	for _, x := range c.cells {
		e.zigzag(int64(x.base - x.expected))
		withRuns += int(b2u(len(x.runs) > 0))
	}
	e.uvarint(uint64(withRuns))
	next := 0
	for i, x := range c.cells {
		if len(x.runs) > 0 {
			e.uvarint(uint64(i - next))
			e.runs(kv.Span{Base: x.base, Runs: x.runs})
			next = i + 1
		}
	}
}

func (e *encoder) rows(c *column, rows int) {
	switch n := len(c.cells); {
	case n == rows:
		e.byte(rowsAll)
	case slices.EqualFunc(c.cells, c.expected, func(x cell, row int) bool { return x.row == row }):
		e.byte(rowsRef)
	case n+1 < rows/8:
		e.byte(rowsSparse)
		e.uvarint(uint64(n))
		next := 0
		for _, x := range c.cells {
			e.uvarint(uint64(x.row - next))
			next = x.row + 1
		}
	default:
		e.byte(rowsBitmap)
		bitmap := make([]byte, (rows+7)/8)
		for _, x := range c.cells {
			bitmap[x.row/8] |= 1 << (x.row % 8)
		}
		e.raw(bitmap)
	}
}

// median of the bases the reference says nothing of.
func median(cells []cell) (uint64, bool) {
	var bases []uint64
	for _, x := range cells {
		if !x.known {
			bases = append(bases, x.base)
		}
	}
	if len(bases) == 0 {
		return 0, false
	}
	slices.Sort(bases)
	return bases[len(bases)/2], true
}

// table reads a table that leans on ref, if that is not nil.
func (r *reader) table(ref reference) []CopyClock {
	n := r.count("copies", MaxCopies, 3)
	if n == 0 {
		r.count("columns", 0, 1)
		return nil
	}
	copies := make([]CopyClock, n)
	prev := int64(-1)
	for i := range copies {
		copies[i].Partition = r.partitionAfter(&prev)
	}
	for i := range copies {
		r.packed(&copies[i])
	}
	for i := range copies {
		copies[i].Actor = r.actor()
	}
	spans := make([][]kv.Span, n)
	left := MaxTableSpans
	for range r.count("columns", MaxDictActors, 4) {
		left -= r.column(copies, spans, ref, left)
	}
	if r.err != nil {
		return nil
	}
	for i := range copies {
		copies[i].Clock = kv.ClockOf(spans[i]...)
	}
	return copies
}

func (r *reader) packed(c *CopyClock) {
	b := r.byte()
	c.State = kv.State(b & 7)
	c.Trust = kv.Trust(b >> packTrust & 3)
	c.Lost = b>>packLost&1 == 1
	if c.State > kv.Degraded || c.Trust > kv.Whole {
		r.fail("a copy is in state %d with trust %d", c.State, c.Trust)
	}
}

// column reads one column into the rows' spans and returns how many it added.
func (r *reader) column(copies []CopyClock, spans [][]kv.Span, ref reference, left int) int {
	a := r.actor()
	rows, known := r.rows(a, copies, ref)
	switch {
	case len(rows) > left:
		r.fail("it has more than %d clock entries", MaxTableSpans)
	case len(rows) > len(r.b):
		r.fail("it ends within a column")
	}
	if r.err != nil {
		return 0
	}
	var mid uint64
	if known < len(rows) {
		mid = r.uvarint()
	}
	for _, row := range rows {
		want := mid
		if c, ok := ref[copies[row].Partition]; ok && hasActor(&c, a) {
			want = c.BaseOf(a)
		}
		spans[row] = append(spans[row], kv.Span{Actor: a, Base: want + uint64(r.zigzag())})
	}
	next := uint64(0)
	for range r.count("rows with runs", len(rows), 4) {
		if next += r.upTo("a row", uint64(len(rows))); next >= uint64(len(rows)) {
			r.fail("a row is not in its column")
			return 0
		}
		of := spans[rows[next]]
		s := &of[len(of)-1]
		s.Runs = r.runs(s.Base)
		next++
	}
	return len(rows)
}

func hasActor(c *kv.Clock, a kv.Actor) bool {
	s := c.Span(a)
	return s.Base > 0 || len(s.Runs) > 0
}

// rows reads which rows have an actor, and counts those the reference knows.
func (r *reader) rows(a kv.Actor, copies []CopyClock, ref reference) (rows []int, known int) {
	expected := make([]bool, len(copies))
	if len(ref) > 0 {
		for i := range copies {
			c, ok := ref[copies[i].Partition]
			expected[i] = ok && hasActor(&c, a)
		}
	}
	add := func(row int) {
		rows = append(rows, row)
		known += int(b2u(expected[row]))
	}
	switch how := r.byte(); how {
	case rowsAll:
		for i := range copies {
			add(i)
		}
	case rowsRef:
		for i, is := range expected {
			if is {
				add(i)
			}
		}
	case rowsBitmap:
		for i, b := range r.bitmap(len(copies)) {
			for ; b != 0; b &= b - 1 {
				add(8*i + bits.TrailingZeros8(b))
			}
		}
	case rowsSparse:
		next := uint64(0)
		for range r.count("rows", len(copies), 1) {
			if next += r.upTo("a row", uint64(len(copies))); next >= uint64(len(copies)) {
				r.fail("a row is not in its table")
				return nil, 0
			}
			add(int(next))
			next++
		}
	default:
		r.fail("a column says its rows in the unknown way %d", how)
	}
	return rows, known
}

func (r *reader) bitmap(rows int) []byte {
	n := (rows + 7) / 8
	if n > len(r.b) {
		r.fail("it ends within a bitmap")
		return nil
	}
	b := r.take(n)
	if rows%8 != 0 && b[n-1]>>(rows%8) != 0 {
		r.fail("a bitmap has rows past its table")
		return nil
	}
	return b
}
