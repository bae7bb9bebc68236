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
	h.left = g.left
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
// and pauses. No other copy of the node gives in between. The owners are asked ahead of
// that, so that one that stalls does not hold up the other copies: those that wait for
// their turn keep what they asked about, no more than one question names.
func (h *Healer) giveTurn(ctx context.Context, g *giver) (given kv.Clock, late []string, more bool, err error) {
	lack, late := h.lack(ctx, g.takers)
	if len(late) > 0 {
		return given, late, false, h.Pause(ctx)
	}
	sure, left, err := h.vouched(ctx, g, lack)
	if err != nil {
		return given, nil, false, err
	}
	paused := false
	err = h.turn(ctx, func() error {
		var err error
		given, more, err = h.giveSome(lack, sure)
		if err != nil || !slices.ContainsFunc(lack, func(t *taker) bool { return t.bytes > 0 }) {
			return err // another need not wait for what was not given
		}
		paused = true
		return h.Pause(ctx)
	})
	if err == nil && !paused {
		err = h.Pause(ctx)
	}
	return given, nil, more || left, err
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
	names := make([]string, len(takers))
	for i := range takers {
		names[i] = takers[i].name
	}
	for i, a := range h.heldBy(ctx, names, wire.Held{}) {
		if a.err != nil {
			continue
		}
		t := &takers[i]
		t.clock, t.bytes = a.Clock, 0
		lack = append(lack, t)
		if !t.clock.Covers(t.sent) {
			late = append(late, t.name)
		}
	}
	return lack, late
}

// vouched returns the objects with a version of another node that may be given, without
// their values. Their context
// says that all else that the copy has seen of the key is dead, and it may be lost here
// instead: the version may have come when the rest was gone, from a writer that had not
// seen it. (With a version of its own a node knew what it had.) So every owner is asked
// first, and a key of which one has what would be dead is left to those who have it as
// well: it is given only where there is nobody else to ask. more: it asked of as many keys
// as one question may name.
func (h *Healer) vouched(ctx context.Context, g *giver, lack []*taker) (sure map[string]kv.Object, more bool, err error) {
	sure = map[string]kv.Object{}
	err = h.Shard.Sound(func(key []byte, o kv.Object) error {
		switch {
		case h.ownOnly(o) || g.left[string(key)] || !lacked(o, lack):
		case !g.all || len(lack) < len(g.takers):
			g.left[string(key)] = true
		case len(sure) == h.heldKeys():
			more = true
		default:
			for i := range o.Versions {
				o.Versions[i].Value = nil
			}
			sure[string(key)] = o
		}
		return h.pace(len(key) + o.Bytes())
	})
	if err != nil || len(sure) == 0 {
		return nil, more, err
	}
	var keys [][]byte
	for _, k := range slices.Sorted(maps.Keys(sure)) {
		keys = append(keys, []byte(k))
	}
	names := make([]string, len(lack))
	for i, t := range lack {
		names[i] = t.name
	}
	for i, a := range h.heldBy(ctx, names, wire.Held{Keys: keys}) {
		h.noteLie(names[i], a.err)
		for j, k := range keys {
			if a.err != nil || wouldDie(sure[string(k)], a.Objects[j].Versions) {
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

func sameDot(v, w kv.Version) bool { return v.Dot == w.Dot }

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
// node it gives those that are sure, with the context that the owners were asked about: by
// what has come since, more would be dead.
func (h *Healer) giveSome(lack []*taker, sure map[string]kv.Object) (given kv.Clock, more bool, err error) {
	err = h.Shard.Sound(func(key []byte, o kv.Object) error {
		if !h.ownOnly(o) && lacked(o, lack) {
			asked, ok := sure[string(key)]
			switch {
			case !ok:
				return nil
			case !slices.EqualFunc(asked.Versions, o.Versions, sameDot):
				h.left[string(key)] = true
				return nil
			}
			o.Ctx = asked.Ctx
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
