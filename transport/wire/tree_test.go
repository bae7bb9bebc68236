package wire_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/merkle"
	"edged.dev/edged/transport/wire"
)

func drawRanges(t *rapid.T) []merkle.Range {
	ends := rapid.SliceOfNDistinct(rapid.Uint64(), 0, 12, rapid.ID).Draw(t, "range ends")
	slices.Sort(ends)
	var out []merkle.Range
	for i := 0; i+1 < len(ends); i += 2 {
		out = append(out, merkle.Range{From: ends[i], To: ends[i+1]})
	}
	return out
}

func drawShorts(t *rapid.T) []uint64 {
	return orNone(rapid.SliceOfN(rapid.Uint64Range(0, 1<<48-1), 0, 20).Draw(t, "items"))
}

func orNone[T any](s []T) []T {
	if len(s) == 0 {
		return nil
	}
	return s
}

func drawTree(t *rapid.T) wire.Tree {
	nodes := rapid.SliceOfN(rapid.Uint32Range(0, 1<<merkle.MaxBits), 0, 20).Draw(t, "nodes")
	slices.Sort(nodes)
	return wire.Tree{
		Partition: drawPartition(t), Clock: rapid.Uint64().Draw(t, "clock"),
		Ask: merkle.Question{
			Salt: rapid.Uint64().Draw(t, "salt"), Level: rapid.IntRange(0, 18).Draw(t, "level"),
			Step: rapid.IntRange(0, 4).Draw(t, "step"), Nodes: orNone(nodes),
		},
		Ranges: drawRanges(t),
	}
}

func drawTreeAck(t *rapid.T) wire.TreeAck {
	return wire.TreeAck{
		Code: wire.TreeCode(rapid.IntRange(0, 2).Draw(t, "code")), Fit: rapid.Bool().Draw(t, "fit"),
		Bits: rapid.IntRange(0, merkle.MaxBits).Draw(t, "bits"), Count: rapid.Uint64().Draw(t, "count"), Sum: drawRoot(t),
		Nodes: orNone(rapid.SliceOfN(rapid.Uint32(), 0, 20).Draw(t, "nodes")),
		Items: drawShorts(t), Upto: rapid.Uint64().Draw(t, "upto"),
	}
}

func drawHeld(t *rapid.T) wire.Held {
	h := wire.Held{
		Partition: drawPartition(t), Clock: rapid.Uint64().Draw(t, "clock"), Salt: rapid.Uint64().Draw(t, "salt"),
		Ranges: drawRanges(t), Items: drawShorts(t),
	}
	for range rapid.IntRange(0, 5).Draw(t, "keys") {
		h.Keys = append(h.Keys, drawKey(t))
	}
	return h
}

func drawHeldAck(t *rapid.T) wire.HeldAck {
	h := wire.HeldAck{Code: wire.TreeCode(rapid.IntRange(0, 2).Draw(t, "code")), Fit: rapid.Bool().Draw(t, "fit")}
	if h.Told = rapid.Bool().Draw(t, "told"); h.Told {
		h.Clock = drawClock(t)
	}
	for range rapid.IntRange(0, 5).Draw(t, "objects") {
		o := wire.HeldObject{Key: drawKey(t), Beyond: h.Told && rapid.Bool().Draw(t, "beyond")}
		for range rapid.IntRange(0, 3).Draw(t, "versions") {
			o.Versions = append(o.Versions, wire.HeldVersion{
				Dot: kv.Dot{Actor: drawActor(t), Seq: rapid.Uint64Range(1, 1<<40).Draw(t, "seq")},
				HLC: kv.HLC(rapid.Uint64().Draw(t, "hlc")), ExpiresMS: rapid.Int64().Draw(t, "exp"),
				Hash: rapid.Uint64().Draw(t, "hash"), Verified: rapid.Bool().Draw(t, "verified"),
			})
		}
		h.Objects = append(h.Objects, o)
	}
	return h
}

func TestTreeFramesHoldAtTheLimitAndRefuseOneOver(t *testing.T) {
	for name, x := range map[string]struct {
		limit int
		try   func(n int) error
	}{
		"nodes": {merkle.MaxAsk, func(n int) error {
			_, err := wire.ParseTree(wire.Tree{Ask: merkle.Question{Nodes: make([]uint32, n)}}.Append(nil))
			return err
		}},
		"node": {1 << merkle.MaxBits, func(n int) error {
			_, err := wire.ParseTree(wire.Tree{Ask: merkle.Question{Nodes: []uint32{uint32(n)}}}.Append(nil))
			return err
		}},
		"ranges": {wire.MaxTreeRanges, func(n int) error {
			rs := make([]merkle.Range, n)
			for i := range rs {
				rs[i] = merkle.Range{From: uint64(2 * i), To: uint64(2 * i)}
			}
			_, err := wire.ParseTree(wire.Tree{Ranges: rs}.Append(nil))
			return err
		}},
		"bits": {merkle.MaxBits, func(n int) error {
			_, err := wire.ParseTreeAck(wire.TreeAck{Bits: n}.Append(nil))
			return err
		}},
		"digests": {wire.MaxTreeNodes, func(n int) error {
			_, err := wire.ParseTreeAck(wire.TreeAck{Nodes: make([]uint32, n)}.Append(nil))
			return err
		}},
		"items": {wire.MaxTreeItems, func(n int) error {
			_, err := wire.ParseTreeAck(wire.TreeAck{Items: make([]uint64, n)}.Append(nil))
			return err
		}},
		"asked items": {wire.MaxTreeItems, func(n int) error {
			_, err := wire.ParseHeld(wire.Held{Items: make([]uint64, n)}.Append(nil))
			return err
		}},
		"asked keys": {wire.MaxHeldKeys, func(n int) error {
			h := wire.Held{}
			for range n {
				h.Keys = append(h.Keys, []byte("k"))
			}
			_, err := wire.ParseHeld(h.Append(nil))
			return err
		}},
		"objects": {wire.MaxHeldKeys, func(n int) error {
			h := wire.HeldAck{}
			for range n {
				h.Objects = append(h.Objects, wire.HeldObject{Key: []byte("k")})
			}
			_, err := wire.ParseHeldAck(h.Append(nil))
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, x.try(x.limit))
			require.ErrorIs(t, x.try(x.limit+1), wire.ErrMalformed)
		})
	}
}

func TestRangesThatDoNotAscendAreRefused(t *testing.T) {
	for _, rs := range [][]merkle.Range{{{From: 2, To: 1}}, {{From: 1, To: 5}, {From: 5, To: 6}}} {
		_, err := wire.ParseTree(wire.Tree{Ranges: rs}.Append(nil))
		require.ErrorIs(t, err, wire.ErrMalformed)
	}
}
