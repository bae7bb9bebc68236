package wire_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"
	"pgregory.net/rapid"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/transport/wire"
)

// FuzzParseFrame feeds bytes to every parser: none may panic, and what one
// accepts it must read the same after it was written again.
func FuzzParseFrame(f *testing.F) {
	c, ref := newCodec(f), testRef()
	frames := testFrames(c, ref)
	for i, x := range frames {
		f.Add(rapid.Custom(func(t *rapid.T) []byte { b, _ := x.draw(t); return b }).Example(i))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		for _, x := range frames {
			v, err := x.parse(bytes.Clone(frame))
			if err != nil {
				require.True(t, errors.Is(err, wire.ErrMalformed) || errors.Is(err, wire.ErrNeedClocks), "%v", err)
				continue
			}
			again, err := x.parse(rewrite(c, ref, v))
			require.NoError(t, err)
			require.Equal(t, v, again)
		}
	})
}

func rewrite(c *wire.Codec, ref []wire.CopyClock, v any) []byte {
	switch v := v.(type) {
	case wire.Hello:
		return v.Append(nil, c, nil)
	case wire.HelloAck:
		return v.Append(nil, c, ref)
	case wire.Done:
		return v.Append(nil, c, ref)
	case wire.TickAck:
		return v.Append(nil, c)
	case interface{ Append([]byte) []byte }:
		return v.Append(nil)
	}
	panic("bug: a frame without Append")
}

// FuzzLaneReader feeds bytes to a lane's reader, as they are and as a chunk with a
// right check, so that the fuzzer gets past that.
func FuzzLaneReader(f *testing.F) {
	c := newCodec(f)
	for i := range 6 {
		lane := rapid.Custom(func(t *rapid.T) []byte {
			return writeLane(t, c, laneLevels[i%2], drawRecords(t), func() bool { return i > 3 })
		}).Example(i)
		f.Add(lane)
		if i%2 == 0 && len(lane) > 9 {
			f.Add(lane[1 : len(lane)-8])
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		checked := binary.LittleEndian.AppendUint64(append([]byte{0}, b...), xxh3.Hash(b))
		for _, lane := range [][]byte{b, checked} {
			_, err := readLane(c.LaneReader(bytes.NewReader(lane)))
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				require.ErrorIs(t, err, wire.ErrMalformed)
			}
		}
	})
}

// FuzzClock reads clocks in both their forms, alone and in a table, and holds
// them to the normal form that everything else relies on.
func FuzzClock(f *testing.F) {
	for i := range 6 {
		clock := rapid.Custom(drawClock).Example(i)
		f.Add(wire.Ack{Copies: []wire.CopyClock{{Clock: clock}}}.Append(nil), lastRecord(f, wire.Keep{Dots: clock}))
	}
	f.Fuzz(func(t *testing.T, ack, keep []byte) {
		if a, err := wire.ParseAck(ack); err == nil {
			for _, c := range a.Copies {
				requireNormal(t, c.Clock)
			}
		}
		recs, _ := readLane(newCodec(t).LaneReader(bytes.NewReader(rawLane(keep))))
		for _, r := range recs {
			requireNormal(t, r.Keep.Dots)
			requireNormal(t, r.End.Clock)
		}
	})
}

// lastRecord is a KEEP as it stands in a chunk.
func lastRecord(t require.TestingT, k wire.Keep) []byte {
	var out bytes.Buffer
	w, err := wire.NewLaneWriter(&out, wire.LanePlain)
	require.NoError(t, err)
	require.NoError(t, w.Keep(k))
	require.NoError(t, w.Flush())
	n, _ := binary.Uvarint(out.Bytes()[1:]) // the first column, and the only one
	return out.Bytes()[out.Len()-8-int(n) : out.Len()-8]
}

func requireNormal(t *testing.T, c kv.Clock) {
	t.Helper()
	var last kv.Actor
	for i, s := range c.Spans() {
		require.True(t, i == 0 || last.Compare(s.Actor) < 0, "actors ascend")
		require.Positive(t, s.Max(), "no empty span")
		last = s.Actor
		end := s.Base
		for _, r := range s.Runs {
			require.Greater(t, r.From, end+1, "a gap before each run")
			require.GreaterOrEqual(t, r.To, r.From)
			end = r.To
		}
	}
}
