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
		"pong":  {wire.Pong{Stamp: 1, StateVersion: 2, WallMS: 3, HLC: 4, Load: wire.Load{Sessions: 1, Busy: 50, Mem: 7, EgressKiBps: 256, Leaving: true}}.Append(nil), goldenPong},
		"state": {wire.State{Version: 1, View: 2, System: wire.ServingLive, Parts: []wire.Serving{0, 1, 2, 3, 1}}.Append(nil), goldenState},
		"apply": {wire.Apply{View: 9, Writes: []wire.Write{{Seq: 5, Partition: 2, Copy: wire.Copy{Key: []byte("k"), Object: object}}}}.Append(nil), goldenApply},
		"ack":   {wire.Ack{Seq: 5, Copies: copies}.Append(nil), goldenAck},
		"hello": {wire.Hello{Session: 1, View: 2, Copies: copies, Wants: []kv.Partition{0, 1}}.Append(nil, c, nil), goldenHello},
		"hello ack": {wire.HelloAck{View: 2, Copies: copies[:2], Equal: []wire.CopyClock{{Partition: 3, Actor: a}}}.
			Append(nil, c, copies), goldenHelloAck},
		"taken": {wire.Taken{Session: 1, Lane: 2, Chunks: 300}.Append(nil), goldenTaken},
		"lane":  {goldenLaneFrame(t, object, clock), goldenLane},
	} {
		require.Equal(t, x.want, hex.EncodeToString(x.frame), name)
	}
}

func goldenLaneFrame(t *testing.T, o kv.Object, clock kv.Clock) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := wire.NewLaneWriter(&out, wire.LanePlain)
	require.NoError(t, err)
	require.NoError(t, w.Head(1, nil))
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
	goldenPong  = "0401000000000000000200000000000000030000000000000004000000000000000132070001000001"
	goldenTaken = "2c010000000000000002ac02"
	goldenState = "05010000000000000002000000000000000105e401"
	goldenApply = "060200a10000000000000001b100000000000000040603000000060000000900000000000000010502016b0204000701" +
		"00e80300000000b00901760301ac020000e9030000000002000701ac0200"
	goldenAck = "070200a10000000000000001b1000000000000000406030000000600000005030301000a120029000000000202001202" +
		"0090030001010102010a03028b03090000"
	goldenHello = "1000000200a10000000000000001b1000000000000000406030000000600000001000000000000000200000000000000" +
		"0000030301000a1200290000000002020012020090030001010102010a03028b03090001030200"
	goldenHelloAck = "110001c7cfe499000002000000000000000002000201001200290000010001010c0000000000"
	goldenLane     = "006c0101040507040403031920010000000000000000210122040000000000000000a10000000200000003a006010000" +
		"0000000000b100000005000000068c0604000e01d8042302009003010102018603002800000100900301010202000100" +
		"02008e030102010100010084032500010090030101020027080440003c900002029506d40f060901b009010101016b6c" +
		"6d6e01010177787602000701ac02010301ac020000e9030000000002000701ac02ae9fc16ca9bdcb21"
)
