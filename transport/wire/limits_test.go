package wire_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/transport/wire"
)

func someActor(i int) kv.Actor { return kv.Actor{Node: kv.NodeID(i + 1), Boot: 1, Rand: 1} }

func vvOf(actors int) kv.VV {
	v := make(kv.VV, actors)
	for i := range v {
		v[i] = kv.Dot{Actor: someActor(i), Seq: 1}
	}
	return v
}

func objectOf(versions, value int) kv.Object {
	var o kv.Object
	for i := range versions {
		o.Versions = append(o.Versions, kv.Version{Dot: kv.Dot{Actor: someActor(0), Seq: uint64(i + 1)}, HLC: 1, Value: make([]byte, value)})
	}
	return o
}

// Each limit holds at the limit and refuses one over.
func TestLimitsHoldAtTheLimitAndRefuseOneOver(t *testing.T) {
	apply := func(key int, o kv.Object, floor kv.VV) error {
		a := wire.Apply{Writes: []wire.Write{{Copy: wire.Copy{Key: make([]byte, key), Object: o}, Floor: floor}}}
		_, err := wire.ParseApply(a.Append(nil))
		return err
	}
	forward := func(q kv.Request) error {
		q.Key = []byte("k")
		_, err := wire.ParseForward(wire.Forward{Request: q}.Append(nil))
		return err
	}
	result := func(p kv.Response) error {
		_, err := wire.ParseResult(wire.Result{Response: p}.Append(nil))
		return err
	}
	for name, x := range map[string]struct {
		limit int
		try   func(n int) error
	}{
		"key":       {kv.MaxKeyBytes, func(n int) error { return apply(n, kv.Object{}, nil) }},
		"value":     {kv.MaxRecordBytes, func(n int) error { return apply(1, objectOf(1, n), nil) }},
		"versions":  {wire.MaxVersions, func(n int) error { return apply(1, objectOf(n, 0), nil) }},
		"vector":    {kv.MaxClockActors, func(n int) error { return apply(1, kv.Object{}, vvOf(n)) }},
		"token":     {kv.MaxTokenBytes, func(n int) error { return forward(kv.Request{Token: make([]byte, n)}) }},
		"fence":     {kv.MaxTokenBytes, func(n int) error { return forward(kv.Request{Fence: make([]byte, n)}) }},
		"tags":      {wire.MaxTags, func(n int) error { return forward(kv.Request{IfMatch: make([]string, n)}) }},
		"none tags": {wire.MaxTags, func(n int) error { return forward(kv.Request{IfNoneMatch: make([]string, n)}) }},
		"tag":       {wire.MaxTagBytes, func(n int) error { return forward(kv.Request{IfMatch: []string{strings.Repeat("x", n)}}) }},
		"R":         {wire.MaxQuorum, func(n int) error { return forward(kv.Request{R: n}) }},
		"W":         {wire.MaxQuorum, func(n int) error { return forward(kv.Request{W: n}) }},
		"etag":      {wire.MaxTagBytes, func(n int) error { return result(kv.Response{ETag: strings.Repeat("x", n)}) }},
		"view":      {wire.MaxTagBytes, func(n int) error { return result(kv.Response{View: strings.Repeat("x", n)}) }},
		"copies":    {wire.MaxQuorum, func(n int) error { return result(kv.Response{Copies: n}) }},
		"siblings": {wire.MaxVersions, func(n int) error {
			s := make([]kv.Sibling, n)
			for i := range s {
				s[i].Dot = kv.Dot{Actor: someActor(0), Seq: 1}
			}
			return result(kv.Response{Siblings: s})
		}},
		"writes": {wire.MaxWrites, func(n int) error {
			a := wire.Apply{Writes: make([]wire.Write, n)}
			for i := range a.Writes {
				a.Writes[i].Key = []byte("k")
			}
			_, err := wire.ParseApply(a.Append(nil))
			return err
		}},
		"partitions": {wire.MaxCopies, func(n int) error {
			_, err := wire.ParseClocks(wire.Clocks{Partitions: make([]kv.Partition, n)}.Append(nil))
			return err
		}},
		"counts": {wire.MaxCopies, func(n int) error {
			_, err := wire.ParseCountAck(wire.CountAck{Keys: make([]int64, n)}.Append(nil))
			return err
		}},
		"table": {wire.MaxCopies, func(n int) error {
			_, err := wire.ParseClocksAck(wire.ClocksAck{Copies: make([]wire.CopyClock, n)}.Append(nil))
			return err
		}},
		"states": {kv.MaxPartitions, func(n int) error {
			_, err := wire.ParseState(wire.State{Parts: make([]wire.Serving, n)}.Append(nil))
			return err
		}},
		"scan limit": {wire.MaxScanKeys, func(n int) error {
			_, err := wire.ParseScan(wire.Scan{Limit: uint32(n)}.Append(nil))
			return err
		}},
		"lane": {wire.MaxSessionLanes - 1, func(n int) error {
			_, err := wire.ParseTaken(wire.Taken{Lane: uint8(n)}.Append(nil))
			return err
		}},
		"prefix": {kv.MaxKeyBytes, func(n int) error {
			_, err := wire.ParseScan(wire.Scan{Prefix: make([]byte, n)}.Append(nil))
			return err
		}},
		"scanned keys": {wire.MaxScanKeys, func(n int) error {
			s := wire.ScanAck{Keys: make([]wire.ScannedKey, n)}
			for i := range s.Keys {
				s.Keys[i].Key = []byte("k")
			}
			_, err := wire.ParseScanAck(s.Append(nil))
			return err
		}},
		"actors": {wire.MaxDictActors, func(n int) error {
			copies := make([]wire.CopyClock, 16)
			for i := range copies {
				var spans []kv.Span
				for j := i; j < n; j += 16 {
					spans = append(spans, kv.Span{Actor: someActor(j), Base: 1})
				}
				copies[i] = wire.CopyClock{Actor: someActor(0), Clock: kv.ClockOf(spans...)}
			}
			_, err := wire.ParseAck(wire.Ack{Copies: copies}.Append(nil))
			return err
		}},
		"frame": {wire.MaxFrameBytes, func(n int) error {
			_, err := wire.ParsePing(append(wire.Ping{}.Append(nil), make([]byte, n)...)[:n])
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, x.try(x.limit))
			require.ErrorIs(t, x.try(x.limit+1), wire.ErrMalformed)
		})
	}
}

func TestRunsHoldAtTheLimitAndRefuseOneOver(t *testing.T) {
	try := func(n int) error {
		runs := make([]kv.Run, n)
		for i := range runs {
			runs[i] = kv.Run{From: uint64(2*i + 2), To: uint64(2*i + 2)}
		}
		copies := []wire.CopyClock{{Actor: someActor(0), Clock: kv.ClockOf(kv.Span{Actor: someActor(0), Runs: runs})}}
		_, err := wire.ParseAck(wire.Ack{Copies: copies}.Append(nil))
		return err
	}
	require.NoError(t, try(wire.MaxRuns))
	require.ErrorIs(t, try(wire.MaxRuns+1), wire.ErrMalformed)
}

func TestALongErrorIsCutWhenSent(t *testing.T) {
	f := wire.Result{Err: &kv.Error{Code: kv.CodeInternal, Text: strings.Repeat("x", wire.MaxTextBytes+1)}}
	got, err := wire.ParseResult(f.Append(nil))
	require.NoError(t, err)
	require.Len(t, got.Err.Text, wire.MaxTextBytes)
}

// One write of the largest object fits every frame, whatever goes with it.
func TestTheLargestObjectFitsAFrame(t *testing.T) {
	w := wire.Write{Copy: wire.Copy{Key: make([]byte, kv.MaxKeyBytes), Object: objectOf(8, kv.MaxRecordBytes/8)}, Floor: vvOf(kv.MaxActors)}
	w.Object.Ctx = vvOf(kv.MaxActors)
	frame := wire.Apply{Writes: []wire.Write{w}}.Append(nil)
	require.LessOrEqual(t, len(frame), wire.WriteBytes(&w)+16)
	require.LessOrEqual(t, len(frame), wire.MaxFrameBytes)
	_, err := wire.ParseApply(frame)
	require.NoError(t, err)
}

// What a peer promises is not what it gets memory for.
func TestPromisesOfAPeerTakeNoMemory(t *testing.T) {
	promise := func(t wire.Type, head ...byte) []byte {
		return append([]byte{byte(t)}, head...)
	}
	much := binary.AppendUvarint(nil, 1<<62)
	for name, try := range map[string]func() error{
		"actors":     func() error { _, err := wire.ParseAck(append(promise(wire.TypeAck), much...)); return err },
		"copies":     func() error { _, err := wire.ParseAck(append(promise(wire.TypeAck, 0, 1), much...)); return err },
		"partitions": func() error { _, err := wire.ParseClocks(append(promise(wire.TypeClocks), much...)); return err },
		"key":        func() error { _, err := wire.ParseRead(append(promise(wire.TypeRead, 1), much...)); return err },
		"states": func() error {
			_, err := wire.ParseState(append(promise(wire.TypeState, make([]byte, 17)...), 0xff, 0x1f))
			return err
		},
	} {
		var err error
		took := allocated(func() { err = try() })
		require.ErrorIs(t, err, wire.ErrMalformed, name)
		require.Less(t, took, uint64(16<<10), name)
	}
}

func TestTheSpansOfATableHoldAtTheLimitAndRefuseOneOver(t *testing.T) {
	try := func(n int) error {
		copies := make([]wire.CopyClock, kv.MaxPartitions)
		spans := make([][]kv.Span, len(copies))
		for i := range n {
			row := i % len(copies)
			spans[row] = append(spans[row], kv.Span{Actor: someActor(i / len(copies)), Base: 1})
		}
		for i := range copies {
			copies[i] = wire.CopyClock{Partition: kv.Partition(i), Actor: someActor(0), Clock: kv.ClockOf(spans[i]...)}
		}
		_, err := wire.ParseAck(wire.Ack{Copies: copies}.Append(nil))
		return err
	}
	require.NoError(t, try(wire.MaxTableSpans))
	require.ErrorIs(t, try(wire.MaxTableSpans+1), wire.ErrMalformed)
}

// A sender cuts at the limits of a batch; a receiver refuses what is not cut.
func TestABatchHoldsItsLimits(t *testing.T) {
	record := func(n int) []byte { // tombstones of ascending sequence at one time, all with the key "k"
		kinds := []byte{byte(wire.TypeBatch), 0, 0} // no change of base or floor
		flags := append([]byte{1 | 64}, bytes.Repeat([]byte{1}, n-1)...)
		seqs := someActor(0).Append([]byte{0}) // its actor spelt out
		seqs = append(seqs, bytes.Repeat([]byte{2}, n)...)
		counts := binary.AppendUvarint(nil, uint64(n))
		return rawLane(kinds, nil, counts, flags, seqs, make([]byte, n), bytes.Repeat([]byte{1}, n), bytes.Repeat([]byte("k"), n))
	}
	c := newCodec(t)
	got, err := readLane(c.LaneReader(bytes.NewReader(record(wire.MaxBatchCopies))))
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Len(t, got[0].Batch.Copies, wire.MaxBatchCopies)
	_, err = readLane(c.LaneReader(bytes.NewReader(record(wire.MaxBatchCopies + 1))))
	require.ErrorIs(t, err, wire.ErrMalformed)

	b := wire.Batch{}
	for i := range wire.MaxBatchCopies + 1 {
		b.Copies = append(b.Copies, wire.Copy{Key: []byte("k"), Object: kv.Object{Versions: []kv.Version{{
			Dot: kv.Dot{Actor: someActor(0), Seq: uint64(i + 1)}, Flags: kv.Tombstone,
		}}}})
	}
	lane := writeLane(t, c, wire.LanePlain, []wire.LaneRecord{{Type: wire.TypeBatch, Batch: b}}, func() bool { return false })
	got, err = readLane(c.LaneReader(bytes.NewReader(lane)))
	require.Equal(t, io.EOF, err)
	require.Greater(t, len(got), 1)
}

// An object over what a record can hold is an error here and not a riddle there.
func TestALaneWriterRefusesAnObjectThatFitsNoRecord(t *testing.T) {
	one := func(value int) error {
		w, err := wire.NewLaneWriter(io.Discard, wire.LanePlain)
		require.NoError(t, err)
		return w.Batch(wire.Batch{Copies: []wire.Copy{{Key: []byte("k"), Object: objectOf(8, value)}}})
	}
	require.NoError(t, one(kv.MaxRecordBytes/8))
	require.Error(t, one(wire.MaxLaneBytes/8))
}
