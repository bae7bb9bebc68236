package policies

import (
	"encoding/binary"
	"fmt"
	"math"

	"edged.dev/edged/internal/repair"
)

// The frames of a repair policy, little endian. wasm-examples/edged.h says the
// same in C.
const (
	repairMagic = 0x31514445 // "EDQ1"
	planMagic   = 0x31504445 // "EDP1"

	repairHeader  = 64
	loadRecord    = 32
	rangeRecord   = 64
	replicaRecord = 32
	hotRecord     = 16
	stepRecord    = 32
	ruleHeader    = 4

	// flagLoad says that a load record stands behind the header.
	flagLoad = 1
)

// AppendRepairRequest appends the request for a plan to dst. The frame must begin
// at a multiple of 8 in the guest's memory; its offsets count from its beginning.
// Ranges, peers and hot prefixes beyond the limits of package repair are left out.
func AppendRepairRequest(dst []byte, in repair.Input, params []byte) []byte {
	ranges, peers := in.Ranges[:min(len(in.Ranges), repair.MaxRanges)], in.Peers[:min(len(in.Peers), repair.MaxPeers)]
	hot := in.Hot[:min(len(in.Hot), repair.MaxHot)]
	le, start := binary.LittleEndian, len(dst)
	rangesOff := repairHeader + loadRecord
	peersOff := rangesOff + rangeRecord*len(ranges)
	hotOff := peersOff + replicaRecord*len(peers)
	dst = append(dst, make([]byte, hotOff+hotRecord*len(hot))...)
	record := func(off, n int) []byte { return dst[start+off : start+off+n] }
	for i := range ranges {
		putRange(record(rangesOff+rangeRecord*i, rangeRecord), &ranges[i])
	}
	for i := range peers {
		putReplica(record(peersOff+replicaRecord*i, replicaRecord), &peers[i])
	}
	for i := range hot {
		prefix := hot[i].Prefix[:min(len(hot[i].Prefix), MaxPrefixBytes)]
		off := len(dst) - start
		dst = appendBlob(dst, start, []byte(prefix))
		r := record(hotOff+hotRecord*i, hotRecord)
		le.PutUint32(r[0:], uint32(off))
		le.PutUint32(r[4:], uint32(len(prefix)))
		le.PutUint32(r[8:], hot[i].Reads)
	}
	paramsOff := 0
	if len(params) > 0 {
		paramsOff = len(dst) - start
		dst = appendBlob(dst, start, params)
	}
	h := record(0, repairHeader)
	for i, v := range []uint32{
		repairMagic, uint32(len(dst) - start), uint32(len(ranges)), uint32(rangesOff),
		uint32(len(peers)), uint32(peersOff), uint32(paramsOff), uint32(len(params)),
	} {
		le.PutUint32(h[4*i:], v)
	}
	le.PutUint64(h[32:], in.BudgetBytes)
	le.PutUint32(h[40:], in.MaxSteps)
	le.PutUint32(h[44:], in.CPUPermille)
	le.PutUint32(h[48:], in.Inflight)
	le.PutUint32(h[52:], flagLoad)
	le.PutUint64(h[56:], in.TickS)
	l := record(repairHeader, loadRecord)
	le.PutUint32(l[0:], in.ForegroundP99US)
	le.PutUint32(l[4:], in.RequestsPerS)
	le.PutUint32(l[8:], uint32(in.UTCOffsetS))
	le.PutUint32(l[12:], uint32(len(hot)))
	le.PutUint32(l[16:], uint32(hotOff))
	return dst
}

// appendBlob appends b and zeros up to the next multiple of 8 from start on.
func appendBlob(dst []byte, start int, b []byte) []byte {
	dst = append(dst, b...)
	for (len(dst)-start)%8 != 0 {
		dst = append(dst, 0)
	}
	return dst
}

func putRange(b []byte, r *repair.Range) {
	le := binary.LittleEndian
	le.PutUint64(b[0:], r.Partition)
	le.PutUint32(b[8:], r.From)
	le.PutUint32(b[12:], r.To)
	le.PutUint64(b[16:], r.Keys)
	le.PutUint64(b[24:], r.Total)
	le.PutUint64(b[32:], r.Bytes)
	le.PutUint64(b[40:], r.Dots)
	le.PutUint32(b[48:], r.AgeS())
	le.PutUint32(b[52:], r.RepairS())
	le.PutUint32(b[56:], r.Reads)
	le.PutUint16(b[60:], r.RTTMS)
	le.PutUint16(b[62:], r.Failures)
}

func putReplica(b []byte, p *repair.Peer) {
	le := binary.LittleEndian
	le.PutUint64(b[0:], p.Node)
	le.PutUint32(b[8:], p.CPUPermille)
	le.PutUint32(b[12:], p.MemPermille)
	le.PutUint32(b[16:], p.EgressKiBps)
	le.PutUint32(b[20:], p.RTTUS)
	le.PutUint16(b[24:], p.Zone)
	le.PutUint16(b[26:], uint16(p.State))
	le.PutUint16(b[28:], uint16(p.Link))
}

// ParseRepairResponse checks a plan's frame and returns its steps, which
// repair.Guard is to judge. An error means that the frame as a whole is bad, and
// so is no step; a step with Bad is bad by itself. It never panics and allocates
// no more than the frame's own length calls for.
func ParseRepairResponse(b []byte) ([]repair.Step, error) {
	le := binary.LittleEndian
	if len(b) < responseHeader || len(b) > MaxRepairResponseBytes {
		return nil, fmt.Errorf("%w: %d bytes are not within %d and %d", errMalformed, len(b), responseHeader, MaxRepairResponseBytes)
	}
	if m := le.Uint32(b); m != planMagic {
		return nil, fmt.Errorf("%w: begins with %#x, not %#x", errMalformed, m, uint32(planMagic))
	}
	if t := le.Uint32(b[4:]); uint64(t) != uint64(len(b)) {
		return nil, fmt.Errorf("%w: total_len %d in %d bytes", errMalformed, t, len(b))
	}
	n := uint64(le.Uint32(b[8:]))
	if z := le.Uint32(b[12:]); z != 0 {
		return nil, fmt.Errorf("%w: reserved word is %#x", errMalformed, z)
	}
	first := responseHeader + stepRecord*n
	if first > uint64(len(b)) {
		return nil, fmt.Errorf("%w: %d bytes, %d steps need %d", errMalformed, len(b), n, first)
	}
	steps := make([]repair.Step, n)
	f := filters{frame: b, first: first, spare: uint64(len(b)) - first, read: map[[2]uint64]filter{}}
	for i := range steps {
		steps[i] = parseStep(b, responseHeader+stepRecord*i, &f)
	}
	return steps, nil
}

// filters reads the filters of a frame. Steps may share one; those that overlap
// otherwise may not be longer together than the frame has room for, or small
// frames would make large plans.
type filters struct {
	frame []byte
	first uint64 // where the steps end
	spare uint64
	read  map[[2]uint64]filter // by place and length
}

type filter struct {
	rules []repair.Rule
	bad   string
}

func (f *filters) at(off, n uint64) (rules []repair.Rule, bad string) {
	switch {
	case n == 0 && off == 0:
		return nil, ""
	case n == 0:
		return nil, fmt.Sprintf("a filter at %d without a length", off)
	case off < f.first || off+n > uint64(len(f.frame)):
		return nil, fmt.Sprintf("a filter of %d bytes at %d, outside of %d to %d", n, off, f.first, len(f.frame))
	case n > maxFilterBytes:
		return nil, fmt.Sprintf("a filter of %d bytes, the limit is %d", n, maxFilterBytes)
	}
	if known, ok := f.read[[2]uint64{off, n}]; ok {
		return known.rules, known.bad
	}
	if n > f.spare {
		return nil, "filters overlap"
	}
	f.spare -= n
	rules, bad = parseRules(f.frame[off : off+n])
	f.read[[2]uint64{off, n}] = filter{rules, bad}
	return rules, bad
}

func parseStep(b []byte, off int, f *filters) repair.Step {
	le := binary.LittleEndian
	e := b[off : off+stepRecord]
	s := repair.Step{
		Range: le.Uint32(e[0:]), Strategy: repair.Strategy(e[4]), Direction: repair.Direction(e[5]), Priority: le.Uint16(e[6:]),
		RateKiBps: le.Uint32(e[8:]), DelayMS: le.Uint32(e[12:]), MaxBytes: le.Uint64(e[16:]),
	}
	s.Rules, s.Bad = f.at(uint64(le.Uint32(e[24:])), uint64(le.Uint32(e[28:])))
	return s
}

// parseRules reads a filter. Of one that is too long the rest is not looked at: it
// would be cut anyway.
func parseRules(b []byte) (rules []repair.Rule, bad string) {
	for len(b) > 0 && len(rules) <= repair.MaxRules {
		if len(b) < ruleHeader {
			return nil, "a filter ends within a rule"
		}
		op, kind, n := b[0], b[1], int(binary.LittleEndian.Uint16(b[2:]))
		b = b[ruleHeader:]
		switch {
		case op > 1:
			return nil, fmt.Sprintf("a filter with the operation %d", op)
		case kind != 0:
			return nil, fmt.Sprintf("a filter of the kind %d", kind)
		case n > len(b):
			return nil, "a filter ends within a prefix"
		}
		rules = append(rules, repair.Rule{Last: op == 1, Prefix: string(b[:n])})
		b = b[n:]
	}
	return rules, ""
}

// repairWarmup is the fixed request that a repair policy runs before its image is
// taken. It belongs to cost model 1, as the one of merges does.
func repairWarmup(params []byte) []byte { return AppendRepairRequest(nil, sampleRepair(64), params) }

// sampleRepair returns an input of n ranges, three from one peer and one from
// another in turn: what a node meets that was away for a while.
func sampleRepair(n int) repair.Input {
	in := repair.Input{
		TickS: 1_700_000_000, MaxSteps: repair.MaxRanges, CPUPermille: 250, ForegroundP99US: 900, RequestsPerS: 5000,
		Peers: []repair.Peer{
			{Name: "n1", Node: 1, Zone: 1},
			{Name: "n2", Node: 2, RTTUS: 800, Zone: 1, Link: repair.LinkLocal},
			{Name: "n3", Node: 3, RTTUS: 30_000, Zone: 2, Link: repair.LinkFar},
		},
		Hot: []repair.Hot{{Prefix: "session:", Reads: 900}, {Prefix: "cart:", Reads: 40}},
	}
	for i := range n {
		from := uint32(1)
		if i%4 == 3 {
			from = 2
		}
		in.Ranges = append(in.Ranges, repair.Range{
			Partition: uint64(i / 2), From: from, Keys: uint64(i * 7 % 100), Total: 10_000, Bytes: uint64(i*7%100) << 10,
			Dots: uint64(i * 7 % 100), AgeMS: int64(i%5) * 1000, RepairMS: math.MaxInt32, Reads: uint32(i * 13 % 50),
			RTTMS: uint16(in.Peers[from].RTTUS / 1000), Failures: uint16(i % 3),
		})
	}
	return in
}
