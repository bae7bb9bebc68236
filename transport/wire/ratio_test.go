package wire_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/transport/wire"
)

// testValue is a JSON-like record of about 200 bytes.
func testValue(r *rand.Rand) []byte {
	return fmt.Appendf(nil, `{"id":%d,"user":"u%07x","email":"%08x@mail.example","score":%.3f,"tags":["%s","%s"],"active":%t,"updated":"2026-03-%02dT%02d:%02d:%02dZ","note":"%016x"}`,
		r.Uint32(), r.Uint32N(1<<28), r.Uint32(), r.Float64()*1000, tags[r.IntN(len(tags))], tags[r.IntN(len(tags))], r.IntN(2) == 0,
		1+r.IntN(28), r.IntN(24), r.IntN(60), r.IntN(60), r.Uint64())
}

var tags = []string{"red", "green", "blue", "north", "south", "fast", "slow", "beta"}

// testCopies are writes of one actor, one version each, in the order of dots.
func testCopies(n int) []wire.Copy {
	r := rand.New(rand.NewPCG(1, 2))
	out := make([]wire.Copy, n)
	ms := int64(1_760_000_000_000)
	for i := range out {
		ms += r.Int64N(40)
		out[i] = wire.Copy{
			Key: fmt.Appendf(nil, "user:%08d", r.Uint32N(1_000_000)),
			Object: kv.Object{Versions: []kv.Version{{
				Dot: kv.Dot{Actor: kv.Actor{Node: 1, Boot: 2, Rand: 3}, Seq: uint64(i + 1)}, HLC: kv.HLCAt(ms), Value: testValue(r),
			}}},
		}
	}
	return out
}

// spread deals the writes of d changed keys to partitions, as hashing would.
func spread(d, partitions int) []wire.Needed {
	r := rand.New(rand.NewPCG(3, 4))
	next := make([]uint64, partitions)
	out := make([]wire.Needed, 0, d)
	for _, c := range testCopies(d) {
		p := r.IntN(partitions)
		if next[p] == 0 {
			next[p] = 3900 + uint64(r.IntN(200)) // what was written before the outage
		}
		next[p]++
		v := &c.Object.Versions[0]
		v.Dot = kv.Dot{Actor: testActor(p % 3), Seq: next[p]}
		out = append(out, wire.Needed{Partition: kv.Partition(p), Copy: c})
	}
	return out
}

func testActor(node int) kv.Actor {
	return kv.Actor{Node: kv.NodeID(0x9e3779b97f4a7c15 * uint64(node+1)), Boot: 1_760_000_000, Rand: 0x85ebca6b * uint32(node+1)}
}

// toldOf is what the donor's HELLO_ACK tells of the partitions of entries.
func toldOf(entries []wire.Needed) []wire.CopyClock {
	var out []wire.CopyClock
	for i, e := range entries {
		if i+1 < len(entries) && entries[i+1].Partition == e.Partition {
			continue
		}
		last := e.Object.Versions[0].Dot
		var clock kv.Clock
		clock.AddRun(last.Actor, kv.Run{From: 1, To: last.Seq})
		out = append(out, wire.CopyClock{Partition: e.Partition, Actor: testActor(4), Clock: clock})
	}
	return out
}

// sessionLane is the lane of a session in which every partition is dirty.
func sessionLane(t require.TestingT, c *wire.Codec, level wire.LaneLevel, entries []wire.Needed) []byte {
	var out bytes.Buffer
	told := toldOf(entries)
	w, err := c.LaneWriter(&out, level)
	require.NoError(t, err)
	require.NoError(t, w.Head(1, told))
	for len(entries) > 0 {
		n := 0
		b := wire.Batch{}
		for n < len(entries) && entries[n].Partition == entries[0].Partition {
			b.Copies = append(b.Copies, entries[n].Copy)
			n++
		}
		last := b.Copies[n-1].Object.Versions[0].Dot
		b.Base = kv.VV{}.With(last)
		var clock kv.Clock
		clock.AddRun(last.Actor, kv.Run{From: 1, To: last.Seq})
		require.NoError(t, w.Begin(wire.Begin{Partition: entries[0].Partition, Mode: wire.ModeInterval}))
		require.NoError(t, w.Batch(b))
		require.NoError(t, w.End(wire.End{Clock: clock}))
		entries = entries[n:]
	}
	require.NoError(t, w.Close())
	return out.Bytes()
}

// The headline figure of a rejoin: what the stream costs over the least possible.
func TestLaneBytesAgainstNeeded(t *testing.T) {
	c := newCodec(t)
	for _, x := range []struct {
		d, partitions int
		most          float64
	}{{10, 256, 2}, {100, 256, 1.40}, {100, 64, 1.40}, {1000, 64, 1.09}, {1000, 256, 1.13}, {10_000, 256, 1.10}} {
		entries := spread(x.d, x.partitions)
		needed, err := wire.NeededBytes(entries)
		require.NoError(t, err)
		lane := len(sessionLane(t, c, wire.LaneDefault, entries))
		best := len(sessionLane(t, c, wire.LaneBest, entries))
		ratio := float64(lane) / float64(needed)
		t.Logf("d=%d in %d partitions: needed %d, default %d (%.3f), best %d (%.3f)", x.d, x.partitions, needed, lane, ratio, best, float64(best)/float64(needed))
		require.Less(t, ratio, x.most)
	}
}

func BenchmarkLaneWrite(b *testing.B) {
	c := newCodec(b)
	entries := spread(10_000, 256)
	_, err := wire.NeededBytes(entries) // puts them in order
	require.NoError(b, err)
	size := 0
	for _, e := range entries {
		size += len(e.Key) + e.Object.Bytes()
	}
	for _, x := range []struct {
		name  string
		level wire.LaneLevel
	}{{"plain", wire.LanePlain}, {"default", wire.LaneDefault}, {"better", wire.LaneBetter}, {"best", wire.LaneBest}} {
		b.Run(x.name, func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			var lane []byte
			for b.Loop() {
				lane = sessionLane(b, c, x.level, entries)
			}
			b.ReportMetric(float64(len(lane)), "lane-bytes")
		})
	}
}

func BenchmarkLaneRead(b *testing.B) {
	c := newCodec(b)
	entries := spread(10_000, 256)
	_, err := wire.NeededBytes(entries)
	require.NoError(b, err)
	lane := sessionLane(b, c, wire.LaneDefault, entries)
	b.SetBytes(int64(len(lane)))
	b.ReportAllocs()
	for b.Loop() {
		_, err := readLeaning(c.LaneReader(bytes.NewReader(lane)), toldOf(entries))
		require.Equal(b, io.EOF, err)
	}
}
