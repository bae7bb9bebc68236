package cache

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"

	"edged.dev/edged/internal/kv"
)

// Copy is the record of one copy of a partition. It is set whole, once for each
// partition a commit group touched, never grown.
type Copy struct {
	Actor kv.Actor // of the incarnation that wrote it; it issues no dot again
	Trust kv.Trust
	Clock kv.Clock
	Floor kv.VV
	Fence kv.VV // seals of actors of which the copy takes nothing more that comes late
	Count uint64
	Sum   [16]byte
}

// Format 1 has no fences.
const copyFormat = 2

// crcTable is CRC32C, what storage uses for small records.
func crcTable() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// AppendCopy appends the record, with a checksum of its own: a copy whose clock
// is damaged must not be believed, for "seen and not held" means deleted.
func AppendCopy(dst []byte, ids ActorIDs, c Copy) []byte {
	from := len(dst)
	dst = append(dst, copyFormat, byte(c.Trust))
	dst = c.Actor.Append(dst)
	dst = binary.LittleEndian.AppendUint64(dst, c.Count)
	dst = append(dst, c.Sum[:]...)
	dst = AppendVV(dst, ids, c.Floor)
	dst = appendClock(dst, ids, c.Clock)
	dst = AppendVV(dst, ids, c.Fence)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[from:], crcTable()))
}

func appendClock(dst []byte, ids ActorIDs, c kv.Clock) []byte {
	spans := c.Spans()
	dst = binary.AppendUvarint(dst, uint64(len(spans)))
	for _, s := range spans {
		dst = binary.AppendUvarint(dst, uint64(ids.ID(s.Actor)))
		dst = binary.AppendUvarint(dst, seqOrSeal(s.Actor, s.Base))
		dst = binary.AppendUvarint(dst, uint64(len(s.Runs)))
		at := s.Base
		for _, r := range s.Runs {
			dst = binary.AppendUvarint(dst, r.From-at)
			dst = binary.AppendUvarint(dst, r.To-r.From)
			at = r.To
		}
	}
	return dst
}

// ParseCopy reads it, and fails with ErrRecord when the checksum does not fit.
func ParseCopy(b []byte, ids ActorIDs) (Copy, error) {
	if len(b) < 4 || crc32.Checksum(b[:len(b)-4], crcTable()) != binary.LittleEndian.Uint32(b[len(b)-4:]) {
		return Copy{}, fmt.Errorf("parse copy: checksum: %w", ErrRecord)
	}
	r := reader{b: b[:len(b)-4]}
	format := r.byte()
	if format == 0 || format > copyFormat {
		return Copy{}, fmt.Errorf("parse copy: format %d, this version reads up to %d: %w", format, copyFormat, ErrRecord)
	}
	c := Copy{Trust: kv.Trust(r.byte())}
	if a := r.take(kv.ActorBytes); r.err == nil {
		c.Actor = kv.ActorFrom(a)
	}
	c.Count = r.u64()
	copy(c.Sum[:], r.take(16))
	c.Floor = r.vv(ids)
	c.Clock = r.clock(ids)
	if format > 1 {
		c.Fence = r.vv(ids)
	}
	if r.err != nil {
		return Copy{}, fmt.Errorf("parse copy: %w", r.err)
	}
	return c, nil
}

func (r *reader) clock(ids ActorIDs) (c kv.Clock) {
	for range r.count(3) {
		s := kv.Span{Actor: r.actor(ids), Base: r.uvarint()}
		if s.Actor.IsSeal() {
			s.Base = math.MaxUint64
		}
		at := s.Base
		for range r.count(2) {
			from := at + r.uvarint()
			at = from + r.uvarint()
			s.Runs = append(s.Runs, kv.Run{From: from, To: at})
		}
		c.Join(kv.ClockOf(s))
	}
	return c
}

// reader takes bytes off a record; after the first error it gives zeros.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail() {
	r.b = nil
	if r.err == nil {
		r.err = ErrRecord
	}
}

func (r *reader) byte() byte {
	if len(r.b) < 1 {
		r.fail()
		return 0
	}
	b := r.b[0]
	r.b = r.b[1:]
	return b
}

func (r *reader) u64() uint64 {
	b := r.take(8)
	if b == nil {
		return 0
	}
	return binary.LittleEndian.Uint64(b)
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count reads a length and refuses one that the rest, at least each bytes an
// item, cannot hold.
func (r *reader) count(each int) int {
	n := r.uvarint()
	if n > uint64(len(r.b)/each) {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *reader) take(n int) []byte {
	if r.err != nil || n < 0 || n > len(r.b) {
		r.fail()
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) stamp(v *kv.Version) {
	flags := r.byte()
	v.Flags = kv.Flags(flags &^ versionExpires)
	v.HLC = kv.HLC(r.u64())
	if flags&versionExpires != 0 {
		v.ExpiresMS = int64(r.u64())
	}
}

func (r *reader) actor(ids ActorIDs) kv.Actor {
	id := r.uvarint()
	if r.err != nil || id > 1<<32-1 {
		r.fail()
		return kv.Actor{}
	}
	a, ok := ids.Actor(uint32(id))
	if !ok {
		r.fail()
	}
	return a
}

func (r *reader) dot(ids ActorIDs) kv.Dot { return kv.Dot{Actor: r.actor(ids), Seq: r.uvarint()} }

func (r *reader) vv(ids ActorIDs) kv.VV {
	n := r.count(2)
	if n == 0 {
		return nil
	}
	v := make(kv.VV, 0, n)
	for range n {
		d := r.dot(ids)
		if d.Actor.IsSeal() {
			d.Seq = math.MaxUint64
		}
		v = v.With(d)
	}
	return v
}
