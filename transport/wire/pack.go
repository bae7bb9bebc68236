package wire

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Codec compresses tables and opens lanes. It holds what zstd wants to reuse, so
// a process keeps one. It is safe for concurrent use.
type Codec struct {
	enc *zstd.Encoder
	dec *zstd.Decoder

	idleEnc [LaneBest + 1]sync.Pool // *zstd.Encoder by level
	idleDec sync.Pool               // *zstd.Decoder
}

// NewCodec returns a Codec.
func NewCodec() (*Codec, error) {
	enc, err := newEncoderZstd(zstd.SpeedDefault)
	if err != nil {
		return nil, err
	}
	dec, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(MaxTableBytes),
		// Frames laid end to end would each get the limit anew without this.
		zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return nil, fmt.Errorf("make zstd decoder: %w", err)
	}
	return &Codec{enc: enc, dec: dec}, nil
}

func newEncoderZstd(level zstd.EncoderLevel) (*zstd.Encoder, error) {
	enc, err := zstd.NewWriter(nil,
		zstd.WithEncoderConcurrency(1), // in the caller's goroutine: nothing to stop
		zstd.WithEncoderLevel(level),
		zstd.WithWindowSize(WindowBytes),
		zstd.WithEncoderCRC(true))
	if err != nil {
		return nil, fmt.Errorf("make zstd encoder: %w", err)
	}
	return enc, nil
}

// How the body of a packed frame is stored; its first byte.
const (
	packedRaw  = 0
	packedZstd = 1
)

// pack compresses frame from the offset at on, if that makes it shorter.
func (c *Codec) pack(frame []byte, at int) []byte {
	body := frame[at:]
	if len(body) > PackBytes {
		if z := c.enc.EncodeAll(body, nil); len(z) < len(body) {
			return append(append(frame[:at], packedZstd), z...)
		}
	}
	return slices.Insert(frame, at, packedRaw)
}

// unpack replaces what is left to read by what pack stored there.
func (c *Codec) unpack(r *reader) {
	switch how := r.byte(); {
	case r.err != nil || how == packedRaw:
	case how == packedZstd:
		plain, err := c.inflate(r.b)
		if err != nil {
			r.refuse(err)
		} else {
			r.b = plain
		}
	default:
		r.fail("it is packed in the unknown way %d", how)
	}
}

func (c *Codec) inflate(b []byte) ([]byte, error) {
	var h zstd.Header
	if err := h.Decode(b); err != nil {
		return nil, fmt.Errorf("%w: read zstd header: %w", ErrMalformed, err)
	}
	if !h.HasFCS || h.FrameContentSize > MaxTableBytes {
		return nil, Breached(BreachBomb, "%w: it unpacks to %d bytes, the limit is %d", ErrMalformed, h.FrameContentSize, MaxTableBytes)
	}
	plain, err := c.dec.DecodeAll(b, make([]byte, 0, h.FrameContentSize))
	switch {
	case isBomb(err):
		return nil, Breached(BreachBomb, "%w: unpack: %w", ErrMalformed, err)
	case errors.Is(err, zstd.ErrCRCMismatch):
		return nil, Breached(BreachDigest, "%w: unpack: %w", ErrMalformed, err)
	case err != nil:
		return nil, fmt.Errorf("%w: unpack: %w", ErrMalformed, err)
	}
	return plain, nil
}

// isBomb reports whether zstd bytes want more room than they may have.
func isBomb(err error) bool {
	return errors.Is(err, zstd.ErrWindowSizeExceeded) || errors.Is(err, zstd.ErrDecoderSizeExceeded)
}
