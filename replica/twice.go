package replica

import (
	"context"
	"time"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/replica/core"
)

// twiceApart is how long owners whose clocks do not meet are given to see what the
// others had seen: replication takes milliseconds, and a stream that broke is noticed
// and made up for within a second or so.
const twiceApart = 2 * time.Second

// voteTwice heals what differs between copies that are always written, whose clocks
// therefore never meet. What differs now is looked at again once every owner has seen
// all that any has seen by now: what only was on its way has arrived by then.
func (h *Healer) voteTwice(ctx context.Context, e core.Heal) (core.Healed, error) {
	h.watch, h.more, h.answered, h.fitPeers = h.Shard.Watch(), false, 0, 0
	defer h.watch.Close()
	if h.Shard.Quarantined() {
		return core.Healed{}, errNotLevel
	}
	keys, err := h.differing(ctx, e)
	if err != nil {
		return core.Healed{}, err
	}
	first, err := h.ballots(ctx, e, keys)
	if err != nil {
		return core.Healed{}, err
	}
	if err := h.Pause(ctx); err != nil {
		return core.Healed{}, err
	}
	second, err := h.ballots(ctx, e, keys)
	if err != nil {
		return core.Healed{}, err
	}
	verdicts := make([]core.Verdict, len(keys))
	if len(keys) == 0 {
		return h.cure(ctx, e, keys, verdicts)
	}
	seen, ok := followed(first[0], second[0]) // one answer has all keys, at one clock
	if !ok {
		return core.Healed{}, errNotLevel
	}
	for i := range keys {
		verdicts[i] = core.VoteTwice(h.Self, first[i], second[i], seen)
	}
	return h.cure(ctx, e, keys, verdicts)
}

// followed returns what all owners together had seen at first, and whether the same
// owners voted again, and have all seen that.
func followed(first, second []core.Ballot) (seen kv.Clock, ok bool) {
	if len(first) != len(second) {
		return kv.Clock{}, false
	}
	for i := range first {
		seen.Join(first[i].Clock)
	}
	for i := range second {
		if first[i].Name != second[i].Name || !second[i].Clock.Covers(seen) {
			return kv.Clock{}, false
		}
	}
	return seen, true
}
