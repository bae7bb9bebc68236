package wire_test

import (
	"reflect"
	"slices"
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

func TestEveryTruncatedPrefixIsRefused(t *testing.T) {
	for _, f := range testFrames(newCodec(t), testRef()) {
		t.Run(f.name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				frame, _ := f.draw(t)
				for n := range frame {
					_, err := f.parse(frame[:n:n])
					require.ErrorIs(t, err, wire.ErrMalformed, "%d of %d bytes", n, len(frame))
				}
			})
		})
	}
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
