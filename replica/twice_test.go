package replica_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/merkle"
	"edged.dev/edged/partition/state"
	"edged.dev/edged/replica"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// hot is a partition that is always written: before every question about what a copy
// holds something in it is written, so that no two copies are ever found at one clock.
type hot struct {
	c       *cluster
	keys    []string
	mu      sync.Mutex
	rng     *rand.Rand
	writes  int
	notes   map[string][]string
	stopped bool
	writer  sync.WaitGroup
}

// heat writes without end to the partition of a key, to some other keys of it.
func (c *cluster) heat(key string) *hot {
	h := &hot{c: c, rng: rand.New(rand.NewPCG(4, 7)), notes: map[string][]string{}}
	for i := 0; len(h.keys) < 12; i++ {
		if k := fmt.Sprintf("hot%d", i); partOf(k) == partOf(key) {
			h.keys = append(h.keys, k)
		}
	}
	c.wires.with(func(w *wires) {
		w.call = func(_, _ string, t wire.Type) error {
			if t == wire.TypeTree || t == wire.TypeHeld {
				h.write()
			}
			return nil
		}
	})
	return h
}

// write writes or deletes a key at some node, and waits for the acknowledgement.
func (h *hot) write() {
	h.mu.Lock()
	h.writes++
	req := &kv.Request{Op: kv.OpSet, Key: []byte(h.keys[h.rng.IntN(len(h.keys))]), Value: fmt.Appendf(nil, "w%d", h.writes)}
	if h.rng.IntN(4) == 0 {
		req.Op, req.Value = kv.OpDelete, nil
	}
	name, stopped := h.c.names[h.rng.IntN(len(h.c.names))], h.stopped
	h.mu.Unlock()
	if stopped {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	done := make(chan struct{})
	h.c.nodes[name].replica.Start(ctx, req, func(*kv.Response, error) { close(done) })
	<-done
}

// goOn writes every few milliseconds until the writing is stopped.
func (h *hot) goOn() {
	h.writer.Go(func() {
		for !h.over() {
			h.write()
			time.Sleep(7 * time.Millisecond)
		}
	})
	h.c.t.Cleanup(h.stop) // a test that fails leaves nobody behind
}

func (h *hot) over() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.stopped
}

func (h *hot) stop() {
	h.mu.Lock()
	h.stopped = true
	h.mu.Unlock()
	h.writer.Wait()
}

func (h *hot) note(n core.Note) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.notes[n.Kind] = append(h.notes[n.Kind], n.Text)
}

func (h *hot) noted(kind, text string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.ContainsFunc(h.notes[kind], func(s string) bool { return strings.Contains(s, text) })
}

// Damage of a partition whose clocks never meet is healed by what differs twice, and
// alarmed, while writes go on.
func TestAPartitionThatIsAlwaysWrittenIsHealed(t *testing.T) {
	for name, x := range map[string]struct {
		rot  func(n3 *member)
		says string
	}{
		"a byte of a value":           {func(n3 *member) { n3.rot("k7", "d", flip) }, "restored by their checksums"},
		"a missing entry":             {func(n3 *member) { n3.rot("k7", "de", lose) }, "1 versions restored"},
		"a byte of a directory's sum": {func(n3 *member) { n3.rot("k7", "e", flip) }, "1 versions restored"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newCluster(t, "n1", "n2", "n3")
				var h *hot
				c.nodes["n3"].cfg = func(cfg *replica.Config) {
					cfg.Events.Note = func(n core.Note) {
						if h != nil {
							h.note(n)
						}
					}
				}
				c.up()
				c.fill()
				c.crowd("k7")
				h = c.heat("k7")
				h.goOn()
				x.rot(c.nodes["n3"])
				c.finds("n3", partOf("k7"))
				c.wait("healed while writes go on", func() bool { return h.noted("corruption", x.says) })
				c.wait("live again while writes go on", func() bool {
					p, ok := c.nodes["n3"].replica.Part(partOf("k7"))
					return ok && p.State == kv.Live
				})
				require.True(t, h.noted("alarm", "corruption"))
				require.Equal(t, "v7", c.nodes["n3"].holds("k7"))
				h.stop()
				c.whole()
				for _, n := range c.names {
					l, err := c.nodes[n].set.Shard(partOf("k7")).Look(nil)
					require.NoError(t, err)
					require.True(t, l.Fit(), n)
				}
				require.Len(t, h.notes["corruption"], 1, "and nothing else was")
			})
		})
	}
}

// A copy that agrees with its own record, and lacks what two others have, is healed too.
func TestWhatDiffersTwiceIsVotedOn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := filled(t, "n1", "n2", "n3")
		p := partOf("k7")
		n3 := c.nodes["n3"]
		item := n3.item("k7")
		n3.kill()
		n3.rot("k7", "de", lose)
		n3.rerecord(p, func(x *cache.Copy) {
			d := merkle.DigestOf(x.Count, x.Sum).Sub(item)
			x.Count, x.Sum = d.Count, d.Bytes()
		})
		n3.start()
		h := c.heat("k7")
		c.wires.connect("n1", "n3")
		c.wires.connect("n2", "n3")
		c.wait("healed", func() bool { return n3.holds("k7") == "v7" })
		h.stop()
		c.whole()
	})
}

// twice has n3 heal its copy of the hot partition, with writes before every question and
// in the pause.
func (c *cluster) twice(h *hot, salt uint64) core.Healed {
	c.t.Helper()
	x := c.healer(func(ctx context.Context, name string, request []byte) ([]byte, error) {
		h.write()
		return c.nodes[name].replica.Serve(ctx, "n3", slices.Clone(request))
	})
	x.Salt = salt
	x.Pause = func(context.Context) error {
		for range 20 {
			h.write()
			time.Sleep(100 * time.Millisecond)
		}
		return nil
	}
	return x.Heal(c.t.Context(), core.Heal{Partition: x.Partition, Owners: []string{"n1", "n2"}, All: true})
}

// Without damage nothing is healed, whatever is on its way when copies are looked at.
func TestNothingIsHealedThatOnlyMoves(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := filled(t, "n1", "n2", "n3")
		h := c.heat("k7")
		h.goOn()
		done := 0
		for i := range uint64(25) {
			out := c.twice(h, i)
			require.Zero(t, out.Changed, "%+v", out)
			require.Empty(t, out.Text)
			if !out.Failed {
				done++
			}
		}
		require.Positive(t, done, "some attempts came to their end")
		h.stop()
		c.whole()
	})
}

// apart lets nothing more reach n3 but by sessions, and writes all hot keys at n1.
func (h *hot) apart() {
	h.c.wires.with(func(w *wires) {
		w.live = func(_, to string) liveFate {
			if to == "n3" {
				return swallow
			}
			return deliver
		}
	})
	h.writeAll()
}

func (h *hot) writeAll() {
	for _, k := range h.keys {
		h.writes++
		h.c.set("n1", k, fmt.Sprintf("w%d", h.writes))
	}
}

// again lets writes through, and waits until n3 has them.
func (h *hot) again() {
	h.c.wires.with(func(w *wires) { w.live = nil })
	h.c.equal(h.c.names...)
}

// What differs at both looks and has been equal between them was written twice. And what
// differs at both since a copy has not seen it yet is not damaged either.
func TestWhatIsOnItsWayTwiceIsNotHealed(t *testing.T) {
	for name, x := range map[string]struct {
		pause  func(h *hot)
		failed bool
	}{
		"equal between": {func(h *hot) { h.again(); h.apart() }, false},
		"never equal":   {func(h *hot) { h.writeAll() }, true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := filled(t, "n1", "n2", "n3")
				key := c.keyFirstAt("n1")
				h := c.heat(key)
				h.stopped = true // this test says what is written when
				h.writeAll()
				c.equal(c.names...)
				h.apart()
				out := c.healed3(key, func(context.Context) error { x.pause(h); return nil }, nil)
				require.Equal(t, x.failed, out.Failed, "%+v", out)
				require.Zero(t, out.Changed, "%+v", out)
				h.again()
				c.whole()
				for _, k := range h.keys {
					require.Equal(t, c.nodes["n1"].holds(k), c.nodes["n3"].holds(k))
				}
			})
		})
	}
}

// healed3 has n3 heal its copy of the partition of a key.
func (c *cluster) healed3(key string, pause func(context.Context) error, asked func(wire.Type)) core.Healed {
	p := partOf(key)
	h := replica.Healer{Self: "n3", Partition: p, Shard: c.nodes["n3"].set.Shard(p), Salt: 1, Pause: pause}
	h.Ask = func(ctx context.Context, name string, request []byte) ([]byte, error) {
		resp, err := c.nodes[name].replica.Serve(ctx, "n3", slices.Clone(request))
		if typ, _ := wire.TypeOf(request); asked != nil {
			asked(typ)
		}
		return resp, err
	}
	return h.Heal(c.t.Context(), core.Heal{Partition: p, Owners: []string{"n1", "n2"}, All: true})
}

// What was decided of a key that is written before it is done is not done.
func TestAKeyThatIsWrittenMeanwhileIsLeftAlone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		c.up()
		key := c.keyFirstAt("n1")
		h := c.heat(key)
		c.set("n1", key, "old")
		c.equal(c.names...)
		n3 := c.nodes["n3"]
		n3.rot(key, "de", lose)
		out := c.healed3(key, func(context.Context) error { c.equal("n1", "n2"); return nil }, func(typ wire.Type) {
			if typ != wire.TypeRead {
				h.write()
				return
			}
			c.set("n1", key, "new") // the owners have voted, and the old value was fetched
			c.wait("n3 has it", func() bool { return n3.holds(key) == "new" })
		})
		require.True(t, out.Failed, "%+v", out)
		require.Equal(t, "new", string(n3.version(key).Value))
	})
}

// What a damaged copy lost, and the one owner that answers has never seen, is not lost on
// record: another that is away has it, and must not be outvoted by the two.
func TestWhatAnOwnerThatIsAwayHoldsIsNotVotedOut(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := filled(t, "n1", "n2", "n3")
		n1, n3 := c.nodes["n1"], c.nodes["n3"]
		p := partOf("k7")
		key := c.keyIn(p, "acked")
		c.ackedWithout("n2", key)
		n1.kill()
		n3.rot(key, "de", lose)
		c.finds("n3", p)
		c.wires.connect("n2", "n3")
		time.Sleep(5 * time.Minute) // virtual; n1 is away
		n1.start()
		require.Equal(t, "acked", n1.holds(key))
		c.wires.connect("n1", "n2")
		c.wires.connect("n1", "n3")
		c.wait("all live", func() bool { return c.isLive(c.names...) })
		c.equal(c.names...)
		time.Sleep(5 * time.Minute)
		for _, n := range c.names {
			require.Equal(t, "acked", c.nodes[n].holds(key), n)
		}
	})
}

// A clock that names dots which this copy has not given out is a breach, and holds nobody up.
func TestAForgedClockHoldsNoHealingUp(t *testing.T) {
	for name, lie := range map[string]func(n3 *member, a *wire.HeldAck){
		"forged": func(n3 *member, a *wire.HeldAck) {
			d := n3.set.Shard(partOf("k7")).Issued()
			a.Clock.Add(kv.Dot{Actor: d.Actor, Seq: d.Seq + 1000})
		},
		"not told": func(_ *member, a *wire.HeldAck) { a.Told, a.Clock = false, kv.Clock{} },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := filled(t, "n1", "n2", "n3")
				h, n3 := c.heat("k7"), c.nodes["n3"]
				n3.rot("k7", "de", lose)
				x := c.healer(func(ctx context.Context, name string, request []byte) ([]byte, error) {
					h.write()
					resp, err := c.nodes[name].replica.Serve(ctx, "n3", slices.Clone(request))
					if typ, _ := wire.TypeOf(request); err == nil && name == "n1" && typ == wire.TypeHeld {
						a, err := wire.ParseHeldAck(resp)
						require.NoError(t, err)
						if a.Told {
							lie(n3, &a)
							resp = a.Append(nil)
						}
					}
					return resp, err
				})
				x.Pause = func(context.Context) error { time.Sleep(time.Second); return nil }
				out := x.Heal(t.Context(), core.Heal{Partition: x.Partition, Owners: []string{"n1", "n2"}})
				require.False(t, out.Failed, "%+v", out)
				require.Positive(t, x.Lies)
				require.Equal(t, "v7", n3.holds("k7"))
				h.stop()
			})
		})
	}
}

// holdingUp is how n1 may answer n3 for ever, so that no vote comes to its end: with clocks
// that never have what the others had seen, or that have what nobody has; or with what
// leaves open whether a version is gone, or only on its way.
var holdingUp = map[string]func(n1 *member) func(wire.Held, *wire.HeldAck){
	"has seen nothing": func(*member) func(wire.Held, *wire.HeldAck) {
		return func(_ wire.Held, a *wire.HeldAck) { a.Clock = kv.Clock{} }
	},
	"has seen what nobody else has": func(n1 *member) func(wire.Held, *wire.HeldAck) {
		return func(_ wire.Held, a *wire.HeldAck) {
			d := n1.set.Shard(partOf("k7")).Issued()
			a.Clock.Add(kv.Dot{Actor: d.Actor, Seq: d.Seq + 1000})
		}
	},
	"has a context beyond its clock": func(*member) func(wire.Held, *wire.HeldAck) {
		return func(_ wire.Held, a *wire.HeldAck) {
			for i := range a.Objects {
				a.Objects[i].Beyond, a.Objects[i].Versions = true, nil
			}
		}
	},
	"has superseded it just now": func(*member) func(wire.Held, *wire.HeldAck) {
		asked := 0
		return func(q wire.Held, a *wire.HeldAck) {
			if len(q.Keys) == 0 {
				return
			}
			if asked++; asked%2 == 0 {
				for i := range a.Objects {
					a.Objects[i].Versions = nil
				}
			}
		}
	},
}

// holdUp has n1 hold up every vote in which no clock is asked for.
func (c *cluster) holdUp(how string) func(wire.Held, *wire.HeldAck) {
	answer := holdingUp[how](c.nodes["n1"])
	return func(q wire.Held, a *wire.HeldAck) {
		if a.Told {
			answer(q, a)
		}
	}
}

// An owner that holds the vote up is waited for as long as all owners are to decide, and
// then left out as if it were away.
func TestAnOwnerThatHoldsTheVoteUpIsLeftOut(t *testing.T) {
	for name := range holdingUp {
		for _, all := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, all: %v", name, all), func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					c := filled(t, "n1", "n2", "n3")
					h, n3 := c.heat("k7"), c.nodes["n3"]
					n3.rot("k7", "de", lose)
					ask := c.ask(lie{held: c.holdUp(name)})
					x := c.healer(func(ctx context.Context, name string, request []byte) ([]byte, error) {
						h.write()
						return ask(ctx, name, request)
					})
					x.Pause = func(context.Context) error { time.Sleep(time.Second); return nil }
					e := core.Heal{Partition: x.Partition, Owners: []string{"n1", "n2"}, All: all}
					out := x.Heal(t.Context(), e)
					if all {
						require.True(t, out.Failed, "%+v", out)
						require.Empty(t, out.LeftOut)
						h.stop()
						return
					}
					for range 10 { // where n2 has just superseded something as well
						if !out.Failed {
							break
						}
						out = x.Heal(t.Context(), e)
					}
					h.stop()
					require.True(t, out.Fit, "%+v", out)
					require.Equal(t, "v7", n3.holds("k7"))
					require.Equal(t, 1, out.Changed)
					require.Contains(t, out.LeftOut, "n1")
				})
			})
		}
	}
}

// Such an owner holds no healing up, in a whole node, and all that are left out are told of.
func TestAnOwnerThatHoldsTheVoteUpForEverHoldsNoHealingUp(t *testing.T) {
	for name := range holdingUp {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newCluster(t, "n1", "n2", "n3")
				var h *hot
				c.nodes["n3"].cfg = func(cfg *replica.Config) {
					cfg.Events.Note = func(n core.Note) {
						if n.Kind == "heal.left-out" {
							n.Text = n.Peer
							h.note(n)
						}
					}
				}
				c.up()
				c.fill()
				h = c.heat("k7")
				n3 := c.nodes["n3"]
				tell := c.holdUp(name)
				c.wires.with(func(w *wires) {
					w.answer = func(from, to string, request, resp []byte) []byte {
						if typ, _ := wire.TypeOf(request); from != "n3" || to != "n1" || typ != wire.TypeHeld {
							return resp
						}
						q, err := wire.ParseHeld(request)
						require.NoError(t, err)
						a, err := wire.ParseHeldAck(resp)
						require.NoError(t, err)
						tell(q, &a)
						return a.Append(nil)
					}
				})
				n3.rot("k7", "de", lose)
				c.finds("n3", partOf("k7"))
				for range 15 {
					if time.Sleep(time.Minute); !n3.set.Shard(partOf("k7")).Unfit() { // virtual
						break
					}
				}
				require.False(t, n3.set.Shard(partOf("k7")).Unfit(), "it is healed")
				require.Equal(t, "v7", n3.holds("k7"))
				h.stop()
				require.EqualValues(t, len(h.notes["heal.left-out"]), n3.replica.Stats().HealLeftOut.Load())
				c.whole()
			})
		})
	}
}

// What only the owner that is left out has, and this copy lost, is not lost on record.
func TestWhatAnOwnerThatIsLeftOutHoldsIsNotVotedOut(t *testing.T) {
	for name := range holdingUp {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := filled(t, "n1", "n2", "n3")
				n1, n3, p := c.nodes["n1"], c.nodes["n3"], partOf("k7")
				key := c.keyIn(p, "acked")
				c.ackedWithout("n2", key)
				n3.rot(key, "de", lose)
				heal := func(l lie, all bool) core.Healed {
					x := c.healer(c.ask(l))
					x.Pause = func(context.Context) error { return nil }
					return x.Heal(t.Context(), core.Heal{Partition: p, Owners: []string{"n1", "n2"}, All: all})
				}
				out := heal(lie{tree: func(_ wire.Tree, a *wire.TreeAck) { a.Code = wire.TreeMoved }, held: c.holdUp(name)}, false)
				require.True(t, out.Failed, "%+v", out)
				require.True(t, n3.set.Shard(p).Unfit(), "it knows that it lost something")
				out = heal(lie{}, false)
				require.True(t, out.Fit, "%+v", out)
				require.Equal(t, "acked", n3.holds(key))
				require.Equal(t, "acked", n1.holds(key))
			})
		})
	}
}

// An owner that leaves a question open may have what is asked for: its clock moved behind
// its root, or its link was lost. Then nothing is lost on record, however fit it said it is.
func TestAnOwnerThatAnswersInPartDoesNotSayThatAllIsThere(t *testing.T) {
	for name, x := range map[string]lie{
		"not behind its root": {tree: func(q wire.Tree, a *wire.TreeAck) {
			if len(q.Ask.Nodes) > 0 || len(q.Ranges) > 0 {
				*a = wire.TreeAck{Code: wire.TreeMoved}
			}
		}},
		"not behind its tree": {held: func(q wire.Held, a *wire.HeldAck) {
			if len(q.Keys)+len(q.Items) > 0 {
				*a = wire.HeldAck{Code: wire.TreeMoved}
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := filled(t, "n1", "n2", "n3")
				c.crowd("k7")
				c.nodes["n3"].rot("k7", "de", lose)
				ask := c.ask(x)
				h := c.healer(func(ctx context.Context, name string, request []byte) ([]byte, error) {
					if name == "n2" {
						return nil, errors.New("away")
					}
					return ask(ctx, name, request)
				})
				out := h.Heal(t.Context(), core.Heal{Partition: h.Partition, Owners: []string{"n1", "n2"}})
				require.True(t, out.Failed, "%+v", out)
				c.finds("n3", h.Partition)
			})
		})
	}
}

// The same where clocks never meet: n1 and n3 acknowledged what n2 has not seen and n3 lost.
// It would go on to n2 that it is dead, and both would vote it out at n1.
func TestWhatAnOwnerThatAnswersInPartHoldsIsNotVotedOut(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := filled(t, "n1", "n2", "n3")
		n1, n3, p := c.nodes["n1"], c.nodes["n3"], partOf("k7")
		key := c.keyIn(p, "acked")
		c.ackedWithout("n2", key)
		n3.rot(key, "de", lose)
		x := c.healer(c.ask(lie{tree: func(_ wire.Tree, a *wire.TreeAck) { a.Code = wire.TreeMoved }}))
		x.Pause = func(context.Context) error { return nil }
		out := x.Heal(t.Context(), core.Heal{Partition: p, Owners: []string{"n1", "n2"}})
		require.True(t, out.Failed, "%+v", out)
		n1.kill()
		c.finds("n3", p)
		c.wires.connect("n2", "n3")
		time.Sleep(time.Minute) // virtual
		n1.start()
		c.wires.connect("n1", "n2")
		c.wires.connect("n1", "n3")
		time.Sleep(5 * time.Minute)
		c.wait("all have it", func() bool {
			return !slices.ContainsFunc(c.names, func(n string) bool { return c.nodes[n].holds(key) != "acked" })
		})
	})
}

// What all owners lost that are there, one that is away may have, also at equal clocks.
func TestWhatAnOwnerHoldsThatIsAwayIsNotLostOnRecord(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := filled(t, "n1", "n2", "n3")
		for _, n := range []string{"n1", "n3"} {
			c.nodes[n].rot("k7", "de", lose)
		}
		x := c.healer(c.ask(lie{}))
		out := x.Heal(t.Context(), core.Heal{Partition: x.Partition, Owners: []string{"n1"}})
		require.True(t, out.Failed, "%+v", out)
		l, err := c.nodes["n3"].set.Shard(x.Partition).Look(nil)
		require.NoError(t, err)
		require.False(t, l.Fit(), "its record tells of what it lost")
		out = x.Heal(t.Context(), core.Heal{Partition: x.Partition, Owners: []string{"n1", "n2"}, Every: true})
		require.False(t, out.Failed, "%+v", out)
		require.Equal(t, "v7", c.nodes["n3"].holds("k7"))
	})
}

// One HELD names no more keys than it may; what it left out is not lost on record.
func TestMoreIsLostThanOneAnswerNames(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := filled(t, "n1", "n2", "n3")
		n3, p := c.nodes["n3"], partOf("k7")
		var keys []string
		for i := 0; len(keys) < wire.MaxHeldKeys+100; i++ {
			if k := fmt.Sprint("many", i); partOf(k) == p {
				c.set("n1", k, "v")
				keys = append(keys, k)
			}
		}
		c.equal(c.names...)
		for _, k := range keys {
			n3.rot(k, "de", lose)
		}
		x, e := c.healer(c.ask(lie{})), core.Heal{Partition: p, Owners: []string{"n1", "n2"}, All: true, Every: true, Sole: true}
		out := x.Heal(t.Context(), e)
		require.Equal(t, wire.MaxHeldKeys, out.Changed)
		require.True(t, out.More)
		require.False(t, out.Fit, "it lacks what it has not been told of")
		out = c.healer(c.ask(lie{})).Heal(t.Context(), e)
		require.Equal(t, 100, out.Changed)
		require.True(t, out.Fit)
		for _, k := range keys {
			require.Equal(t, "v", n3.holds(k))
		}
	})
}

// A healer that asks about fewer keys at once than a frame has room for asks again.
func TestHowManyKeysAreAskedAbout(t *testing.T) {
	for lost, rounds := range map[int]int{2: 1, 3: 2} { // the limit, and one over
		t.Run(fmt.Sprint(lost), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := filled(t, "n1", "n2", "n3")
				n3, p := c.nodes["n3"], partOf("k7")
				var keys []string
				for i := range lost {
					keys = append(keys, c.keyIn(p, fmt.Sprint("lost", i)))
					c.set("n1", keys[i], "v")
				}
				c.equal(c.names...)
				for _, k := range keys {
					n3.rot(k, "de", lose)
				}
				fit := false
				for range rounds {
					require.False(t, fit)
					x := c.healer(func(ctx context.Context, name string, request []byte) ([]byte, error) {
						if q, err := wire.ParseHeld(request); err == nil {
							require.LessOrEqual(t, len(q.Keys), 2)
						}
						return c.nodes[name].replica.Serve(ctx, "n3", request)
					})
					x.HeldKeys = 2
					fit = x.Heal(t.Context(), core.Heal{Partition: p, Owners: []string{"n1", "n2"}, All: true, Every: true, Sole: true}).Fit
				}
				require.True(t, fit)
				for _, k := range keys {
					require.Equal(t, "v", n3.holds(k))
				}
			})
		})
	}
}

// An owner that shows a write to this copy alone, and late, does not have another left out.
func TestNobodyHasAnotherLeftOut(t *testing.T) {
	for _, owners := range [][]string{{"n1", "n2"}, {"n2", "n1"}} {
		t.Run(owners[0]+" first", func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := filled(t, "n1", "n2", "n3")
				n3, p := c.nodes["n3"], partOf("k7")
				n3.rot("k7", "de", lose)
				late := kv.Version{Dot: kv.Dot{Actor: kv.Actor{Node: c.nodes["n1"].id, Boot: 9, Rand: 1}, Seq: 1}, HLC: 1, Value: []byte("late")}
				apply := func(n *member) {
					done := make(chan struct{})
					got := state.Received{Key: []byte(c.keyIn(p, "late")), Object: kv.Object{Versions: []kv.Version{late}}, From: c.nodes["n1"].id}
					require.NoError(t, n.set.Shard(p).Apply(got, func() { close(done) }))
					<-done
				}
				x := c.healer(func(ctx context.Context, name string, request []byte) ([]byte, error) {
					if name == "n1" {
						apply(c.nodes["n1"])
					}
					resp, err := c.nodes[name].replica.Serve(ctx, "n3", slices.Clone(request))
					require.NoError(t, err)
					switch typ, _ := wire.TypeOf(request); typ {
					case wire.TypeTree:
						if q, _ := wire.ParseTree(request); q.Clock != 0 {
							return wire.TreeAck{Code: wire.TreeMoved}.Append(nil), nil
						}
					case wire.TypeHeld:
						if q, _ := wire.ParseHeld(request); q.Clock == 0 && name == "n1" {
							a, err := wire.ParseHeldAck(resp)
							require.NoError(t, err)
							a.Clock.Add(late.Dot)
							for i := range a.Objects {
								if string(a.Objects[i].Key) == "k7" {
									a.Objects[i].Versions = nil
								}
							}
							return a.Append(nil), nil
						}
					}
					return resp, nil
				})
				x.Pause = func(context.Context) error {
					apply(n3)
					return nil
				}
				out := x.Heal(t.Context(), core.Heal{Partition: p, Owners: owners})
				l, err := n3.set.Shard(p).Look(nil)
				require.NoError(t, err)
				require.Equal(t, l.Fit(), n3.holds("k7") == "v7", "%+v", out)
			})
		})
	}
}
