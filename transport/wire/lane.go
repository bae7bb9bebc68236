package wire

import (
	"encoding/binary"
	"fmt"
	"io"

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
// A record is a type byte, a length and a body. Every ChunkBytes of them are
// followed by a CHECK with the xxh3-64 of the bytes since the last, and leave at
// once. Versions are told relative to the one before, actors by the number they
// get where they first appear.
//
// The first error sticks. A LaneWriter belongs to one goroutine.
type LaneWriter struct {
	codec *Codec
	level LaneLevel
	raw   counter
	z     *zstd.Encoder // nil when plain
	enc   encoder       // the body under construction, and the dictionary
	state laneState
	chunk []byte // records since the last check
	begun bool   // the first byte is written
	err   error
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
	l.enc.inline = true
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

// Bytes is how many bytes were written so far, compressed.
func (l *LaneWriter) Bytes() int64 { return l.raw.n }

// Head names the session the lane belongs to. It comes first.
func (l *LaneWriter) Head(session uint64) error {
	l.enc.b = l.enc.b[:0]
	l.enc.u64(session)
	return l.record(TypeLaneHead)
}

// Begin opens a partition.
func (l *LaneWriter) Begin(b Begin) error {
	l.enc.b = l.enc.b[:0]
	l.enc.zigzag(int64(b.Partition) - l.state.partition - 1)
	l.enc.byte(byte(b.Mode))
	l.state.begin(b.Partition)
	return l.record(TypeBegin)
}

// Batch writes objects of the partition begun, in records of about ChunkBytes.
// Their contexts are explicit, without the base. Nothing is kept but b.Base.
func (l *LaneWriter) Batch(b Batch) error { return l.batch(TypeBatch, b) }

// Tail writes objects that changed since the session began, as Batch does.
func (l *LaneWriter) Tail(b Batch) error { return l.batch(TypeTail, b) }

func (l *LaneWriter) batch(t Type, b Batch) error {
	for first := true; l.err == nil && (first || len(b.Copies) > 0); first = false {
		l.enc.b = l.enc.b[:0]
		l.enc.vvFrom(b.Base, l.state.base)
		l.enc.vvFrom(b.Floor, l.state.floor)
		l.state.base, l.state.floor = b.Base, b.Floor
		n, versions := 0, 0
		for n < len(b.Copies) && len(l.enc.b) < ChunkBytes {
			versions += len(b.Copies[n].Object.Versions)
			if n == MaxBatchCopies || n > 0 && versions > MaxBatchVersions {
				break
			}
			l.enc.entry(&l.state, &b.Copies[n])
			n++
		}
		b.Copies = b.Copies[n:]
		if err := l.record(t); err != nil {
			return err
		}
	}
	return l.err
}

// Keep writes the dots the receiver has already.
func (l *LaneWriter) Keep(k Keep) error {
	l.enc.b = l.enc.b[:0]
	l.enc.clock(k.Dots)
	return l.record(TypeKeep)
}

// End closes the partition. Its clock and floor are told relative to the last
// batch's.
func (l *LaneWriter) End(end End) error {
	e := &l.enc
	e.b = e.b[:0]
	e.clockFrom(end.Clock, l.state.base)
	e.vvFrom(end.Floor, l.state.floor)
	l.state.floor = end.Floor
	return l.record(TypeEnd)
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

// record adds the body under construction to the chunk.
func (l *LaneWriter) record(t Type) error {
	if l.err != nil {
		return l.err
	}
	switch {
	case len(l.enc.b) > MaxLaneBytes:
		l.err = fmt.Errorf("write lane record %d: it has %d bytes, the limit is %d", t, len(l.enc.b), MaxLaneBytes)
	case len(l.enc.dict.actors) > MaxDictActors:
		l.err = fmt.Errorf("write lane record %d: the lane names more than %d actors", t, MaxDictActors)
	}
	if l.err != nil {
		return l.err
	}
	l.chunk = append(l.chunk, byte(t))
	l.chunk = binary.AppendUvarint(l.chunk, uint64(len(l.enc.b)))
	l.chunk = append(l.chunk, l.enc.b...)
	if len(l.chunk) >= ChunkBytes {
		return l.Flush()
	}
	return nil
}

// Flush sends what was gathered, with its check.
func (l *LaneWriter) Flush() error {
	if l.err == nil && len(l.chunk) > 0 {
		if err := l.send(); err != nil {
			l.err = fmt.Errorf("write lane: %w", err)
		}
	}
	return l.err
}

func (l *LaneWriter) send() error {
	if !l.begun {
		l.begun = true
		if _, err := l.raw.Write([]byte{b2u(l.z != nil) * laneZstd}); err != nil {
			return err
		}
	}
	sum := xxh3.Hash(l.chunk)
	l.chunk = append(l.chunk, byte(TypeCheck), 8)
	l.chunk = binary.LittleEndian.AppendUint64(l.chunk, sum)
	var err error
	if l.z == nil {
		_, err = l.raw.Write(l.chunk)
	} else if _, err = l.z.Write(l.chunk); err == nil {
		err = l.z.Flush()
	}
	l.trim()
	return err
}

// trim empties the buffers, and lets go of those that one large object blew up.
func (l *LaneWriter) trim() {
	l.chunk = l.chunk[:0]
	if cap(l.chunk) > WindowBytes {
		l.chunk, l.enc.b = nil, nil
	}
}

// Close ends the lane in order, without which its reader reports
// io.ErrUnexpectedEOF. It does not close the writer below, which must be closed
// next: the reader waits for that. The LaneWriter is of no use afterwards.
func (l *LaneWriter) Close() error {
	if l.err != nil {
		return l.err
	}
	l.enc.b = l.enc.b[:0]
	if err := l.record(TypeClose); err != nil {
		return err
	}
	if err := l.Flush(); err != nil {
		return err
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
