package replica_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/internal/layout"
	"edged.dev/edged/replica"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// fiveNodes are five nodes of which a key has three owners and a first stand-in.
func fiveNodes(t *testing.T) (c *cluster, key string, owners []string, next string) {
	c = newCluster(t, "n1", "n2", "n3", "n4", "n5")
	c.up()
	key = "k"
	l := c.layout(c.names...)
	order := l.Order(uint32(partOf(key)))
	return c, key, l.Owners(uint32(partOf(key))), order[3]
}

func (c *cluster) holdsCopy(name string, p kv.Partition) bool {
	return c.nodes[name].set.Shard(p) != nil
}

// levelAt waits until nodes hold a partition alike.
func (c *cluster) levelAt(p kv.Partition, names ...string) {
	c.t.Helper()
	c.wait("level", func() bool {
		first := c.nodes[names[0]].set.Shard(p).Status()
		for _, name := range names[1:] {
			st := c.nodes[name].set.Shard(p).Status()
			if !st.Clock.Equal(first.Clock) || !st.Digest.Equal(first.Digest) {
				return false
			}
		}
		return true
	})
}

// rejoin connects a node that started to all that run.
func (c *cluster) rejoin(name string) {
	for _, other := range c.names {
		if other != name && c.nodes[other].replica != nil {
			c.wires.connect(name, other)
		}
	}
}

func (c *cluster) part(name string, p kv.Partition) core.Part {
	x, _ := c.nodes[name].replica.Part(p)
	return x
}

// stoodFor has two of three owners down, and a write, "new", acknowledged by the first and
// a stand-in.
func stoodFor(t *testing.T) (c *cluster, key string, owners []string, next string) {
	t.Helper()
	c, key, owners, next = fiveNodes(t)
	c.set(owners[0], key, "old")
	c.levelAt(partOf(key), owners...)
	for _, name := range owners[1:] {
		c.nodes[name].kill()
	}
	c.wait("alone", func() bool { return slices.Equal(c.part(owners[0], partOf(key)).StandIns, []string{next}) })
	resp := c.set(owners[0], key, "new")
	require.Equal(t, []int{1, 1, 3}, []int{resp.Copies, resp.StandIns, resp.Wanted})
	return c, key, owners, next
}

// TestAStandInTakesWhatItsOwnersCannot has two of three owners down, a write
// acknowledged by one of them and a stand-in, and the disk of that one lost.
func TestAStandInTakesWhatItsOwnersCannot(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, key, owners, next := stoodFor(t)
		first := owners[0]
		require.True(t, c.holdsCopy(next, partOf(key)))
		require.True(t, c.part(next, partOf(key)).Held)
		require.Equal(t, kv.Cold, c.part(next, partOf(key)).State)
		require.Equal(t, int64(1), c.nodes[first].replica.Stats().StandInWrites.Load())

		value, _ := c.get(next, key)
		require.Equal(t, "new", value, "another answers")
		require.Zero(t, c.nodes[next].replica.Stats().Reads.Load(), "a stand-in answers nothing itself")

		c.nodes[first].kill()
		_, err := c.do(next, kv.Request{Op: kv.OpGet, Key: []byte(key)})
		require.Equal(t, kv.CodeUnavailable, kv.CodeOf(err), "nobody serves: %v", err)

		c.nodes[first].wipe()
		for _, name := range owners {
			c.nodes[name].start()
			c.rejoin(name)
		}
		c.live(owners...)
		for _, name := range owners {
			require.Equal(t, "new", c.nodes[name].holds(key), name)
			value, _ = c.get(name, key)
			require.Equal(t, "new", value)
		}
		c.wait("dropped", func() bool { return !c.holdsCopy(next, partOf(key)) })
		require.False(t, c.part(next, partOf(key)).Held)
		require.Equal(t, int64(1), c.nodes[next].replica.Stats().CopiesDropped.Load())
		c.levelAt(partOf(key), owners...)
	})
}

// TestAStandInKeepsWhatAnOwnerLacks has one owner stay away: nothing is dropped until
// it is back and has fetched it.
func TestAStandInKeepsWhatAnOwnerLacks(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, key, owners, next := fiveNodes(t)
		first, p := owners[0], partOf(key)
		for _, name := range owners[1:] {
			c.nodes[name].kill()
		}
		c.wait("alone", func() bool { return len(c.part(first, p).StandIns) == 1 })
		c.set(first, key, "new")
		c.nodes[owners[1]].start()
		c.rejoin(owners[1])
		c.live(owners[1])
		c.wait("two owners", func() bool { return len(c.part(first, p).StandIns) == 0 })
		require.Equal(t, []int{2, 0}, copiesOf(c.set(first, key, "newer")))
		time.Sleep(time.Minute)
		require.True(t, c.holdsCopy(next, p), "one owner is away")
		c.nodes[owners[2]].start()
		c.rejoin(owners[2])
		c.wait("dropped", func() bool { return !c.holdsCopy(next, p) })
		require.Equal(t, "newer", c.nodes[owners[2]].holds(key))
	})
}

func copiesOf(r *kv.Response) []int { return []int{r.Copies, r.StandIns} }

// TestAStandInStandsInAgain drops a copy and opens another on the same node: its
// actor is another, and nothing of the first is in its clock.
func TestAStandInStandsInAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, key, owners, next := fiveNodes(t)
		first, p := owners[0], partOf(key)
		var actors []kv.Actor
		for round := range 2 {
			for _, name := range owners[1:] {
				c.nodes[name].kill()
			}
			c.wait("alone", func() bool { return len(c.part(first, p).StandIns) == 1 })
			require.Equal(t, []int{1, 1}, copiesOf(c.set(first, key, string(rune('a'+round)))))
			actors = append(actors, c.nodes[next].set.Shard(p).Actor())
			for _, name := range owners[1:] {
				c.nodes[name].start()
				c.rejoin(name)
			}
			c.live(owners...)
			c.wait("dropped", func() bool { return !c.holdsCopy(next, p) })
			c.levelAt(partOf(key), owners...)
		}
		require.NotEqual(t, actors[0], actors[1])
		require.Equal(t, "b", c.nodes[owners[2]].holds(key))
	})
}

// TestWhatComesWhileACopyIsOfferedLiftsTheFence sends a write between the offer that
// every owner covers and the drop: the copy stays.
func TestWhatComesWhileACopyIsOfferedLiftsTheFence(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, key, owners, next := fiveNodes(t)
		first, p := owners[0], partOf(key)
		for _, name := range owners[1:] {
			c.nodes[name].kill()
		}
		c.wait("alone", func() bool { return len(c.part(first, p).StandIns) == 1 })
		c.set(first, key, "1")
		offered, again := make(chan struct{}), make(chan struct{})
		held := 0
		c.wires.with(func(w *wires) {
			w.reply = func(from, to string, f wire.Type) error {
				if f == wire.TypeCover && from == next && to == owners[2] && held < 1 {
					held++
					close(offered)
					<-again
				}
				return nil
			}
		})
		for _, name := range owners[1:] {
			c.nodes[name].start()
			c.rejoin(name)
		}
		<-offered
		clock := c.nodes[next].set.Shard(p).Clock()
		c.set(first, key, "2")
		o, base, err := c.nodes[first].set.Shard(p).Read([]byte(key))
		require.NoError(t, err)
		frame := wire.Apply{Writes: []wire.Write{{Seq: 1 << 40, Partition: p, Copy: wire.Copy{Key: []byte(key), Object: o.Filled(base)}}}}.Append(nil)
		c.wires.with(func(w *wires) {
			w.live = func(from, to string) liveFate {
				if from == next && to == first {
					return swallow // the ACK of a write that first did not send
				}
				return deliver
			}
		})
		require.NoError(t, c.nodes[next].replica.LiveFrame(first, frame))
		c.wait("taken in", func() bool { now := c.nodes[next].set.Shard(p).Clock(); return !now.Equal(clock) })
		gone, err := c.nodes[next].set.DropCovered(p, clock)
		require.NoError(t, err)
		require.False(t, gone, "its clock has moved")
		close(again)
		c.wait("dropped", func() bool { return !c.holdsCopy(next, p) })
		for _, name := range owners {
			require.Equal(t, "2", c.nodes[name].holds(key), name)
		}
	})
}

// TestAnAckOfACopyThatIsGoneCountsForNothing lets a copy be dropped, and another be
// opened, between a write and its acknowledgement.
func TestAnAckOfACopyThatIsGoneCountsForNothing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, key, owners, next := fiveNodes(t)
		first, p := owners[0], partOf(key)
		for _, name := range owners[1:] {
			c.nodes[name].kill()
		}
		c.wait("alone", func() bool { return len(c.part(first, p).StandIns) == 1 })
		var acks [][]byte
		c.wires.with(func(w *wires) {
			w.live = func(from, to string) liveFate {
				if from == next && to == first {
					return swallow
				}
				return deliver
			}
			w.seen = func(kind string, frame []byte) {
				if f, err := wire.TypeOf(frame); err == nil && kind == "live" && f == wire.TypeAck {
					acks = append(acks, slices.Clone(frame))
				}
			}
		})
		answer := make(chan *kv.Response, 1)
		req := kv.Request{Op: kv.OpSet, Key: []byte(key), Value: []byte("v")}
		c.nodes[first].replica.Start(t.Context(), &req, func(resp *kv.Response, err error) { answer <- resp })
		c.wait("swallowed", func() bool { return len(acks) > 0 })
		require.NoError(t, c.nodes[next].set.Drop(p))
		other := c.nodes[next].set.Add(p)
		ack, err := wire.ParseAck(acks[0])
		require.NoError(t, err)
		at := slices.IndexFunc(ack.Copies, func(x wire.CopyClock) bool { return x.Partition == p })
		require.GreaterOrEqual(t, at, 0)
		ack.Copies[at].Actor, ack.Copies[at].Clock = other.Actor(), other.Clock()
		require.NoError(t, c.nodes[first].replica.LiveFrame(next, ack.Append(nil)))
		resp := <-answer
		require.NotNil(t, resp)
		require.Equal(t, []int{1, 0}, copiesOf(resp), "the copy that acknowledges has not got it")
	})
}

// TestADisplacedOwnerDropsItsCopy lets a fifth node join: what it takes over leaves
// those who held it, by the same rule, and not before it is there.
func TestADisplacedOwnerDropsItsCopy(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3", "n4", "n5")
		all := c.names
		c.names = all[:4]
		c.up()
		for i := range 40 {
			c.set("n1", string(rune('A'+i)), "v")
		}
		c.names = all
		c.nodes["n5"].start()
		c.rejoin("n5")
		l := c.layout(all...)
		for _, name := range all[:4] {
			c.nodes[name].replica.SetLayout(l)
		}
		c.live(all...)
		for p := range kv.Partition(testPartitions) {
			require.True(t, c.holdsCopy("n1", p), "it has started since, and an earlier process may have promised to keep them")
		}
		time.Sleep(time.Duration(core.Promise))
		c.wait("only owners hold", func() bool {
			for p := range kv.Partition(testPartitions) {
				for _, name := range all {
					if c.holdsCopy(name, p) != l.Owns(name, uint32(p)) {
						return false
					}
				}
			}
			return true
		})
		for i := range 40 {
			value, _ := c.get("n5", string(rune('A'+i)))
			require.Equal(t, "v", value)
		}
		four, err := layout.New(testPartitions, 3, l.Members()[:4])
		require.NoError(t, err)
		for _, name := range all {
			c.nodes[name].replica.SetLayout(four)
		}
		require.NoError(t, err)
		time.Sleep(time.Duration(core.Promise) / 2)
		moved := 0
		for p := range kv.Partition(testPartitions) {
			if l.Owns("n5", uint32(p)) && !l.Owns("n1", uint32(p)) { // n1 asked last, a moment ago
				moved++
				require.True(t, c.holdsCopy("n5", p), "it promised to keep what it took over")
			}
		}
		require.NotZero(t, moved)
		time.Sleep(time.Duration(core.Promise) / 2)
		c.wait("n5 holds nothing", func() bool {
			for p := range kv.Partition(testPartitions) {
				if c.holdsCopy("n5", p) {
					return false
				}
			}
			return true
		})
	})
}

// TestIsolatedWritesRefusedAskNoStandIn has a node that refuses writes with too few
// owners: a stand-in's copy is none.
func TestIsolatedWritesRefusedAskNoStandIn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3", "n4", "n5")
		for _, m := range c.nodes {
			m.cfg = func(cfg *replica.Config) { cfg.Refuse = true }
		}
		c.up()
		owners := c.layout(c.names...).Owners(uint32(partOf("k")))
		for _, name := range owners[1:] {
			c.nodes[name].kill()
		}
		c.wait("alone", func() bool { return len(c.part(owners[0], partOf("k")).StandIns) == 1 })
		_, err := c.do(owners[0], kv.Request{Op: kv.OpSet, Key: []byte("k"), Value: []byte("v")})
		require.Equal(t, kv.CodeUnavailable, kv.CodeOf(err))
		for _, name := range c.names {
			if !slices.Contains(owners, name) {
				require.False(t, c.holdsCopy(name, partOf("k")))
			}
		}
	})
}

// A stand-in that has lost its clock drops nothing that an owner has not seen: what it
// holds is in no clock that it could offer.
func TestAQuarantinedStandInKeepsWhatNoOwnerHas(t *testing.T) {
	for name, lost := range map[string]bool{"the owners have it": false, "its coordinator lost it": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c, key, owners, next := fiveNodes(t)
				first, p := owners[0], partOf(key)
				for _, name := range owners[1:] {
					c.nodes[name].kill()
				}
				c.wait("alone", func() bool { return len(c.part(first, p).StandIns) == 1 })
				c.set(first, key, "new")
				c.nodes[first].kill()
				c.nodes[next].kill()
				c.nodes[next].spoilRecords()
				if lost {
					c.nodes[first].wipe()
				}
				for _, name := range append(owners, next) {
					c.nodes[name].start()
					c.rejoin(name)
				}
				c.live(owners...)
				require.True(t, c.nodes[next].set.Shard(p).Quarantined())
				time.Sleep(11 * time.Minute) // virtual; what an earlier process promised is over
				require.Equal(t, lost, c.holdsCopy(next, p))
				if lost {
					require.Equal(t, "new", c.nodes[next].holds(key))
				}
			})
		})
	}
}

// A write that one owner and a stand-in have survives that the owner's record is damaged,
// whoever is back first.
func TestWhatAStandInAloneHasIsNotLostOnRecord(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, key, owners, next := stoodFor(t)
		first, away := owners[0], owners[1:]
		c.nodes[next].kill()
		c.nodes[first].rot(key, "de", lose)
		c.finds(first, partOf(key))
		for _, name := range away {
			c.nodes[name].start()
			c.rejoin(name)
		}
		time.Sleep(2 * time.Minute)
		c.nodes[next].start()
		c.rejoin(next)
		time.Sleep(5 * time.Minute) // attempts are a minute apart
		c.live(owners...)
		time.Sleep(time.Minute)
		c.levelAt(partOf(key), owners...)
		for _, name := range owners {
			require.Equal(t, "new", c.nodes[name].holds(key), name)
		}
	})
}
