package wire

import "edged.dev/edged/internal/kv"

// Cover offers the clocks of copies that the sender holds without owning them: the
// owners fetch what they lack, and the sender drops what all of them cover.
type Cover struct {
	View   uint64 // hash of the layout the sender goes by
	Copies []CopyClock
}

// CoverAck names the partitions offered that the answerer owns, in the same view, and
// durably covers. It keeps its own copies of them for ten minutes.
type CoverAck struct{ Covered []kv.Partition }

// Append appends the frame.
func (c Cover) Append(dst []byte) []byte {
	e := newEncoder(dst, TypeCover)
	e.u64(c.View)
	e.table(c.Copies, nil)
	return e.finish()
}

// ParseCover reads a COVER.
func ParseCover(frame []byte) (Cover, error) {
	r := newDictReader(frame, TypeCover)
	c := Cover{View: r.u64(), Copies: r.table(nil)}
	return c, r.end("cover")
}

// Append appends the frame.
func (c CoverAck) Append(dst []byte) []byte {
	e := newEncoder(dst, TypeCoverAck)
	e.partitions(c.Covered)
	return e.b
}

// ParseCoverAck reads a COVER_ACK.
func ParseCoverAck(frame []byte) (CoverAck, error) {
	r := newReader(frame, TypeCoverAck)
	c := CoverAck{Covered: r.partitions()}
	return c, r.end("cover ack")
}
