package replica

import (
	"context"
	"slices"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/transport/wire"
)

// maxGivenBytes bounds what a node's damaged copies together give an owner between two
// pauses: a mebibyte or two a second, in the queue of what clients write. An object that
// is larger goes alone.
const maxGivenBytes = 4 << 20

// maxGiveWaits is for how many pauses what was given may take to arrive before the attempt
// is over: on a link that is full it would only be sent again, ahead of what clients write.
const maxGiveWaits = 5

// taker is an owner that is given to.
type taker struct {
	name  string
	clock kv.Clock // what it had seen when it was asked last
	sent  kv.Clock // what it was given
	bytes int      // of it since the last pause
}

// give lets every owner have what this copy holds, can verify, and has seen alone, and
// waits until it has arrived. A copy that is damaged streams to nobody, for the end of a
// stream would say that what it lost is dead; its objects, each with what it supersedes,
// are as good as any. It returns what the others will have seen of this copy's; nil: all
// that the copy has seen, since it is not damaged. Where nothing arrives at some owners
// it fails, and returns them.
func (h *Healer) give(ctx context.Context, owners []string) (given *kv.Clock, behind []string, err error) {
	if h.Give == nil || h.look.Fit() {
		return nil, nil, h.Pause(ctx)
	}
	takers := make([]taker, len(owners))
	for i, name := range owners {
		takers[i].name = name
	}
	for waits := 0; waits < maxGiveWaits; {
		var given kv.Clock
		var more bool
		if given, behind, more, err = h.giveTurn(ctx, takers); err != nil {
			return nil, nil, err
		}
		switch {
		case len(behind) > 0:
			waits++
		case more:
			waits = 0
		default:
			return &given, nil, nil
		}
	}
	return nil, behind, errNotLevel
}

// giveTurn gives owners once what they lack, if what they were given before has arrived,
// and pauses. No other copy of the node gives in between.
func (h *Healer) giveTurn(ctx context.Context, takers []taker) (given kv.Clock, late []string, more bool, err error) {
	paused := false
	err = h.turn(ctx, func() error {
		var lack []*taker
		if lack, late = h.lack(ctx, takers); len(late) > 0 {
			return nil
		}
		var err error
		given, more, err = h.giveSome(lack)
		if err != nil || !slices.ContainsFunc(lack, func(t *taker) bool { return t.bytes > 0 }) {
			return err // another need not wait for what was not given
		}
		paused = true
		return h.Pause(ctx)
	})
	if err == nil && !paused {
		err = h.Pause(ctx)
	}
	return given, late, more, err
}

func (h *Healer) turn(ctx context.Context, fn func() error) error {
	if h.Turn == nil {
		return fn()
	}
	return h.Turn(ctx, fn)
}

// lack asks what the owners have seen by now. It returns those that answer, and of them
// those that do not have yet what they were given.
func (h *Healer) lack(ctx context.Context, takers []taker) (lack []*taker, late []string) {
	for i := range takers {
		t := &takers[i]
		ack, err := h.held(ctx, t.name, wire.Held{})
		if err != nil {
			continue
		}
		t.clock, t.bytes = ack.Clock, 0
		lack = append(lack, t)
		if !t.clock.Covers(t.sent) {
			late = append(late, t.name)
		}
	}
	return lack, late
}

// giveSome sends owners what they lack, up to the bound, and returns what the copy has to
// give, and whether there is more that some owner lacks.
func (h *Healer) giveSome(lack []*taker) (given kv.Clock, more bool, err error) {
	err = h.Shard.Sound(func(key []byte, o kv.Object) error {
		n := len(key) + o.Bytes()
		for _, v := range o.Versions {
			given.Add(v.Dot)
		}
		for _, t := range lack {
			if !news(o, t.clock.Has) {
				continue
			}
			if t.bytes > 0 && t.bytes+n > maxGivenBytes {
				more = true
				continue
			}
			t.bytes += n
			for _, v := range o.Versions {
				t.sent.Add(v.Dot)
			}
			h.Give(t.name, key, o)
		}
		return h.pace(n)
	})
	return given, more, err
}

func (h *Healer) pace(n int) error {
	if h.Pace == nil {
		return nil
	}
	return h.Pace(n)
}
