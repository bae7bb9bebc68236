package layout

import (
	"cmp"
	"encoding/binary"
	"math"
	"math/bits"
	"slices"

	"github.com/zeebo/xxh3"
)

// fractionBits is the precision of a score's logarithm. It needs to tell a
// thousand members apart; what it cannot tell apart, the hash does.
const fractionBits = 40

// candidate is a member in the ranking of one partition.
type candidate struct {
	score  float64
	hash   uint64
	member uint16
}

// place computes the owners of every partition, width names each.
func (l *Layout) place() []string {
	names := make([]string, 0, l.partitions*l.width)
	ranked := make([]candidate, 0, len(l.active))
	perZone := l.perZone()
	for p := range uint32(l.partitions) {
		ranked = l.rank(p, ranked[:0])
		for _, c := range l.choose(ranked, perZone) {
			names = append(names, l.members[c.member].Name)
		}
	}
	return names
}

// rank appends the active members to out, best score for p first. This is
// weighted rendezvous hashing (Schindelhauer and Schomaker, 2005): a member's
// score does not depend on the others, so that a join moves to the new member
// what it wins and nothing else.
func (l *Layout) rank(p uint32, out []candidate) []candidate {
	for _, i := range l.active {
		hash := scoreHash(p, l.members[i].Name)
		out = append(out, candidate{score: l.members[i].Weight / negLog2(hash), hash: hash, member: i})
	}
	slices.SortFunc(out, func(a, b candidate) int {
		// Members are sorted by name, so the last resort is the name.
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(b.hash, a.hash), cmp.Compare(a.member, b.member))
	})
	return out
}

// choose returns the owners out of a ranking: the best, but at most perZone
// of one zone. Where that leaves too few, the best of the rest fill up: too
// many copies in a zone are better than too few copies. The result keeps the
// ranking's order and may share its memory.
func (l *Layout) choose(ranked []candidate, perZone int) []candidate {
	if perZone >= l.width {
		return ranked[:l.width]
	}
	inZone := make(map[string]int, l.width)
	taken := make([]bool, len(ranked))
	count := 0
	for i, c := range ranked {
		zone := l.members[c.member].Zone
		if count < l.width && inZone[zone] < perZone {
			inZone[zone]++
			taken[i] = true
			count++
		}
	}
	out := make([]candidate, 0, l.width)
	for i, c := range ranked {
		if !taken[i] && count < l.width {
			taken[i] = true
			count++
		}
		if taken[i] {
			out = append(out, c)
		}
	}
	return out
}

// perZone is how many owners of one partition a zone may have:
// ceil(copies / zones of the active members).
func (l *Layout) perZone() int {
	zones := map[string]bool{}
	for _, i := range l.active {
		zones[l.members[i].Zone] = true
	}
	count := max(1, len(zones))
	return (l.copies + count - 1) / count
}

// scoreHash is h(p, name): what every node computes alike, for ever. A change
// here moves all data of all clusters.
func scoreHash(p uint32, name string) uint64 {
	var buf [4 + MaxNameBytes]byte
	binary.LittleEndian.PutUint32(buf[:], p)
	n := copy(buf[4:], name)
	return xxh3.Hash(buf[:4+n])
}

// negLog2 returns -log2(U) times 2^fractionBits, where U is hash as a
// fraction of 2^64. Its ratio to -ln(U) is a constant, which changes no order.
//
// math.Log is not used: its last bit differs between architectures. This is
// the schoolbook binary logarithm, a squaring a bit, in integers; the result
// is at least 1 and exact in a float64.
func negLog2(hash uint64) float64 {
	x := hash | 1 // log2(0) does not exist
	zeros := bits.LeadingZeros64(x)
	x <<= zeros // now x/2^63 is in [1, 2)
	fraction := uint64(0)
	for range fractionBits {
		hi, lo := bits.Mul64(x, x)
		fraction <<= 1
		if hi>>63 == 1 {
			fraction |= 1
			x = hi
		} else {
			x = hi<<1 | lo>>63
		}
	}
	return float64(uint64(1+zeros)<<fractionBits - fraction)
}

// viewHash hashes what decides placement. Each field is preceded by its
// length, so that no two views are one text.
func viewHash(sorted []Member) uint64 {
	var buf []byte
	field := func(s string) {
		buf = binary.AppendUvarint(buf, uint64(len(s)))
		buf = append(buf, s...)
	}
	for _, m := range sorted {
		field(m.Name)
		buf = binary.LittleEndian.AppendUint64(buf, math.Float64bits(m.Weight))
		field(m.Zone)
		buf = append(buf, byte(m.Status))
	}
	return xxh3.Hash(buf)
}
