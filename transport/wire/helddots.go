package wire

import "edged.dev/edged/internal/kv"

// heldDots appends what a receiver holds and does not claim. Its sender keeps to
// MaxHeldParts and, by FirstRuns, to MaxHeldDotRuns.
func (e *encoder) heldDots(held []HeldDots) {
	e.uvarint(uint64(len(held)))
	prev := noPartition
	for _, h := range held {
		e.partitionAfter(&prev, h.Partition)
		pieces := piecesOf(h.Dots)
		e.uvarint(uint64(len(pieces)))
		for _, p := range pieces {
			e.piece(p)
		}
	}
}

// heldDots reads what heldDots wrote.
func (r *reader) heldDots() []HeldDots {
	n := r.count("sets of held versions", MaxHeldParts, 2)
	if n == 0 {
		return nil
	}
	out := make([]HeldDots, 0, n)
	prev := noPartition
	for range n {
		h := HeldDots{Partition: r.partitionAfter(&prev)}
		var spans []kv.Span
		runs := 0
		for range r.count("pieces", MaxHeldDotRuns, 4) {
			s := r.piece()
			if runs += len(s.Runs); runs > MaxHeldDotRuns {
				r.fail("it tells of more than %d runs of held versions", MaxHeldDotRuns)
			}
			if r.err != nil {
				return nil
			}
			spans = append(spans, s)
		}
		h.Dots = kv.ClockOf(spans...)
		out = append(out, h)
	}
	if r.err != nil {
		return nil
	}
	return out
}

// FirstRuns returns the first dots of a set, as many as lie in n runs.
func FirstRuns(dots kv.Clock, n int) kv.Clock {
	var out []kv.Span
	for _, s := range dots.Spans() {
		if n <= 0 {
			break
		}
		if s.Base > 0 {
			n--
		}
		s.Runs = s.Runs[:min(len(s.Runs), max(n, 0))]
		n -= len(s.Runs)
		out = append(out, s)
	}
	return kv.ClockOf(out...)
}
