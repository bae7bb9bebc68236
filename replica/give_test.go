package replica_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/replica"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// aloneAndDamaged has n3 write alone, over and over, what nobody else sees, and lose an
// entry that all had. It is ISOLATED then, and not connected.
func aloneAndDamaged(c *cluster) (p kv.Partition) {
	c.t.Helper()
	n3 := c.nodes["n3"]
	p = partOf("k7")
	c.isolate("n3", p)
	for _, v := range []string{"one", "two", "three"} { // all but the last are superseded
		c.set("n3", c.keyIn(p, "k8"), v)
		c.set("n3", c.keyIn(p, "alone"), v)
	}
	n3.rot("k7", "de", lose)
	c.finds("n3", p)
	return p
}

// What a damaged copy alone has seen reaches the others, and it is healed by their vote
// though their clocks do not reach its own.
func TestADamagedCopyGivesWhatItAloneHas(t *testing.T) {
	for _, wiped := range []string{"", "n2"} {
		t.Run("wiped "+wiped, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := filled(t, "n1", "n2", "n3")
				p := aloneAndDamaged(c)
				if wiped != "" { // its new copy is NEW, and must be level with all
					c.nodes[wiped].kill()
					c.nodes[wiped].wipe()
					c.nodes[wiped].start()
					c.wires.connect("n1", wiped)
				}
				c.wires.connect("n1", "n3")
				c.wires.connect("n2", "n3")
				c.healed("n3", "k7")
				c.wait("all live", func() bool { return c.isLive(c.names...) })
				c.whole()
				for _, n := range c.names {
					require.Equal(t, "three", c.nodes[n].holds(c.keyIn(p, "alone")), n)
					require.Equal(t, "three", c.nodes[n].holds(c.keyIn(p, "k8")), n)
				}
			})
		})
	}
}

// Of two owners one is damaged and the other was wiped: what verifies reaches it.
func TestADamagedCopyGivesAWipedOneWhatVerifies(t *testing.T) {
	for name, x := range map[string]struct {
		kinds string
		fn    func(byte, []byte) []byte
		heals bool
	}{
		"an entry is lost":  {"de", lose, true},
		"a byte of a value": {"d", flip, false},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := filled(t, "n1", "n2")
				n1, n2 := c.nodes["n1"], c.nodes["n2"]
				c.crowd("k7")
				n2.kill()
				n2.wipe()
				n1.rot("k7", x.kinds, x.fn)
				out := c.finds("n1", partOf("k7"))
				n2.start()
				c.wires.connect("n1", "n2")
				p := partOf("k7")
				c.wait("what verifies is there", func() bool {
					return n2.set.Add(p).Count() == n1.set.Add(p).Count()-uint64(len(out.Damaged)) || x.heals && c.isLive("n1", "n2")
				})
				if x.heals { // nobody has it any more: it was told, and is over
					c.wait("both live", func() bool { return c.isLive("n1", "n2") })
					c.equal(c.names...)
					return
				}
				time.Sleep(5 * time.Minute) // virtual
				l, err := n1.set.Shard(p).Look(nil)
				require.NoError(t, err)
				require.Equal(t, []string{"k7"}, l.Suspects, "it stays as it is")
				require.True(t, n1.set.Shard(p).Unfit())
				require.Empty(t, n2.holds("k7"), "what does not verify is given to nobody")
				part, _ := n2.replica.Part(p)
				require.False(t, part.State.Serves(), "and does not show it as deleted")
			})
		})
	}
}

// A damaged copy whose directory of a key forgot a version that others have does not
// give that key: what it has seen would say that the version is dead.
func TestADamagedCopyGivesNoKeyOfWhichItLostAPart(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := filled(t, "n1", "n2", "n3")
		n3, p := c.nodes["n3"], partOf("k7")
		key := c.keyIn(p, "beside")
		c.isolate("n3", p)
		c.set("n3", key, "alone")
		var at, directory []byte
		lower, upper := cache.Range('e', p, 0)
		require.NoError(t, n3.store.Scan(lower, upper, func(rec, value []byte) (bool, error) {
			if k, _, _ := cache.KeyOf(rec); string(k) == key {
				at, directory = bytes.Clone(rec), bytes.Clone(value)
			}
			return true, nil
		}))
		require.NotNil(t, at)
		c.set("n1", key, "theirs")
		c.wait("n2 has it", func() bool { return c.nodes["n2"].holds(key) == "theirs" })
		n3.take(c.nodes["n1"], key)
		o, _, err := n3.set.Shard(p).Read([]byte(key))
		require.NoError(t, err)
		require.Len(t, o.Versions, 2)
		var b cache.Batch // the directory as it was before; the version itself is there
		b.Set(at, directory)
		require.NoError(t, n3.store.Commit(&b, true))
		c.finds("n3", p)
		c.wires.connect("n1", "n3")
		c.wires.connect("n2", "n3")
		c.healed("n3", "k7")
		for _, n := range c.names {
			var has []string
			o, _, err := c.nodes[n].set.Shard(p).Read([]byte(key))
			require.NoError(t, err)
			for _, v := range o.Versions {
				has = append(has, string(v.Value))
			}
			require.Contains(t, has, "theirs", n)
		}
	})
}

// What a damaged copy gives and does not arrive is not given over and over.
func TestGivingEndsWhereNothingArrives(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := filled(t, "n1", "n2", "n3")
		n3, p := c.nodes["n3"], partOf("k7")
		c.isolate("n3", p)
		for i := range 12 {
			key := fmt.Sprintf("big%d", i)
			c.set("n3", c.keyIn(p, key), strings.Repeat("v", 500_000))
		}
		n3.rot("k7", "de", lose)
		n3.stop()
		given, rounds := 0, 0
		h := c.healer(func(ctx context.Context, name string, request []byte) ([]byte, error) {
			return c.nodes[name].replica.Serve(ctx, "n3", request)
		})
		h.Give = func(_ string, key []byte, o kv.Object) { given += len(key) + o.Bytes() }
		h.Pause = func(context.Context) error {
			if rounds++; rounds > 100 {
				return errors.New("enough")
			}
			return nil
		}
		out := h.Heal(t.Context(), core.Heal{Partition: p, Owners: []string{"n1", "n2"}, All: true})
		require.True(t, out.Failed)
		require.Less(t, rounds, 100)
		require.Less(t, given, 4*12*500_000, "each owner is not sent all of it again and again")
	})
}

// givenBy are the bytes that n3 gives n1 before each pause of one attempt to heal.
func (c *cluster) givenBy(p kv.Partition) (rounds []int) {
	c.t.Helper()
	given := 0
	h := c.healer(func(ctx context.Context, name string, request []byte) ([]byte, error) {
		return c.nodes[name].replica.Serve(ctx, "n3", request)
	})
	h.Give = func(name string, key []byte, o kv.Object) {
		require.Equal(c.t, "n1", name)
		given += len(key) + o.Bytes()
		c.nodes["n1"].apply(c.nodes["n3"].id, string(key), o)
	}
	h.Pause = func(context.Context) error {
		if rounds = append(rounds, given); len(rounds) > 9 {
			return errors.New("enough")
		}
		given = 0
		return nil
	}
	h.Heal(c.t.Context(), core.Heal{Partition: p, Owners: []string{"n1"}, Every: true, Sole: true})
	return rounds
}

// A damaged copy gives an owner so much between two pauses and not a byte more; a larger
// object goes alone.
func TestHowMuchIsGivenBetweenTwoPauses(t *testing.T) {
	const n = 1_000_000
	for name, x := range map[string]struct {
		objects []int // the bytes of each: of its key and its versions
		want    []int
	}{
		"at the bound":       {[]int{n, n, n, n, replica.MaxGivenBytes - 4*n}, []int{replica.MaxGivenBytes}},
		"a byte over it":     {[]int{n, n, n, n, replica.MaxGivenBytes - 4*n + 1}, nil},
		"an object above it": {[]int{replica.MaxGivenBytes + 1}, []int{replica.MaxGivenBytes + 1}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := filled(t, "n1", "n3")
				n3, p := c.nodes["n3"], partOf("k7")
				c.isolate("n3", p)
				total, seq := 0, uint64(0)
				for i, size := range x.objects {
					key := fmt.Sprintf("big%d", i)
					key = c.keyIn(p, key)
					var o kv.Object
					for left := size - len(key); left > 0; left -= kv.MaxValueBytes {
						seq++
						d := kv.Dot{Actor: kv.Actor{Node: 9, Boot: 1, Rand: 1}, Seq: seq} // of one that is gone
						o.Versions = append(o.Versions, kv.Version{Dot: d, HLC: kv.HLC(seq), Value: make([]byte, min(left, kv.MaxValueBytes))})
					}
					n3.apply(n3.id, key, o)
					total += size
				}
				n3.rot("k7", "de", lose)
				rounds := c.givenBy(p)
				if x.want != nil {
					require.Equal(t, x.want, rounds)
					return
				}
				require.Len(t, rounds, 2)
				require.Equal(t, total, rounds[0]+rounds[1])
				require.LessOrEqual(t, max(rounds[0], rounds[1]), replica.MaxGivenBytes)
			})
		})
	}
}

// Copies of several partitions that are damaged share that bound.
func TestDamagedCopiesGiveInTurn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := filled(t, "n1", "n2", "n3")
		n3 := c.nodes["n3"]
		lost := []string{"k7", "k8"}
		require.NotEqual(t, partOf(lost[0]), partOf(lost[1]))
		c.isolate("n3", partOf("k7"))
		for _, k := range lost {
			for i := range 4 {
				key := fmt.Sprintf("big%d", i)
				c.set("n3", c.keyIn(partOf(k), key), strings.Repeat("v", 800_000))
			}
			n3.rot(k, "de", lose)
			c.finds("n3", partOf(k))
		}
		var mu sync.Mutex
		second := map[int64]int{} // bytes that were given in each, and in the next
		total := 0
		c.wires.with(func(w *wires) {
			w.seen = func(kind string, frame []byte) {
				if kind != "live" || len(frame) < 800_000 {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				now := time.Now().Unix()
				second[now] += len(frame)
				second[now-1] += len(frame)
				total += len(frame)
			}
		})
		c.wires.connect("n1", "n3")
		c.wires.connect("n2", "n3")
		for _, k := range lost {
			c.healed("n3", k)
		}
		c.whole()
		mu.Lock()
		defer mu.Unlock()
		require.Greater(t, total, 2*2*4*800_000, "each owner is given all of it")
		for _, n := range second {
			require.LessOrEqual(t, n, 2*replica.MaxGivenBytes)
		}
	})
}

// Of a key that is lost here an owner has a part, and has not seen the rest, which one has
// that is away. Put in alone that part would look whole, and be given to the other, which
// would take the rest for superseded.
func TestAPartOfAKeyIsNotPutRightByWhoHasNotSeenTheRest(t *testing.T) {
	for name, kinds := range map[string]string{"its directory is lost": "e", "all of it is lost": "de"} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := filled(t, "n1", "n2", "n3")
				n2, n3, p := c.nodes["n2"], c.nodes["n3"], partOf("k7")
				key := c.keyIn(p, "both")
				c.ackedWithout("n2", key)
				c.set("n2", key, "beside")
				n3.take(n2, key)
				n3.rot(key, kinds, lose)
				x := c.healer(c.ask(lie{}))
				x.Pause = func(context.Context) error { return nil }
				x.Give = func(_ string, key []byte, _ kv.Object) { t.Errorf("%q is given", key) }
				out := x.Heal(t.Context(), core.Heal{Partition: p, Owners: []string{"n2"}})
				require.Zero(t, out.Changed, "%+v", out)
				require.True(t, n3.set.Shard(p).Unfit())
				c.wires.connect("n1", "n2")
				c.wires.connect("n2", "n3")
				c.finds("n3", p)
				c.healed("n3", "k7")
				for _, n := range c.names {
					o, _, err := c.nodes[n].set.Shard(p).Read([]byte(key))
					require.NoError(t, err)
					require.Len(t, o.Versions, 2, n)
				}
			})
		})
	}
}

// What a copy lost of a key that was written since, it does not give as dead.
func TestADamagedCopyGivesNothingThatIsDeadByWhatItLost(t *testing.T) {
	for _, sole := range []bool{false, true} {
		t.Run(fmt.Sprintf("asked of all: %v", sole), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := filled(t, "n1", "n2", "n3")
				n1, n2, n3, p := c.nodes["n1"], c.nodes["n2"], c.nodes["n3"], partOf("k7")
				key := c.keyIn(p, "both")
				c.ackedWithout("n2", key)
				c.set("n2", key, "beside") // it has not seen the other
				n3.rot(key, "de", lose)
				c.finds("n3", p)
				c.wires.disconnect("n1", "n3")
				n3.take(n2, key)
				before, _, err := n1.set.Shard(p).Read([]byte(key))
				require.NoError(t, err)
				h := c.healer(func(ctx context.Context, name string, request []byte) ([]byte, error) {
					return c.nodes[name].replica.Serve(ctx, "n3", request)
				})
				h.Give = func(name string, key []byte, o kv.Object) { c.nodes[name].apply(n3.id, string(key), o) }
				h.Pause = func(context.Context) error { return nil }
				out := h.Heal(t.Context(), core.Heal{Partition: p, Owners: []string{"n1", "n2"}, Every: true, Sole: sole})
				after, _, err := n1.set.Shard(p).Read([]byte(key))
				require.NoError(t, err)
				_, still := after.Find(before.Versions[0].Dot)
				require.True(t, still, "n1 lost what it and n3 acknowledged: %+v %+v", out, after)
			})
		})
	}
}

// An owner that stalls holds up the copy that asks it, and none of the others that are
// damaged: they heal together in the time that one takes.
func TestAnOwnerThatStallsHoldsUpEachDamagedCopyForItself(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := filled(t, "n1", "n2", "n3")
		n3 := c.nodes["n3"]
		lost := map[kv.Partition]string{}
		for i := range 60 {
			if k := fmt.Sprintf("k%d", i); lost[partOf(k)] == "" {
				lost[partOf(k)] = k
				n3.rot(k, "de", lose)
			}
		}
		require.Greater(t, len(lost), 8)
		giving := make(chan struct{}, 1)
		took := make(chan time.Duration, len(lost))
		for p := range lost {
			h := c.healer(func(ctx context.Context, name string, request []byte) ([]byte, error) {
				typ, _ := wire.TypeOf(request)
				if q, err := wire.ParseTree(request); err == nil && q.Clock != 0 {
					return wire.TreeAck{Code: wire.TreeMoved}.Append(nil), nil
				}
				if name == "n1" && typ == wire.TypeHeld {
					time.Sleep(2 * time.Second) // virtual
					return nil, errors.New("no answer")
				}
				return c.nodes[name].replica.Serve(ctx, "n3", request)
			})
			h.Partition, h.Shard = p, n3.set.Shard(p)
			h.Give = func(_ string, key []byte, _ kv.Object) { t.Errorf("%q is given, which all have", key) }
			h.Pause = func(context.Context) error { time.Sleep(2 * time.Second); return nil }
			h.Turn = func(_ context.Context, fn func() error) error {
				giving <- struct{}{}
				defer func() { <-giving }()
				return fn()
			}
			go func() {
				began := time.Now()
				h.Heal(t.Context(), core.Heal{Partition: p, Owners: []string{"n1", "n2"}})
				took <- time.Since(began)
			}()
		}
		least, most := time.Hour, time.Duration(0)
		for range lost {
			d := <-took
			least, most = min(least, d), max(most, d)
		}
		require.Less(t, most, least+time.Second)
		for p, k := range lost {
			require.Equal(t, fmt.Sprint("v", k[1:]), n3.holds(k), p)
		}
	})
}

// Owners that are asked the same are asked at once: the question to one is out while the
// other has not answered.
func TestOwnersAreAskedAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := filled(t, "n1", "n2", "n3")
		p := aloneAndDamaged(c)
		var out, both atomic.Int64
		c.wires.with(func(w *wires) {
			w.call = func(from, _ string, typ wire.Type) error {
				if from == "n3" && typ == wire.TypeHeld {
					if out.Add(1) == 2 {
						both.Add(1)
					}
					time.Sleep(time.Second) // virtual
					out.Add(-1)
				}
				return nil
			}
		})
		c.wires.connect("n1", "n3")
		c.wires.connect("n2", "n3")
		c.healed("n3", "k7")
		c.whole()
		require.Equal(t, "three", c.nodes["n1"].holds(c.keyIn(p, "alone")))
		require.Positive(t, both.Load())
	})
}

// A copy that waited for its turn gives what the owners were asked about, and does not say
// that what came since is dead, which it lost again.
func TestWhatCameSinceTheOwnersWereAskedIsNotGivenAsDead(t *testing.T) {
	for _, written := range []bool{false, true} {
		t.Run(fmt.Sprintf("written since: %v", written), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := filled(t, "n1", "n2", "n3")
				n1, n2, n3, p := c.nodes["n1"], c.nodes["n2"], c.nodes["n3"], partOf("k7")
				key := c.keyIn(p, "both")
				c.isolate("n2", p)
				c.set("n2", key, "beside")
				n3.take(n2, key)
				c.set("n2", c.keyIn(p, "other"), "v") // no two clocks are equal
				n3.rot("k7", "de", lose)
				c.finds("n3", p)
				c.wires.disconnect("n1", "n3")
				h := c.healer(func(ctx context.Context, name string, request []byte) ([]byte, error) {
					return c.nodes[name].replica.Serve(ctx, "n3", request)
				})
				given := 0
				h.Give = func(name string, key []byte, o kv.Object) {
					given++
					c.nodes[name].apply(n3.id, string(key), o)
				}
				h.Pause = func(context.Context) error { return nil }
				var acked kv.Dot
				h.Turn = func(_ context.Context, fn func() error) error {
					if acked.Seq > 0 {
						return fn()
					}
					undo := n3.records(key)
					c.set("n1", key, "acked")
					acked = n1.version(key).Dot
					n3.take(n1, key)
					if written {
						n3.rot(key, "de", lose)
						c.set("n2", key, "again")
						n3.take(n2, key)
					} else {
						n3.rot(key, "de", lose)
						require.NoError(t, n3.store.Commit(undo, true))
					}
					return fn()
				}
				out := h.Heal(t.Context(), core.Heal{Partition: p, Owners: []string{"n1", "n2"}, Every: true, Sole: true})
				require.NotZero(t, acked.Seq)
				require.Equal(t, written, given == 0, "%+v", out)
				o, _, err := n1.set.Shard(p).Read([]byte(key))
				require.NoError(t, err)
				_, still := o.Find(acked)
				require.True(t, still, "n1 lost what it and n3 acknowledged: %+v %+v", out, o)
			})
		})
	}
}

// What a damaged copy alone has deleted, and does not give since another's version is
// beside it, the others' vote does not bring back.
func TestWhatADamagedCopyDoesNotGiveIsNotUndone(t *testing.T) {
	for _, sole := range []bool{false, true} {
		t.Run(fmt.Sprintf("asked of all: %v", sole), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := filled(t, "n1", "n2", "n3")
				n3, p := c.nodes["n3"], partOf("k7")
				key := c.keyIn(p, "deleted")
				c.set("n1", key, "old")
				c.equal(c.names...)
				c.isolate("n3", p)
				c.del("n3", key)
				gone := kv.Dot{Actor: kv.Actor{Node: 9, Boot: 1, Rand: 1}, Seq: 1} // of one that is gone
				for _, n := range c.names {
					c.nodes[n].apply(9, key, kv.Object{Versions: []kv.Version{{Dot: gone, HLC: 1, Value: []byte("beside")}}})
				}
				n3.rot("k7", "e", lose)
				h := c.healer(func(ctx context.Context, name string, request []byte) ([]byte, error) {
					return c.nodes[name].replica.Serve(ctx, "n3", request)
				})
				h.Give = func(_ string, key []byte, _ kv.Object) { t.Errorf("%q is given", key) }
				h.Pause = func(context.Context) error { return nil }
				out := h.Heal(t.Context(), core.Heal{Partition: p, Owners: []string{"n1", "n2"}, Every: true, Sole: sole})
				require.Equal(t, sole, out.Fit, "what rotted is put right: %+v", out)
				o, _, err := n3.set.Shard(p).Read([]byte(key))
				require.NoError(t, err)
				for _, v := range o.Versions {
					require.NotEqual(t, "old", string(v.Value))
				}
			})
		})
	}
}

// What a copy lost is dead on its record only when it has seen what superseded it: those
// who have may lose that, and another hold what it superseded.
func TestWhatIsLostIsNotDeadBeforeThatIsSeen(t *testing.T) {
	for _, sole := range []bool{false, true} {
		t.Run(fmt.Sprintf("asked of all: %v", sole), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := filled(t, "n1", "n2", "n3")
				n3, p := c.nodes["n3"], partOf("k7")
				c.isolate("n3", p)
				c.del("n1", "k7")
				c.equal("n1", "n2")
				n3.rot("k7", "de", lose)
				attempt := func(pause func(context.Context) error) core.Healed {
					h := c.healer(func(ctx context.Context, name string, request []byte) ([]byte, error) {
						return c.nodes[name].replica.Serve(ctx, "n3", request)
					})
					h.Give, h.Pause = func(string, []byte, kv.Object) {}, pause
					return h.Heal(t.Context(), core.Heal{Partition: p, Owners: []string{"n1", "n2"}, All: true, Every: true, Sole: sole})
				}
				out := attempt(func(context.Context) error { return nil })
				require.True(t, out.Failed, "%+v", out)
				require.True(t, n3.set.Shard(p).Unfit())
				out = attempt(func(context.Context) error { // it arrives
					n3.take(c.nodes["n1"], "k7")
					return nil
				})
				require.False(t, out.Failed, "%+v", out)
				require.True(t, out.Fit)
			})
		})
	}
}
