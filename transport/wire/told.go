package wire

import "edged.dev/edged/internal/kv"

// told is what a HELLO_ACK told of the donor's copies, which its lanes lean on.
type told struct {
	copies []CopyClock
	row    map[kv.Partition]int
	bases  []kv.VV
	mark   uint32 // fingerprint
}

// tell prepares a lane's dictionary and table from an answer's copies.
func tell(d *dict, copies []CopyClock) *told {
	t := &told{copies: copies, row: make(map[kv.Partition]int, len(copies)), bases: make([]kv.VV, len(copies)), mark: fingerprint(copies)}
	for i := range copies {
		c := &copies[i]
		t.row[c.Partition], t.bases[i] = i, c.Clock.Base()
		d.add(c.Actor)
		for _, s := range c.Clock.Spans() {
			d.add(s.Actor)
		}
	}
	return t
}
