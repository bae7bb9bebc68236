package partition

import "edged.dev/edged/internal/kv"

// What a peer says is held against what this copy knows for certain, before any of
// it is taken in: package replica closes the connection to one that lies.

// Issued returns the last dot that this copy's own actor has given out, published
// or not. No peer can have heard of a higher one.
func (s *Shard) Issued() kv.Dot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.copy.Issued()
}

// Knows reports whether this copy has the dots that a donor says KEEP for: in its
// clock, published or not, because this session brought them, or since the donor was
// told that it holds them though its clock was lost (the step L3).
func (in *Incoming) Knows(dots kv.Clock) bool {
	in.shard.mu.Lock()
	defer in.shard.mu.Unlock()
	unknown := kv.ClockOf(dots.Minus(*in.shard.copy.PlannedClock())...)
	told := in.in.Told()
	unknown = kv.ClockOf(unknown.Minus(told)...)
	return in.in.Sent.Covers(unknown)
}

// Agrees reports whether the clock at a donor's end has all that the session
// brought: nobody sends, or keeps, what it has not seen.
func (in *Incoming) Agrees(end kv.Clock) bool {
	in.shard.mu.Lock()
	defer in.shard.mu.Unlock()
	return end.Covers(in.in.Sent)
}
