package replica

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/zeebo/xxh3"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/merkle"
	"edged.dev/edged/partition"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// Healer makes one copy what the votes of its owners say it should be (L4), where
// clocks are equal and contents are not, or where a copy does not hold what its own
// record says. It changes this node's copy alone; the other owners do the same.
type Healer struct {
	Self      string
	Partition kv.Partition
	Shard     *partition.Shard
	Salt      uint64 // of this attempt: short digests that collide do not do so again
	Pace      partition.Pace
	// Ask sends a TREE, a HELD or a READ to another owner.
	Ask func(ctx context.Context, name string, request []byte) ([]byte, error)

	// Wait returns when done is closed, or with the context's error; nil: it waits.
	// The simulator, whose commits nobody makes meanwhile, makes them here.
	Wait func(ctx context.Context, done <-chan struct{}) error

	// Lies counts answers that made no sense, and Lied is told of each, if set.
	Lies int
	Lied func(name string, err error)

	look     *partition.Look
	more     bool
	answered int // owners at this clock
	fitPeers int // of them, those whose copy agrees with its own record
}

// maxToldKeys bounds the keys that an event names.
const maxToldKeys = 16

var (
	errNotLevel = errors.New("not at the same clock")
	errLies     = wire.Breached(wire.BreachAnswer, "the answer does not fit the question")
)

// Heal runs one attempt.
func (h *Healer) Heal(ctx context.Context, e core.Heal) core.Healed {
	out := core.Healed{Partition: e.Partition, Failed: true}
	mended, err := h.mend(ctx, e.Owners)
	if err != nil {
		return out
	}
	st := h.Shard.Status()
	switch {
	case len(mended) > 0 && h.look.Fit(): // that was all; whether copies agree is compared anew
		out.Failed, out.Fit, out.Changed = false, true, len(mended)
		out.Text, out.Keys = fmt.Sprintf("%d values restored by their checksums", len(mended)), mended[:min(len(mended), maxToldKeys)]
		return out
	case !st.Comparable() || !h.look.Clock.Equal(st.Clock):
		return out
	}
	return h.vote(ctx, e, out)
}

// vote heals what differs at equal clocks.
func (h *Healer) vote(ctx context.Context, e core.Heal, out core.Healed) core.Healed {
	keys, err := h.differing(ctx, e)
	if err != nil {
		return out
	}
	ballots, err := h.ballots(ctx, e, keys)
	if err != nil {
		return out
	}
	fixes, told := h.decide(ctx, keys, ballots)
	out.Keys, out.Changed, out.More, out.Fit = told.keys, told.changed, h.more, h.look.Fit()
	// A record may follow the content only where all that differs was decided, by
	// somebody whose word counts: else what is lost would be lost on record too, and
	// the copy would vote against those that have it.
	whole := !h.more && told.lost+told.short == 0 && (h.fitPeers > 0 || h.answered == len(e.Owners))
	if len(fixes) == 0 && (h.look.Fit() || !whole) {
		out.Failed = !h.look.Fit()
		return out
	}
	if err := h.commit(ctx, fixes, whole); err != nil {
		return core.Healed{Partition: e.Partition, Failed: true}
	}
	after, err := h.Shard.Look(h.Pace)
	out.Failed, out.Fit = false, err == nil && after.Fit()
	h.Shard.SetUnfit(!out.Fit)
	out.Text = told.text(out.Fit)
	return out
}

// mend looks at the whole copy, and fetches the values that are lost or damaged and
// whose checksum the copy still has: that needs neither equal clocks nor a vote. It
// returns what it mended, and leaves the look behind.
func (h *Healer) mend(ctx context.Context, owners []string) (mended []string, err error) {
	if h.look, err = h.Shard.Look(h.Pace); err != nil {
		return nil, err
	}
	h.Shard.SetUnfit(!h.look.Fit())
	found, err := h.Shard.Damage(h.look.Suspects)
	if err != nil {
		return nil, err
	}
	for i := range found {
		for _, v := range found[i].Versions {
			if v.Verified || ctx.Err() != nil {
				continue
			}
			ok, err := h.mendOne(ctx, string(found[i].Key), &v, owners)
			if err != nil {
				return nil, err
			}
			if ok {
				mended = append(mended, fmt.Sprintf("mended %q %v", found[i].Key, v.Dot))
			}
		}
	}
	if len(mended) > 0 {
		if h.look, err = h.Shard.Look(h.Pace); err != nil {
			return nil, err
		}
		h.Shard.SetUnfit(!h.look.Fit())
	}
	return mended, nil
}

func (h *Healer) mendOne(ctx context.Context, key string, v *partition.Found, owners []string) (bool, error) {
	got := v.Version
	if v.Tombstone() { // all there is of it stands in the directory
		got.Value = nil
	} else {
		want := wire.HeldVersion{Dot: v.Dot, HLC: v.HLC, ExpiresMS: v.ExpiresMS, Hash: v.Sum}
		var ok bool
		if got, ok = h.fetch(ctx, key, core.Take{Version: want, From: owners}); !ok {
			return false, nil
		}
	}
	done := make(chan struct{})
	ok, err := h.Shard.Mend([]byte(key), got, func() { close(done) })
	if !ok || err != nil {
		return false, err
	}
	err = h.await(ctx, done)
	return err == nil, err
}

func (h *Healer) await(ctx context.Context, done <-chan struct{}) error {
	if h.Wait != nil {
		return h.Wait(ctx, done)
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (h *Healer) commit(ctx context.Context, fixes []partition.Fix, whole bool) error {
	done := make(chan struct{})
	if _, err := h.Shard.Heal(h.look, fixes, whole, func() { close(done) }); err != nil {
		return err
	}
	return h.await(ctx, done)
}

// clockHash names the clock at which copies are compared.
func clockHash(p kv.Partition, c kv.Clock) uint64 {
	var h xxh3.Hasher
	hashClock(&h, p, c)
	return h.Sum64()
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
		if err != nil && e.All {
			return nil, err
		}
	}
	if h.answered == 0 {
		return nil, errNotLevel
	}
	out := slices.Sorted(maps.Keys(keys))
	if len(out) > wire.MaxHeldKeys {
		out, h.more = out[:wire.MaxHeldKeys], true
	}
	return out, nil
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
	q.Partition, q.Clock, q.Ask.Salt = h.Partition, clockHash(h.Partition, h.look.Clock), h.Salt
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
	if root.Fit {
		h.fitPeers++
	}
	if merkle.DigestOf(root.Count, root.Sum) == h.look.Tree.Root() {
		return nil, nil
	}
	d := merkle.NewDescent(h.look.Tree, root.Bits, h.Salt)
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
	mine, upto, err := h.Shard.Items(h.look.Clock, ranges, h.Salt, wire.MaxTreeItems)
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
	for _, o := range held.Objects {
		keys[string(o.Key)] = true
	}
	return nil
}

func (h *Healer) held(ctx context.Context, name string, q wire.Held) (wire.HeldAck, error) {
	q.Partition, q.Clock, q.Salt = h.Partition, clockHash(h.Partition, h.look.Clock), h.Salt
	resp, err := h.Ask(ctx, name, q.Append(nil))
	if err != nil {
		return wire.HeldAck{}, err
	}
	ack, err := wire.ParseHeldAck(resp)
	if err == nil && ack.Code != wire.TreeOK {
		err = errNotLevel
	}
	if err == nil && len(q.Keys) > 0 && len(ack.Objects) != len(q.Keys) {
		err = errLies
	}
	return ack, err
}

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
	mine, err := h.Shard.Held(h.look.Clock, asked)
	if err != nil {
		return nil, err
	}
	for i := range mine {
		out[i] = append(out[i], core.Ballot{Name: h.Self, Fit: h.look.Fit(), Versions: heldVersions(&mine[i])})
	}
	answered := 0
	for _, name := range e.Owners {
		ack, err := h.held(ctx, name, wire.Held{Keys: asked})
		h.noteLie(name, err)
		if err != nil {
			continue
		}
		answered++
		for i := range ack.Objects {
			if string(ack.Objects[i].Key) != keys[i] {
				h.noteLie(name, errLies)
				return nil, errLies
			}
			out[i] = append(out[i], core.Ballot{Name: name, Fit: ack.Fit, Versions: ack.Objects[i].Versions})
		}
	}
	if answered == 0 || e.All && answered < len(e.Owners) {
		return nil, errNotLevel
	}
	return out, nil
}

// told is what is said of an attempt.
type told struct {
	keys                           []string
	changed                        int
	restored, dropped, lost, short int
}

func (t *told) note(key, what string, d kv.Dot) {
	if len(t.keys) < maxToldKeys {
		t.keys = append(t.keys, fmt.Sprintf("%s %q %v", what, key, d))
	}
}

func (t *told) text(fit bool) string {
	var out []string
	add := func(n int, what string) {
		if n > 0 {
			out = append(out, fmt.Sprintf("%d %s", n, what))
		}
	}
	add(t.restored, "versions restored")
	add(t.dropped, "versions dropped")
	add(t.lost, "versions verified by no owner")
	add(t.short, "versions that no owner gave")
	if len(out) == 0 {
		out = append(out, "its records were put right")
	}
	if !fit {
		out = append(out, "and it is still damaged")
	}
	return strings.Join(out, ", ")
}

// decide turns the votes into fixes of this copy, and fetches what is to be put in.
func (h *Healer) decide(ctx context.Context, keys []string, ballots [][]core.Ballot) ([]partition.Fix, told) {
	var out []partition.Fix
	var t told
	for i, key := range keys {
		v := core.Vote(h.Self, ballots[i])
		fix := partition.Fix{Key: []byte(key), Drop: v.Drop}
		t.lost += len(v.Lost)
		missing := 0
		for _, take := range v.Take {
			got, ok := h.fetch(ctx, key, take)
			if !ok {
				missing++
				t.note(key, "not given", take.Version.Dot)
				continue
			}
			fix.Put = append(fix.Put, got)
		}
		t.short += missing
		_, suspect := slices.BinarySearch(h.look.Suspects, key)
		if missing > 0 || len(v.Lost) > 0 || !suspect && len(fix.Put)+len(fix.Drop) == 0 {
			continue
		}
		for _, p := range fix.Put {
			t.note(key, "restored", p.Dot)
		}
		for _, d := range fix.Drop {
			t.note(key, "dropped", d)
		}
		t.restored += len(fix.Put)
		t.dropped += len(fix.Drop)
		out = append(out, fix)
	}
	t.changed = t.restored + t.dropped
	return out, t
}

// fetch gets a version from one of its holders. It is taken only if its checksum is
// the one asked for.
func (h *Healer) fetch(ctx context.Context, key string, take core.Take) (kv.Version, bool) {
	for _, name := range take.From {
		resp, err := h.Ask(ctx, name, wire.Read{Partition: h.Partition, Key: []byte(key)}.Append(nil))
		if err != nil {
			continue
		}
		o, err := wire.ParseObject(resp)
		if err != nil {
			h.noteLie(name, err)
			continue
		}
		v, ok := o.Object.Find(take.Version.Dot)
		v.Sum = 0
		want := take.Version
		if ok && !v.Tombstone() && v.HLC == want.HLC && v.ExpiresMS == want.ExpiresMS && v.ValueSum() == want.Hash {
			v.Sum = want.Hash
			return v, true
		}
	}
	return kv.Version{}, false
}

// heldVersions is what an object holds, as it is told to others.
func heldVersions(f *partition.FoundObject) []wire.HeldVersion {
	var out []wire.HeldVersion
	for i := range f.Versions {
		v := &f.Versions[i]
		if !v.Tombstone() {
			out = append(out, wire.HeldVersion{Dot: v.Dot, HLC: v.HLC, ExpiresMS: v.ExpiresMS, Hash: v.Hash, Verified: v.Verified})
		}
	}
	return out
}
