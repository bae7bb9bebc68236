package wire

import (
	"cmp"
	"math"
	"slices"

	"edged.dev/edged/internal/kv"
)

// A column's first byte: which rows have its actor, and how the distances are
// told.
const (
	rowsAll        = iota // every row
	rowsRef               // the rows where the reference has it
	rowsSome              // those named
	rowsMask       = 3
	columnSparse   = 1 << 2 // only distances other than 0, and where
	columnSigned   = 1 << 3 // some go back
	columnRuns     = 1 << 4 // runs follow
	columnFlagsEnd = 1 << 5
)

// expected is the base that a reference leads one to expect in a row.
type expected struct {
	row  int
	base uint64
}

// expect sorts what a reference has into columns, in row order.
func expect(copies []CopyClock, ref *reference) map[kv.Actor][]expected {
	if ref == nil {
		return nil
	}
	out := make(map[kv.Actor][]expected)
	for row := range copies {
		c := ref.clock(copies[row].Partition)
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

// columns appends clocks, actor by actor.
func (e *encoder) columns(copies []CopyClock, ref *reference) {
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
	if c.actor.IsSeal() {
		e.sealed(c, want, rows)
		return
	}
	mid, open := settle(c.cells, want)
	flags, some := c.rows(want, rows), make([]int, len(c.cells))
	moves, far, where := make([]uint64, len(c.cells)), []uint64(nil), []int(nil)
	var withRuns []int
	for i, x := range c.cells {
		if some[i] = x.row; int64(x.base-x.want) < 0 {
			flags |= columnSigned
		}
		if len(x.runs) > 0 {
			withRuns, flags = append(withRuns, i), flags|columnRuns
		}
	}
	for i, x := range c.cells {
		if moves[i] = x.base - x.want; flags&columnSigned != 0 {
			moves[i] = zigzagOf(int64(moves[i]))
		}
		if moves[i] != 0 {
			far, where = append(far, moves[i]-1), append(where, i)
		}
	}
	if sparse := (&encoder{}).sparse(where, far, len(moves)); len(sparse) < len((&encoder{}).dense(moves)) {
		flags |= columnSparse
	}
	e.byte(flags)
	if flags&rowsMask == rowsSome {
		e.subset(some, rows)
	}
	if open {
		e.uvarint(mid)
	}
	if flags&columnSparse != 0 {
		e.sparse(where, far, len(moves))
	} else {
		e.dense(moves)
	}
	if len(withRuns) > 0 {
		e.subset(withRuns, len(c.cells))
	}
	for _, i := range withRuns {
		e.runs(kv.Span{Base: c.cells[i].base, Runs: c.cells[i].runs})
	}
}

// sealed appends the column of a seal, which has the same base in every row; the zero
// keeps it as long as a column is at least.
func (e *encoder) sealed(c *column, want []expected, rows int) {
	how, some := c.rows(want, rows), make([]int, len(c.cells))
	for i, x := range c.cells {
		some[i] = x.row
	}
	e.byte(how)
	if how == rowsSome {
		e.subset(some, rows)
	}
	e.byte(0)
}

// sparse appends what n distances are where they are not 0, less one.
func (e *encoder) sparse(where []int, far []uint64, n int) []byte {
	e.subset(where, n)
	e.numbers(far)
	return e.b
}

// dense appends all distances.
func (e *encoder) dense(moves []uint64) []byte {
	e.numbers(moves)
	return e.b
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

// rows says which rows have the column's actor.
func (c *column) rows(want []expected, rows int) byte {
	switch {
	case len(c.cells) == rows:
		return rowsAll
	case slices.EqualFunc(c.cells, want, func(x cell, w expected) bool { return x.row == w.row }):
		return rowsRef
	default:
		return rowsSome
	}
}

// columns reads the clocks of copies.
func (r *reader) columns(copies []CopyClock, ref *reference) {
	spans, want := make([][]kv.Span, len(copies)), expect(copies, ref)
	left := MaxTableSpans
	for range r.count("columns", MaxDictActors, 3) {
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

// column reads one column into the rows' spans and returns how many it added.
func (r *reader) column(a kv.Actor, want []expected, spans [][]kv.Span, left int) int {
	flags := r.byte()
	if flags >= columnFlagsEnd {
		r.fail("a column is told in the unknown way %d", flags)
	}
	rows := r.rows(flags&rowsMask, want, len(spans))
	if len(rows) > left {
		r.fail("it has more than %d clock entries", MaxTableSpans)
	}
	if r.err != nil {
		return 0
	}
	if a.IsSeal() {
		if flags&^rowsMask != 0 || r.byte() != 0 {
			r.fail("a seal's column has bases")
		}
		for _, row := range rows {
			spans[row] = append(spans[row], kv.Span{Actor: a, Base: math.MaxUint64})
		}
		return len(rows)
	}
	var mid uint64
	if anyOpen(rows, want) {
		mid = r.uvarint()
	}
	moves := r.moves(flags, len(rows))
	if r.err != nil {
		return 0
	}
	for i, row := range rows {
		base, known, rest := expectedAt(want, row)
		if want = rest; !known {
			base = mid
		}
		spans[row] = append(spans[row], kv.Span{Actor: a, Base: base + moves[i]})
	}
	var withRuns []int
	if flags&columnRuns != 0 {
		withRuns = r.subset(len(rows))
	}
	for _, i := range withRuns {
		of := spans[rows[i]]
		s := &of[len(of)-1]
		s.Runs = r.runs(s.Base)
	}
	return len(rows)
}

// moves reads how far the bases of n rows are from what is expected.
func (r *reader) moves(flags byte, n int) []uint64 {
	var moves []uint64
	if flags&columnSparse != 0 {
		where := r.subset(n)
		far := r.numbers(len(where))
		if r.err != nil {
			return nil
		}
		moves = make([]uint64, n)
		for i, at := range where {
			moves[at] = far[i] + 1
		}
	} else {
		moves = r.numbers(n)
	}
	if flags&columnSigned != 0 {
		for i, m := range moves {
			moves[i] = uint64(ofZigzag(m))
		}
	}
	return moves
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
func (r *reader) rows(how byte, want []expected, n int) []int {
	var rows []int
	switch how {
	case rowsAll:
		rows = make([]int, n)
		for i := range rows {
			rows[i] = i
		}
	case rowsRef:
		for _, w := range want {
			rows = append(rows, w.row)
		}
	case rowsSome:
		return r.subset(n)
	default:
		r.fail("a column says its rows in the unknown way %d", how)
	}
	return rows
}
