package wire

import (
	"math/bits"

	"edged.dev/edged/internal/kv"
)

const (
	// pieceRuns is how many runs of a set of live dots go by one form: a set that
	// is dense in one place and thin in another takes each form where it is less.
	pieceRuns = 4096
	// maxPieceBytes bounds a bitmap, and so the runs it may blow up to: 4 MiB.
	maxPieceBytes = 32 << 10
	// lastBitmap is the last dot that a bitmap may begin with, so that none ends
	// past the last sequence number.
	lastBitmap = ^uint64(0) - 8*maxPieceBytes
)

// The forms of a piece.
const (
	pieceRunLengths = iota // gaps and lengths
	pieceBitmap            // a bit a dot from the first on
)

// LiveDots writes which dots below the receiver's base are live, in as many
// records as it takes; More is of no meaning here.
func (l *LaneWriter) LiveDots(d LiveDots) error {
	pieces := piecesOf(d.Dots)
	for first := true; l.err == nil && (first || len(pieces) > 0); first = false {
		n, size := 0, 0
		for n < len(pieces) && (n == 0 || size < ChunkBytes) {
			size += 2 * len(pieces[n].Runs)
			n++
		}
		e := l.record(TypeLiveDots)
		e.byte(b2u(n < len(pieces)))
		e.clockFrom(d.Clock, l.state.base)
		e.uvarint(uint64(n))
		for _, p := range pieces[:n] {
			e.piece(p)
		}
		pieces = pieces[n:]
		if err := l.recorded(TypeLiveDots); err != nil {
			return err
		}
	}
	return l.err
}

// piecesOf cuts a set of dots into pieces.
func piecesOf(dots kv.Clock) []kv.Span {
	var pieces []kv.Span
	for _, s := range dots.Spans() {
		runs := s.Runs
		if s.Base > 0 {
			runs = append([]kv.Run{{From: 1, To: s.Base}}, runs...)
		}
		for len(runs) > 0 {
			n := min(len(runs), pieceRuns)
			pieces = append(pieces, kv.Span{Actor: s.Actor, Runs: runs[:n]})
			runs = runs[n:]
		}
	}
	return pieces
}

// piece appends runs of one actor in the shorter of two forms.
func (e *encoder) piece(s kv.Span) {
	first, last := s.Runs[0].From, s.Max()
	e.actor(s.Actor)
	e.uvarint(first)
	size := (last-first)/8 + 1
	if size > uint64(2*len(s.Runs)) || size > maxPieceBytes || first > lastBitmap {
		e.byte(pieceRunLengths)
		e.runs(kv.Span{Base: first - 1, Runs: fromBase(s.Runs, first)})
		return
	}
	e.byte(pieceBitmap)
	e.uvarint(size)
	at := len(e.b)
	e.b = append(e.b, make([]byte, size)...)
	for _, r := range s.Runs {
		for seq := r.From - first; seq <= r.To-first; seq++ {
			e.b[at+int(seq/8)] |= 1 << (seq % 8)
		}
	}
}

// fromBase makes the first run one that runs() can tell from a base right below:
// it leaves no gap there, so the base is told as the run's own first dot.
func fromBase(runs []kv.Run, first uint64) []kv.Run {
	if runs[0].From == runs[0].To {
		return runs[1:]
	}
	out := append([]kv.Run{{From: first + 1, To: runs[0].To}}, runs[1:]...)
	return out
}

func (r *reader) liveDots(s *laneState) LiveDots {
	d := LiveDots{More: r.upTo("a mark", 1) == 1, Clock: r.clockFrom(s.base)}
	n := r.count("pieces", MaxRuns, 4)
	spans := make([]kv.Span, 0, min(n, 64))
	for range n {
		spans = append(spans, r.piece())
		if r.err != nil {
			return LiveDots{}
		}
	}
	d.Dots = kv.ClockOf(spans...)
	return d
}

func (r *reader) piece() kv.Span {
	s := kv.Span{Actor: r.issuer()}
	first := r.uvarint()
	if first == 0 {
		r.fail("a dot has sequence 0")
		return s
	}
	switch form := r.byte(); form {
	case pieceRunLengths:
		s.Runs = append([]kv.Run{{From: first, To: first}}, r.runs(first-1)...)
	case pieceBitmap:
		body := r.take(r.count("bitmap bytes", maxPieceBytes, 1))
		if first > lastBitmap {
			r.fail("a bitmap passes the last sequence number")
			return s
		}
		s.Runs = bitmapRuns(body, first)
	default:
		r.fail("form %d of a piece is unknown", form)
	}
	return s
}

func bitmapRuns(body []byte, first uint64) []kv.Run {
	var out []kv.Run
	for i, b := range body {
		at := first + 8*uint64(i)
		for b != 0 {
			skip := bits.TrailingZeros8(b)
			n := bits.TrailingZeros8(^(b >> skip))
			from := at + uint64(skip)
			if k := len(out); k > 0 && out[k-1].To+1 == from {
				out[k-1].To += uint64(n)
			} else {
				out = append(out, kv.Run{From: from, To: from + uint64(n) - 1})
			}
			b &^= byte(1<<(skip+n) - 1)
		}
	}
	return out
}
