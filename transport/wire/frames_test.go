package wire_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

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
	require.Equal(t, append([]byte("before"), h.Append(nil, c)...), h.Append([]byte("before"), c))
}
