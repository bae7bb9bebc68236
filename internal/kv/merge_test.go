package kv_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"edged.dev/edged/internal/kv"
)

// A history is a few copies of one partition with two keys, that write, delete,
// and send each other whole filled objects, which come late, twice or in any
// order. Beside it a ghost remembers what every write had seen.
type history struct {
	copies []*testCopy
	mail   []parcel
	ghost  map[kv.Dot]ghostWrite
	boots  int
}

type testCopy struct {
	actor   kv.Actor
	seq     uint64
	clock   kv.Clock
	objects map[string]kv.Object
	gone    map[kv.Dot]bool // held once, held no more
}

type parcel struct {
	to     int
	key    string
	object kv.Object
}

type ghostWrite struct {
	key  string
	ctx  kv.VV // what it was told to supersede
	tomb bool
}

func newHistory(copies int) *history {
	h := &history{ghost: map[kv.Dot]ghostWrite{}}
	for range copies {
		c := &testCopy{objects: map[string]kv.Object{}, gone: map[kv.Dot]bool{}}
		h.copies = append(h.copies, c)
		h.restart(c)
	}
	return h
}

// restart gives a copy a new actor, as every process start does (R3).
func (h *history) restart(c *testCopy) {
	h.boots++
	c.actor, c.seq = kv.Actor{Node: kv.NodeID(h.boots % 3), Boot: uint32(h.boots), Rand: 1}, 0
}

func (c *testCopy) filled(key string) kv.Object { return c.objects[key].Filled(c.clock.Base()) }

func (c *testCopy) put(t require.TestingT, key string, o kv.Object) {
	stripped := o.Stripped(c.clock.Base())
	for _, v := range c.objects[key].Versions {
		if _, ok := stripped.Find(v.Dot); !ok {
			c.gone[v.Dot] = true
		}
	}
	for _, v := range stripped.Versions {
		require.False(t, c.gone[v.Dot], "%v came back", v.Dot)
		require.True(t, c.clock.Has(v.Dot), "R1: the clock has what is held")
	}
	c.objects[key] = stripped
}

func (h *history) write(t *rapid.T, c *testCopy, key string) {
	var ctx kv.VV
	switch rapid.SampledFrom([]string{"all", "all", "none", "some"}).Draw(t, "context") {
	case "all":
		ctx = kv.Context(c.filled(key))
	case "some": // the token of an earlier answer
		if olds := slices.SortedFunc(maps.Keys(h.ghost), kv.Dot.Compare); len(olds) > 0 {
			d := rapid.SampledFrom(olds).Draw(t, "token of")
			if g := h.ghost[d]; g.key == key {
				ctx = g.ctx.With(d)
			}
		}
	}
	c.seq++
	v := kv.Version{Dot: kv.Dot{Actor: c.actor, Seq: c.seq}, HLC: kv.HLC(len(h.ghost) + 1), Value: []byte{1}}
	if rapid.IntRange(0, 3).Draw(t, "delete") == 0 {
		v.Flags, v.Value = kv.Tombstone, nil
	}
	h.ghost[v.Dot] = ghostWrite{key, ctx, v.Tombstone()}
	o := kv.Write(c.objects[key], ctx, v)
	c.clock.Add(v.Dot)
	c.put(t, key, o)
}

func (h *history) apply(t require.TestingT, c *testCopy, p parcel) {
	merged := kv.Merge(c.objects[p.key], &c.clock, p.object)
	for _, v := range p.object.Versions {
		c.clock.Add(v.Dot)
	}
	c.put(t, p.key, merged)
}

func (h *history) step(t *rapid.T) {
	i := rapid.IntRange(0, len(h.copies)-1).Draw(t, "copy")
	c := h.copies[i]
	key := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "key")
	switch rapid.IntRange(0, 9).Draw(t, "step") {
	case 0, 1, 2, 3:
		h.write(t, c, key)
	case 4, 5, 6:
		to := rapid.IntRange(0, len(h.copies)-1).Draw(t, "to")
		h.mail = append(h.mail, parcel{to, key, c.filled(key)})
	case 7, 8:
		if len(h.mail) == 0 {
			return
		}
		j := rapid.IntRange(0, len(h.mail)-1).Draw(t, "parcel")
		p := h.mail[j]
		if rapid.IntRange(0, 3).Draw(t, "again") > 0 {
			h.mail = slices.Delete(h.mail, j, j+1)
		}
		h.apply(t, h.copies[p.to], p)
	default:
		h.restart(c)
	}
}

// settle lets everybody tell everybody everything.
func (h *history) settle(t require.TestingT) {
	for range 2 {
		for _, from := range h.copies {
			for i, to := range h.copies {
				for _, key := range []string{"a", "b"} {
					h.apply(t, to, parcel{i, key, from.filled(key)})
				}
			}
		}
	}
}

// survivors are the writes of a key that no write was told to supersede.
func (h *history) survivors(key string) map[kv.Dot]bool {
	out := map[kv.Dot]bool{}
	for d, g := range h.ghost {
		out[d] = g.key == key
		for _, by := range h.ghost {
			if by.key == key && by.ctx.Has(d) {
				out[d] = false
			}
		}
	}
	maps.DeleteFunc(out, func(_ kv.Dot, alive bool) bool { return !alive })
	return out
}

func (h *history) run(t *rapid.T) {
	for range rapid.IntRange(1, 40).Draw(t, "steps") {
		h.step(t)
	}
}

// No acked write is lost, no delete undone, a write beside a delete survives,
// and all copies end equal: what is held is exactly what nothing superseded.
func TestMergeKeepsWhatNothingSuperseded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(3)
		h.run(t)
		h.settle(t)
		for _, key := range []string{"a", "b"} {
			want := h.survivors(key)
			for i, c := range h.copies {
				got := map[kv.Dot]bool{}
				for _, v := range c.objects[key].Versions {
					got[v.Dot] = true
					require.Equal(t, h.ghost[v.Dot].tomb, v.Tombstone())
				}
				require.Equal(t, want, got, "copy %d of %q", i, key)
			}
		}
	})
}

// Two states, in either order and any number of times, give one.
func TestMergeIsCommutativeAndIdempotent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(3)
		h.run(t)
		x, y := h.copies[1].filled("a"), h.copies[2].filled("a")
		into := func(objects ...kv.Object) kv.Object {
			c := &testCopy{clock: h.copies[0].clock.Clone(), objects: maps.Clone(h.copies[0].objects), gone: map[kv.Dot]bool{}}
			for _, o := range objects {
				h.apply(t, c, parcel{0, "a", o})
			}
			return c.filled("a")
		}
		xy := into(x, y)
		require.Equal(t, xy, into(y, x))
		require.Equal(t, xy, into(x, y, x, y, y))
		own := h.copies[0].filled("a")
		require.Equal(t, own, into(own), "one's own state changes nothing")
	})
}

// Merging from either side gives the same versions.
func TestMergeIsSymmetric(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(2)
		h.run(t)
		a, b := h.copies[0], h.copies[1]
		ab := kv.Merge(a.objects["a"], &a.clock, b.filled("a"))
		ba := kv.Merge(b.objects["a"], &b.clock, a.filled("a"))
		require.True(t, ab.SameDots(ba), "%v and %v", ab, ba)
		require.True(t, slices.IsSortedFunc(ab.Versions, func(v, w kv.Version) int { return v.Dot.Compare(w.Dot) }))
	})
}

func TestADeleteRemovesWhatItSawAndAWriteBesideItSurvives(t *testing.T) {
	one, two := kv.Actor{Node: 1}, kv.Actor{Node: 2}
	var clock kv.Clock
	seen := kv.Version{Dot: kv.Dot{Actor: one, Seq: 1}, Value: []byte("seen")}
	o := kv.Write(kv.Object{}, nil, seen)
	clock.Add(seen.Dot)
	o = o.Stripped(clock.Base())

	tomb := kv.Version{Dot: kv.Dot{Actor: one, Seq: 2}, Flags: kv.Tombstone}
	deleted := kv.Write(o, kv.Context(o.Filled(clock.Base())), tomb)
	beside := kv.Version{Dot: kv.Dot{Actor: two, Seq: 1}, Value: []byte("beside")}
	remote := kv.Write(o, kv.VV{{Actor: one, Seq: 1}}, beside).Filled(nil)

	clock.Add(tomb.Dot)
	merged := kv.Merge(deleted.Stripped(clock.Base()), &clock, remote)
	require.Len(t, merged.Versions, 2)
	live := merged.Live(nil, 0)
	require.Len(t, live, 1)
	require.Equal(t, "beside", string(live[0].Value))
}

// A dot the clock has and the object has not is dead, whatever a peer still has.
func TestWhatTheClockHasAndTheDataHasNotIsDead(t *testing.T) {
	a := kv.Actor{Node: 1}
	v := kv.Version{Dot: kv.Dot{Actor: a, Seq: 5}, Value: []byte("late")}
	remote := kv.Object{Versions: []kv.Version{v}}.Filled(nil)
	var clock kv.Clock
	require.Len(t, kv.Merge(kv.Object{}, &clock, remote).Versions, 1)
	clock.Add(v.Dot) // as a run, far above the base
	require.Empty(t, kv.Merge(kv.Object{}, &clock, remote).Versions)
}

// A copy that lost its clock knows of a version that it is one, and not what the
// author had seen.
func TestAVersionThatTheClockLacksSaysNothingOfOthers(t *testing.T) {
	a := kv.Actor{Node: 1}
	below, held := kv.Dot{Actor: a, Seq: 3}, kv.Dot{Actor: a, Seq: 5}
	local := kv.Object{Versions: []kv.Version{{Dot: held}}}
	remote := kv.Object{Versions: []kv.Version{{Dot: below}}}.Filled(nil)
	var clock kv.Clock
	require.Len(t, kv.Merge(local, &clock, remote).Versions, 2)
	clock.Add(held)
	require.Equal(t, local.Versions, kv.Merge(local, &clock, remote).Versions)
}

// A dropped version stays known: a late copy of it finds it covered.
func TestWithoutKeepsTheKnowledgeOfWhatItDrops(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o, base := drawObject(t), drawVV(t)
		drop := func(d kv.Dot) bool { return d.Seq%2 == 0 && base.Has(d) }
		clock := clockOf(o)
		kept, changed := kv.Without(o, &clock, base, drop)
		require.Equal(t, slices.ContainsFunc(o.Versions, func(v kv.Version) bool { return drop(v.Dot) }), changed)
		for _, v := range o.Versions {
			_, ok := kept.Find(v.Dot)
			require.Equal(t, !drop(v.Dot), ok)
			if !ok {
				require.True(t, kept.Ctx.Has(v.Dot))
			}
		}
		if !changed {
			require.Equal(t, o, kept)
		}
	})
}

func clockOf(o kv.Object) (clock kv.Clock) {
	for _, v := range o.Versions {
		clock.Add(v.Dot)
	}
	return clock
}

// A stored context is without what the object's own dots imply, so that goes with none
// of them, but with one that the clock has not: that implies nothing.
func TestWithoutKeepsWhatADroppedVersionImplied(t *testing.T) {
	a := kv.Actor{Node: 1}
	below, dropped := kv.Dot{Actor: a, Seq: 2}, kv.Dot{Actor: a, Seq: 3}
	o := kv.Object{Versions: []kv.Version{{Dot: dropped}}}
	clock := clockOf(o)
	kept, changed := kv.Without(o, &clock, nil, func(kv.Dot) bool { return true })
	require.True(t, changed)
	require.True(t, kept.Ctx.Has(below))
	kept, changed = kv.Without(o, &kv.Clock{}, nil, func(kv.Dot) bool { return true })
	require.True(t, changed)
	require.Empty(t, kept.Ctx)
}

func BenchmarkMerge(b *testing.B) {
	for _, actors := range []int{3, 16} {
		var clock kv.Clock
		for i := range actors {
			clock.AddRun(testActor(i), kv.Run{From: 1, To: 400})
		}
		local := kv.Object{Versions: []kv.Version{{Dot: kv.Dot{Actor: testActor(1), Seq: 7}, Value: []byte("old")}}}
		next := kv.Version{Dot: kv.Dot{Actor: testActor(1), Seq: 401}, Value: []byte("new")}
		remote := kv.Write(local, clock.Base(), next).Filled(clock.Base())
		b.Run(fmt.Sprintf("%d actors", actors), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				kv.Merge(local, &clock, remote)
			}
		})
	}
}
