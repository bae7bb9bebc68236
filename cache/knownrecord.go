package cache

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"edged.dev/edged/internal/kv"
)

// Known is the record of what a peer's copy of a partition was known to hold.
type Known struct {
	Peer  string   // the member's name
	Actor kv.Actor // of the copy's incarnation that said so
	Clock kv.Clock // on stable storage there
	Lost  bool     // the copy was rolled back, and has not said yet that it knows
}

const knownFormat = 1

// AppendKnown appends the record, with a checksum of its own: a damaged one would
// take a sound copy for one that was rolled back.
func AppendKnown(dst []byte, ids ActorIDs, k Known) []byte {
	from := len(dst)
	lost := byte(0)
	if k.Lost {
		lost = 1
	}
	dst = append(dst, knownFormat, lost)
	dst = binary.AppendUvarint(dst, uint64(len(k.Peer)))
	dst = append(dst, k.Peer...)
	dst = k.Actor.Append(dst)
	dst = appendClock(dst, ids, k.Clock)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[from:], crcTable()))
}

// ParseKnown reads it, and fails with ErrRecord when the checksum does not fit.
func ParseKnown(b []byte, ids ActorIDs) (Known, error) {
	if len(b) < 4 || crc32.Checksum(b[:len(b)-4], crcTable()) != binary.LittleEndian.Uint32(b[len(b)-4:]) {
		return Known{}, fmt.Errorf("parse known: checksum: %w", ErrRecord)
	}
	r := reader{b: b[:len(b)-4]}
	if f := r.byte(); f != knownFormat {
		return Known{}, fmt.Errorf("parse known: format %d, this version reads %d: %w", f, knownFormat, ErrRecord)
	}
	k := Known{Lost: r.byte() != 0}
	k.Peer = string(r.take(r.count(1)))
	if a := r.take(kv.ActorBytes); r.err == nil {
		k.Actor = kv.ActorFrom(a)
	}
	k.Clock = r.clock(ids)
	if r.err != nil {
		return Known{}, fmt.Errorf("parse known: %w", r.err)
	}
	return k, nil
}
