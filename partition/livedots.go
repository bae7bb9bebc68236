package partition

import (
	"errors"
	"fmt"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
)

// MaxLiveRuns bounds what a receiver remembers of a partition's live dots, 16
// bytes a run: 64 MiB, which is a partition of some ten million keys.
const MaxLiveRuns = 4 << 20

// ErrTooManyLive refuses a donor's word of more than MaxLiveRuns.
var ErrTooManyLive = errors.New("the donor tells of more live dots than are remembered")

// Below reports whether the receiver is below this copy's collection floor, so
// that the session must tell which dots are live (the step L2 of the ladder).
func (o *Outgoing) Below() bool {
	o.shard.mu.Lock()
	defer o.shard.mu.Unlock()
	now := o.shard.copy.Now()
	return o.donor.Below(&now.Clock, now.Floor)
}

// NeedsLive reports whether the receiver has to be told which dots are live before
// the session may end: it is below the floor, and was not told, or this copy has
// come to know of more dots since, from a donor of its own.
func (o *Outgoing) NeedsLive() bool {
	o.shard.mu.Lock()
	defer o.shard.mu.Unlock()
	return o.needsLiveLocked()
}

func (o *Outgoing) needsLiveLocked() bool {
	now := o.shard.copy.Now()
	if !o.donor.Below(&now.Clock, now.Floor) {
		return false
	}
	return o.below == nil || !o.below.Covers(now.Clock.UpTo(o.donor.BaseS))
}

// LiveDots returns the dots up to the receiver's base that the snapshot in use
// holds, and its clock.
func (o *Outgoing) LiveDots() (clock, dots kv.Clock, err error) {
	s := o.shard
	var spans []kv.Span
	upTo := o.clock.UpTo(o.donor.BaseS)
	for _, span := range s.spelt(upTo.Spans()) {
		live := kv.Span{Actor: span.Actor}
		id := s.set.actors.ID(span.Actor)
		lower, upper := cache.AppendVersionKey(nil, s.id, id, 1), cache.AppendVersionKey(nil, s.id, id, span.Max()+1)
		err := o.snap.Scan(lower, upper, func(rec, _ []byte) (bool, error) {
			seq := cache.SeqOf(rec)
			if n := len(live.Runs); n > 0 && live.Runs[n-1].To+1 == seq {
				live.Runs[n-1].To = seq
			} else {
				live.Runs = append(live.Runs, kv.Run{From: seq, To: seq})
			}
			return true, nil
		})
		if err != nil {
			return kv.Clock{}, kv.Clock{}, fmt.Errorf("list live dots of partition %d: %w", s.id, err)
		}
		spans = append(spans, live)
	}
	o.below = &upTo
	return o.clock, kv.ClockOf(spans...), nil
}

// spelt puts in the place of seals all the actors that they cover and this node
// knows, each with all that it may have issued.
func (s *Shard) spelt(spans []kv.Span) []kv.Span {
	var out []kv.Span
	for _, span := range spans {
		if !span.Actor.IsSeal() {
			out = append(out, span)
			continue
		}
		for _, a := range s.set.actors.under(span.Actor) {
			out = append(out, kv.Span{Actor: a, Base: kv.AllSeqs})
		}
	}
	return out
}

// Live takes a piece of the donor's word which dots up to the reported base it
// holds; with the last piece the versions that it buries are looked up. They are
// dropped at End.
func (in *Incoming) Live(clock, dots kv.Clock, more bool) error {
	for _, s := range dots.Spans() {
		if in.liveRuns += len(s.Runs); in.liveRuns > MaxLiveRuns {
			return fmt.Errorf("take live dots of partition %d: %w", in.shard.id, ErrTooManyLive)
		}
	}
	in.liveDots.Join(dots)
	if more {
		return nil
	}
	s := in.shard
	s.mu.Lock()
	in.in.Live(clock, in.liveDots)
	buried := in.in.Buried(s.set.actors.under)
	s.mu.Unlock()
	in.liveDots, in.liveRuns = kv.Clock{}, 0
	keys, err := s.keysAmong(buried)
	if err != nil {
		return fmt.Errorf("take live dots of partition %d: %w", s.id, err)
	}
	in.buried = keys
	return nil
}

// WentBelow reports whether the donor told which dots are live: the step was L2.
func (in *Incoming) WentBelow() bool {
	in.shard.mu.Lock()
	defer in.shard.mu.Unlock()
	return in.in.WentBelow()
}

// Dropped returns how many versions the end dropped that nothing but Live, or what
// the donor was told of this copy's content, told to be dead.
func (in *Incoming) Dropped() int {
	in.shard.mu.Lock()
	defer in.shard.mu.Unlock()
	return in.in.Dropped()
}

// keysAmong returns the keys of those versions in the store whose dots are in the
// set, by one scan an actor: the set's runs are many and short.
func (s *Shard) keysAmong(dots kv.Clock) ([]string, error) {
	var keys []string
	for _, span := range dots.Spans() {
		runs := span.Runs
		if span.Base > 0 {
			runs = append([]kv.Run{{From: 1, To: span.Base}}, runs...)
		}
		id := s.set.actors.ID(span.Actor)
		lower, upper := cache.AppendVersionKey(nil, s.id, id, runs[0].From), cache.AppendVersionKey(nil, s.id, id, span.Max()+1)
		err := s.set.cfg.Store.Scan(lower, upper, func(rec, value []byte) (bool, error) {
			seq := cache.SeqOf(rec)
			for len(runs) > 0 && runs[0].To < seq {
				runs = runs[1:]
			}
			if len(runs) == 0 || seq < runs[0].From {
				return len(runs) > 0, nil
			}
			key, _, err := cache.ParseVersion(value)
			keys = append(keys, string(key))
			return true, err
		})
		if err != nil {
			return nil, err
		}
	}
	return keys, nil
}
