package replica

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/zeebo/xxh3"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/merkle"
	"edged.dev/edged/partition"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// clockHash names the clock at which copies are compared. It is never 0, which asks
// for no clock.
func clockHash(p kv.Partition, c kv.Clock) uint64 {
	var h xxh3.Hasher
	hashClock(&h, p, c)
	return max(h.Sum64(), 1)
}

// clock is what a question says of the clock at which it is to be answered.
func (h *Healer) clock() uint64 {
	if h.watch != nil {
		return 0
	}
	return clockHash(h.Partition, h.look.Clock)
}

// differing returns the keys that are damaged here, or whose values differ from
// those of any owner at this clock: by a descent of both trees, then by the items in
// the leaves.
func (h *Healer) differing(ctx context.Context, e core.Heal) ([]string, error) {
	keys := map[string]bool{}
	for _, k := range h.look.Suspects {
		keys[k] = true
	}
	for _, name := range e.Owners {
		ranges, err := h.descend(ctx, name)
		if err == nil && len(ranges) > 0 {
			err = h.items(ctx, name, ranges, keys)
		}
		h.noteLie(name, err)
		if err != nil {
			h.unanswered(name)
		}
		if err != nil && e.All {
			return nil, err
		}
	}
	if h.answered == 0 {
		return nil, errNotLevel
	}
	out := slices.Sorted(maps.Keys(keys))
	if most := h.heldKeys(); len(out) > most { // others the next time: what only moved must not keep the rest out
		at := int(h.Salt % uint64(len(out)))
		out, h.more = append(out[at:], out[:at]...)[:most], true
	}
	return out, nil
}

func (h *Healer) heldKeys() int { return cmp.Or(h.HeldKeys, wire.MaxHeldKeys) }

// unanswered is for an owner that left a question open: it may have what was to be told.
func (h *Healer) unanswered(name string) {
	h.silent = true
	h.fit = slices.DeleteFunc(h.fit, func(n string) bool { return n == name })
}

func (h *Healer) noteLie(name string, err error) {
	if wire.BreachOf(err) == wire.NoBreach {
		return
	}
	h.Lies++
	if h.Lied != nil {
		h.Lied(name, err)
	}
}

func (h *Healer) tree(ctx context.Context, name string, q wire.Tree) (wire.TreeAck, error) {
	q.Partition, q.Clock, q.Ask.Salt = h.Partition, h.clock(), h.Salt
	resp, err := h.Ask(ctx, name, q.Append(nil))
	if err != nil {
		return wire.TreeAck{}, err
	}
	ack, err := wire.ParseTreeAck(resp)
	if err == nil && ack.Code != wire.TreeOK {
		err = errNotLevel
	}
	return ack, err
}

// descend finds the leaves that differ from a peer's.
func (h *Healer) descend(ctx context.Context, name string) ([]merkle.Range, error) {
	root, err := h.tree(ctx, name, wire.Tree{})
	if err != nil {
		return nil, err
	}
	h.answered++
	if root.Fit && h.watch == nil {
		h.fit = append(h.fit, name)
	}
	mine := h.look.Tree
	if h.watch != nil {
		if mine, err = h.Shard.Tree(ctx); err != nil {
			return nil, err
		}
	}
	if merkle.DigestOf(root.Count, root.Sum) == mine.Root() {
		return nil, nil
	}
	d := merkle.NewDescent(mine, root.Bits, h.Salt)
	for q, ok := d.Ask(); ok; q, ok = d.Ask() {
		ack, err := h.tree(ctx, name, wire.Tree{Ask: q})
		if err != nil {
			return nil, err
		}
		if err := d.Take(ack.Nodes); err != nil {
			return nil, fmt.Errorf("%w: %w", errLies, err)
		}
	}
	ranges := d.Ranges()
	if len(ranges) > wire.MaxTreeRanges {
		ranges, h.more = ranges[:wire.MaxTreeRanges], true
	}
	return ranges, nil
}

// items adds the keys of items that only one side has in the leaves.
func (h *Healer) items(ctx context.Context, name string, ranges []merkle.Range, keys map[string]bool) error {
	theirs, err := h.tree(ctx, name, wire.Tree{Ranges: ranges})
	if err != nil {
		return err
	}
	var mine []partition.Item
	var upto uint64
	if h.watch != nil {
		mine, upto, err = h.Shard.ItemsNow(ranges, h.Salt, wire.MaxTreeItems)
	} else {
		mine, upto, err = h.Shard.Items(h.look.Clock, ranges, h.Salt, wire.MaxTreeItems)
	}
	if err != nil {
		return err
	}
	h.more = h.more || min(upto, theirs.Upto) != ^uint64(0)
	have, there := map[uint64]bool{}, map[uint64]bool{}
	for _, s := range theirs.Items {
		there[s] = true
	}
	for _, it := range mine {
		have[it.Short] = true
		if !there[it.Short] && it.Hash <= theirs.Upto {
			keys[string(it.Key)] = true
		}
	}
	unknown := slices.DeleteFunc(theirs.Items, func(s uint64) bool { return have[s] })
	if len(unknown) == 0 {
		return nil
	}
	held, err := h.held(ctx, name, wire.Held{Ranges: ranges, Items: unknown})
	if err != nil {
		return err
	}
	h.more = h.more || len(held.Objects) >= h.heldKeys() // there may be others
	for _, o := range held.Objects {
		keys[string(o.Key)] = true
	}
	return nil
}

func (h *Healer) held(ctx context.Context, name string, q wire.Held) (wire.HeldAck, error) {
	q.Partition, q.Clock, q.Salt = h.Partition, h.clock(), h.Salt
	resp, err := h.Ask(ctx, name, q.Append(nil))
	if err != nil {
		return wire.HeldAck{}, err
	}
	ack, err := wire.ParseHeldAck(resp)
	if err == nil && ack.Code != wire.TreeOK {
		err = errNotLevel
	}
	if err == nil && (ack.Told != (q.Clock == 0) || len(q.Keys) > 0 && !slices.EqualFunc(ack.Objects, q.Keys, ofKey)) {
		err = errLies
	}
	if err == nil {
		own := claims{p: h.Partition, issued: h.Shard.Issued()}
		own.clock(ack.Clock)
		err = own.err
	}
	return ack, err
}

// heldAnswer is an owner's answer to a HELD.
type heldAnswer struct {
	wire.HeldAck
	err error
}

// heldBy asks owners the same question.
func (h *Healer) heldBy(ctx context.Context, names []string, q wire.Held) []heldAnswer {
	out := make([]heldAnswer, len(names))
	ask := func(i int) { out[i].HeldAck, out[i].err = h.held(ctx, names[i], q) }
	if h.Each != nil {
		h.Each(len(names), ask)
		return out
	}
	for i := range names {
		ask(i)
	}
	return out
}

func ofKey(o wire.HeldObject, key []byte) bool { return bytes.Equal(o.Key, key) }

// ballots asks every owner what it holds of the keys.
func (h *Healer) ballots(ctx context.Context, e core.Heal, keys []string) ([][]core.Ballot, error) {
	out := make([][]core.Ballot, len(keys))
	if len(keys) == 0 {
		return out, nil
	}
	asked := make([][]byte, len(keys))
	for i, k := range keys {
		asked[i] = []byte(k)
	}
	mine, clock, err := h.own(asked)
	if err != nil {
		return nil, err
	}
	for i := range mine {
		out[i] = append(out[i], core.Ballot{
			Name: h.Self, Fit: h.look.Fit(), Clock: clock, Beyond: mine[i].Beyond, Versions: heldVersions(&mine[i]),
		})
	}
	answered := 0
	for i, a := range h.heldBy(ctx, e.Owners, wire.Held{Keys: asked}) {
		name := e.Owners[i]
		h.noteLie(name, a.err)
		if a.err != nil {
			h.unanswered(name)
			continue
		}
		answered++
		for j := range a.Objects {
			o := &a.Objects[j]
			out[j] = append(out[j], core.Ballot{Name: name, Fit: a.Fit, Clock: a.Clock, Beyond: o.Beyond, Versions: o.Versions})
		}
	}
	if answered == 0 || e.All && answered < len(e.Owners) {
		return nil, errNotLevel
	}
	return out, nil
}

// own is what this copy holds of keys.
func (h *Healer) own(keys [][]byte) ([]partition.FoundObject, kv.Clock, error) {
	if h.watch != nil {
		return h.Shard.HeldNow(keys)
	}
	found, err := h.Shard.Held(h.look.Clock, keys)
	return found, h.look.Clock, err
}
