package wire

import "edged.dev/edged/internal/kv"

// An answer's table is about the rows of the table that it leans on. Where it has
// nothing but those, in their order, it is told row by row: one byte that says
// what the row is, and clocks as differences from the reference, so that a row
// that is equal, or is not there, costs next to nothing once compressed.

// How an answer's table is told.
const (
	answerPlain = iota // as a table of its own
	answerRows         // by the rows of the reference
)

// Flags in a row's byte, beside state, trust and lost.
const (
	rowEqual  = 1 << 6 // the clock is the reference's
	rowAbsent = 1 << 7 // the answerer has no such copy
)

// answer appends the copies that differ from ref and those that are equal to it.
func (e *encoder) answer(copies, equal, ref []CopyClock, by reference) {
	rows, ok := rowsOn(ref, copies, equal)
	if !ok {
		e.byte(answerPlain)
		e.table(copies, by)
		e.table(equal, nil)
		return
	}
	e.byte(answerRows)
	for i := range rows {
		e.byte(rows[i].mark)
	}
	told := make([]CopyClock, len(rows))
	for i := range rows {
		if rows[i].mark&rowAbsent == 0 {
			e.actor(rows[i].copy.Actor)
		}
		if told[i] = *rows[i].copy; rows[i].mark&(rowEqual|rowAbsent) != 0 {
			told[i].Clock = withoutRuns(ref[i].Clock)
		}
	}
	e.columns(told, by)
}

func withoutRuns(c kv.Clock) kv.Clock {
	var spans []kv.Span
	for _, s := range c.Spans() {
		spans = append(spans, kv.Span{Actor: s.Actor, Base: s.Base})
	}
	return kv.ClockOf(spans...)
}

type answerRow struct {
	mark byte
	copy *CopyClock
}

// fewRows is the share of the rows below which an answer is told by itself: a DONE
// about two partitions of three hundred has nothing to say of the others.
const fewRows = 4

// rowsOn sorts an answer into the rows of ref; ok is false where it does not fit, or
// is about few of them.
func rowsOn(ref, copies, equal []CopyClock) (rows []answerRow, ok bool) {
	if fewRows*(len(copies)+len(equal)) < len(ref) {
		return nil, false
	}
	rows = make([]answerRow, len(ref))
	i, j := 0, 0
	for row := range ref {
		p := ref[row].Partition
		switch {
		case row > 0 && ref[row-1].Partition >= p:
			return nil, false
		case i < len(copies) && copies[i].Partition == p:
			rows[row] = answerRow{pack(&copies[i]), &copies[i]}
			i++
		case j < len(equal) && equal[j].Partition == p:
			rows[row] = answerRow{pack(&equal[j]) | rowEqual, &equal[j]}
			j++
		default:
			rows[row] = answerRow{rowAbsent, &CopyClock{Partition: p}}
		}
	}
	return rows, len(ref) > 0 && i == len(copies) && j == len(equal)
}

// answer reads what answer wrote.
func (r *reader) answer(ref []CopyClock, by reference) (copies, equal []CopyClock) {
	switch how := r.byte(); {
	case r.err != nil:
		return nil, nil
	case how == answerPlain:
		return r.table(by), r.table(nil)
	case how != answerRows || len(by) == 0:
		r.fail("an answer is told in the way %d, which does not fit", how)
		return nil, nil
	}
	marks := r.take(len(ref))
	if r.err != nil {
		return nil, nil
	}
	told := make([]CopyClock, len(ref))
	for i := range told {
		told[i].Partition = ref[i].Partition
		if marks[i]&rowAbsent == 0 {
			r.unpackRow(marks[i]&^rowEqual, &told[i])
			told[i].Actor = r.actor()
		}
	}
	r.columns(told, by)
	if r.err != nil {
		return nil, nil
	}
	for i, c := range told {
		switch {
		case marks[i]&rowAbsent != 0:
		case marks[i]&rowEqual != 0:
			c.Clock = kv.Clock{}
			equal = append(equal, c)
		default:
			copies = append(copies, c)
		}
	}
	return copies, equal
}
