package wire

import "edged.dev/edged/internal/kv"

// An answer's table is about the rows of the table that it leans on. Where it has
// nothing but those, in their order, it is told by them: which there are, which are
// as they were asked, and what differs of the others.

// How an answer's table is told.
const (
	answerPlain = iota // as a table of its own
	answerRows         // by the rows of the reference
)

// answer appends the copies that differ from ref and those that are equal to it.
func (e *encoder) answer(copies, equal []CopyClock, ref *reference) {
	rows, ok := rowsOn(ref, copies, equal)
	if !ok {
		e.byte(answerPlain)
		e.table(copies, ref)
		e.table(equal, nil)
		return
	}
	e.byte(answerRows)
	e.subset(rows.at, len(ref.rows))
	e.subset(rows.equal, len(rows.at))
	e.heads(rows.all)
	e.clocks(copies, ref)
}

// answerOf is an answer by the rows of its reference.
type answerOf struct {
	at    []int       // rows that it has
	equal []int       // which of those are as asked
	all   []CopyClock // both kinds
}

// rowsOn sorts an answer into the rows of ref; ok is false where it does not fit.
func rowsOn(ref *reference, copies, equal []CopyClock) (rows answerOf, ok bool) {
	if ref == nil {
		return rows, false
	}
	for row := range ref.rows {
		p := ref.rows[row].Partition
		if row > 0 && ref.rows[row-1].Partition >= p {
			return rows, false
		}
		switch {
		case len(copies) > 0 && copies[0].Partition == p:
			rows.all, copies = append(rows.all, copies[0]), copies[1:]
		case len(equal) > 0 && equal[0].Partition == p:
			rows.equal = append(rows.equal, len(rows.at))
			rows.all, equal = append(rows.all, equal[0]), equal[1:]
		default:
			continue
		}
		rows.at = append(rows.at, row)
	}
	return rows, len(copies) == 0 && len(equal) == 0
}

// answer reads what answer wrote.
func (r *reader) answer(ref *reference) (copies, equal []CopyClock) {
	switch how := r.byte(); {
	case r.err != nil:
		return nil, nil
	case how == answerPlain:
		return r.table(ref), r.table(nil)
	case how != answerRows || ref == nil:
		r.fail("an answer is told in the way %d, which does not fit", how)
		return nil, nil
	}
	at := r.subset(len(ref.rows))
	same := r.subset(len(at))
	all := make([]CopyClock, len(at))
	for i, row := range at {
		all[i].Partition = ref.rows[row].Partition
	}
	r.heads(all)
	for i, c := range all {
		if len(same) > 0 && same[0] == i {
			equal, same = append(equal, c), same[1:]
		} else {
			copies = append(copies, c)
		}
	}
	if r.clocks(copies, ref); r.err != nil {
		return nil, nil
	}
	for i := range equal {
		equal[i].Clock = kv.Clock{}
	}
	return copies, equal
}
