package wire_test

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/transport/wire"
)

func TestEveryFrameRoundTrips(t *testing.T) {
	for _, f := range testFrames(newCodec(t), testRef()) {
		t.Run(f.name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				frame, want := f.draw(t)
				got, err := f.parse(frame)
				require.NoError(t, err)
				require.Equal(t, want, got)
			})
		})
	}
}

// pongTail is what an earlier version does not tell of its load.
const pongTail = 1 + 4 + 1

func TestEveryTruncatedPrefixIsRefused(t *testing.T) {
	for _, f := range testFrames(newCodec(t), testRef()) {
		t.Run(f.name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				frame, _ := f.draw(t)
				for n := range frame {
					if f.name == "pong" && n == len(frame)-pongTail {
						continue
					}
					_, err := f.parse(frame[:n:n])
					require.ErrorIs(t, err, wire.ErrMalformed, "%d of %d bytes", n, len(frame))
				}
			})
		})
	}
}

func TestAPongOfAnEarlierVersionTellsLess(t *testing.T) {
	p := wire.Pong{Stamp: 7, Load: wire.Load{Sessions: 1, Busy: 2, Mem: 3, EgressKiBps: 4, Leaving: true}}
	frame := p.Append(nil)
	got, err := wire.ParsePong(frame[:len(frame)-pongTail])
	require.NoError(t, err)
	require.Equal(t, wire.Pong{Stamp: 7, Load: wire.Load{Sessions: 1, Busy: 2}}, got)
}

// What is read stands behind all else, and only for who asks: an earlier version
// neither sends nor reads it.
func TestAHelloAckTellsWhatIsRead(t *testing.T) {
	c := newCodec(t)
	bare := wire.HelloAck{View: 3}
	h := bare
	h.Heat.Partitions = []wire.PartHeat{{Partition: 9, Reads: 1 << 31}, {Partition: 0, Reads: 7}}
	h.Heat.Prefixes = []wire.PrefixHeat{{Prefix: "cart:", Reads: 40}}
	frame, from := h.Append(nil, c, nil), len(bare.Append(nil, c, nil))
	require.Less(t, len(frame)-from, 20)
	got, err := wire.ParseHelloAck(frame, c, nil)
	require.NoError(t, err)
	require.Equal(t, h, got)
	for n := from; n < len(frame); n++ {
		got, err = wire.ParseHelloAck(frame[:n:n], c, nil)
		if n == from {
			require.NoError(t, err)
			require.Equal(t, bare, got)
			continue
		}
		require.ErrorIs(t, err, wire.ErrMalformed, "%d of %d bytes", n, len(frame))
	}
	for _, asks := range []bool{false, true} {
		hello := wire.Hello{Session: 1, AsksHeat: asks}
		again, err := wire.ParseHello(hello.Append(nil, c, nil), c, nil)
		require.NoError(t, err)
		require.Equal(t, hello, again)
	}
	require.Len(t, wire.Hello{AsksHeat: true}.Append(nil, c, nil), len(wire.Hello{}.Append(nil, c, nil))+1)
}

// A sender leaves out what is over the limits, and a receiver refuses it.
func TestWhatIsReadIsBounded(t *testing.T) {
	c := newCodec(t)
	told := func(parts, prefixes, length int) wire.HelloAck {
		var h wire.HelloAck
		for i := range parts {
			h.Heat.Partitions = append(h.Heat.Partitions, wire.PartHeat{Partition: kv.Partition(i), Reads: 1})
		}
		for range prefixes {
			h.Heat.Prefixes = append(h.Heat.Prefixes, wire.PrefixHeat{Prefix: strings.Repeat("p", length), Reads: 1})
		}
		return h
	}
	for _, over := range []int{0, 1} {
		got, err := wire.ParseHelloAck(told(wire.MaxHeatParts+over, wire.MaxHeatPrefixes+over, wire.MaxHeatPrefixBytes).Append(nil, c, nil), c, nil)
		require.NoError(t, err)
		require.Equal(t, told(wire.MaxHeatParts, wire.MaxHeatPrefixes, wire.MaxHeatPrefixBytes).Heat, got.Heat)
	}
	_, err := wire.ParseHelloAck(told(0, 1, wire.MaxHeatPrefixBytes+1).Append(nil, c, nil), c, nil)
	require.ErrorIs(t, err, wire.ErrMalformed)
	raw := func(tail ...byte) error {
		_, err := wire.ParseHelloAck(append(wire.HelloAck{}.Append(nil, c, nil), tail...), c, nil)
		return err
	}
	more := func(n byte) []byte { return append(append([]byte{n}, bytes.Repeat([]byte{0, 1}, int(n))...), 0) }
	require.NoError(t, raw(more(wire.MaxHeatParts)...))
	require.ErrorIs(t, raw(more(wire.MaxHeatParts+1)...), wire.ErrMalformed)
	more = func(n byte) []byte { return append([]byte{0, n}, bytes.Repeat([]byte{0, 1}, int(n))...) }
	require.NoError(t, raw(more(wire.MaxHeatPrefixes)...))
	require.ErrorIs(t, raw(more(wire.MaxHeatPrefixes+1)...), wire.ErrMalformed)
}

func TestAFrameOfAnotherTypeIsRefused(t *testing.T) {
	for _, f := range testFrames(newCodec(t), testRef()) {
		rapid.Check(t, func(t *rapid.T) {
			frame, _ := f.draw(t)
			frame[0] ^= 0x40
			_, err := f.parse(frame)
			require.ErrorIs(t, err, wire.ErrMalformed, f.name)
		})
	}
}

func TestUnknownFieldsAtTheEndAreSkipped(t *testing.T) {
	for _, f := range plainFrames() {
		rapid.Check(t, func(t *rapid.T) {
			frame, want := f.draw(t)
			got, err := f.parse(append(frame, "a later version's field"...))
			require.NoError(t, err, f.name)
			require.Equal(t, want, got, f.name)
		})
	}
}

func TestTypeOf(t *testing.T) {
	kind, err := wire.TypeOf(wire.Ping{}.Append(nil))
	require.NoError(t, err)
	require.Equal(t, wire.TypePing, kind)
	_, err = wire.TypeOf(nil)
	require.ErrorIs(t, err, wire.ErrMalformed)
}

func TestAppendAppends(t *testing.T) {
	a := wire.Apply{Writes: []wire.Write{{Seq: 3, Copy: wire.Copy{Key: []byte("k")}}}}
	require.Equal(t, append([]byte("before"), a.Append(nil)...), a.Append([]byte("before")))
	h := wire.Hello{Session: 4}
	c := newCodec(t)
	require.Equal(t, append([]byte("before"), h.Append(nil, c, nil)...), h.Append([]byte("before"), c, nil))
}

// In a table near the checkpoint only what changed costs anything.
func TestAHelloLeansOnACheckpoint(t *testing.T) {
	c := newCodec(t)
	var table []wire.CopyClock
	for p := range 256 {
		table = append(table, wire.CopyClock{Partition: kv.Partition(p), Clock: kv.ClockOf(kv.Span{Actor: someActor(p % 7), Base: uint64(1000 + p*p)})})
	}
	now := slices.Clone(table)
	now[7].Clock = kv.ClockOf(kv.Span{Actor: someActor(0), Base: 1234})
	for i := range now {
		now[i].Actor = someActor(9)
	}
	h := wire.Hello{Session: 1, Copies: now}
	leaning, whole := h.Append(nil, c, table), h.Append(nil, c, nil)
	require.Less(t, len(leaning), 110)
	require.Greater(t, len(whole), 400)
	got, err := wire.ParseHello(leaning, c, checkpointOf(table))
	require.NoError(t, err)
	require.Equal(t, h, got)
	_, err = wire.ParseHello(leaning, c, checkpointOf(now))
	require.ErrorIs(t, err, wire.ErrNeedClocks)
}

// An answer to a table costs little where it is equal, or has no such copy.
func TestAnAnswerCostsWhatDiffers(t *testing.T) {
	c := newCodec(t)
	var asked []wire.CopyClock
	for p := range 256 {
		asked = append(asked, wire.CopyClock{Partition: kv.Partition(p), Clock: kv.ClockOf(
			kv.Span{Actor: someActor(0), Base: uint64(1000 + 17*p)}, kv.Span{Actor: someActor(1), Base: uint64(5000 - 13*p)})})
	}
	h := wire.HelloAck{}
	for i, a := range asked {
		a.Actor = someActor(2)
		switch {
		case i%3 == 0:
			a.Clock = a.Clock.Clone()
			a.Clock.AddRun(someActor(i%2), kv.Run{From: 1, To: a.Clock.BaseOf(someActor(i%2)) + 1 + uint64(i%4)})
			h.Copies = append(h.Copies, a)
		case i%50 != 1:
			a.Clock = kv.Clock{}
			h.Equal = append(h.Equal, a)
		}
	}
	frame := h.Append(nil, c, asked)
	require.Less(t, len(frame), 180)
	got, err := wire.ParseHelloAck(frame, c, asked)
	require.NoError(t, err)
	require.Equal(t, h, got)
	done := wire.Done{Session: 1, Copies: h.Copies}
	require.Less(t, len(done.Append(nil, c, h.Copies)), 70)
	nothing := wire.Done{Session: 1}
	require.Less(t, len(nothing.Append(nil, c, h.Copies)), 30)
}

// A DONE of no session leans on a checkpoint, and says so by its whole id.
func TestADoneOfNoSessionLeansOnACheckpoint(t *testing.T) {
	c, ref := newCodec(t), testRef()
	frame := wire.Done{Copies: ref}.Append(nil, c, ref)
	got, err := wire.ParseDone(frame, c, nil, checkpointOf(ref))
	require.NoError(t, err)
	require.Equal(t, ref, got.Copies)
	_, err = wire.ParseDone(frame, c, ref, checkpointOf(ref[1:]))
	require.ErrorIs(t, err, wire.ErrNeedClocks)
	_, err = wire.ParseDone(frame, c, ref, nil)
	require.ErrorIs(t, err, wire.ErrNeedClocks)
}

// The receiver learns first which answer a DONE leans on.
func TestTheSessionOfADoneNeedsNoReference(t *testing.T) {
	c, ref := newCodec(t), testRef()
	frame := wire.Done{Session: 0xfeed, Copies: ref}.Append([]byte("x"), c, ref)[1:]
	session, err := wire.DoneSession(frame)
	require.NoError(t, err)
	require.Equal(t, uint64(0xfeed), session)
	_, err = wire.DoneSession(frame[:8])
	require.ErrorIs(t, err, wire.ErrMalformed)
	_, err = wire.DoneSession(wire.Tick{}.Append(nil))
	require.ErrorIs(t, err, wire.ErrMalformed)
}

// A field added to a request or a response must travel.
func TestEveryFieldOfARequestAndAResponseTravels(t *testing.T) {
	var q kv.Request
	fill(t, reflect.ValueOf(&q).Elem())
	f, err := wire.ParseForward(wire.Forward{Request: q}.Append(nil))
	require.NoError(t, err)
	require.Equal(t, q, f.Request)

	var p kv.Response
	fill(t, reflect.ValueOf(&p).Elem())
	r, err := wire.ParseResult(wire.Result{Response: p}.Append(nil))
	require.NoError(t, err)
	require.Equal(t, p, r.Response)
}

// fill sets everything in v to something that is not its zero value.
func fill(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(t, v.Index(0))
		fill(t, v.Index(1))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.String:
		v.SetString("x")
	case reflect.Int, reflect.Int64:
		v.SetInt(3)
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		v.SetUint(2)
	default:
		t.Fatalf("a field of kind %s", v.Kind())
	}
}
