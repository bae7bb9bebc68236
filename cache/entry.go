package cache

import (
	"encoding/binary"
	"errors"
	"fmt"

	"edged.dev/edged/internal/kv"
)

// ErrRecord reports a record whose bytes do not parse: the disk or a bug.
var ErrRecord = errors.New("store record does not parse")

// Entry is an object as it is stored: its explicit context, and the id of the
// session record that the context still leans on (0: none).
type Entry struct {
	Object  kv.Object
	Session uint64
}

// IsZero reports whether there is nothing to store.
func (e Entry) IsZero() bool { return e.Object.IsZero() && e.Session == 0 }

// Check is what a directory says of a version's value.
type Check struct {
	Bytes int
	Sum   uint64 // xxh3-64
}

const (
	entrySession = 1 << iota // a session id follows
	entryContext             // a context follows
	entryInline              // each version is followed by its value
)

const versionExpires = 1 << 7 // in a version's flags byte: an expiry follows

// AppendEntry appends the directory of an object, with its values when inline:
// the form without is the store's, the form with is the memory tier's.
func AppendEntry(dst []byte, ids ActorIDs, e Entry, inline bool) []byte {
	flags := byte(0)
	if e.Session != 0 {
		flags |= entrySession
	}
	if len(e.Object.Ctx) > 0 {
		flags |= entryContext
	}
	if inline {
		flags |= entryInline
	}
	dst = append(dst, flags)
	if e.Session != 0 {
		dst = binary.LittleEndian.AppendUint64(dst, e.Session)
	}
	if len(e.Object.Ctx) > 0 {
		dst = AppendVV(dst, ids, e.Object.Ctx)
	}
	dst = binary.AppendUvarint(dst, uint64(len(e.Object.Versions)))
	for _, v := range e.Object.Versions {
		dst = binary.AppendUvarint(dst, uint64(ids.ID(v.Dot.Actor)))
		dst = binary.AppendUvarint(dst, v.Dot.Seq)
		dst = appendStamp(dst, v)
		dst = binary.AppendUvarint(dst, uint64(len(v.Value)))
		dst = binary.LittleEndian.AppendUint64(dst, v.ValueSum())
		if inline {
			dst = append(dst, v.Value...)
		}
	}
	return dst
}

func appendStamp(dst []byte, v kv.Version) []byte {
	flags := byte(v.Flags)
	if v.ExpiresMS != 0 {
		flags |= versionExpires
	}
	dst = binary.LittleEndian.AppendUint64(append(dst, flags), uint64(v.HLC))
	if v.ExpiresMS != 0 {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(v.ExpiresMS))
	}
	return dst
}

// ParseEntry reads a directory. Values of an inline one lie in b; of the other
// form they are nil, and checks, which inline ones have none of, tells what
// Version records must hold.
func ParseEntry(b []byte, ids ActorIDs) (e Entry, checks []Check, err error) {
	r := reader{b: b}
	flags := r.byte()
	if flags&entrySession != 0 {
		e.Session = r.u64()
	}
	if flags&entryContext != 0 {
		e.Object.Ctx = r.vv(ids)
	}
	n := r.count(12)
	if n > 0 {
		e.Object.Versions = make([]kv.Version, 0, n)
		if flags&entryInline == 0 {
			checks = make([]Check, 0, n)
		}
	}
	for range n {
		v := kv.Version{Dot: r.dot(ids)}
		r.stamp(&v)
		c := Check{Bytes: int(r.uvarint()), Sum: r.u64()}
		v.Sum = c.Sum
		if flags&entryInline != 0 {
			v.Value = r.take(c.Bytes)
		} else {
			checks = append(checks, c)
		}
		e.Object.Versions = append(e.Object.Versions, v)
	}
	if r.err != nil {
		return Entry{}, nil, fmt.Errorf("parse entry: %w", r.err)
	}
	return e, checks, nil
}

// Shown is what the record of a plain object shows: one version that leans on
// nothing.
type Shown struct {
	Found     bool  // false for a tombstone
	ExpiresMS int64 // absolute Unix milliseconds, 0 = never; to be held against the time
}

// PeekValue reads the value that an inline record shows without allocating:
// plain is false when the object is not one unleaning version, so that the long
// way must be taken. The value lies in b.
func PeekValue(b []byte) (value []byte, shown Shown, plain bool) {
	r := reader{b: b}
	if r.byte() != entryInline || r.uvarint() != 1 {
		return nil, Shown{}, false
	}
	r.uvarint()
	r.uvarint()
	var v kv.Version
	r.stamp(&v)
	n := int(r.uvarint())
	r.u64()
	value = r.take(n)
	if r.err != nil {
		return nil, Shown{}, false
	}
	return value, Shown{Found: !v.Tombstone(), ExpiresMS: v.ExpiresMS}, true
}

// AppendVersion appends the dot index's record of a version.
func AppendVersion(dst []byte, key []byte, v kv.Version) []byte {
	dst = appendStamp(dst, v)
	dst = binary.AppendUvarint(dst, uint64(len(key)))
	return append(append(dst, key...), v.Value...)
}

// ParseVersion reads it. Key and value lie in b; the dot is the caller's to fill.
func ParseVersion(b []byte) (key []byte, v kv.Version, err error) {
	r := reader{b: b}
	r.stamp(&v)
	key = r.take(int(r.uvarint()))
	if r.err != nil {
		return nil, kv.Version{}, fmt.Errorf("parse version: %w", r.err)
	}
	v.Value = r.b
	return key, v, nil
}

// AppendTombstone appends the record of a tombstone: its time and key.
func AppendTombstone(dst []byte, key []byte, t kv.HLC) []byte {
	return append(binary.LittleEndian.AppendUint64(dst, uint64(t)), key...)
}

// ParseTombstone reads it. The key lies in b.
func ParseTombstone(b []byte) (key []byte, t kv.HLC, err error) {
	r := reader{b: b}
	t = kv.HLC(r.u64())
	if r.err != nil {
		return nil, 0, fmt.Errorf("parse tombstone: %w", r.err)
	}
	return r.b, t, nil
}

// AppendVV appends a vector by actor ids.
func AppendVV(dst []byte, ids ActorIDs, v kv.VV) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(v)))
	for _, d := range v {
		dst = binary.AppendUvarint(dst, uint64(ids.ID(d.Actor)))
		dst = binary.AppendUvarint(dst, seqOrSeal(d.Actor, d.Seq))
	}
	return dst
}

// seqOrSeal is a sequence as it is stored: that of a seal, always the highest there
// is, as 0.
func seqOrSeal(a kv.Actor, seq uint64) uint64 {
	if a.IsSeal() {
		return 0
	}
	return seq
}

// ParseVV reads what AppendVV wrote and nothing else.
func ParseVV(b []byte, ids ActorIDs) (kv.VV, error) {
	r := reader{b: b}
	v := r.vv(ids)
	if r.err != nil {
		return nil, fmt.Errorf("parse vector: %w", r.err)
	}
	return v, nil
}
