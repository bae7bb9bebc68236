package cache

import (
	"encoding/binary"

	"edged.dev/edged/internal/kv"
)

// Expiry is one record of the index of expiries: a version, and when it expires.
type Expiry struct {
	AtMS      int64 // absolute Unix milliseconds; those before 1970 count as 1970
	Partition kv.Partition
	Order     uint64 // 48 bits, as in the key of the entry
	Key       []byte
	Actor     uint32 // short id
	Seq       uint64
}

// What of an expiry record's key lies before the object's key, and behind it.
const (
	expiryHead = 1 + 8 + 4 + 6
	expiryTail = 4 + 8
)

// AppendExpiryKey appends the key of a version in the index of expiries. The time
// comes first, over all partitions, so that nothing is read while nothing is due.
func AppendExpiryKey(dst []byte, e Expiry) []byte {
	dst = binary.BigEndian.AppendUint64(append(dst, recordExpiry), uint64(max(e.AtMS, 0)))
	dst = binary.BigEndian.AppendUint32(dst, uint32(e.Partition))
	dst = append(appendOrder(dst, e.Order), e.Key...)
	dst = binary.BigEndian.AppendUint32(dst, e.Actor)
	return binary.BigEndian.AppendUint64(dst, e.Seq)
}

// ParseExpiryKey reads what AppendExpiryKey wrote. Key lies in record.
func ParseExpiryKey(record []byte) (e Expiry, ok bool) {
	if len(record) < expiryHead+expiryTail || record[0] != recordExpiry {
		return Expiry{}, false
	}
	e.AtMS = int64(binary.BigEndian.Uint64(record[1:]))
	e.Partition = kv.Partition(binary.BigEndian.Uint32(record[9:]))
	for _, b := range record[13:expiryHead] {
		e.Order = e.Order<<8 | uint64(b)
	}
	tail := len(record) - expiryTail
	e.Key = record[expiryHead:tail:tail]
	e.Actor = binary.BigEndian.Uint32(record[tail:])
	e.Seq = binary.BigEndian.Uint64(record[tail+4:])
	return e, true
}

// ExpiryRange returns the bounds of the records of what expires at a time or
// before it.
func ExpiryRange(atMS int64) (lower, upper []byte) {
	lower = []byte{recordExpiry, 0} // behind ExpiryIndexKey: no time is so late
	upper = binary.BigEndian.AppendUint64([]byte{recordExpiry}, uint64(max(atMS, 0))+1)
	return lower, upper
}

// ExpiryIndexKey returns the key of the record that says that every version with
// an expiry is in the index. A directory of a version without the index lacks it.
func ExpiryIndexKey() []byte { return []byte{recordExpiry} }
