package wire_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"
	"pgregory.net/rapid"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/transport/wire"
)

var laneLevels = []wire.LaneLevel{wire.LanePlain, wire.LaneDefault}

// drawRecords draws what a donor may send, objects as it stores them.
func drawRecords(t *rapid.T) []wire.LaneRecord {
	lanes := rapid.IntRange(1, wire.MaxSessionLanes).Draw(t, "lanes")
	recs := []wire.LaneRecord{{
		Type: wire.TypeLaneHead, Session: rapid.Uint64().Draw(t, "session"),
		Lane: uint8(rapid.IntRange(0, lanes-1).Draw(t, "lane")), Lanes: uint8(lanes),
	}}
	for range rapid.IntRange(0, 4).Draw(t, "partitions") {
		recs = append(recs, wire.LaneRecord{Type: wire.TypeBegin, Begin: wire.Begin{
			Partition: drawPartition(t), Mode: wire.Mode(rapid.IntRange(0, int(wire.ModeBoth)).Draw(t, "mode")),
		}})
		for range rapid.IntRange(0, 3).Draw(t, "batches") {
			b := wire.Batch{Base: drawVV(t), Floor: drawVV(t)}
			for range rapid.IntRange(0, 5).Draw(t, "copies") {
				b.Copies = append(b.Copies, wire.Copy{Key: drawKey(t), Object: drawObject(t)})
			}
			kind := rapid.SampledFrom([]wire.Type{wire.TypeBatch, wire.TypeTail}).Draw(t, "kind")
			recs = append(recs, wire.LaneRecord{Type: kind, Batch: b})
		}
		recs = append(recs, wire.LaneRecord{Type: wire.TypeKeep, Keep: wire.Keep{Dots: drawClock(t)}},
			wire.LaneRecord{Type: wire.TypeLiveDots, Live: wire.LiveDots{Clock: drawClock(t), Dots: drawDots(t)}},
			wire.LaneRecord{Type: wire.TypeEnd, End: wire.End{Clock: drawClock(t), Floor: drawVV(t)}})
		if rapid.Bool().Draw(t, "stops") {
			recs[len(recs)-1] = wire.LaneRecord{Type: wire.TypeStop}
		}
	}
	return recs
}

func writeRecord(w *wire.LaneWriter, r wire.LaneRecord) error {
	switch r.Type {
	case wire.TypeLaneHead:
		return w.HeadOf(r.Session, int(r.Lane), int(r.Lanes), nil)
	case wire.TypeBegin:
		return w.Begin(r.Begin)
	case wire.TypeBatch:
		return w.Batch(r.Batch)
	case wire.TypeTail:
		return w.Tail(r.Batch)
	case wire.TypeKeep:
		return w.Keep(r.Keep)
	case wire.TypeLiveDots:
		return w.LiveDots(r.Live)
	case wire.TypeStop:
		return w.Stop()
	default:
		return w.End(r.End)
	}
}

// writeLane writes recs and, if flush says so, flushes after some.
func writeLane(t require.TestingT, c *wire.Codec, level wire.LaneLevel, recs []wire.LaneRecord, flush func() bool) []byte {
	var out bytes.Buffer
	w, err := c.LaneWriter(&out, level)
	require.NoError(t, err)
	for _, r := range recs {
		require.NoError(t, writeRecord(w, r))
		if flush() {
			require.NoError(t, w.Flush())
		}
	}
	require.NoError(t, w.Close())
	require.Equal(t, int64(out.Len()), w.Bytes())
	return out.Bytes()
}

// readLane reads to the end and returns the error that was there.
func readLane(r *wire.LaneReader) ([]wire.LaneRecord, error) { return readLeaning(r, nil) }

// readLeaning reads a lane that leans on what was told.
func readLeaning(r *wire.LaneReader, told []wire.CopyClock) ([]wire.LaneRecord, error) {
	defer r.Close()
	var out []wire.LaneRecord
	for {
		rec, err := r.Next()
		if err != nil {
			return out, err
		}
		out = append(out, rec)
		if rec.Type == wire.TypeLaneHead && told != nil {
			if err := r.Lean(told); err != nil {
				return out, err
			}
		}
	}
}

// filled is what a reader hands out for what a writer was given.
func filled(recs []wire.LaneRecord) []wire.LaneRecord {
	var out []wire.LaneRecord
	for _, r := range recs {
		copies := r.Batch.Copies
		r.Batch.Copies = nil
		for _, c := range copies {
			c.Object = c.Object.Filled(r.Batch.Base)
			r.Batch.Copies = append(r.Batch.Copies, c)
		}
		out = append(out, r)
	}
	return out
}

func TestALaneHandsOutWhatWasWritten(t *testing.T) {
	c := newCodec(t)
	rapid.Check(t, func(t *rapid.T) {
		recs := drawRecords(t)
		level := rapid.SampledFrom(laneLevels).Draw(t, "level")
		lane := writeLane(t, c, level, recs, func() bool { return rapid.Bool().Draw(t, "flush") })
		src := io.Reader(bytes.NewReader(lane))
		if rapid.Bool().Draw(t, "byte by byte") {
			src = iotest.OneByteReader(src)
		}
		r := c.LaneReader(src)
		got, err := readLane(r)
		require.Equal(t, io.EOF, err)
		require.Equal(t, filled(recs), got)
		require.Equal(t, int64(len(lane)), r.Bytes())
	})
}

func TestALaneCutAnywhereIsNoOrderlyEnd(t *testing.T) {
	c := newCodec(t)
	rapid.Check(t, func(t *rapid.T) {
		recs := drawRecords(t)
		level := rapid.SampledFrom(laneLevels).Draw(t, "level")
		lane := writeLane(t, c, level, recs, func() bool { return rapid.Bool().Draw(t, "flush") })
		whole := filled(recs)
		for range 20 {
			n := rapid.IntRange(0, len(lane)-1).Draw(t, "cut")
			got, err := readLane(c.LaneReader(bytes.NewReader(lane[:n])))
			require.ErrorIs(t, err, io.ErrUnexpectedEOF, "%d of %d bytes", n, len(lane))
			require.LessOrEqual(t, len(got), len(whole))
			for i := range got {
				require.Equal(t, whole[i], got[i])
			}
		}
	})
}

func TestALaneWithAChangedByteIsNeverBelieved(t *testing.T) {
	c := newCodec(t)
	rapid.Check(t, func(t *rapid.T) {
		recs := drawRecords(t)
		level := rapid.SampledFrom(laneLevels).Draw(t, "level")
		lane := writeLane(t, c, level, recs, func() bool { return rapid.Bool().Draw(t, "flush") })
		whole := filled(recs)
		i := rapid.IntRange(0, len(lane)-1).Draw(t, "at")
		lane[i] ^= byte(rapid.IntRange(1, 255).Draw(t, "flip"))
		got, _ := readLane(c.LaneReader(bytes.NewReader(lane)))
		require.LessOrEqual(t, len(got), len(whole))
		for i := range got {
			require.Equal(t, whole[i], got[i])
		}
	})
}

func TestALanesOwnSourceErrorComesThrough(t *testing.T) {
	broken := errors.New("the stream was reset")
	for _, level := range laneLevels {
		lane := writeLane(t, newCodec(t), level, []wire.LaneRecord{{Type: wire.TypeLaneHead, Session: 5, Lanes: 1}}, func() bool { return true })
		src := io.MultiReader(bytes.NewReader(lane[:len(lane)-2]), iotest.ErrReader(broken))
		r, err := wire.NewLaneReader(src)
		require.NoError(t, err)
		_, err = readLane(r)
		require.ErrorIs(t, err, broken)
		require.NotErrorIs(t, err, wire.ErrMalformed)
		_, again := r.Next()
		require.Equal(t, err, again, "the first error stays")
	}
}

func TestARecordLeavesAtOnceAfterFlush(t *testing.T) {
	c := newCodec(t)
	for _, level := range laneLevels {
		var out bytes.Buffer
		w, err := c.LaneWriter(&out, level)
		require.NoError(t, err)
		require.NoError(t, w.Head(77, nil))
		require.Zero(t, out.Len())
		require.NoError(t, w.Flush())
		r := c.LaneReader(&out)
		rec, err := r.Next()
		require.NoError(t, err)
		require.Equal(t, uint64(77), rec.Session)
	}
}

func TestAChunkIsCheckedEvery32KiB(t *testing.T) {
	var out bytes.Buffer
	w, err := wire.NewLaneWriter(&out, wire.LanePlain)
	require.NoError(t, err)
	one := wire.Batch{Copies: []wire.Copy{{Key: []byte("k"), Object: kv.Object{Versions: []kv.Version{{
		Dot: kv.Dot{Actor: kv.Actor{Node: 1}, Seq: 1}, HLC: kv.HLCAt(1), Value: make([]byte, 1000),
	}}}}}}
	for out.Len() == 0 {
		require.NoError(t, w.Batch(one))
	}
	require.Greater(t, out.Len(), wire.ChunkBytes)
	require.Less(t, out.Len(), wire.ChunkBytes+2000)
}

// One call with many objects becomes records of a chunk each.
func TestALongBatchIsCutIntoChunks(t *testing.T) {
	c := newCodec(t)
	b := wire.Batch{Base: kv.VV{{Actor: kv.Actor{Node: 1}, Seq: 5000}}, Copies: testCopies(5000)}
	lane := writeLane(t, c, wire.LaneDefault, []wire.LaneRecord{{Type: wire.TypeBatch, Batch: b}}, func() bool { return false })
	got, err := readLane(c.LaneReader(bytes.NewReader(lane)))
	require.Equal(t, io.EOF, err)
	require.Greater(t, len(got), 10)
	var copies []wire.Copy
	for _, r := range got {
		require.Equal(t, wire.TypeBatch, r.Type)
		require.Equal(t, b.Base, r.Batch.Base)
		copies = append(copies, r.Batch.Copies...)
	}
	require.Equal(t, filled([]wire.LaneRecord{{Batch: b}})[0].Batch.Copies, copies)
}

func TestNothingMayFollowTheClose(t *testing.T) {
	for _, level := range laneLevels {
		c := newCodec(t)
		lane := writeLane(t, c, level, []wire.LaneRecord{{Type: wire.TypeLaneHead, Lanes: 1}}, func() bool { return true })
		_, err := readLane(c.LaneReader(bytes.NewReader(append(lane, lane[1:]...))))
		require.ErrorIs(t, err, wire.ErrMalformed)
	}
}

func TestALaneWriterKeepsItsFirstError(t *testing.T) {
	for _, level := range laneLevels {
		w, err := wire.NewLaneWriter(failing{}, level)
		require.NoError(t, err)
		require.NoError(t, w.Head(1, nil))
		require.ErrorIs(t, w.Flush(), errFull)
		require.ErrorIs(t, w.Head(2, nil), errFull)
		require.ErrorIs(t, w.Batch(wire.Batch{}), errFull)
		require.ErrorIs(t, w.Close(), errFull)
	}
	_, err := wire.NewLaneWriter(io.Discard, wire.LaneBest+1)
	require.Error(t, err)
}

var errFull = errors.New("the pipe is full")

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errFull }

// rawLane is a plain lane of one chunk, whose columns are given, with a right check.
func rawLane(columns ...[]byte) []byte {
	var chunk []byte
	for i := range wire.ColumnCount {
		n := 0
		if i < len(columns) {
			n = len(columns[i])
		}
		chunk = binary.AppendUvarint(chunk, uint64(n))
	}
	for _, c := range columns {
		chunk = append(chunk, c...)
	}
	return binary.LittleEndian.AppendUint64(append([]byte{0}, chunk...), xxh3.Hash(chunk))
}

func TestALaneRefusesLimitsOneOver(t *testing.T) {
	lengths := func(first, second uint64) []byte {
		out := binary.AppendUvarint([]byte{0}, first)
		out = binary.AppendUvarint(out, second)
		return append(out, make([]byte, wire.ColumnCount-2)...)
	}
	read := func(b []byte) error {
		_, err := readLane(newCodec(t).LaneReader(bytes.NewReader(b)))
		return err
	}
	require.ErrorIs(t, read(lengths(1, wire.MaxChunkBytes-1)), io.ErrUnexpectedEOF, "at the limit it waits for the columns")
	require.ErrorIs(t, read(lengths(1, wire.MaxChunkBytes)), wire.ErrMalformed)
	require.ErrorIs(t, read(lengths(1, 1<<63)), wire.ErrMalformed)

	require.ErrorIs(t, read([]byte{9}), wire.ErrMalformed, "unknown storage")
	require.ErrorIs(t, read(rawLane([]byte{99, 0})), wire.ErrMalformed, "unknown record")
	require.ErrorIs(t, read(rawLane(nil)), wire.ErrMalformed, "a chunk without records")
	end := []byte{byte(wire.TypeEnd), 0, 0, 0}
	require.ErrorIs(t, read(rawLane(end)), io.ErrUnexpectedEOF)
	require.ErrorIs(t, read(rawLane(end, []byte{0})), wire.ErrMalformed, "a column that no record reads")
	require.ErrorIs(t, read(rawLane([]byte{byte(wire.TypeWhole)}, []byte{0}, []byte{0})), wire.ErrMalformed, "it leans on no table")
}

// A lane of a few bytes that unpacks to gigabytes must not take memory: nothing
// but the record under construction is held, and that has a limit.
func TestALaneBombTakesBoundedMemory(t *testing.T) {
	var out bytes.Buffer
	out.WriteByte(1)
	z, err := zstd.NewWriter(&out, zstd.WithWindowSize(1<<20), zstd.WithEncoderConcurrency(1))
	require.NoError(t, err)
	_, err = z.Write(binary.AppendUvarint([]byte{1}, wire.MaxChunkBytes-1))
	require.NoError(t, err)
	zeros := make([]byte, 1<<20)
	for range 64 {
		_, err = z.Write(zeros)
		require.NoError(t, err)
	}
	require.NoError(t, z.Close())
	require.Less(t, out.Len(), 32<<10)

	took := allocated(func() { _, err = readLane(newCodec(t).LaneReader(bytes.NewReader(out.Bytes()))) })
	require.ErrorIs(t, err, wire.ErrMalformed)
	require.Less(t, took, uint64(8*wire.MaxLaneBytes))
}

func TestALaneRefusesALargerWindow(t *testing.T) {
	var out bytes.Buffer
	out.WriteByte(1)
	z, err := zstd.NewWriter(&out, zstd.WithWindowSize(2<<20), zstd.WithEncoderConcurrency(1))
	require.NoError(t, err)
	_, err = z.Write(make([]byte, 3<<20))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	_, err = readLane(newCodec(t).LaneReader(&out))
	require.ErrorIs(t, err, wire.ErrMalformed)
	require.ErrorIs(t, err, zstd.ErrWindowSizeExceeded)
}

// drawLeaning draws what a donor may send of the partitions that it told of: much
// of it as it was told.
func drawLeaning(t *rapid.T, told []wire.CopyClock) []wire.LaneRecord {
	lanes := rapid.IntRange(1, wire.MaxSessionLanes).Draw(t, "lanes")
	recs := []wire.LaneRecord{{
		Type: wire.TypeLaneHead, Session: rapid.Uint64().Draw(t, "session"),
		Lane: uint8(rapid.IntRange(0, lanes-1).Draw(t, "lane")), Lanes: uint8(lanes),
	}}
	var floor kv.VV
	for range rapid.IntRange(0, 4).Draw(t, "partitions") {
		c := told[rapid.IntRange(0, len(told)-1).Draw(t, "row")]
		begin := wire.Begin{Partition: c.Partition, Mode: wire.ModeInterval}
		if rapid.IntRange(0, 5).Draw(t, "other mode") == 0 {
			begin.Mode = wire.ModeLive
		}
		recs = append(recs, wire.LaneRecord{Type: wire.TypeBegin, Begin: begin})
		base, clock := c.Clock.Base(), c.Clock.Clone()
		for range rapid.IntRange(0, 2).Draw(t, "batches") {
			if rapid.IntRange(0, 5).Draw(t, "other base") == 0 {
				base = drawVV(t)
			}
			if rapid.IntRange(0, 5).Draw(t, "other floor") == 0 {
				floor = drawVV(t)
			}
			b := wire.Batch{Base: base, Floor: floor}
			for range rapid.IntRange(1, 5).Draw(t, "copies") {
				b.Copies = append(b.Copies, wire.Copy{Key: drawKey(t), Object: drawObject(t)})
			}
			recs = append(recs, wire.LaneRecord{Type: wire.TypeBatch, Batch: b})
		}
		if rapid.IntRange(0, 5).Draw(t, "kept") == 0 {
			recs = append(recs, wire.LaneRecord{Type: wire.TypeKeep, Keep: wire.Keep{Dots: drawClock(t)}})
		}
		if rapid.IntRange(0, 5).Draw(t, "moved") == 0 {
			clock.Join(drawClock(t))
		}
		recs = append(recs, wire.LaneRecord{Type: wire.TypeEnd, End: wire.End{Clock: clock, Floor: floor}})
	}
	return recs
}

func TestALaneThatLeansHandsOutWhatWasWritten(t *testing.T) {
	c, told := newCodec(t), testRef()
	rapid.Check(t, func(t *rapid.T) {
		recs := drawLeaning(t, told)
		var out bytes.Buffer
		w, err := c.LaneWriter(&out, wire.LanePlain)
		require.NoError(t, err)
		require.NoError(t, w.HeadOf(recs[0].Session, int(recs[0].Lane), int(recs[0].Lanes), told))
		for _, r := range recs[1:] {
			require.NoError(t, writeRecord(w, r))
			if rapid.IntRange(0, 5).Draw(t, "flush") == 0 {
				require.NoError(t, w.Flush())
			}
		}
		require.NoError(t, w.Close())
		got, err := readLeaning(c.LaneReader(bytes.NewReader(out.Bytes())), told)
		require.Equal(t, io.EOF, err)
		want := filled(recs)
		require.Len(t, got, len(want))
		for i := range want { // no vector and an empty one are the same
			require.True(t, slices.Equal(want[i].Batch.Base, got[i].Batch.Base) && slices.Equal(want[i].Batch.Floor, got[i].Batch.Floor) &&
				slices.Equal(want[i].End.Floor, got[i].End.Floor), "record %d", i)
			got[i].Batch.Base, got[i].Batch.Floor, got[i].End.Floor = want[i].Batch.Base, want[i].Batch.Floor, want[i].End.Floor
		}
		require.Equal(t, want, got)
	})
}

func TestALaneThatLeansOnAnotherTableIsRefused(t *testing.T) {
	c, told := newCodec(t), testRef()
	var out bytes.Buffer
	w, err := c.LaneWriter(&out, wire.LanePlain)
	require.NoError(t, err)
	require.NoError(t, w.Head(5, told))
	require.NoError(t, w.Begin(wire.Begin{Partition: told[2].Partition, Mode: wire.ModeInterval}))
	require.NoError(t, w.End(wire.End{Clock: told[2].Clock}))
	require.NoError(t, w.Close())
	read := func(table []wire.CopyClock) error {
		_, err := readLeaning(c.LaneReader(bytes.NewReader(out.Bytes())), table)
		return err
	}
	require.Equal(t, io.EOF, read(told))
	for _, other := range [][]wire.CopyClock{nil, {}, told[1:]} {
		require.ErrorIs(t, read(other), wire.ErrNeedClocks)
	}

	w, err = c.LaneWriter(io.Discard, wire.LanePlain)
	require.NoError(t, err)
	require.NoError(t, w.Head(5, told[:2]))
	require.Error(t, w.Begin(wire.Begin{Partition: told[2].Partition}), "it was not told of")
	require.Error(t, w.Close())
}

func TestALanesNumberIsOneOfTheSessions(t *testing.T) {
	t.Parallel()
	head := func(lane, lanes int) error {
		w, err := wire.NewLaneWriter(io.Discard, wire.LanePlain)
		require.NoError(t, err)
		return w.HeadOf(1, lane, lanes, nil)
	}
	require.NoError(t, head(0, 1))
	require.NoError(t, head(7, 8))
	for _, bad := range [][2]int{{0, 0}, {0, 9}, {8, 8}, {1, 1}, {-1, 1}} {
		require.Error(t, head(bad[0], bad[1]), "lane %d of %d", bad[0], bad[1])
	}
}
