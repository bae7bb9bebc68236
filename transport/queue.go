package transport

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sync"
)

// frameHead is the length before each frame on a stream.
const frameHead = 4

// frameQueue holds frames, ready to be written, until the stream takes them: all
// that waits goes out in one write.
type frameQueue struct {
	maxBytes int
	maxFrame int
	wake     chan struct{}

	mu      sync.Mutex
	waiting []byte
	writing int // bytes taken and not yet written: they count against maxBytes
	ended   bool
}

func newFrameQueue(maxBytes, maxFrame int) *frameQueue {
	return &frameQueue{maxBytes: maxBytes, maxFrame: maxFrame, wake: make(chan struct{}, 1)}
}

// push copies a frame into the queue. It never waits.
func (q *frameQueue) push(frame []byte) error {
	if len(frame) > q.maxFrame {
		return fmt.Errorf("send frame of %d bytes: %w", len(frame), ErrTooLarge)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.ended:
		return ErrPeerDown
	case len(q.waiting)+q.writing+frameHead+len(frame) > q.maxBytes:
		return ErrQueueFull
	}
	q.waiting = appendFrame(q.waiting, frame)
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return nil
}

// take returns all that waits and leaves spare, emptied, to be filled.
func (q *frameQueue) take(spare []byte) []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	b := q.waiting
	q.waiting = spare[:0]
	q.writing = len(b)
	return b
}

func (q *frameQueue) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
	q.waiting = nil
}

// drain writes what is queued to w until ended is closed or w fails.
func (q *frameQueue) drain(ended <-chan struct{}, w io.Writer) error {
	var spare []byte
	for {
		select {
		case <-ended:
			return nil
		case <-q.wake:
		}
		for {
			// What take returns is the writer's alone, whether it holds anything or
			// not, and is the only buffer that may be handed back: any other is the
			// one that frames are being pushed into.
			b := q.take(spare)
			spare = b
			if len(b) == 0 {
				break
			}
			if _, err := w.Write(b); err != nil {
				return err
			}
			if cap(b) > keepBufferBytes {
				spare = nil
			}
		}
	}
}

func appendFrame(b, frame []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(frame)))
	return append(b, frame...)
}

// readFrame reads one frame into buf, which it may replace, and returns it. The
// length is held to limit first, and the buffer grows as bytes come, never by the
// peer's word alone.
func readFrame(r io.Reader, buf []byte, limit int) ([]byte, error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := int(binary.LittleEndian.Uint32(head[:]))
	if n > limit {
		return nil, fmt.Errorf("read frame of %d bytes: %w", n, ErrTooLarge)
	}
	return readBody(r, buf, n)
}

// readBody reads n bytes, which the caller has held to a limit, into buf.
func readBody(r io.Reader, buf []byte, n int) ([]byte, error) {
	buf = buf[:0]
	for len(buf) < n {
		at := len(buf)
		step := min(n-at, max(growBytes, at))
		buf = slices.Grow(buf, step)[:at+step]
		if _, err := io.ReadFull(r, buf[at:]); err != nil {
			return nil, noEOF(err)
		}
	}
	return buf, nil
}

// noEOF tells an end inside a frame from an end between frames.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
