package replica_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/internal/layout"
	"edged.dev/edged/partition"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// mostActors is the longest clock of a node's copies.
func (m *member) mostActors() (most int) {
	for p := range kv.Partition(testPartitions) {
		c := m.set.Add(p).Clock()
		most = max(most, c.Len())
	}
	return most
}

// sealedDown waits until no clock has more than so many entries.
func (c *cluster) sealedDown(entries int) {
	c.t.Helper()
	c.wait("sealed", func() bool {
		for _, name := range c.names {
			if c.nodes[name].mostActors() > entries {
				return false
			}
		}
		return true
	})
}

// writeAll writes a key of each partition at a node.
func (c *cluster) writeAll(name, value string) {
	c.t.Helper()
	left := map[kv.Partition]bool{}
	for p := range kv.Partition(testPartitions) {
		left[p] = true
	}
	for i := 0; len(left) > 0; i++ {
		key := fmt.Sprint("all-", i)
		if p := partOf(key); left[p] {
			delete(left, p)
			c.set(name, key, value)
		}
	}
}

func TestSealedRestartsLeaveClocksBounded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		c.up()
		for i := range 12 {
			c.writeAll("n1", fmt.Sprint("v", i))
			c.nodes[c.names[i%3]].kill()
			c.back(c.names[i%3])
			c.live(c.names...)
			c.equal(c.names...)
		}
		c.sealedDown(3)
		c.equal(c.names...)
		c.writeAll("n2", "last")
		c.equal(c.names...)
		c.sealedDown(6)
		v, found := c.get("n1", "all-0")
		require.True(t, found)
		require.Equal(t, "last", v)
		require.Positive(t, c.nodes["n1"].replica.Stats().Sealed.Load())
		require.Positive(t, c.nodes["n1"].replica.Sealed())
	})
}

func TestSealWaitsForAnAbsentOwner(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		c.up()
		c.writeAll("n1", "v")
		c.equal(c.names...)
		c.nodes["n3"].kill()
		c.nodes["n1"].kill()
		c.nodes["n1"].start()
		c.wires.connect("n1", "n2")
		c.live("n1", "n2")
		c.writeAll("n1", "w")
		time.Sleep(time.Minute)
		require.Zero(t, c.nodes["n2"].replica.Sealed(), "an owner is away, and may know more")
		c.back("n3")
		c.live(c.names...)
		c.wait("sealed", func() bool { return c.nodes["n3"].replica.Sealed() > 0 })
		c.sealedDown(2)
		c.equal(c.names...)
	})
}

// TestAnOwnerThatMissedTheSealLearnsIt lets the second round not reach one of three.
func TestAnOwnerThatMissedTheSealLearnsIt(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		c.up()
		c.writeAll("n1", "v")
		c.equal(c.names...)
		c.nodes["n1"].kill()
		rounds := map[[2]string]int{}
		c.wires.with(func(w *wires) {
			w.call = func(from, to string, typ wire.Type) error {
				if typ != wire.TypeSeal || to != "n3" {
					return nil
				}
				w.mu.Lock()
				defer w.mu.Unlock()
				if rounds[[2]string{from, to}]++; rounds[[2]string{from, to}]%2 == 0 {
					return errors.New("lost")
				}
				return nil
			}
		})
		c.back("n1")
		c.live(c.names...)
		c.wait("sealed", func() bool { return c.nodes["n3"].replica.Sealed() > 0 })
		c.sealedDown(2)
		c.equal(c.names...)
		c.live(c.names...)
		v, _ := c.get("n3", "all-0")
		require.Equal(t, "v", v)
	})
}

// TestALostDiskIsSealedByTheLayout has a member come back with an empty disk: the
// layout names the node ID that it had.
func TestALostDiskIsSealedByTheLayout(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		c.up()
		c.writeAll("n1", "v")
		c.writeAll("n2", "v")
		c.equal(c.names...)
		was := c.nodes["n1"].id
		c.nodes["n1"].kill()
		c.nodes["n1"].wipe()
		c.back("n1")
		c.live(c.names...)
		c.equal(c.names...)
		time.Sleep(30 * time.Second)
		held := c.nodes["n2"].mostActors()
		require.Zero(t, c.nodes["n2"].replica.Sealed(), "nothing proves that the old disk is gone")
		members := make([]layout.Member, len(c.names))
		for i, name := range c.names {
			members[i] = layout.Member{Name: name, Node: uint64(c.nodes[name].id), Weight: 1}
		}
		members[0].Former = []uint64{uint64(was)}
		l, err := layout.New(testPartitions, 3, members)
		require.NoError(t, err)
		for _, name := range c.names {
			c.nodes[name].replica.SetLayout(l)
		}
		c.wait("sealed", func() bool { return c.nodes["n3"].replica.Sealed() > 0 && c.nodes["n2"].replica.Sealed() > 0 })
		require.LessOrEqual(t, c.nodes["n2"].mostActors(), held)
		c.equal(c.names...)
	})
}

// TestAPeerDoesNotSealTheLiving has a member ask to seal processes that are there.
func TestAPeerDoesNotSealTheLiving(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		c.up()
		c.writeAll("n1", "v")
		c.equal(c.names...)
		view := c.layout(c.names...).ViewHash8()
		ask := func(at string, q wire.Seal) wire.Promise {
			q.Parts = []wire.SealPart{{Partition: 3}}
			b, err := c.nodes[at].replica.Serve(t.Context(), "n2", q.Append(nil))
			require.NoError(t, err)
			ack, err := wire.ParseSealAck(b)
			require.NoError(t, err)
			return ack.Parts[0].Promise
		}
		n1 := c.nodes["n1"]
		require.Equal(t, wire.SealRefused, ask("n3", wire.Seal{View: view, Node: n1.id, Boot: n1.boot}))
		require.Equal(t, wire.SealRefused, ask("n1", wire.Seal{View: view, Node: n1.id, Boot: n1.boot}))
		require.Equal(t, wire.SealRefused, ask("n3", wire.Seal{View: view, Node: 77, Boot: 1}), "nobody knows it")
		require.Equal(t, wire.SealRefused, ask("n3", wire.Seal{View: view + 1, Node: n1.id, Boot: n1.boot - 1}), "another layout")
		require.NotEqual(t, wire.SealRefused, ask("n3", wire.Seal{View: view, Node: n1.id, Boot: n1.boot - 1}))
	})
}

// TestALateWriteOfASealedProcessIsRefused sends what a process that is gone had on
// its way.
func TestALateWriteOfASealedProcessIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		c.up()
		key := c.keyFirstAt("n1")
		c.set("n1", key, "v")
		c.equal(c.names...)
		var late []byte
		c.wires.with(func(w *wires) {
			w.live = func(from, to string) liveFate {
				if from == "n1" {
					return swallow
				}
				return deliver
			}
			w.call = func(from, to string, _ wire.Type) error {
				if from == "n1" || to == "n1" {
					return errors.New("lost")
				}
				return nil
			}
			w.seen = func(kind string, frame []byte) {
				if kind == "live" && frame[0] == byte(wire.TypeApply) {
					late = append([]byte(nil), frame...)
				}
			}
		})
		_, _ = c.do("n1", kv.Request{Op: kv.OpSet, Key: []byte(key), Value: []byte("lost")})
		require.NotEmpty(t, late)
		c.nodes["n1"].kill()
		c.wires.with(func(w *wires) { w.live, w.call, w.seen = nil, nil, nil })
		c.nodes["n1"].wipe() // and with the disk the only copy
		c.back("n1")
		c.live(c.names...)
		c.equal(c.names...)
		members := make([]layout.Member, len(c.names))
		for i, name := range c.names {
			members[i] = layout.Member{Name: name, Node: uint64(c.nodes[name].id), Weight: 1}
		}
		members[0].Former = []uint64{1}
		l, err := layout.New(testPartitions, 3, members)
		require.NoError(t, err)
		for _, name := range c.names {
			c.nodes[name].replica.SetLayout(l)
		}
		c.wait("sealed", func() bool { return c.nodes["n3"].replica.Sealed() > 0 && c.nodes["n2"].replica.Sealed() > 0 })
		require.ErrorIs(t, c.nodes["n3"].replica.LiveFrame("n1", late), partition.ErrSealed)
		require.EqualValues(t, 1, c.nodes["n3"].replica.Stats().LateRefused.Load())
		time.Sleep(30 * time.Second)
		for _, name := range c.names {
			require.Equal(t, "v", c.nodes[name].holds(key))
		}
		c.equal(c.names...)
	})
}

func TestUnanimousTakesAllOwnersAlike(t *testing.T) {
	t.Parallel()
	owners := []string{"a", "b"}
	fenced := func(sum uint64) wire.SealState {
		return wire.SealState{Promise: wire.SealFenced, Whole: true, Sum: sum}
	}
	for name, x := range map[string]struct {
		a, b, other wire.SealState
		ok          bool
	}{
		"alike":                      {fenced(7), fenced(7), wire.SealState{Promise: wire.SealNoCopy}, true},
		"nothing seen elsewhere":     {fenced(7), fenced(7), wire.SealState{Promise: wire.SealNothing}, true},
		"one closed before":          {fenced(7), wire.SealState{Promise: wire.SealClosed, Whole: true}, wire.SealState{Promise: wire.SealNoCopy}, true},
		"unlike":                     {fenced(7), fenced(8), wire.SealState{Promise: wire.SealNoCopy}, false},
		"an owner that has nothing":  {fenced(7), wire.SealState{Promise: wire.SealNothing, Whole: true}, wire.SealState{Promise: wire.SealNoCopy}, false},
		"an owner that is not whole": {fenced(7), wire.SealState{Promise: wire.SealFenced, Sum: 7}, wire.SealState{Promise: wire.SealNoCopy}, false},
		"refused":                    {fenced(7), wire.SealState{}, wire.SealState{Promise: wire.SealNoCopy}, false},
		"refused elsewhere":          {fenced(7), fenced(7), wire.SealState{}, false},
		"held elsewhere":             {fenced(7), fenced(7), fenced(7), false},
	} {
		sum, ok := core.Unanimous(owners, map[string]wire.SealState{"a": x.a, "b": x.b, "c": x.other})
		require.Equal(t, x.ok, ok, name)
		if ok {
			require.EqualValues(t, 7, sum, name)
		}
	}
	_, ok := core.Unanimous(owners, map[string]wire.SealState{"a": fenced(7)})
	require.False(t, ok, "one did not answer")
}
