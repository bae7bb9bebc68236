package wire_test

import (
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/transport/wire"
)

// testTable is what a node holds of n partitions with three actors, each base
// near mean.
func testTable(r *rand.Rand, n int, mean, noise uint64) []wire.CopyClock {
	out := make([]wire.CopyClock, n)
	for p := range out {
		out[p] = wire.CopyClock{Partition: kv.Partition(p), Actor: testActor(0), State: kv.CatchingUp, Trust: kv.Whole}
		for a := range 3 {
			out[p].Clock.AddRun(testActor(a), kv.Run{From: 1, To: mean + r.Uint64N(2*noise) - noise})
		}
	}
	return out
}

// grown is the table of a peer that saw more writes: most of them by the copy
// that leads the partition.
func grown(r *rand.Rand, from []wire.CopyClock, most uint64) []wire.CopyClock {
	out := make([]wire.CopyClock, len(from))
	for i, c := range from {
		c.Clock = c.Clock.Clone()
		a := testActor(i % 3)
		base := c.Clock.BaseOf(a)
		c.Clock.AddRun(a, kv.Run{From: base + 1, To: base + 1 + r.Uint64N(most)})
		c.Actor, c.State = testActor(1), kv.Live
		out[i] = c
	}
	return out
}

func TestHelloOf256PartitionsIsSmall(t *testing.T) {
	c, r := newCodec(t), rand.New(rand.NewPCG(5, 6))
	h := wire.Hello{Session: 1, Copies: testTable(r, 256, 400, 20)}
	for p := range 256 {
		h.Wants = append(h.Wants, kv.Partition(p))
	}
	hello := h.Append(nil, c, nil)
	ack := wire.HelloAck{Copies: grown(r, h.Copies, 8)}
	lean, whole := ack.Append(nil, c, h.Copies), ack.Append(nil, c, nil)
	done := wire.Done{Session: 1, Copies: ack.Copies}.Append(nil, c, ack.Copies)
	t.Logf("hello %d bytes, its answer %d (without a reference %d), done without digests %d", len(hello), len(lean), len(whole), len(done))
	require.Less(t, len(hello), 1600)
	require.Less(t, len(lean), 600)
	require.Less(t, len(done), 128)
}

// Where every copy has an actor of its own, as after restarts one by one.
func TestHelloWithAnActorACopyStaysLinear(t *testing.T) {
	c, r := newCodec(t), rand.New(rand.NewPCG(5, 6))
	h := wire.Hello{Session: 1, Copies: testTable(r, 256, 400, 20)}
	for i := range h.Copies {
		var clock kv.Clock
		for a := range 3 {
			actor := testActor(a)
			actor.Rand = r.Uint32()
			clock.AddRun(actor, kv.Run{From: 1, To: 380 + r.Uint64N(40)})
		}
		h.Copies[i].Clock = clock
		h.Copies[i].Actor = clock.Spans()[0].Actor
	}
	frame := h.Append(nil, c, nil)
	t.Logf("hello of 256 partitions with 768 actors: %d bytes", len(frame))
	require.Less(t, len(frame), 12*768)
	got, err := wire.ParseHello(frame, c, nil)
	require.NoError(t, err)
	require.Equal(t, h, got)
}

func TestAnAnswerThatLeansOnAnotherTableIsRefused(t *testing.T) {
	c, r := newCodec(t), rand.New(rand.NewPCG(5, 6))
	asked := testTable(r, 20, 400, 20)
	other := testTable(r, 20, 400, 20)
	frame := wire.HelloAck{Copies: grown(r, asked, 3)}.Append(nil, c, asked)
	for _, ref := range [][]wire.CopyClock{other, nil, asked[:19]} {
		_, err := wire.ParseHelloAck(frame, c, ref)
		require.ErrorIs(t, err, wire.ErrNeedClocks)
	}
	_, err := wire.ParseHelloAck(frame, c, asked)
	require.NoError(t, err)

	// A frame that leans on nothing is read whatever the reader holds.
	whole := wire.HelloAck{Copies: asked}.Append(nil, c, nil)
	got, err := wire.ParseHelloAck(whole, c, other)
	require.NoError(t, err)
	require.Equal(t, asked, got.Copies)
}

func TestATableOfTheLargestClusterRoundTrips(t *testing.T) {
	c, r := newCodec(t), rand.New(rand.NewPCG(7, 8))
	h := wire.Hello{Copies: testTable(r, kv.MaxPartitions, 1000, 900)}
	h.Copies = append(h.Copies, wire.CopyClock{Partition: kv.System, Actor: testActor(0)})
	frame := h.Append(nil, c, nil)
	t.Logf("hello of %d copies: %d bytes", len(h.Copies), len(frame))
	got, err := wire.ParseHello(frame, c, nil)
	require.NoError(t, err)
	require.Equal(t, h, got)

	h.Copies = append(h.Copies, wire.CopyClock{Partition: 9, Actor: testActor(0)})
	_, err = wire.ParseHello(h.Append(nil, c, nil), c, nil)
	require.ErrorIs(t, err, wire.ErrMalformed)
}

func TestAnAnswerIsTheSameWithAndWithoutAReference(t *testing.T) {
	c := newCodec(t)
	rapid.Check(t, func(t *rapid.T) {
		asked := drawCopies(t)
		ack := wire.HelloAck{Copies: drawNear(t, asked)}
		lean, err := wire.ParseHelloAck(ack.Append(nil, c, asked), c, asked)
		require.NoError(t, err)
		whole, err := wire.ParseHelloAck(ack.Append(nil, c, nil), c, nil)
		require.NoError(t, err)
		require.Equal(t, ack, lean)
		require.Equal(t, ack, whole)
	})
}

// A packed table may not unpack past its limit, nor say that it will.
func TestATableBombTakesBoundedMemory(t *testing.T) {
	c := newCodec(t)
	pack := func(plain int, opts ...zstd.EOption) []byte {
		z, err := zstd.NewWriter(nil, append(opts, zstd.WithEncoderConcurrency(1))...)
		require.NoError(t, err)
		return z.EncodeAll(make([]byte, plain), []byte{byte(wire.TypeHello), 1})
	}
	atLimit := pack(wire.MaxTableBytes)
	_, err := wire.ParseHello(atLimit, c, nil)
	require.NoError(t, err, "zeros are an empty hello")
	bombs := map[string][]byte{
		"one over":      pack(wire.MaxTableBytes + 1),
		"far over":      pack(64 << 20),
		"end to end":    append(pack(wire.MaxTableBytes), pack(wire.MaxTableBytes)[2:]...),
		"no size given": streamed(t, 64<<20),
	}
	for name, bomb := range bombs {
		took := allocated(func() { _, err = wire.ParseHello(bomb, c, nil) })
		require.ErrorIs(t, err, wire.ErrMalformed, name)
		require.Less(t, took, uint64(3*wire.MaxTableBytes), name)
	}
}

// allocated is how many bytes f took from the heap, given back or not.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func streamed(t *testing.T, plain int) []byte {
	t.Helper()
	out := &sink{b: []byte{byte(wire.TypeHello), 1}}
	z, err := zstd.NewWriter(out, zstd.WithEncoderConcurrency(1))
	require.NoError(t, err)
	_, err = z.Write(make([]byte, plain))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	return out.b
}

type sink struct{ b []byte }

func (s *sink) Write(p []byte) (int, error) { s.b = append(s.b, p...); return len(p), nil }

func BenchmarkHello(b *testing.B) {
	c, r := newCodec(b), rand.New(rand.NewPCG(5, 6))
	h := wire.Hello{Copies: testTable(r, 256, 400, 20)}
	frame := h.Append(nil, c, nil)
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			h.Append(nil, c, nil)
		}
	})
	b.Run("parse", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, err := wire.ParseHello(frame, c, nil)
			require.NoError(b, err)
		}
	})
}
