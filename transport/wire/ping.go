package wire

import (
	"encoding/binary"

	"edged.dev/edged/internal/kv"
)

// Append appends the frame.
func (p Ping) Append(dst []byte) []byte { return p.append(dst, TypePing) }

// Append appends the frame.
func (p Pong) Append(dst []byte) []byte {
	ping := Ping{Stamp: p.Stamp, StateVersion: p.StateVersion, WallMS: p.WallMS, HLC: p.HLC}
	b := append(ping.append(dst, TypePong), p.Load.Sessions, p.Load.Busy, p.Load.Mem)
	return append(binary.LittleEndian.AppendUint32(b, p.Load.EgressKiBps), b2u(p.Load.Leaving))
}

func (p Ping) append(dst []byte, t Type) []byte {
	e := newEncoder(dst, t)
	e.u64(uint64(p.Stamp))
	e.u64(p.StateVersion)
	e.u64(uint64(p.WallMS))
	e.u64(uint64(p.HLC))
	return e.b
}

// ParsePing reads a PING.
func ParsePing(frame []byte) (Ping, error) {
	r := newReader(frame, TypePing)
	p := r.ping()
	return p, r.end("ping")
}

// ParsePong reads a PONG.
func ParsePong(frame []byte) (Pong, error) {
	r := newReader(frame, TypePong)
	ping := r.ping()
	p := Pong{Stamp: ping.Stamp, StateVersion: ping.StateVersion, WallMS: ping.WallMS, HLC: ping.HLC}
	p.Load = Load{Sessions: r.byte(), Busy: r.byte()}
	if r.err == nil && len(r.b) > 0 { // an earlier version does not tell the rest
		p.Load.Mem = r.byte()
		p.Load.EgressKiBps = binary.LittleEndian.Uint32(r.take(4))
		p.Load.Leaving = r.upTo("a mark", 1) == 1
	}
	return p, r.end("pong")
}

func (r *reader) ping() Ping {
	return Ping{
		Stamp:        int64(r.u64()),
		StateVersion: r.u64(),
		WallMS:       int64(r.u64()),
		HLC:          kv.HLC(r.u64()),
	}
}
