package wire

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/klauspost/compress/zstd"
	"github.com/zeebo/xxh3"

	"edged.dev/edged/internal/kv"
)

// LaneRecord is one record of a lane: of the fields the one its Type names is
// set (Batch for TAIL too). All of it belongs to whoever asked for it; keys and
// values are parts of a chunk of about ChunkBytes, which they keep alive.
type LaneRecord struct {
	Type    Type
	Session uint64 // TypeLaneHead
	Begin   Begin
	Batch   Batch // objects filled
	Keep    Keep
	Live    LiveDots
	End     End
}

// LaneReader reads what a LaneWriter wrote. Nothing is handed out before the
// check behind it was made. A LaneReader belongs to one goroutine.
type LaneReader struct {
	codec *Codec
	raw   source
	z     *zstd.Decoder // nil when plain, or before the first record
	in    *bufio.Reader // plain bytes; nil before the first record
	chunk []byte        // records since the last check, reused
	rest  []byte        // checked records not yet handed out
	dict  dict
	state laneState
	err   error
}

// source counts, and remembers whether it failed.
type source struct {
	r   io.Reader
	n   int64
	err error // other than io.EOF
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.n += int64(n)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// NewLaneReader returns a reader with a decoder of its own; Codec.LaneReader
// reuses one.
func NewLaneReader(r io.Reader) (*LaneReader, error) {
	return (&Codec{}).LaneReader(r), nil
}

// LaneReader returns a reader of a lane from r. Nothing is read yet. Close
// returns its decoder to c.
func (c *Codec) LaneReader(r io.Reader) *LaneReader {
	return &LaneReader{codec: c, raw: source{r: r}, state: newLaneState()}
}

// Bytes is how many bytes were read so far, compressed.
func (l *LaneReader) Bytes() int64 { return l.raw.n }

// Next returns the next record. At the end it is io.EOF if the lane was closed
// in order, io.ErrUnexpectedEOF if it broke off, ErrMalformed if its bytes make
// no sense; the error stays.
func (l *LaneReader) Next() (LaneRecord, error) {
	if l.err != nil {
		return LaneRecord{}, l.err
	}
	rec, err := l.next()
	switch {
	case err == nil:
		return rec, nil
	case err == errClosed:
		l.err = io.EOF
	case errors.Is(err, io.EOF):
		l.err = fmt.Errorf("read lane: %w", io.ErrUnexpectedEOF)
	default:
		l.err = fmt.Errorf("read lane: %w", err)
	}
	l.rest = nil
	return LaneRecord{}, l.err
}

// errClosed is the orderly end, told apart from an io.EOF of the source.
var errClosed = errors.New("lane is closed")

// Close lets go of the decoder. It does not close the reader below.
func (l *LaneReader) Close() {
	if l.err == nil {
		l.err = fmt.Errorf("read lane: it is closed here")
	}
	l.chunk, l.rest, l.in = nil, nil, nil
	if l.z != nil && l.z.Reset(nil) == nil {
		l.codec.idleDec.Put(l.z)
	}
	l.z = nil
}

func (l *LaneReader) next() (LaneRecord, error) {
	if len(l.rest) == 0 {
		if err := l.fill(); err != nil {
			return LaneRecord{}, err
		}
	}
	t := Type(l.rest[0])
	n, k := binary.Uvarint(l.rest[1:])
	body := l.rest[1+k:][:n:n]
	l.rest = l.rest[1+k+int(n):]
	if t == TypeClose {
		return LaneRecord{}, l.finish()
	}
	return l.parse(t, body)
}

func (l *LaneReader) parse(t Type, body []byte) (LaneRecord, error) {
	r := &reader{b: body, dict: &l.dict, inline: true}
	rec := LaneRecord{Type: t}
	switch t {
	case TypeLaneHead:
		rec.Session = r.u64()
	case TypeBegin:
		rec.Begin.Partition = r.partitionAfter(&l.state.partition)
		if rec.Begin.Mode = Mode(r.byte()); rec.Begin.Mode > ModeLive {
			r.fail("mode %d is unknown", rec.Begin.Mode)
		}
		l.state.begin(rec.Begin.Partition)
	case TypeBatch, TypeTail:
		rec.Batch = r.batch(&l.state)
	case TypeKeep:
		rec.Keep.Dots = r.clock()
	case TypeLiveDots:
		rec.Live = r.liveDots(&l.state)
	case TypeEnd:
		rec.End = r.laneEnd(&l.state)
	default:
		r.fail("a record has the unknown type %d", t)
	}
	if r.err != nil {
		return LaneRecord{}, fmt.Errorf("parse record of type %d: %w", t, r.err)
	}
	return rec, nil
}

func (r *reader) laneEnd(s *laneState) End {
	end := End{Clock: r.clockFrom(s.base), Floor: r.vvFrom(s.floor)}
	if r.err != nil {
		return End{}
	}
	s.floor = end.Floor
	return end
}

func (r *reader) clockFrom(ref kv.VV) kv.Clock {
	base := r.vvFrom(ref)
	spans := make([]kv.Span, 0, len(base))
	for _, d := range base {
		spans = append(spans, kv.Span{Actor: d.Actor, Base: d.Seq})
	}
	for range r.count("clock entries", kv.MaxClockActors, 5) {
		x := kv.Span{Actor: r.actor(), Base: r.uvarint()}
		x.Runs = r.runs(x.Base)
		spans = append(spans, x)
	}
	if r.err != nil {
		return kv.Clock{}
	}
	return kv.ClockOf(spans...)
}

// open reads how the lane is stored.
func (l *LaneReader) open() error {
	var how [1]byte
	if _, err := io.ReadFull(&l.raw, how[:]); err != nil {
		return err
	}
	switch how[0] {
	case lanePlain:
		l.in = bufio.NewReader(&l.raw)
		return nil
	case laneZstd:
	default:
		return fmt.Errorf("%w: a lane is stored in the unknown way %d", ErrMalformed, how[0])
	}
	z, ok := l.codec.idleDec.Get().(*zstd.Decoder)
	if !ok {
		var err error
		if z, err = newLaneDecoder(); err != nil {
			return err
		}
	}
	if err := z.Reset(&l.raw); err != nil {
		return fmt.Errorf("reset zstd decoder: %w", err)
	}
	l.z, l.in = z, bufio.NewReader(z)
	return nil
}

func newLaneDecoder() (*zstd.Decoder, error) {
	z, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(1), // in the caller's goroutine: nothing to stop
		zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(WindowBytes),
		zstd.WithDecoderMaxMemory(WindowBytes),
		zstd.WithDecodeBuffersBelow(0)) // always as a stream, whatever the source
	if err != nil {
		return nil, fmt.Errorf("make zstd decoder: %w", err)
	}
	return z, nil
}

// fill reads records up to the next check.
func (l *LaneReader) fill() error {
	if l.in == nil {
		if err := l.open(); err != nil {
			return err
		}
	}
	chunk := l.chunk[:0]
	for {
		t, err := l.in.ReadByte()
		if err != nil {
			return l.broken(err)
		}
		n, err := binary.ReadUvarint(l.in)
		if err != nil {
			return l.broken(err)
		}
		if Type(t) == TypeCheck {
			return l.check(chunk, n)
		}
		switch {
		case n > MaxLaneBytes:
			return fmt.Errorf("%w: a record has %d bytes, the limit is %d", ErrMalformed, n, MaxLaneBytes)
		case len(chunk) >= ChunkBytes:
			return fmt.Errorf("%w: %d bytes have no check", ErrMalformed, len(chunk))
		}
		chunk = append(chunk, t)
		chunk = binary.AppendUvarint(chunk, n)
		if chunk, err = l.body(chunk, int(n)); err != nil {
			return l.broken(err)
		}
	}
}

// body appends n bytes to chunk, which grows with what came and not with what
// was promised.
func (l *LaneReader) body(chunk []byte, n int) ([]byte, error) {
	for n > 0 {
		step := min(n, ChunkBytes)
		chunk = slices.Grow(chunk, step)
		at := len(chunk)
		chunk = chunk[:at+step]
		if _, err := io.ReadFull(l.in, chunk[at:]); err != nil {
			return chunk, err
		}
		n -= step
	}
	return chunk, nil
}

func (l *LaneReader) check(chunk []byte, n uint64) error {
	if n != 8 || len(chunk) == 0 {
		return fmt.Errorf("%w: a check of %d bytes over %d", ErrMalformed, n, len(chunk))
	}
	var sum [8]byte
	if _, err := io.ReadFull(l.in, sum[:]); err != nil {
		return l.broken(err)
	}
	if binary.LittleEndian.Uint64(sum[:]) != xxh3.Hash(chunk) {
		return fmt.Errorf("%w: a chunk of %d bytes does not match its check", ErrMalformed, len(chunk))
	}
	l.rest = bytes.Clone(chunk) // goes over to whoever gets the records
	if l.chunk = chunk; cap(chunk) > WindowBytes {
		l.chunk = nil // one large object blew it up
	}
	return nil
}

// broken tells a source that failed from a stream that ends early and from one
// whose bytes are wrong, which is all that the decoder complains of by itself.
func (l *LaneReader) broken(err error) error {
	switch {
	case l.raw.err != nil:
		return l.raw.err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return io.ErrUnexpectedEOF
	default:
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
}

// finish is called at the close record, behind which nothing may come.
func (l *LaneReader) finish() error {
	if len(l.rest) > 0 {
		return fmt.Errorf("%w: records follow the close", ErrMalformed)
	}
	switch _, err := l.in.ReadByte(); {
	case err == nil:
		return fmt.Errorf("%w: bytes follow the close", ErrMalformed)
	case err == io.EOF:
		return errClosed
	default:
		return l.broken(err)
	}
}
