package wire

import (
	"encoding/binary"

	"edged.dev/edged/internal/kv"
)

// Seal asks about the processes of a node up to a boot, which are gone. In the first
// round the receiver promises to take nothing more of them that comes late, and tells
// what its copies have seen of them; in the second it takes everything of them as
// seen, in the copies that hold what all owners were found to hold.
type Seal struct {
	View  uint64 // hash of the layout the sender goes by
	Node  kv.NodeID
	Boot  uint32
	Close bool // the second round
	Parts []SealPart
}

// SealPart is a partition asked about. Found, of the second round, is the sum that
// all owners told.
type SealPart struct {
	Partition kv.Partition
	Found     uint64
}

// Promise is what a receiver says of one copy.
type Promise uint8

// What a copy can be to a seal.
const (
	SealRefused Promise = iota // it promises nothing: another view, or the process lives
	SealNoCopy                 // there is none
	SealNothing                // the copy has seen nothing of them, and has promised
	SealFenced                 // it has seen what Sum says, and has promised
	SealClosed                 // all of them counts as seen already
)

// SealAck answers for the partitions asked about, in their order.
type SealAck struct{ Parts []SealState }

// SealState is the answer for one copy; Sum is told with SealFenced alone.
type SealState struct {
	Partition kv.Partition
	Promise   Promise
	Whole     bool // the copy is trusted: WHOLE
	Sum       uint64
}

// Append appends the frame.
func (s Seal) Append(dst []byte) []byte {
	e := newEncoder(dst, TypeSeal)
	e.u64(s.View)
	e.u64(uint64(s.Node))
	e.uvarint(uint64(s.Boot))
	e.byte(b2u(s.Close))
	parts := make([]kv.Partition, len(s.Parts))
	for i, p := range s.Parts {
		parts[i] = p.Partition
	}
	e.partitions(parts)
	for _, p := range s.Parts {
		if s.Close {
			e.u64(p.Found)
		}
	}
	return e.b
}

// ParseSeal reads a SEAL.
func ParseSeal(frame []byte) (Seal, error) {
	r := newReader(frame, TypeSeal)
	s := Seal{View: r.u64(), Node: kv.NodeID(r.u64())}
	s.Boot = uint32(r.upTo("a boot", 1<<32-1))
	s.Close = r.upTo("a round", 1) == 1
	for _, p := range r.partitions() {
		s.Parts = append(s.Parts, SealPart{Partition: p})
	}
	if s.Close && 8*len(s.Parts) > len(r.b) {
		r.fail("it ends within its sums")
	}
	for i := range s.Parts {
		if s.Close {
			s.Parts[i].Found = r.u64()
		}
	}
	if r.err != nil {
		return Seal{}, r.end("seal")
	}
	return s, nil
}

const sealWhole = 1 << 7 // beside the promise

// Append appends the frame.
func (s SealAck) Append(dst []byte) []byte {
	e := newEncoder(dst, TypeSealAck)
	e.uvarint(uint64(len(s.Parts)))
	prev := noPartition
	for _, p := range s.Parts {
		e.zigzag(numberOf(p.Partition) - prev - 1)
		prev = numberOf(p.Partition)
		e.byte(byte(p.Promise) | b2u(p.Whole)*sealWhole)
		if p.Promise == SealFenced {
			e.b = binary.LittleEndian.AppendUint64(e.b, p.Sum)
		}
	}
	return e.b
}

// ParseSealAck reads a SEAL_ACK.
func ParseSealAck(frame []byte) (SealAck, error) {
	r := newReader(frame, TypeSealAck)
	var s SealAck
	prev := noPartition
	for range r.count("copies", MaxCopies, 2) {
		p := SealState{Partition: r.partitionAfter(&prev)}
		b := r.byte()
		p.Promise, p.Whole = Promise(b&^sealWhole), b&sealWhole != 0
		if p.Promise > SealClosed {
			r.fail("a promise is %d", p.Promise)
		}
		if p.Promise == SealFenced {
			p.Sum = r.u64()
		}
		if r.err != nil {
			return SealAck{}, r.end("seal ack")
		}
		s.Parts = append(s.Parts, p)
	}
	return s, r.end("seal ack")
}
