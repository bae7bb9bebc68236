package replica

import (
	"context"
	"slices"
	"time"

	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// twiceApart is how long owners whose clocks do not meet are given to see what the
// others had seen: replication takes milliseconds, and a stream that broke is noticed
// and made up for within a second or so.
const twiceApart = 2 * time.Second

// voteTwice heals what differs between copies that are always written, whose clocks
// therefore never meet. Where it need not be decided by all owners, those that hold it up
// are left out, one attempt after the other, as if they were not there: whoever lags, or
// says so, must not keep a copy damaged.
func (h *Healer) voteTwice(ctx context.Context, e core.Heal) (healed core.Healed, err error) {
	h.watch = h.Shard.Watch()
	defer h.watch.Close()
	if h.Shard.Quarantined() {
		return core.Healed{}, errNotLevel
	}
	var left []string
	for {
		var behind []string
		healed, behind, err = h.twice(ctx, e)
		if len(behind) == 0 || e.All {
			healed.LeftOut = left
			return healed, err
		}
		e.Sole = false
		e.Owners = slices.DeleteFunc(slices.Clone(e.Owners), func(name string) bool {
			out := slices.Contains(behind, name)
			if out {
				left = append(left, name)
			}
			return out
		})
	}
}

// twice looks at what differs now, and again once every owner has seen all that any has
// seen by now: what only was on its way has arrived by then. Where nothing was decided it
// returns who holds that up: has not followed, or leaves open what differs.
func (h *Healer) twice(ctx context.Context, e core.Heal) (healed core.Healed, behind []string, err error) {
	h.more, h.silent, h.answered, h.left = false, false, 0, nil
	heard := h.ahead(ctx, e.Owners)
	keys, err := h.differing(ctx, e)
	if err != nil {
		return core.Healed{}, nil, err
	}
	first, err := h.ballots(ctx, e, keys)
	if err != nil {
		return core.Healed{}, nil, err
	}
	given, behind, err := h.give(ctx, e)
	if err != nil {
		return core.Healed{}, behind, err
	}
	second, err := h.ballots(ctx, e, keys)
	if err != nil {
		return core.Healed{}, nil, err
	}
	var open []string
	verdicts := make([]core.Verdict, len(keys))
	if len(keys) > 0 {
		seen, behind := core.Followed(first[0], second[0], given) // one answer has all keys, at one clock
		if len(behind) > 0 {
			return core.Healed{}, behind, errNotLevel
		}
		for i := range keys {
			verdicts[i] = core.VoteTwice(h.Self, first[i], second[i], seen)
			if h.left[keys[i]] {
				verdicts[i] = verdicts[i].Deferred()
			}
			open = append(open, verdicts[i].Movers...)
		}
	}
	// What an owner no longer has is dead by something that it has seen, which this copy
	// must have seen too before its record says the same.
	mine := h.Shard.Clock()
	for i, a := range heard {
		if !mine.Covers(a.Clock) {
			h.unanswered(e.Owners[i])
		}
	}
	healed, err = h.cure(ctx, e, keys, verdicts)
	if err != nil || healed.Text != "" { // what could be done was done; the rest is for the next attempt
		open = nil
	}
	return healed, open, err
}

// ahead asks the owners what they have seen, and notes which of them agree with their own
// records and have seen all that this copy has. One that has not seen what is lost here
// knows nothing of it, and another that does not answer may have it.
func (h *Healer) ahead(ctx context.Context, owners []string) []heldAnswer {
	h.fit = nil
	heard := h.heldBy(ctx, owners, wire.Held{})
	for i, a := range heard {
		if a.err == nil && a.Fit && a.Clock.Covers(h.look.Clock) {
			h.fit = append(h.fit, owners[i])
		}
	}
	return heard
}
