package kv_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"edged.dev/edged/internal/kv"
)

func drawActor(t *rapid.T) kv.Actor {
	return kv.Actor{
		Node: kv.NodeID(rapid.Uint64().Draw(t, "node")),
		Boot: rapid.Uint32().Draw(t, "boot"),
		Rand: rapid.Uint32().Draw(t, "rand"),
	}
}

func TestActorRoundTripsAsBytesAndText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := drawActor(t)
		b := a.Append([]byte("x"))
		require.Len(t, b, 1+kv.ActorBytes)
		require.Equal(t, a, kv.ActorFrom(b[1:]))
		got, err := kv.ParseActor(a.String())
		require.NoError(t, err)
		require.Equal(t, a, got)
		require.Equal(t, a == kv.Actor{}, a.IsZero())
	})
}

func TestActorBytesSortAsActors(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawActor(t), drawActor(t)
		if rapid.Bool().Draw(t, "same node") {
			b.Node = a.Node
		}
		if rapid.Bool().Draw(t, "same boot") {
			b.Boot = a.Boot
		}
		require.Equal(t, bytes.Compare(a.Append(nil), b.Append(nil)), a.Compare(b))
		require.Equal(t, -a.Compare(b), b.Compare(a))
	})
}

func TestParseActorRefusesWhatIsNone(t *testing.T) {
	for _, s := range []string{"", "1.2", "1.2.3.4", "x.2.3", "1.x.3", "1.2.x", "1.4294967296.3", "10000000000000000.1.1", "1.2.100000000"} {
		_, err := kv.ParseActor(s)
		require.Error(t, err, "%q", s)
	}
}

func TestDotsSortByActorThenSequence(t *testing.T) {
	a, b := kv.Actor{Node: 1}, kv.Actor{Node: 2}
	dots := []kv.Dot{{Actor: b, Seq: 1}, {Actor: a, Seq: 10}, {Actor: a, Seq: 9}}
	slices.SortFunc(dots, kv.Dot.Compare)
	require.Equal(t, []kv.Dot{{Actor: a, Seq: 9}, {Actor: a, Seq: 10}, {Actor: b, Seq: 1}}, dots)
	require.Equal(t, "0000000000000001.0.00000000:9", dots[0].String())
}

func TestHLCMovesForwardAndNeverBehindTheClock(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := kv.HLC(rapid.Uint64Range(0, 1<<63).Draw(t, "hlc"))
		now := rapid.Int64Range(0, 1<<46).Draw(t, "now")
		next := h.Next(now)
		require.Greater(t, next, h)
		require.GreaterOrEqual(t, next.MS(), now)
		require.LessOrEqual(t, next.MS(), max(now, h.MS()+1))
		require.Equal(t, now, kv.HLCAt(now).MS())
	})
	full := kv.HLCAt(5) | 0xffff
	require.Equal(t, kv.HLCAt(6), full.Next(5), "a full counter moves the physical part")
	require.Equal(t, kv.HLCAt(5)+1, kv.HLCAt(5).Next(4), "a clock set back does not")
}

func TestPartitionAndOrderKeepTheOrderOfHashes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		count := uint32(1) << rapid.IntRange(0, 12).Draw(t, "log2")
		h := rapid.SliceOfN(rapid.Uint64(), 2, 30).Draw(t, "hashes")
		slices.Sort(h)
		for i, x := range h {
			p, o := kv.PartitionOf(x, count), kv.OrderOf(x, count)
			require.Less(t, uint32(p), count)
			require.Less(t, o, uint64(1)<<48)
			if i == 0 {
				continue
			}
			before := h[i-1]
			require.LessOrEqual(t, kv.PartitionOf(before, count), p)
			if kv.PartitionOf(before, count) == p {
				require.LessOrEqual(t, kv.OrderOf(before, count), o)
			}
		}
	})
	require.Equal(t, kv.Partition(0xab), kv.PartitionOf(0xab12345678_9abcde, 256))
	require.Equal(t, uint64(0x12345678_9abc), kv.OrderOf(0xab12345678_9abcde, 256))
	require.Equal(t, kv.Partition(0), kv.PartitionOf(1<<63, 1))
}

// The hash places keys on nodes of every version: it must never change.
func TestHashIsXXH3(t *testing.T) {
	require.Equal(t, uint64(0x2d06800538d394c2), kv.Hash(nil))
}

func TestKeysSpreadOverPartitions(t *testing.T) {
	counts := make([]int, 16)
	for i := range 16_000 {
		counts[kv.PartitionOf(kv.Hash([]byte{byte(i), byte(i >> 8), 'k'}), 16)]++
	}
	require.Greater(t, slices.Min(counts), 850)
	require.Less(t, slices.Max(counts), 1150)
}
