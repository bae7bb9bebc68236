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
	Session uint64 // TypeLaneHead: the one whose answer's clocks Lean wants next
	Lane    uint8  // TypeLaneHead: which of the session's lanes this is
	Lanes   uint8  // TypeLaneHead: how many there are, 1 to MaxSessionLanes
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
	chunk []byte        // reused
	read  uint64        // chunks that were read
	rest  *reader       // of the columns of a checked chunk; nil: none
	next  []LaneRecord  // parsed and not handed out yet
	dict  dict
	state laneState
	leans bool   // the lane leans on the table with
	mark  uint32 // this fingerprint
	told  *told  // nil: not given yet
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

// Chunks is how many chunks were read, and whether every record of them was handed out.
func (l *LaneReader) Chunks() (n uint64, whole bool) {
	return l.read, l.rest == nil && len(l.next) == 0
}

// Lean gives the clocks that the answer to the session's HELLO told. It comes
// behind the head, and is an error if the lane leans on other ones.
func (l *LaneReader) Lean(answered []CopyClock) error {
	switch {
	case l.err != nil || !l.leans:
		return l.err
	case len(answered) == 0 || fingerprint(answered) != l.mark:
		l.err = fmt.Errorf("read lane: %w: it leans on another table than the one here", ErrNeedClocks)
		return l.err
	}
	l.told = tell(&l.dict, answered)
	return nil
}

// Next returns the next record. At the end it is io.EOF if the lane was closed
// in order, io.ErrUnexpectedEOF if it broke off, ErrMalformed if its bytes make
// no sense; the error stays.
func (l *LaneReader) Next() (LaneRecord, error) {
	if l.err != nil {
		return LaneRecord{}, l.err
	}
	if len(l.next) == 0 {
		switch err := l.more(); {
		case err == nil:
		case err == errClosed:
			l.err = io.EOF
		case errors.Is(err, io.EOF):
			l.err = fmt.Errorf("read lane: %w", io.ErrUnexpectedEOF)
		default:
			l.err = fmt.Errorf("read lane: %w", err)
		}
		if l.err != nil {
			l.rest = nil
			return LaneRecord{}, l.err
		}
	}
	rec := l.next[0]
	l.next = l.next[1:]
	return rec, nil
}

// errClosed is the orderly end, told apart from an io.EOF of the source.
var errClosed = errors.New("lane is closed")

// Close lets go of the decoder. It does not close the reader below.
func (l *LaneReader) Close() {
	if l.err == nil {
		l.err = fmt.Errorf("read lane: it is closed here")
	}
	l.chunk, l.rest, l.next, l.in = nil, nil, nil, nil
	if l.z != nil && l.z.Reset(nil) == nil {
		l.codec.idleDec.Put(l.z)
	}
	l.z = nil
}

// more parses the next record, of the next chunk if need be.
func (l *LaneReader) more() error {
	if l.rest == nil {
		if err := l.fill(); err != nil {
			return err
		}
	}
	r := l.rest
	r.to(colKinds)
	t := Type(r.byte())
	if t == TypeClose {
		return l.finish()
	}
	if l.next = l.parse(t, r); r.err != nil {
		l.next = nil
		return fmt.Errorf("parse record of type %d: %w", t, r.err)
	}
	if r.to(colKinds); len(r.b) == 0 {
		if !r.readAll() {
			return fmt.Errorf("%w: a chunk has more in its columns than its records", ErrMalformed)
		}
		l.rest = nil
	}
	return nil
}

func (l *LaneReader) parse(t Type, r *reader) []LaneRecord {
	rec := LaneRecord{Type: t}
	if t != TypeLaneHead && l.leans && l.told == nil {
		r.refuse(fmt.Errorf("%w: it leans on a table that is not here", ErrNeedClocks))
		return nil
	}
	switch t {
	case TypeLaneHead:
		rec.Session = r.u64()
		head := byte(r.upTo("a head", 1|(MaxSessionLanes-1)<<1|(MaxSessionLanes-1)<<4))
		if rec.Lanes, rec.Lane = head>>1&7+1, head>>4; rec.Lane >= rec.Lanes {
			r.fail("lane %d of %d", rec.Lane, rec.Lanes)
		}
		if l.leans = head&1 == 1; l.leans {
			l.mark = binary.LittleEndian.Uint32(r.take(4))
		}
	case TypeBegin:
		if rec.Begin.Mode = Mode(r.byte()); rec.Begin.Mode > ModeBoth {
			r.fail("mode %d is unknown", rec.Begin.Mode)
		}
		rec.Begin.Partition, _ = l.place(r)
	case TypeBatch, TypeTail:
		base, floor := r.vvFrom(l.state.base), r.vvFrom(l.state.floor)
		rec.Batch = r.batch(&l.state, base, floor)
	case TypeWhole:
		return l.whole(r)
	case TypeKeep:
		rec.Keep.Dots = r.clock()
	case TypeLiveDots:
		rec.Live = r.liveDots(&l.state)
	case TypeEnd:
		rec.End = r.laneEnd(&l.state)
	case TypeStop:
	default:
		r.fail("a record has the unknown type %d", t)
	}
	return []LaneRecord{rec}
}

// place reads which partition begins, and its row in the table that the lane
// leans on.
func (l *LaneReader) place(r *reader) (p kv.Partition, row int) {
	r.to(colParts)
	at := l.state.place + 1 + r.zigzag()
	most := int64(kv.System)
	if l.told != nil {
		most = int64(len(l.told.copies)) - 1
	}
	if at < 0 || at > most || r.err != nil {
		r.fail("a partition is out of range")
		return 0, 0
	}
	l.state.place, l.state.seq = at, 0
	if l.told == nil {
		return kv.Partition(at), 0
	}
	l.state.base = l.told.bases[at]
	return l.told.copies[at].Partition, int(at)
}

// whole reads a partition that went as it was told.
func (l *LaneReader) whole(r *reader) []LaneRecord {
	if l.told == nil {
		r.fail("it leans on no table")
		return nil
	}
	p, row := l.place(r)
	out := []LaneRecord{{Type: TypeBegin, Begin: Begin{Partition: p, Mode: ModeInterval}}}
	if b := r.batch(&l.state, l.state.base, l.state.floor); len(b.Copies) > 0 {
		out = append(out, LaneRecord{Type: TypeBatch, Batch: b})
	}
	end := End{Clock: l.told.copies[row].Clock.Clone(), Floor: l.state.floor}
	return append(out, LaneRecord{Type: TypeEnd, End: end})
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
		x := kv.Span{Actor: r.issuer(), Base: r.uvarint()}
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

// fill reads a chunk and checks it.
func (l *LaneReader) fill() error {
	if l.in == nil {
		if err := l.open(); err != nil {
			return err
		}
	}
	chunk, total := l.chunk[:0], uint64(0)
	var lengths [columnCount]int
	for i := range lengths {
		n, err := binary.ReadUvarint(l.in)
		if err != nil {
			return l.broken(err)
		}
		if total += min(n, MaxChunkBytes+1); total > MaxChunkBytes {
			return Breached(BreachOversized, "%w: a chunk has %d bytes, the limit is %d", ErrMalformed, total, MaxChunkBytes)
		}
		lengths[i] = int(n)
		chunk = binary.AppendUvarint(chunk, n)
	}
	if lengths[colKinds] == 0 {
		return fmt.Errorf("%w: a chunk has no records", ErrMalformed)
	}
	head := len(chunk)
	var err error
	if chunk, err = l.body(chunk, int(total)); err != nil {
		return l.broken(err)
	}
	var sum [8]byte
	if _, err := io.ReadFull(l.in, sum[:]); err != nil {
		return l.broken(err)
	}
	if binary.LittleEndian.Uint64(sum[:]) != xxh3.Hash(chunk) {
		return Breached(BreachDigest, "%w: a chunk of %d bytes does not match its check", ErrMalformed, len(chunk))
	}
	if l.chunk = chunk; cap(chunk) > WindowBytes {
		l.chunk = nil // one large object blew it up
	}
	rest := bytes.Clone(chunk[head:]) // goes over to whoever gets the records
	cols := &columns{at: colKinds}
	for i, n := range lengths {
		cols.of[i], rest = rest[:n:n], rest[n:]
	}
	l.read++
	l.rest = &reader{b: cols.of[colKinds], dict: &l.dict, inline: true, cols: cols}
	return nil
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

// broken tells a source that failed from a stream that ends early and from one
// whose bytes are wrong, which is all that the decoder complains of by itself.
func (l *LaneReader) broken(err error) error {
	switch {
	case l.raw.err != nil:
		return l.raw.err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return io.ErrUnexpectedEOF
	case isBomb(err):
		return Breached(BreachBomb, "%w: %w", ErrMalformed, err)
	case errors.Is(err, zstd.ErrCRCMismatch):
		return Breached(BreachDigest, "%w: %w", ErrMalformed, err)
	default:
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
}

// finish is called at the close record, behind which nothing may come.
func (l *LaneReader) finish() error {
	if !l.rest.readAll() {
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
