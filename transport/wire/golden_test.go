package wire_test

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/transport/wire"
)

// These bytes are the protocol. A change here is a change of wire.Version.
func TestGoldenFrames(t *testing.T) {
	a, b := kv.Actor{Node: 0xa1, Boot: 2, Rand: 3}, kv.Actor{Node: 0xb1, Boot: 5, Rand: 6}
	object := kv.Object{
		Versions: []kv.Version{
			{Dot: kv.Dot{Actor: a, Seq: 7}, HLC: kv.HLCAt(1000) + 1, ExpiresMS: 1600, Value: []byte("v")},
			{Dot: kv.Dot{Actor: b, Seq: 300}, HLC: kv.HLCAt(1001), Flags: kv.Tombstone | kv.Reap},
		},
		Ctx: kv.VV{{Actor: a, Seq: 7}, {Actor: b, Seq: 300}},
	}
	clock := kv.ClockOf(kv.Span{Actor: a, Base: 400, Runs: []kv.Run{{From: 403, To: 405}}}, kv.Span{Actor: b, Base: 390})
	copies := []wire.CopyClock{
		{Partition: 0, Actor: a, State: kv.Live, Trust: kv.Whole, Clock: clock},
		{Partition: 1, Actor: a, State: kv.CatchingUp, Trust: kv.Suspect, Lost: true, Clock: kv.ClockOf(kv.Span{Actor: b, Base: 395})},
		{Partition: kv.System, Actor: a, Clock: kv.Clock{}},
	}
	c := newCodec(t)
	for name, x := range map[string]struct {
		frame []byte
		want  string
	}{
		"ping":  {wire.Ping{Stamp: 1, StateVersion: 2, WallMS: 3, HLC: 4}.Append(nil), goldenPing},
		"state": {wire.State{Version: 1, View: 2, System: wire.ServingLive, Parts: []wire.Serving{0, 1, 2, 3, 1}}.Append(nil), goldenState},
		"apply": {wire.Apply{View: 9, Writes: []wire.Write{{Seq: 5, Partition: 2, Copy: wire.Copy{Key: []byte("k"), Object: object}}}}.Append(nil), goldenApply},
		"ack":   {wire.Ack{Seq: 5, Copies: copies}.Append(nil), goldenAck},
		"hello": {wire.Hello{Session: 1, View: 2, Copies: copies, Wants: []kv.Partition{0, 1}}.Append(nil, c, nil), goldenHello},
		"hello ack": {wire.HelloAck{View: 2, Copies: copies[:2], Equal: []wire.CopyClock{{Partition: 3, Actor: a}}}.
			Append(nil, c, copies), goldenHelloAck},
		"lane": {goldenLaneFrame(t, object, clock), goldenLane},
	} {
		require.Equal(t, x.want, hex.EncodeToString(x.frame), name)
	}
}

func goldenLaneFrame(t *testing.T, o kv.Object, clock kv.Clock) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := wire.NewLaneWriter(&out, wire.LanePlain)
	require.NoError(t, err)
	require.NoError(t, w.Head(1))
	require.NoError(t, w.Begin(wire.Begin{Partition: 4, Mode: wire.ModeInterval}))
	single := kv.Object{Versions: []kv.Version{{Dot: kv.Dot{Actor: o.Versions[0].Dot.Actor, Seq: 401}, HLC: kv.HLCAt(1002), Value: []byte("w")}}}
	next := kv.Object{Versions: []kv.Version{{Dot: kv.Dot{Actor: o.Versions[0].Dot.Actor, Seq: 402}, HLC: kv.HLCAt(1005), Value: []byte("x")}}}
	require.NoError(t, w.Batch(wire.Batch{Base: clock.Base(), Floor: o.Ctx, Copies: []wire.Copy{
		{Key: []byte("k"), Object: single},
		{Key: []byte("l"), Object: next},
		{Key: []byte("m"), Object: o},
		{Key: []byte("n"), Object: kv.Object{Ctx: o.Ctx}},
	}}))
	require.NoError(t, w.Keep(wire.Keep{Dots: clock}))
	require.NoError(t, w.LiveDots(wire.LiveDots{Clock: clock, Dots: clock}))
	require.NoError(t, w.End(wire.End{Clock: clock, Floor: o.Ctx}))
	require.NoError(t, w.Close())
	return out.Bytes()
}

// In the order of the fields; a dictionary of actors comes first.
const (
	goldenPing  = "030100000000000000020000000000000003000000000000000400000000000000"
	goldenState = "05010000000000000002000000000000000105e401"
	goldenApply = "060200000000000000a1000000020000000300000000000000b100000005000000060900000000000000010502016b02" +
		"0400070100e80300000000b00901760301ac020000e9030000000002000701ac0200"
	goldenAck = "070200000000000000a1000000020000000300000000000000b1000000050000000605030000faffffff1f1229000000" +
		"000200020190030001000101020102038b0309000000"
	goldenHello = "1000000200000000000000a1000000020000000300000000000000b10000000500000006010000000000000002000000" +
		"00000000000000000000000000000000000000000000000000000000030000faffffff1f122900000000020002019003" +
		"0001000101020102038b0309000002000000"
	goldenHelloAck = "11000122822bb800000200000000000000000200001229000002000100010001010201000000000106000000"
	goldenLane     = "0020080100000000000000210208012264040000000000000000a10000000200000003a0060100000000000000b10000" +
		"0005000000068c0604000e01d804400002d40f016b0177000206016c01783c95060901016db009017602000701ac0201" +
		"0301ac020000e9030000000090016e02000701ac02230b0200900301010201860300281a000001009003010102020001" +
		"0002008e030102010100010084032509000100900301010200270026081af982dbbd540702"
)
