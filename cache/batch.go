package cache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// A Batch holds its operations in the engine's own batch representation, so
// that a commit hands them over without encoding them again: a header of 8
// bytes sequence number and 4 bytes count, then per operation a kind byte, the
// key with its varint length and, for a set, the value with its varint length.
const (
	batchHeaderBytes = 12
	kindDelete       = 0
	kindSet          = 1
)

// errBatchDamaged reports a batch whose bytes do not parse. Only this package
// writes them, so it means that memory was overwritten.
var errBatchDamaged = errors.New("batch bytes do not parse")

// Batch is a list of sets and deletes that become visible and durable together.
// Later operations on a key win over earlier ones. The bytes of keys and values
// are copied in, so the caller keeps what it passed. The zero value is empty and
// ready; Reset keeps the buffer, so a reused Batch stops allocating. Not safe
// for concurrent use, and not to be touched while a Commit of it runs.
type Batch struct {
	buf   []byte
	count uint32
}

// Set appends the operation that gives key the value.
func (b *Batch) Set(key, value []byte) {
	b.begin(kindSet, key)
	b.buf = binary.AppendUvarint(b.buf, uint64(len(value)))
	b.buf = append(b.buf, value...)
}

// Delete appends the operation that removes key, whether or not it is there.
func (b *Batch) Delete(key []byte) {
	b.begin(kindDelete, key)
}

// Append appends the operations of other, in their order. It copies them.
func (b *Batch) Append(other *Batch) {
	if other.count == 0 {
		return
	}
	b.grow(other.count)
	b.buf = append(b.buf, other.buf[batchHeaderBytes:]...)
}

// Reset empties the batch and keeps its buffer.
func (b *Batch) Reset() {
	b.buf, b.count = b.buf[:0], 0
}

// Len returns the number of operations.
func (b *Batch) Len() int { return int(b.count) }

// Bytes returns the encoded size of the operations in bytes, close to what a
// commit appends to the log.
func (b *Batch) Bytes() int {
	return max(len(b.buf)-batchHeaderBytes, 0)
}

// Each calls fn for every operation in order, until fn fails; it returns that
// error. value is nil for a delete. The slices lie in the batch: fn must not
// keep or change them.
func (b *Batch) Each(fn func(key, value []byte, deleted bool) error) error {
	if b.count == 0 {
		return nil
	}
	rest := b.buf[batchHeaderBytes:]
	for len(rest) > 0 {
		deleted := rest[0] == kindDelete
		key, value := []byte(nil), []byte(nil)
		ok := false
		if key, rest, ok = cutString(rest[1:]); ok && !deleted {
			value, rest, ok = cutString(rest)
		}
		if !ok {
			return fmt.Errorf("read batch: %w", errBatchDamaged)
		}
		if err := fn(key, value, deleted); err != nil {
			return err
		}
	}
	return nil
}

// begin appends the kind and the key of an operation.
func (b *Batch) begin(kind byte, key []byte) {
	b.grow(1)
	b.buf = append(b.buf, kind)
	b.buf = binary.AppendUvarint(b.buf, uint64(len(key)))
	b.buf = append(b.buf, key...)
}

// grow counts n more operations and makes the header when the batch was empty.
func (b *Batch) grow(n uint32) {
	if b.count > math.MaxUint32-n {
		panic("bug: more than 2^32-1 operations in one batch")
	}
	if len(b.buf) == 0 {
		b.buf = append(b.buf, make([]byte, batchHeaderBytes)...)
	}
	b.count += n
}

// repr returns the engine's representation; it shares the batch's buffer.
func (b *Batch) repr() []byte {
	clear(b.buf[:8])
	binary.LittleEndian.PutUint32(b.buf[8:batchHeaderBytes], b.count)
	return b.buf
}

// cutString splits a varint-length-prefixed string off the front of b. The
// string is never nil, so that an empty value differs from none.
func cutString(b []byte) (s, rest []byte, ok bool) {
	n, width := binary.Uvarint(b)
	if width <= 0 || n > uint64(len(b)-width) {
		return nil, nil, false
	}
	end := width + int(n)
	return b[width:end:end], b[end:], true
}
