package wire

// The records of a lane's chunk are told by columns: what kind they are, which
// partitions, and of every version flags, sequence, time, key and value, each in
// a run of bytes of its own. Neighbours in a column are alike, so that the marks
// cost next to nothing once compressed, and values are not torn apart by them.
const (
	colKinds     = iota // kinds of records, and what they say beside objects
	colParts            // partitions begun
	colCounts           // how many objects a batch has
	colFlags            // of objects
	colSeqs             // actors and sequences
	colTimes            // hybrid times and expiries
	colKeyLens          // lengths of keys
	colKeys             // keys
	colValueLens        // lengths of values
	colValues           // values
	colRare             // contexts, and versions beside the first
	columnCount
)

// columns are the bytes of a chunk's records. The column in use is with the
// encoder or reader that they belong to.
type columns struct {
	of [columnCount][]byte
	at int
}

// to makes e append to a column. An encoder without columns puts everything in a
// row, which is how the yardstick of a sync is weighed.
func (e *encoder) to(column int) {
	if c := e.cols; c != nil && c.at != column {
		c.of[c.at], c.at = e.b, column
		e.b = c.of[column]
	}
}

// gathered is how many bytes the columns have.
func (e *encoder) gathered() int {
	n := len(e.b)
	for i, b := range &e.cols.of {
		if i != e.cols.at {
			n += len(b)
		}
	}
	return n
}

// empty lets the columns begin anew, and lets go of those that one large object
// blew up.
func (e *encoder) empty() {
	e.to(colKinds)
	for i := range e.cols.of {
		if e.cols.of[i] = e.cols.of[i][:0]; cap(e.cols.of[i]) > WindowBytes {
			e.cols.of[i] = nil
		}
	}
	if e.b = e.b[:0]; cap(e.b) > WindowBytes {
		e.b = nil
	}
}

// split appends v to a column and its length to another.
func (e *encoder) split(lengths, column int, v []byte) {
	e.to(lengths)
	e.uvarint(uint64(len(v)))
	e.to(column)
	e.raw(v)
}

// to makes r read from a column. After an error there is nothing to read in any.
func (r *reader) to(column int) {
	if c := r.cols; c != nil && c.at != column {
		c.of[c.at], c.at = r.b, column
		if r.b = c.of[column]; r.err != nil {
			r.b = nil
		}
	}
}

// split reads what split appended.
func (r *reader) split(lengths, column int, what string, limit int) []byte {
	r.to(lengths)
	n := r.upTo("the length of "+what, uint64(limit))
	r.to(column)
	if n > uint64(len(r.b)) {
		r.fail("it ends within %s", what)
		return nil
	}
	return r.take(int(n))
}

// readAll reports whether every column was read to its end.
func (r *reader) readAll() bool {
	r.to(colKinds)
	for i, b := range &r.cols.of {
		if i != colKinds && len(b) > 0 {
			return false
		}
	}
	return len(r.b) == 0
}
