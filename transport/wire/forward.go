package wire

import (
	"math"

	"edged.dev/edged/internal/kv"
)

// What a request may have switched on, as bits. Append only.
const (
	requestNX = 1 << iota
	requestXX
	requestGT
	requestLT
	requestKeepTTL
	requestReturnOld
	requestSiblings
	requestMeta
	requestSystem
)

func requestFlags(q *kv.Request) uint64 {
	var f uint64
	for i, on := range []bool{q.NX, q.XX, q.GT, q.LT, q.KeepTTL, q.ReturnOld, q.Siblings, q.Meta, q.System} {
		f |= uint64(b2u(on)) << i
	}
	return f
}

// Append appends the frame.
func (f Forward) Append(dst []byte) []byte {
	q := &f.Request
	e := newEncoder(dst, TypeForward)
	e.uvarint(uint64(f.DeadlineMS))
	e.u64(f.View)
	e.byte(byte(q.Op))
	e.uvarint(requestFlags(q))
	e.bytes(q.Key)
	e.bytes(q.Value)
	e.zigzag(q.ExpiresMS)
	e.zigzag(q.Delta)
	e.tags(q.IfMatch)
	e.tags(q.IfNoneMatch)
	e.bytes(q.Token)
	e.bytes(q.Fence)
	e.uvarint(uint64(q.R))
	e.uvarint(uint64(q.W))
	return e.b
}

// ParseForward reads a FORWARD. Key, value and tokens are parts of frame, which
// therefore goes over to whoever keeps them and must not be used again.
func ParseForward(frame []byte) (Forward, error) {
	r := newReader(frame, TypeForward)
	f := Forward{DeadlineMS: uint32(r.upTo("the deadline", math.MaxUint32)), View: r.u64()}
	q := &f.Request
	q.Op = kv.Op(r.byte())
	on := r.uvarint()
	q.NX, q.XX = on&requestNX != 0, on&requestXX != 0
	q.GT, q.LT = on&requestGT != 0, on&requestLT != 0
	q.KeepTTL, q.ReturnOld = on&requestKeepTTL != 0, on&requestReturnOld != 0
	q.Siblings, q.Meta = on&requestSiblings != 0, on&requestMeta != 0
	q.System = on&requestSystem != 0
	q.System = on&requestSystem != 0
	q.Key = r.key()
	q.Value = r.bytes("a value", kv.MaxRecordBytes)
	q.ExpiresMS, q.Delta = r.zigzag(), r.zigzag()
	q.IfMatch, q.IfNoneMatch = r.tags(), r.tags()
	q.Token = r.optional("a token", kv.MaxTokenBytes)
	q.Fence = r.optional("a fence", kv.MaxTokenBytes)
	q.R, q.W = int(r.upTo("R", MaxQuorum)), int(r.upTo("W", MaxQuorum))
	return f, r.end("forward")
}

func (e *encoder) tags(tags []string) {
	e.uvarint(uint64(len(tags)))
	for _, t := range tags {
		e.string(t)
	}
}

func (r *reader) tags() []string {
	var tags []string
	for range r.count("entity tags", MaxTags, 1) {
		tags = append(tags, r.text("an entity tag", MaxTagBytes))
	}
	return tags
}

func (r *reader) text(what string, limit int) string { return string(r.bytes(what, limit)) }
