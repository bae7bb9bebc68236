package wire

import (
	"cmp"
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

// expected is the base that a reference leads one to expect in a row.
type expected struct {
	row  int
	base uint64
}

// expect sorts what a reference has into columns, in row order.
func expect(copies []CopyClock, ref reference) map[kv.Actor][]expected {
	if len(ref) == 0 {
		return nil
	}
	out := make(map[kv.Actor][]expected)
	for row := range copies {
		c := ref[copies[row].Partition]
		for _, s := range c.Spans() {
			out[s.Actor] = append(out[s.Actor], expected{row, s.Base})
		}
	}
	return out
}

// expectedAt returns what is expected in a row, and what is left of want for the
// rows behind it.
func expectedAt(want []expected, row int) (base uint64, known bool, rest []expected) {
	for len(want) > 0 && want[0].row < row {
		want = want[1:]
	}
	if len(want) > 0 && want[0].row == row {
		return want[0].base, true, want[1:]
	}
	return 0, false, want
}

// cell is what one row holds of a column's actor.
type cell struct {
	row  int
	base uint64
	want uint64
	runs []kv.Run
}

type column struct {
	actor kv.Actor
	cells []cell
}

const (
	packTrust = 3
	packLost  = 5
	// packDamaged stands in the place of the trust of a damaged copy, which is
	// suspect; the bits above are those of an answer's rows.
	packDamaged = 3
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
		e.byte(pack(c))
	}
	for i := range copies {
		e.actor(copies[i].Actor)
	}
	e.columns(copies, ref)
}

func pack(c *CopyClock) byte {
	trust := byte(c.Trust)
	if c.Damaged {
		trust = packDamaged
	}
	return byte(c.State) | trust<<packTrust | b2u(c.Lost)<<packLost
}

// columns appends the clocks of a table, actor by actor.
func (e *encoder) columns(copies []CopyClock, ref reference) {
	cols, want := columnsOf(copies), expect(copies, ref)
	e.uvarint(uint64(len(cols)))
	for _, c := range cols {
		e.actor(c.actor)
		e.column(c, want[c.actor], len(copies))
	}
}

// columnsOf gathers the columns in the order in which their actors appear.
func columnsOf(copies []CopyClock) []*column {
	var seen dict
	var cols []*column
	for row := range copies {
		for _, s := range copies[row].Clock.Spans() {
			i, fresh := seen.add(s.Actor)
			if fresh {
				cols = append(cols, &column{actor: s.Actor})
			}
			cols[i].cells = append(cols[i].cells, cell{row: row, base: s.Base, runs: s.Runs})
		}
	}
	return cols
}

func (e *encoder) column(c *column, want []expected, rows int) {
	e.rows(c, want, rows)
	if mid, ok := settle(c.cells, want); ok {
		e.uvarint(mid)
	}
	withRuns := 0
	for _, x := range c.cells {
		e.zigzag(int64(x.base - x.want))
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

// settle fills in what is wanted of each cell: what the reference has or, where
// it has nothing, the median of such cells, which is returned if there are any.
func settle(cells []cell, want []expected) (mid uint64, ok bool) {
	var open []*cell
	for i := range cells {
		x := &cells[i]
		var known bool
		if x.want, known, want = expectedAt(want, x.row); !known {
			open = append(open, x)
		}
	}
	if len(open) == 0 {
		return 0, false
	}
	slices.SortFunc(open, func(x, y *cell) int { return cmp.Compare(x.base, y.base) })
	mid = open[len(open)/2].base
	for _, x := range open {
		x.want = mid
	}
	return mid, true
}

func (e *encoder) rows(c *column, want []expected, rows int) {
	switch n := len(c.cells); {
	case n == rows:
		e.byte(rowsAll)
	case slices.EqualFunc(c.cells, want, func(x cell, w expected) bool { return x.row == w.row }):
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
		r.unpackRow(r.byte(), &copies[i])
	}
	for i := range copies {
		copies[i].Actor = r.actor()
	}
	r.columns(copies, ref)
	if r.err != nil {
		return nil
	}
	return copies
}

// columns reads the clocks of a table's copies.
func (r *reader) columns(copies []CopyClock, ref reference) {
	spans, want := make([][]kv.Span, len(copies)), expect(copies, ref)
	left := MaxTableSpans
	for range r.count("columns", MaxDictActors, 4) {
		a := r.actor()
		left -= r.column(a, want[a], spans, left)
	}
	if r.err != nil {
		return
	}
	for i := range copies {
		copies[i].Clock = kv.ClockOf(spans[i]...)
	}
}

func (r *reader) unpackRow(b byte, c *CopyClock) {
	c.State = kv.State(b & 7)
	c.Trust = kv.Trust(b >> packTrust & 3)
	c.Lost = b>>packLost&1 == 1
	if c.Damaged = c.Trust == packDamaged; c.Damaged {
		c.Trust = kv.Suspect
	}
	if c.State > kv.Degraded {
		r.fail("a copy is in state %d", c.State)
	}
}

// column reads one column into the rows' spans and returns how many it added.
func (r *reader) column(a kv.Actor, want []expected, spans [][]kv.Span, left int) int {
	rows := r.rows(want, len(spans))
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
	if anyOpen(rows, want) {
		mid = r.uvarint()
	}
	for _, row := range rows {
		base, known, rest := expectedAt(want, row)
		if want = rest; !known {
			base = mid
		}
		spans[row] = append(spans[row], kv.Span{Actor: a, Base: base + uint64(r.zigzag())})
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

// anyOpen reports whether the reference has nothing for one of the rows.
func anyOpen(rows []int, want []expected) bool {
	for _, row := range rows {
		var known bool
		if _, known, want = expectedAt(want, row); !known {
			return true
		}
	}
	return false
}

// rows reads which of n rows have an actor.
func (r *reader) rows(want []expected, n int) []int {
	var rows []int
	switch how := r.byte(); how {
	case rowsAll:
		for i := range min(n, len(r.b)) {
			rows = append(rows, i)
		}
		if len(rows) < n {
			r.fail("it ends within a column")
		}
	case rowsRef:
		for _, w := range want {
			rows = append(rows, w.row)
		}
	case rowsBitmap:
		for i, b := range r.bitmap(n) {
			for ; b != 0; b &= b - 1 {
				rows = append(rows, 8*i+bits.TrailingZeros8(b))
			}
		}
	case rowsSparse:
		next := uint64(0)
		for range r.count("rows", n, 1) {
			if next += r.upTo("a row", uint64(n)); next >= uint64(n) {
				r.fail("a row is not in its table")
				return nil
			}
			rows = append(rows, int(next))
			next++
		}
	default:
		r.fail("a column says its rows in the unknown way %d", how)
	}
	return rows
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
