package wire

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/klauspost/compress/zstd"
	"github.com/zeebo/xxh3"

	"edged.dev/edged/internal/kv"
)

// LaneLevel is how hard a lane compresses.
type LaneLevel uint8

// The levels. Default is right for a link that is not the bottleneck; Better
// and Best save 1 to 9 % of bytes for a third and an eighth of the speed. Plain
// does not compress.
const (
	LanePlain LaneLevel = iota
	LaneDefault
	LaneBetter
	LaneBest
)

func (l LaneLevel) zstd() zstd.EncoderLevel {
	switch l {
	case LaneBetter:
		return zstd.SpeedBetterCompression
	case LaneBest:
		return zstd.SpeedBestCompression
	default:
		return zstd.SpeedDefault
	}
}

// The first byte of a lane says how the rest is stored.
const (
	lanePlain = 0
	laneZstd  = 1
)

// LaneWriter writes the records of a sync session, across all its partitions,
// as one compressed stream: a stream a partition would cost two thirds more.
//
// Records are gathered by columns. Some ChunkBytes of them are a chunk: the
// lengths of its columns, the columns, and the xxh3-64 of both; it leaves at once.
// Versions are told relative to the one before, actors by the number they get
// where they first appear, and clocks, once the lane leans on what the donor's
// HELLO_ACK told, by what is not as it was told: a partition that went as announced,
// in one batch, is one record of three bytes, and its objects.
//
// The first error sticks. A LaneWriter belongs to one goroutine.
type LaneWriter struct {
	codec *Codec
	level LaneLevel
	raw   counter
	z     *zstd.Encoder // nil when plain
	enc   encoder       // the columns under construction, and the dictionary
	state laneState
	told  *told // nil: the lane leans on nothing
	held  held
	begun bool // the first byte is written
	each  func()
	err   error
}

// held is a partition of which it is not known yet whether one record will do.
type held struct {
	on    bool
	row   int
	delta int64
	mode  Mode
	n     int // objects, 0: no batch yet
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// NewLaneWriter returns a writer with an encoder of its own; Codec.LaneWriter
// reuses one.
func NewLaneWriter(w io.Writer, level LaneLevel) (*LaneWriter, error) {
	return (&Codec{}).LaneWriter(w, level)
}

// LaneWriter returns a writer of a lane to w. Close returns its encoder to c.
func (c *Codec) LaneWriter(w io.Writer, level LaneLevel) (*LaneWriter, error) {
	if level > LaneBest {
		return nil, fmt.Errorf("open lane: level %d is unknown", level)
	}
	l := &LaneWriter{codec: c, level: level, raw: counter{w: w}, state: newLaneState()}
	l.enc.inline, l.enc.cols = true, &columns{}
	if level == LanePlain {
		return l, nil
	}
	z, ok := c.idleEnc[level].Get().(*zstd.Encoder)
	if !ok {
		var err error
		if z, err = newEncoderZstd(level.zstd()); err != nil {
			return nil, fmt.Errorf("open lane: %w", err)
		}
	}
	z.Reset(&l.raw)
	l.z = z
	return l, nil
}

// EachChunk has fn called for each chunk before any byte of it is written.
func (l *LaneWriter) EachChunk(fn func()) { l.each = fn }

// Bytes is how many bytes were written so far, compressed.
func (l *LaneWriter) Bytes() int64 { return l.raw.n }

// Head names the session that has this one lane. It comes first. The lane leans on
// the clocks that the answer to that session's HELLO told; nil: on nothing.
func (l *LaneWriter) Head(session uint64, answered []CopyClock) error {
	return l.HeadOf(session, 0, 1, answered)
}

// HeadOf is Head for one of several lanes of a session: its number from 0, and how
// many there are.
func (l *LaneWriter) HeadOf(session uint64, lane, lanes int, answered []CopyClock) error {
	if lanes < 1 || lanes > MaxSessionLanes || lane < 0 || lane >= lanes {
		return fmt.Errorf("write lane head: lane %d of %d", lane, lanes)
	}
	e := l.record(TypeLaneHead)
	e.u64(session)
	e.byte(b2u(len(answered) > 0) | byte(lanes-1)<<1 | byte(lane)<<4)
	if len(answered) > 0 {
		l.told = tell(&e.dict, answered)
		e.b = binary.LittleEndian.AppendUint32(e.b, l.told.mark)
	}
	return l.recorded(TypeLaneHead)
}

// record begins a record.
func (l *LaneWriter) record(t Type) *encoder {
	if l.err == nil {
		l.release()
		l.enc.to(colKinds)
		l.enc.byte(byte(t))
	}
	return &l.enc
}

// recorded ends what was begun at a size of the columns: the chunk leaves, if it
// is full.
func (l *LaneWriter) recorded(t Type) error {
	if l.err != nil {
		return l.err
	}
	n := l.enc.gathered()
	switch {
	case n > MaxChunkBytes:
		l.err = fmt.Errorf("write lane record %d: a chunk has %d bytes, the limit is %d", t, n, MaxChunkBytes)
	case len(l.enc.dict.actors) > MaxDictActors:
		l.err = fmt.Errorf("write lane record %d: the lane names more than %d actors", t, MaxDictActors)
	case n >= ChunkBytes:
		return l.Flush()
	}
	return l.err
}

// Begin opens a partition.
func (l *LaneWriter) Begin(b Begin) error {
	if l.err != nil {
		return l.err
	}
	l.release()
	h := held{on: true, mode: b.Mode, row: -1}
	place := int64(b.Partition)
	if l.told != nil {
		row, ok := l.told.row[b.Partition]
		if !ok {
			l.err = fmt.Errorf("write lane: partition %d is not in the table that the lane leans on", b.Partition)
			return l.err
		}
		h.row, place = row, int64(row)
		l.state.base = l.told.bases[row]
	}
	h.delta = place - l.state.place - 1
	l.state.place, l.state.seq = place, 0
	if l.held = h; l.told == nil {
		l.release()
	}
	return l.recorded(TypeBegin)
}

// release writes what is held record by record.
func (l *LaneWriter) release() {
	h, e := l.held, &l.enc
	if l.held = (held{}); !h.on {
		return
	}
	e.to(colKinds)
	e.byte(byte(TypeBegin))
	e.byte(byte(h.mode))
	e.to(colParts)
	e.zigzag(h.delta)
	if h.n > 0 {
		e.to(colKinds)
		e.byte(byte(TypeBatch))
		e.vvFrom(l.state.base, l.state.base)
		e.vvFrom(l.state.floor, l.state.floor)
		e.to(colCounts)
		e.uvarint(uint64(h.n))
	}
}

// Batch writes objects of the partition begun, in records of about ChunkBytes.
// Their contexts are explicit, without the base. Nothing is kept but b.Base.
func (l *LaneWriter) Batch(b Batch) error { return l.batch(TypeBatch, b) }

// Tail writes objects that changed since the session began, as Batch does.
func (l *LaneWriter) Tail(b Batch) error { return l.batch(TypeTail, b) }

func (l *LaneWriter) batch(t Type, b Batch) error {
	for first := true; l.err == nil && (first || len(b.Copies) > 0); first = false {
		hold := t == TypeBatch && l.held.on && l.held.n == 0 && len(b.Copies) > 0 &&
			slices.Equal(b.Base, l.state.base) && slices.Equal(b.Floor, l.state.floor)
		if !hold {
			e := l.record(t)
			e.vvFrom(b.Base, l.state.base)
			e.vvFrom(b.Floor, l.state.floor)
		}
		l.state.base, l.state.floor = b.Base, b.Floor
		n := l.objects(b.Copies)
		b.Copies = b.Copies[n:]
		if hold {
			l.held.n = n
		} else {
			l.enc.to(colCounts)
			l.enc.uvarint(uint64(n))
		}
		if err := l.recorded(t); err != nil {
			return err
		}
	}
	return l.err
}

// objects appends objects up to the end of a chunk, and returns how many.
func (l *LaneWriter) objects(copies []Copy) int {
	n, versions := 0, 0
	for n < len(copies) && l.enc.gathered() < ChunkBytes {
		versions += len(copies[n].Object.Versions)
		if n == MaxBatchCopies || n > 0 && versions > MaxBatchVersions {
			break
		}
		before := l.enc.gathered()
		l.enc.entry(&l.state, &copies[n])
		if size := l.enc.gathered() - before; size > MaxLaneBytes {
			l.err = fmt.Errorf("write lane: an object has %d bytes, the limit is %d", size, MaxLaneBytes)
		}
		n++
	}
	return n
}

// Keep writes the dots the receiver has already.
func (l *LaneWriter) Keep(k Keep) error {
	l.record(TypeKeep).clock(k.Dots)
	return l.recorded(TypeKeep)
}

// Stop leaves the partition where it is: what is left of it goes in another session.
func (l *LaneWriter) Stop() error {
	l.record(TypeStop)
	return l.recorded(TypeStop)
}

// End closes the partition. Its clock and floor are told relative to the last
// batch's.
func (l *LaneWriter) End(end End) error {
	if h, e := l.held, &l.enc; h.on && h.mode == ModeInterval && slices.Equal(end.Floor, l.state.floor) && end.Clock.Equal(l.told.copies[h.row].Clock) {
		e.to(colKinds)
		e.byte(byte(TypeWhole))
		e.to(colParts)
		e.zigzag(h.delta)
		e.to(colCounts)
		e.uvarint(uint64(h.n))
		l.held = held{}
		return l.recorded(TypeWhole)
	}
	e := l.record(TypeEnd)
	e.clockFrom(end.Clock, l.state.base)
	e.vvFrom(end.Floor, l.state.floor)
	l.state.floor = end.Floor
	return l.recorded(TypeEnd)
}

// clockFrom appends a clock whose base is near ref.
func (e *encoder) clockFrom(c kv.Clock, ref kv.VV) {
	e.vvFrom(c.Base(), ref)
	var withRuns []kv.Span
	for _, s := range c.Spans() {
		if len(s.Runs) > 0 {
			withRuns = append(withRuns, s)
		}
	}
	e.uvarint(uint64(len(withRuns)))
	for _, s := range withRuns {
		e.actor(s.Actor)
		e.uvarint(s.Base)
		e.runs(s)
	}
}

// Flush sends what was gathered, with its check.
func (l *LaneWriter) Flush() error {
	if l.err != nil {
		return l.err
	}
	if l.release(); l.enc.gathered() > 0 {
		err := l.send()
		if err == nil && l.z != nil {
			err = l.z.Flush()
		}
		if err != nil {
			l.err = fmt.Errorf("write lane: %w", err)
		}
	}
	return l.err
}

// send hands the chunk to the compressor.
func (l *LaneWriter) send() error {
	if l.each != nil {
		l.each()
	}
	if !l.begun {
		l.begun = true
		if _, err := l.raw.Write([]byte{b2u(l.z != nil) * laneZstd}); err != nil {
			return err
		}
	}
	var to io.Writer = &l.raw
	if l.z != nil {
		to = l.z
	}
	l.enc.to(colKinds)
	l.enc.cols.of[colKinds] = l.enc.b
	head := make([]byte, 0, columnCount*binary.MaxVarintLen32)
	for _, b := range &l.enc.cols.of {
		head = binary.AppendUvarint(head, uint64(len(b)))
	}
	var sum xxh3.Hasher
	for _, b := range append([][]byte{head}, l.enc.cols.of[:]...) {
		_, _ = sum.Write(b) // a Hasher does not fail
		if _, err := to.Write(b); err != nil {
			return err
		}
	}
	_, err := to.Write(binary.LittleEndian.AppendUint64(nil, sum.Sum64()))
	l.enc.empty()
	return err
}

// Close ends the lane in order, without which its reader reports
// io.ErrUnexpectedEOF. It does not close the writer below, which must be closed
// next: the reader waits for that. The LaneWriter is of no use afterwards.
func (l *LaneWriter) Close() error {
	l.record(TypeClose)
	if l.err != nil {
		return l.err
	}
	if err := l.send(); err != nil {
		l.err = fmt.Errorf("write lane: %w", err)
		return l.err
	}
	l.err = fmt.Errorf("write lane: it is closed")
	if l.z == nil {
		return nil
	}
	if err := l.z.Close(); err != nil {
		return fmt.Errorf("close lane: %w", err)
	}
	l.z.Reset(nil)
	l.codec.idleEnc[l.level].Put(l.z)
	l.z = nil
	return nil
}
