package replica

import (
	"context"
	"time"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// twiceApart is how long owners whose clocks do not meet are given to see what the
// others had seen: replication takes milliseconds, and a stream that broke is noticed
// and made up for within a second or so.
const twiceApart = 2 * time.Second

// maxGivenBytes bounds what a damaged copy gives an owner between two pauses: a
// mebibyte or so a second, beside what clients write.
const maxGivenBytes = 4 << 20

// maxGiveWaits is for how many pauses what was given may take to arrive before the attempt
// is over: on a link that is full it would only be sent again, ahead of what clients write.
const maxGiveWaits = 5

// voteTwice heals what differs between copies that are always written, whose clocks
// therefore never meet. What differs now is looked at again once every owner has seen
// all that any has seen by now: what only was on its way has arrived by then.
func (h *Healer) voteTwice(ctx context.Context, e core.Heal) (core.Healed, error) {
	h.watch, h.more, h.answered, h.fitPeers = h.Shard.Watch(), false, 0, 0
	defer h.watch.Close()
	if h.Shard.Quarantined() {
		return core.Healed{}, errNotLevel
	}
	ahead := 0
	if !e.Sole {
		ahead = h.ahead(ctx, e.Owners)
	}
	keys, err := h.differing(ctx, e)
	if err != nil {
		return core.Healed{}, err
	}
	h.fitPeers = ahead
	first, err := h.ballots(ctx, e, keys)
	if err != nil {
		return core.Healed{}, err
	}
	given, err := h.give(ctx, e)
	if err != nil {
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
	seen, ok := followed(first[0], second[0], given) // one answer has all keys, at one clock
	if !ok {
		return core.Healed{}, errNotLevel
	}
	for i := range keys {
		verdicts[i] = core.VoteTwice(h.Self, first[i], second[i], seen)
	}
	return h.cure(ctx, e, keys, verdicts)
}

// ahead counts the owners that have seen all that this copy has, and agree with their own
// records. One that has not seen what is lost here knows nothing of it, and another that
// does not answer may have it.
func (h *Healer) ahead(ctx context.Context, owners []string) (n int) {
	for _, name := range owners {
		if ack, err := h.held(ctx, name, wire.Held{}); err == nil && ack.Fit && ack.Clock.Covers(h.look.Clock) {
			n++
		}
	}
	return n
}

// followed returns what all owners together had seen at first, and whether the same
// owners voted again, and have all seen that. The first ballot is this copy's own. Of
// what a damaged copy alone had seen the others need have seen only what it could give:
// what superseded a version and is lost counts no more than a disk that is lost.
func followed(first, second []core.Ballot, given *kv.Clock) (seen kv.Clock, ok bool) {
	if len(first) != len(second) {
		return kv.Clock{}, false
	}
	var theirs kv.Clock
	for _, b := range first[1:] {
		theirs.Join(b.Clock)
	}
	seen = theirs.Clone()
	seen.Join(first[0].Clock)
	asked := seen
	if given != nil {
		asked = theirs.Clone()
		asked.Join(*given)
	}
	for i := range second {
		want := asked
		if i == 0 {
			want = theirs
		}
		if first[i].Name != second[i].Name || !second[i].Clock.Covers(want) {
			return kv.Clock{}, false
		}
	}
	return seen, true
}

// give lets every owner have what this copy holds, can verify, and has seen alone, and
// waits until it has arrived. A copy that is damaged streams to nobody, for the end of a
// stream would say that what it lost is dead; its objects, each with what it supersedes,
// are as good as any. It returns what the others will have seen of this copy's; nil: all
// that the copy has seen, since it is not damaged.
func (h *Healer) give(ctx context.Context, e core.Heal) (*kv.Clock, error) {
	if h.Give == nil || h.look.Fit() {
		return nil, h.Pause(ctx)
	}
	sent := map[string]*kv.Clock{}
	for waits := 0; waits < maxGiveWaits; {
		lack := map[string]*lacking{}
		arrived := true
		for _, name := range e.Owners {
			if ack, err := h.held(ctx, name, wire.Held{}); err == nil {
				lack[name] = &lacking{clock: ack.Clock}
				if sent[name] == nil {
					sent[name] = &kv.Clock{}
				}
				arrived = arrived && ack.Clock.Covers(*sent[name])
			}
		}
		if !arrived {
			waits++
			if err := h.Pause(ctx); err != nil {
				return nil, err
			}
			continue
		}
		waits = 0
		var given kv.Clock
		more := false
		err := h.Shard.Sound(func(key []byte, o kv.Object) error {
			for _, v := range o.Versions {
				given.Add(v.Dot)
			}
			for name, l := range lack {
				if news(o, l.clock.Has) {
					if l.bytes += len(key) + o.Bytes(); l.bytes > maxGivenBytes {
						more = true
						continue
					}
					for _, v := range o.Versions {
						sent[name].Add(v.Dot)
					}
					h.Give(name, key, o)
				}
			}
			return h.pace(len(key) + o.Bytes())
		})
		if err == nil {
			err = h.Pause(ctx)
		}
		if err != nil || !more {
			return &given, err
		}
	}
	return nil, errNotLevel
}

func (h *Healer) pace(n int) error {
	if h.Pace == nil {
		return nil
	}
	return h.Pace(n)
}

// lacking is what an owner had seen when it was asked, and how much it was given since.
type lacking struct {
	clock kv.Clock
	bytes int
}
