package replica_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/transport/wire"
)

// recorded are the frames of one run: what real nodes say.
type recorded struct {
	mu    sync.Mutex
	calls map[wire.Type][]byte
	live  map[wire.Type][]byte
}

// record runs a cluster through all it knows and keeps one frame of each type.
func record(c *cluster) *recorded {
	r := &recorded{calls: map[wire.Type][]byte{}, live: map[wire.Type][]byte{}}
	c.wires.with(func(w *wires) {
		w.seen = func(kind string, frame []byte) {
			r.mu.Lock()
			defer r.mu.Unlock()
			typ, err := wire.TypeOf(frame)
			require.NoError(c.t, err)
			into := r.live
			if kind == "call" {
				into = r.calls
			}
			if len(frame) > len(into[typ]) {
				into[typ] = slices.Clone(frame)
			}
		}
	})
	for _, key := range []string{"a", "b", "c"} {
		for _, at := range c.names {
			c.set(at, key, at)
			c.get(at, key)
		}
	}
	_, err := c.do("n2", kv.Request{Op: kv.OpGet, Key: []byte("a"), R: 3})
	require.NoError(c.t, err)
	_, _, err = c.nodes["n4"].replica.Scan(context.Background(), "", 100, nil)
	require.NoError(c.t, err)
	_, err = c.nodes["n4"].replica.Count(context.Background())
	require.NoError(c.t, err)
	c.nodes["n3"].kill()
	c.set("n1", "a", "while it was away")
	c.nodes["n3"].start()
	for _, name := range []string{"n1", "n2", "n4"} {
		c.wires.connect(name, "n3")
	}
	c.live(c.names...)
	c.wait("ticked", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.calls[wire.TypeTick] != nil
	})
	c.wires.with(func(w *wires) { w.seen = nil })
	return r
}

// TestMangledFrames feeds every frame cut at every byte, and with bytes changed:
// nothing panics, and nothing is stored that no node wrote.
func TestMangledFrames(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3", "n4")
		c.up()
		r := record(c)
		for _, typ := range []wire.Type{
			wire.TypeForward, wire.TypeRead, wire.TypeClocks, wire.TypeScan, wire.TypeCount, wire.TypeHello, wire.TypeDone, wire.TypeTick,
		} {
			require.NotEmpty(t, r.calls[typ], "no call of type %d was seen", typ)
		}
		for _, typ := range []wire.Type{wire.TypeApply, wire.TypeAck, wire.TypePing, wire.TypePong, wire.TypeState} {
			require.NotEmpty(t, r.live[typ], "no frame of type %d was seen", typ)
		}
		rng := rand.New(rand.NewPCG(1, 2))
		n1 := c.nodes["n1"].replica
		c.wires.with(func(w *wires) { w.onHangup = func(string, string) {} }) // it stays, to be fed more
		feed := func(frame []byte) {
			ctx, cancel := context.WithCancel(context.Background())
			cancel() // a request that parses is not run
			_, _ = n1.Serve(ctx, "n2", slices.Clone(frame))
			n1.ControlFrame("n2", slices.Clone(frame))
			_ = n1.LiveFrame("nobody", slices.Clone(frame))
			n1.Lane(context.Background(), "n2", bytes.NewReader(frame))
		}
		for _, set := range []map[wire.Type][]byte{r.calls, r.live} {
			for typ, frame := range set {
				for i := range frame {
					feed(frame[:i])
					if typ == wire.TypeApply {
						require.Error(t, n1.LiveFrame("n2", slices.Clone(frame[:i])), "%d of %d bytes", i, len(frame))
					}
				}
				if typ == wire.TypeForward || typ == wire.TypeState {
					continue // changed bytes make other requests and states, which are in order
				}
				for range 200 {
					bad := slices.Clone(frame)
					bad[1+rng.IntN(len(bad)-1)] ^= byte(1 + rng.IntN(255))
					feed(bad)
				}
			}
		}
		for range 500 {
			junk := make([]byte, rng.IntN(200))
			for i := range junk {
				junk[i] = byte(rng.UintN(256))
			}
			feed(junk)
		}
		feed(nil)
		value, found := c.get("n1", "a")
		require.True(t, found)
		require.Equal(t, "while it was away", value)
		for _, key := range []string{"b", "c"} {
			value, _ := c.get("n1", key)
			require.Equal(t, "n4", value)
		}
	})
}

func TestWriteToAPartitionThatIsNotItsKeysIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2")
		c.up()
		key := []byte("k")
		home := kv.PartitionOf(kv.Hash(key), testPartitions)
		actor := kv.Actor{Node: 2, Boot: 9, Rand: 9}
		object := kv.Object{
			Versions: []kv.Version{{Dot: kv.Dot{Actor: actor, Seq: 1}, Value: []byte("v")}},
			Ctx:      kv.VV{{Actor: actor, Seq: 1}},
		}
		c.wires.with(func(w *wires) { w.onHangup = func(string, string) {} })
		for _, p := range []kv.Partition{home ^ 1, testPartitions, 4095, kv.System - 1} {
			frame := wire.Apply{Writes: []wire.Write{{Seq: 1, Partition: p, Copy: wire.Copy{Key: key, Object: object}}}}.Append(nil)
			require.Error(t, c.nodes["n1"].replica.LiveFrame("n2", frame), "partition %d", p)
		}
		require.Len(t, c.nodes["n1"].set.Partitions(), testPartitions+1)
		frame := wire.Apply{Writes: []wire.Write{{Seq: 1, Partition: home, Copy: wire.Copy{Key: key, Object: object}}}}.Append(nil)
		require.NoError(t, c.nodes["n1"].replica.LiveFrame("n2", frame))
		c.wait("applied", func() bool { return c.nodes["n1"].holds("k") == "v" })
	})
}
