package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// Healer makes one copy what the votes of its owners say it should be (L4), where
// clocks are equal and contents are not, or where a copy does not hold what its own
// record says. It changes this node's copy alone; the other owners do the same.
type Healer struct {
	Self      string
	Node      kv.NodeID // this node, whose own versions are given without asking
	Partition kv.Partition
	Shard     *partition.Shard
	Salt      uint64 // of this attempt: short digests that collide do not do so again
	Pace      partition.Pace
	// Ask sends a TREE, a HELD or a READ to another owner.
	Ask func(ctx context.Context, name string, request []byte) ([]byte, error)
	// Each calls fn for each of n owners that are asked the same, all at once, and waits;
	// nil: one after the other.
	Each func(n int, fn func(i int))

	// Wait returns when done is closed, or with the context's error; nil: it waits.
	// The simulator, whose commits nobody makes meanwhile, makes them here.
	Wait func(ctx context.Context, done <-chan struct{}) error

	// Lies counts answers that made no sense, and Lied is told of each, if set.
	Lies int
	Lied func(name string, err error)

	// HeldKeys bounds the keys that one HELD asks about, or is answered with; 0: the most
	// that it may have, wire.MaxHeldKeys.
	HeldKeys int

	// Give sends an object to another owner, as a replicated write. nil: nothing is given.
	Give func(name string, key []byte, o kv.Object)
	// Turn calls fn while no other copy of the node gives; nil: no other does.
	Turn func(ctx context.Context, fn func() error) error
	// Pause lets some time pass between two looks at copies whose clocks do not meet;
	// nil: they are not looked at.
	Pause func(ctx context.Context) error

	look     *partition.Look
	watch    *partition.Watch // while copies are compared whose clocks do not meet, nil: they meet
	more     bool
	silent   bool            // an owner left a question unanswered
	answered int             // owners at this clock, or at theirs
	fit      []string        // of them, those that left none, whose copy agrees with its own record and has seen what this one has
	left     map[string]bool // keys of which the owners have not been given what this copy has
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
	if len(mended) > 0 && h.look.Fit() { // that was all; whether copies agree is compared anew
		out.Failed, out.Fit, out.Changed = false, true, len(mended)
		out.Text, out.Keys = fmt.Sprintf("%d values restored by their checksums", len(mended)), mended[:min(len(mended), maxToldKeys)]
		return out
	}
	healed, err := h.vote(ctx, e)
	if h.Pause != nil && (errors.Is(err, errNotLevel) || errors.Is(err, partition.ErrMoved)) {
		healed, err = h.voteTwice(ctx, e)
		out.LeftOut = healed.LeftOut
	}
	if err != nil {
		return out
	}
	return healed
}

// vote heals what differs at equal clocks.
func (h *Healer) vote(ctx context.Context, e core.Heal) (core.Healed, error) {
	st := h.Shard.Status()
	if !st.Comparable() || !h.look.Clock.Equal(st.Clock) {
		return core.Healed{}, errNotLevel
	}
	keys, err := h.differing(ctx, e)
	if err != nil {
		return core.Healed{}, err
	}
	ballots, err := h.ballots(ctx, e, keys)
	if err != nil {
		return core.Healed{}, err
	}
	verdicts := make([]core.Verdict, len(keys))
	for i := range keys {
		verdicts[i] = core.Vote(h.Self, ballots[i])
	}
	healed, err := h.cure(ctx, e, keys, verdicts)
	if err == nil && healed.Failed && h.silent { // an owner may be at another clock by now
		err = errNotLevel
	}
	return healed, err
}

// cure makes of the copy what was decided of keys.
func (h *Healer) cure(ctx context.Context, e core.Heal, keys []string, verdicts []core.Verdict) (core.Healed, error) {
	// A key is made what was decided, and a record may follow the content, only by the
	// word of somebody who has seen all that this copy has: else what is lost, and may be
	// with an owner that does not answer, would be lost on record too, or be given to
	// that owner as deleted.
	everybody := !h.silent && h.answered == len(e.Owners) && (e.Sole || e.Every && h.watch == nil)
	sure := len(h.fit) > 0 || everybody
	if !sure {
		keys = nil
	}
	fixes, told := h.decide(ctx, keys, verdicts, everybody)
	out := core.Healed{Partition: e.Partition, Keys: told.keys, Changed: told.changed, More: h.more, Fit: h.look.Fit()}
	whole := sure && !h.more && told.lost+told.short+told.moved == 0
	if len(fixes) == 0 && (h.look.Fit() || !whole) {
		out.Failed = !h.look.Fit()
		return out, nil
	}
	if err := h.commit(ctx, fixes, whole); err != nil {
		return core.Healed{}, err
	}
	after, err := h.Shard.Look(h.Pace)
	out.Fit = err == nil && after.Fit()
	h.Shard.SetUnfit(!out.Fit)
	out.Text = told.text(out.Fit)
	return out, nil
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
	published := func() { close(done) }
	var err error
	if h.watch != nil {
		_, err = h.Shard.HealWatched(h.watch, h.look, fixes, whole, published)
	} else {
		_, err = h.Shard.Heal(h.look, fixes, whole, published)
	}
	if err != nil {
		return err
	}
	return h.await(ctx, done)
}

// told is what is said of an attempt.
type told struct {
	keys                           []string
	changed                        int
	restored, dropped, lost, short int
	moved                          int // dots that may only be on their way
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

// decide turns the verdicts into fixes of this copy, and fetches what is to be put in.
// Of a suspect of which something is left open nothing is put right unless everybody had
// a vote: a part would look whole, and what an owner that is away has of it deleted.
func (h *Healer) decide(ctx context.Context, keys []string, verdicts []core.Verdict, everybody bool) ([]partition.Fix, told) {
	var out []partition.Fix
	var t told
	for i, key := range keys {
		v := &verdicts[i]
		fix := partition.Fix{Key: []byte(key), Drop: v.Drop}
		t.lost += len(v.Lost)
		t.moved += len(v.Moved)
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
		fixes := len(fix.Put) + len(fix.Drop) // beside what moved: each dot is decided by itself
		open := len(v.Moved) > 0
		switch {
		case missing+len(v.Lost) > 0, fixes == 0 && (!suspect || open), suspect && open && !everybody:
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
