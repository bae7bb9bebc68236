package replica

import (
	"context"
	"maps"
	"slices"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// maxGivenBytes bounds what a node's damaged copies together give an owner between two
// pauses: a mebibyte or two a second, in the queue of what clients write. An object that
// is larger goes alone.
const maxGivenBytes = 4 << 20

// maxGiveWaits is for how many pauses what was given may take to arrive before the attempt
// is over: on a link that is full it would only be sent again, ahead of what clients write.
const maxGiveWaits = 5

// giver is what is known while a copy gives.
type giver struct {
	takers []taker
	// all says that nobody else has anything of the partition: all owners are takers, and
	// no other member has a copy.
	all bool
	// left are keys that are not given: a taker has what would be dead by them.
	left map[string]bool
}

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
// are as good as any, but for those that came after the loss (see vouched). It returns
// what the others will have seen of this copy's; nil: all that the copy has seen, since
// it is not damaged. Where nothing arrives at some owners it fails, and returns them.
func (h *Healer) give(ctx context.Context, e core.Heal) (given *kv.Clock, behind []string, err error) {
	if h.Give == nil || h.look.Fit() {
		return nil, nil, h.Pause(ctx)
	}
	g := giver{takers: make([]taker, len(e.Owners)), all: e.Sole, left: map[string]bool{}}
	for i, name := range e.Owners {
		g.takers[i].name = name
	}
	for waits := 0; waits < maxGiveWaits; {
		var given kv.Clock
		var more bool
		if given, behind, more, err = h.giveTurn(ctx, &g); err != nil {
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
func (h *Healer) giveTurn(ctx context.Context, g *giver) (given kv.Clock, late []string, more bool, err error) {
	paused := false
	err = h.turn(ctx, func() error {
		var lack []*taker
		if lack, late = h.lack(ctx, g.takers); len(late) > 0 {
			return nil
		}
		sure, left, err := h.vouched(ctx, g, lack)
		if err != nil {
			return err
		}
		given, more, err = h.giveSome(lack, sure)
		more = more || left
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

// vouched returns the keys with a version of another node that may be given. Their context
// says that all else that the copy has seen of the key is dead, and it may be lost here
// instead: the version may have come when the rest was gone, from a writer that had not
// seen it. (With a version of its own a node knew what it had.) So every owner is asked
// first, and a key of which one has what would be dead is left to those who have it as
// well: it is given only where there is nobody else to ask. more: it asked of as many keys
// as one question may name.
func (h *Healer) vouched(ctx context.Context, g *giver, lack []*taker) (sure map[string]bool, more bool, err error) {
	objects := map[string]kv.Object{}
	err = h.Shard.Sound(func(key []byte, o kv.Object) error {
		switch {
		case h.ownOnly(o) || g.left[string(key)] || !lacked(o, lack):
		case !g.all || len(lack) < len(g.takers):
			g.left[string(key)] = true
		case len(objects) == wire.MaxHeldKeys:
			more = true
		default:
			for i := range o.Versions {
				o.Versions[i].Value = nil
			}
			objects[string(key)] = o
		}
		return h.pace(len(key) + o.Bytes())
	})
	if err != nil || len(objects) == 0 {
		return nil, more, err
	}
	sure = map[string]bool{}
	var keys [][]byte
	for _, k := range slices.Sorted(maps.Keys(objects)) {
		sure[k], keys = true, append(keys, []byte(k))
	}
	for _, t := range lack {
		ack, err := h.held(ctx, t.name, wire.Held{Keys: keys})
		h.noteLie(t.name, err)
		for i, k := range keys {
			if err != nil || wouldDie(objects[string(k)], ack.Objects[i].Versions) {
				delete(sure, string(k))
				g.left[string(k)] = true
			}
		}
	}
	return sure, more, nil
}

// ownOnly reports whether all versions of an object are this node's own.
func (h *Healer) ownOnly(o kv.Object) bool {
	return !slices.ContainsFunc(o.Versions, func(v kv.Version) bool { return v.Dot.Actor.Node != h.Node })
}

func lacked(o kv.Object, lack []*taker) bool {
	return slices.ContainsFunc(lack, func(t *taker) bool { return news(o, t.clock.Has) })
}

// wouldDie reports whether an owner that takes an object drops any of its versions.
func wouldDie(o kv.Object, held []wire.HeldVersion) bool {
	return slices.ContainsFunc(held, func(v wire.HeldVersion) bool {
		_, there := o.Find(v.Dot)
		return !there && o.Ctx.Has(v.Dot)
	})
}

// giveSome sends owners what they lack, up to the bound, and returns what the copy has to
// give, and whether there is more that some owner lacks. Of keys with a version of another
// node it gives those that are sure.
func (h *Healer) giveSome(lack []*taker, sure map[string]bool) (given kv.Clock, more bool, err error) {
	err = h.Shard.Sound(func(key []byte, o kv.Object) error {
		if !h.ownOnly(o) && !sure[string(key)] && lacked(o, lack) {
			return nil
		}
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
