package wire_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/transport/wire"
)

// quietReturn is every frame of a return that nothing disturbs, after d changes in
// a cluster of three nodes and 256 partitions: both peers are told the clocks, since
// the last checkpoint, and answer; one of them streams; both are told the end.
func quietReturn(t *testing.T, c *wire.Codec, d int) (hello, ack, lane, done, needed int) {
	t.Helper()
	entries := spread(d, 256)
	needed, err := wire.NeededBytes(entries) // puts them in order
	require.NoError(t, err)
	first, last := map[kv.Partition]kv.Dot{}, map[kv.Partition]kv.Dot{}
	for _, e := range entries {
		dot := e.Object.Versions[0].Dot
		if _, ok := first[e.Partition]; !ok {
			first[e.Partition] = dot
		}
		last[e.Partition] = dot
	}
	r := rand.New(rand.NewPCG(5, 6))
	checkpoint := testTable(r, 256, 400, 20)
	h := wire.Hello{Session: 1<<60 + 7, View: 1 << 50}
	a := wire.HelloAck{View: 1 << 50}
	for i := range checkpoint {
		checkpoint[i].Actor, checkpoint[i].State, checkpoint[i].Trust = kv.Actor{}, 0, 0
		p := checkpoint[i].Partition
		if dot, ok := first[p]; ok {
			checkpoint[i].Clock.AddRun(dot.Actor, kv.Run{From: 1, To: dot.Seq - 1})
		}
		mine := checkpoint[i]
		mine.Actor, mine.State, mine.Trust = kv.Actor{Node: testActor(2).Node, Boot: 1_760_009_000, Rand: 0x5a17c3d9}, kv.CatchingUp, kv.Whole
		h.Copies, h.Wants = append(h.Copies, mine), append(h.Wants, p)
		theirs := mine
		theirs.Actor, theirs.State, theirs.Clock = testActor(0), kv.Live, mine.Clock.Clone()
		if dot, ok := last[p]; ok {
			theirs.Clock.AddRun(dot.Actor, kv.Run{From: 1, To: dot.Seq})
			a.Copies = append(a.Copies, theirs)
		} else {
			theirs.Clock = kv.Clock{}
			a.Equal = append(a.Equal, theirs)
		}
	}
	end := wire.Done{Session: h.Session, Digests: []wire.Digest{{Partition: kv.System - 1, Count: 256, Sum: [16]byte{9, 8, 7}}}}
	for _, x := range a.Copies {
		x.Actor, x.State = h.Copies[0].Actor, kv.CatchingUp
		end.Copies = append(end.Copies, x)
	}
	level := wire.LaneDefault
	if d <= 1024 {
		level = wire.LaneBest
	}
	for i := range 2 {
		ask, told := h, wire.Done{Session: h.Session + 1, Digests: end.Digests}
		if i == 0 {
			told = end
			lane = len(sessionLane(t, c, level, entries))
		} else {
			ask.Wants = nil // the first streams everything
		}
		hello += len(ask.Append(nil, c, checkpoint))
		ack += len(a.Append(nil, c, h.Copies))
		done += len(told.Append(nil, c, a.Copies)) + len(wire.DoneAck{}.Append(nil))
	}
	return hello, ack, lane, done, needed
}

// The goals of a rejoin in bytes, in a session that nothing disturbs: 1.10 times the
// least from 1,000 changes on, 1.15 at 100, 1.5 and 128 bytes a peer below; and what
// is not the lane takes 64 bytes a frame and 10 a dirty partition.
func TestASessionKeepsToItsBytes(t *testing.T) {
	c := newCodec(t)
	for _, x := range []struct {
		d     int
		times float64
		more  int
	}{{1, 1.5, 256}, {10, 1.5, 256}, {100, 1.15, 0}, {1000, 1.10, 0}, {10_000, 1.10, 0}} {
		hello, ack, lane, done, needed := quietReturn(t, c, x.d)
		sum := hello + ack + lane + done
		t.Logf("d=%d: hello %d, answers %d, lane %d, done %d: %d bytes, %.3f of the least, %d", x.d, hello, ack, lane, done, sum, float64(sum)/float64(needed), needed)
		require.LessOrEqual(t, float64(sum), x.times*float64(needed)+float64(x.more), "d=%d", x.d)
		require.LessOrEqual(t, hello+ack+done, 2*(3*64+10*min(x.d, 256)), "d=%d", x.d)
	}
}
