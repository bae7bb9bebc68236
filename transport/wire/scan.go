package wire

import (
	"bytes"

	"edged.dev/edged/internal/kv"
)

// Append appends the frame.
func (s Scan) Append(dst []byte) []byte {
	e := newEncoder(dst, TypeScan)
	e.uvarint(uint64(s.Partition))
	e.u64(s.From)
	e.uvarint(uint64(s.Limit))
	e.bytes(s.Prefix)
	return e.b
}

// ParseScan reads a SCAN.
func ParseScan(frame []byte) (Scan, error) {
	r := newReader(frame, TypeScan)
	s := Scan{Partition: r.partition(), From: r.u64(), Limit: uint32(r.upTo("the limit", MaxScanKeys))}
	s.Prefix = bytes.Clone(r.optional("a prefix", kv.MaxKeyBytes))
	return s, r.end("scan")
}

// Append appends the frame.
func (s ScanAck) Append(dst []byte) []byte {
	e := newEncoder(dst, TypeScanAck)
	e.byte(byte(s.State))
	e.byte(b2u(s.Done))
	e.u64(s.Next)
	e.uvarint(uint64(len(s.Keys)))
	for _, k := range s.Keys {
		e.bytes(k.Key)
		e.zigzag(k.ExpiresMS)
	}
	return e.b
}

// ParseScanAck reads a SCAN_ACK. Keys are parts of frame, which therefore goes
// over to whoever keeps them and must not be used again.
func ParseScanAck(frame []byte) (ScanAck, error) {
	r := newReader(frame, TypeScanAck)
	s := ScanAck{State: r.state(), Done: r.byte()&1 == 1, Next: r.u64()}
	n := r.count("keys", MaxScanKeys, 3)
	if n > 0 {
		s.Keys = make([]ScannedKey, 0, n)
	}
	for range n {
		s.Keys = append(s.Keys, ScannedKey{Key: r.key(), ExpiresMS: r.zigzag()})
	}
	return s, r.end("scan ack")
}
