package replica_test

import (
	"fmt"
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

func TestRotIsHealedByTheOwnersVote(t *testing.T) {
	for name, x := range map[string]struct {
		kinds string
		fn    func(byte, []byte) []byte
	}{
		"a version is gone":           {"d", lose},
		"an object is gone":           {"de", lose},
		"a directory is gone":         {"e", lose},
		"a byte of a value":           {"d", flip},
		"a byte of a directory's sum": {"e", flip},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := filled(t, "n1", "n2", "n3")
				c.nodes["n3"].rot("k7", x.kinds, x.fn)
				c.scrub("n3", "k7")
				c.whole()
			})
		})
	}
}

// Of two owners the one that has it is half of them.
func TestOfTwoOwnersOneGivesBackWhatTheOtherLost(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := filled(t, "n1", "n2")
		c.nodes["n2"].rot("k7", "de", lose)
		c.scrub("n2", "k7")
		c.whole()
	})
}

// A directory that says that values follow in it, as those in memory do, is damaged, and
// ends nobody's process.
func TestADirectoryOfAnotherFormIsHealed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := filled(t, "n1", "n2", "n3")
		c.set("n1", "empty", "")
		c.equal(c.names...)
		c.nodes["n3"].rot("empty", "e", func(_ byte, value []byte) []byte {
			value[0] ^= 4
			return value
		})
		c.scrub("n3", "empty")
		value, found := c.get("n3", "empty")
		require.True(t, found)
		require.Empty(t, value)
		c.whole()
	})
}

// Two of three lost the same object: that they lack it says nothing, since their own
// records say that they had it.
func TestTwoDamagedCopiesAreNoMajority(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := filled(t, "n1", "n2", "n3")
		c.nodes["n2"].rot("k7", "de", lose)
		c.nodes["n3"].rot("k7", "de", lose)
		for _, name := range []string{"n2", "n3"} {
			c.finds(name, partOf("k7"))
		}
		c.healed("n2", "k7")
		c.healed("n3", "k7")
		c.whole()
	})
}

func TestAVersionThatOneOfThreeHoldsIsDropped(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := filled(t, "n1", "n2", "n3")
		c.set("n1", "k7", "dead")
		c.equal(c.names...)
		dead := c.nodes["n3"].version("k7")
		c.set("n1", "k7", "v7")
		c.equal(c.names...)
		c.nodes["n3"].resurrect("k7", dead)
		o, _, err := c.nodes["n3"].set.Shard(partOf("k7")).Read([]byte("k7"))
		if err == nil {
			require.Len(t, o.Versions, 2, "it shows")
		}
		c.scrub("n3", "k7")
		c.whole()
		c.nodes["n3"].version("k7")
	})
}

// The copies' records differ at equal clocks, and no scrub was made: it is the
// comparison that finds it. The copy agrees with its own record, so that its word
// counts, and two others outvote it.
func TestEqualClocksAndUnequalDigestsAreHealed(t *testing.T) {
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
		c.wires.connect("n1", "n3")
		c.wires.connect("n2", "n3")
		c.healed("n3", "k7")
		c.whole()
	})
}

// What is held is right and what is recorded of it is not.
func TestARecordedDigestThatIsWrongIsPutRight(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := filled(t, "n1", "n2", "n3")
		n3 := c.nodes["n3"]
		n3.kill()
		n3.rerecord(partOf("k7"), func(x *cache.Copy) { x.Count++; x.Sum[3] ^= 7 })
		n3.start()
		c.wires.connect("n1", "n3")
		c.wires.connect("n2", "n3")
		c.healed("n3", "k7")
		c.whole()
	})
}

// item is the digest of the one version that a node holds of a key.
func (m *member) item(key string) merkle.Digest {
	return state.Item(merkle.KeyOf([]byte("cluster")), []byte(key), m.version(key))
}

// A read that stumbles over damage is answered by another owner, and the copy is
// looked at and healed without anybody's asking.
func TestADamagedValueIsNeitherServedNorShownAsDeleted(t *testing.T) {
	for name, fn := range map[string]func(byte, []byte) []byte{"flipped": flip, "lost": lose} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := filled(t, "n1", "n2", "n3")
				for _, n := range c.names {
					c.nodes[n].rot("k7", "d", fn)
					value, found := c.get(n, "k7")
					require.True(t, found, n)
					require.Equal(t, "v7", value)
					c.healed(n, "k7")
				}
				c.whole()
			})
		})
	}
}

// A write of a key whose value is damaged runs at another owner, and reaches the
// damaged copy too.
func TestAWriteOverADamagedValueGetsThrough(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := filled(t, "n1", "n2", "n3")
		first := c.layout(c.names...).Owners(uint32(partOf("k7")))[0]
		c.nodes[first].rot("k7", "d", lose)
		c.set(first, "k7", "new")
		c.set(first, "k7", "v7")
		c.whole()
		l, err := c.nodes[first].set.Shard(partOf("k7")).Look(nil)
		require.NoError(t, err)
		require.True(t, l.Fit(), "what was damaged is overwritten")
	})
}

// While writes go on, clocks hardly ever meet; a value whose checksum the copy still
// has is fetched all the same.
func TestAValueIsMendedWhileWritesGoOn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := filled(t, "n1", "n2", "n3")
		c.nodes["n3"].rot("k7", "d", flip)
		_, err := c.nodes["n3"].replica.Scrub(t.Context(), partOf("k7"))
		require.NoError(t, err)
		for i := range 200 {
			c.set("n1", "other"+fmt.Sprint(i%7), fmt.Sprint(i))
			time.Sleep(5 * time.Millisecond)
		}
		c.healed("n3", "k7")
		c.whole()
	})
}

// A copy that is damaged streams to nobody, and tells why.
func TestADamagedCopyIsGivenToNobody(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := filled(t, "n1", "n2", "n3")
		c.nodes["n2"].kill()
		c.nodes["n2"].wipe()
		c.nodes["n1"].rot("k7", "de", lose)
		c.wires.with(func(w *wires) { // it cannot be healed yet
			w.call = func(from, _ string, typ wire.Type) error {
				if from == "n1" && (typ == wire.TypeTree || typ == wire.TypeHeld) {
					return errDown
				}
				return nil
			}
		})
		c.finds("n1", partOf("k7"))
		c.nodes["n2"].start()
		c.wires.connect("n1", "n2")
		c.wires.connect("n2", "n3")
		c.wait("n2 has its copies", func() bool { return c.isLive("n2") })
		require.Equal(t, "v7", c.nodes["n2"].holds("k7"))
		c.wires.with(func(w *wires) { w.call = nil })
		c.healed("n1", "k7")
		c.whole()
	})
}

// noted are the events of a kind that a member told.
func TestWhatWasHealedIsTold(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		var mu sync.Mutex
		var notes []core.Note
		c.nodes["n3"].cfg = func(cfg *replica.Config) {
			cfg.Events.Note = func(n core.Note) {
				mu.Lock()
				defer mu.Unlock()
				notes = append(notes, n)
			}
		}
		c.up()
		c.set("n1", "k7", "v7")
		c.equal(c.names...)
		v := c.nodes["n3"].version("k7")
		c.nodes["n3"].rot("k7", "de", lose)
		c.scrub("n3", "k7")
		mu.Lock()
		defer mu.Unlock()
		kinds := map[string]string{}
		for _, n := range notes {
			kinds[n.Kind] += n.Text
		}
		require.Contains(t, kinds["alarm"], "corruption")
		require.Contains(t, kinds["corruption"], `restored "k7" `+v.Dot.String())
		require.EqualValues(t, 1, c.nodes["n3"].replica.Stats().Corruptions.Load())
		p, _ := c.nodes["n3"].replica.Part(partOf("k7"))
		require.Contains(t, p.Reason, "1 versions restored")
	})
}

// A copy that was found damaged and could not be healed is looked at again by the
// next process, which would know nothing of it.
func TestDamageIsRememberedByTheNextProcess(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := filled(t, "n1", "n2", "n3")
		n3 := c.nodes["n3"]
		c.wires.with(func(w *wires) {
			w.call = func(from, _ string, typ wire.Type) error {
				if from == "n3" && typ == wire.TypeTree {
					return errDown
				}
				return nil
			}
		})
		n3.rot("k7", "de", lose)
		_, err := n3.replica.Scrub(t.Context(), partOf("k7"))
		require.NoError(t, err)
		c.wait("it is known", func() bool { return n3.set.Shard(partOf("k7")).Trust() == kv.Suspect })
		n3.kill()
		c.wires.with(func(w *wires) { w.call = nil })
		n3.start()
		c.wires.connect("n1", "n3")
		c.wires.connect("n2", "n3")
		c.healed("n3", "k7")
		c.whole()
	})
}

// The background scrub finds by itself what rots.
func TestTheScrubFindsRotByItself(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		c.nodes["n3"].cfg = func(cfg *replica.Config) { cfg.ScrubEvery = 10 * time.Minute }
		c.up()
		c.set("n1", "k7", "v7")
		c.equal(c.names...)
		c.nodes["n3"].rot("k7", "de", lose)
		time.Sleep(12 * time.Minute) // virtual
		c.healed("n3", "k7")
		require.Equal(t, "v7", c.nodes["n3"].holds("k7"))
		scrubs := c.nodes["n3"].replica.Stats().Scrubs.Load()
		require.InDelta(t, testPartitions+1, scrubs, 2, "one round, at an even pace")
		require.Zero(t, c.nodes["n1"].replica.Stats().Scrubs.Load())
	})
}

// Reads that stumble again and again over what nobody can heal start one look in ten
// seconds, not one each.
func TestReadsThatStumbleStartFewLooks(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1")
		c.nodes["n1"].start()
		c.live("n1")
		c.set("n1", "k7", "v7")
		c.nodes["n1"].rot("k7", "d", lose)
		for range 50 {
			_, err := c.do("n1", kv.Request{Op: kv.OpGet, Key: []byte("k7")})
			require.Error(t, err, "neither the value nor that there is none")
			time.Sleep(100 * time.Millisecond)
		}
		require.EqualValues(t, 1, c.nodes["n1"].replica.Stats().Scrubs.Load())
		time.Sleep(10 * time.Second)
		_, err := c.do("n1", kv.Request{Op: kv.OpGet, Key: []byte("k7")})
		require.Error(t, err)
		c.wait("looked again", func() bool { return c.nodes["n1"].replica.Stats().Scrubs.Load() == 2 })
	})
}
