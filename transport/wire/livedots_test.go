package wire_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/transport/wire"
)

// someLive is a set in which each of n dots is live with a chance.
func someLive(n int, density float64) (set kv.Clock, live int) {
	rng := rand.New(rand.NewPCG(1, 2))
	s := kv.Span{Actor: someActor(0)}
	for seq := uint64(1); seq <= uint64(n); seq++ {
		if rng.Float64() < density {
			s.Runs = append(s.Runs, kv.Run{From: seq, To: seq})
			live++
		}
	}
	return kv.ClockOf(s), live
}

// The step costs at most 2.5 bits a live dot where half of what was written is
// still live, and less where more is.
func TestLiveDotsTakeLittle(t *testing.T) {
	t.Parallel()
	for _, density := range []float64{0.5, 0.75, 0.9, 0.99} {
		set, live := someLive(40_000, density)
		var out bytes.Buffer
		w, err := wire.NewLaneWriter(&out, wire.LaneDefault)
		require.NoError(t, err)
		require.NoError(t, w.LiveDots(wire.LiveDots{Clock: kv.ClockOf(kv.Span{Actor: someActor(0), Base: 40_000}), Dots: set}))
		require.NoError(t, w.Close())
		require.LessOrEqual(t, float64(8*out.Len())/float64(live), 2.5, "at density %.2f", density)
	}
}

func TestLiveDotsComeInPieces(t *testing.T) {
	t.Parallel()
	c := newCodec(t)
	set, _ := someLive(400_000, 0.5)
	clock := kv.ClockOf(kv.Span{Actor: someActor(0), Base: 400_000})
	lane := writeLane(t, c, wire.LaneDefault, []wire.LaneRecord{{Type: wire.TypeLiveDots, Live: wire.LiveDots{Clock: clock, Dots: set}}}, func() bool { return false })
	got, err := readLane(c.LaneReader(bytes.NewReader(lane)))
	require.Equal(t, io.EOF, err)
	require.Greater(t, len(got), 1, "one record would be too large to hold in memory by its word alone")
	var all kv.Clock
	for i, r := range got {
		require.Equal(t, i < len(got)-1, r.Live.More)
		require.True(t, r.Live.Clock.Equal(clock))
		all.Join(r.Live.Dots)
	}
	require.True(t, all.Equal(set))
}
