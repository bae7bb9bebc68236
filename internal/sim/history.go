package sim

import (
	"math/bits"

	"edged.dev/edged/internal/kv"
)

// maxOps bounds the writes of a run, so that a set of them is a few words.
const maxOps = 512

// opset is a set of writes, by their index.
type opset [maxOps / 64]uint64

func (s *opset) add(i int)           { s[i/64] |= 1 << (i % 64) }
func (s *opset) has(i int) bool      { return s[i/64]&(1<<(i%64)) != 0 }
func (s *opset) each(fn func(i int)) { eachBit(s, fn) }

func (s *opset) join(t *opset) {
	for i := range s {
		s[i] |= t[i]
	}
}

func eachBit(s *opset, fn func(i int)) {
	for w, word := range s {
		for ; word != 0; word &= word - 1 {
			fn(w*64 + bits.TrailingZeros64(word))
		}
	}
}

// maxKeys is how many keys a run has at most.
const maxKeys = 4

// ghost is what the oracle knows of a state: for each key, the writes whose
// effect it reflects, whether they are there or were overwritten.
type ghost [maxKeys]opset

// joinPart joins the keys of one partition alone.
func (g *ghost) joinPart(w *World, p kv.Partition, h *ghost) {
	for k := range g {
		if w.partOf(k) == p {
			g[k].join(&h[k])
		}
	}
}

// Op is one write of a client, as the oracle remembers it.
type Op struct {
	Index   int
	Key     int
	Dot     kv.Dot
	Acked   bool // W durable owner copies, told to a living coordinator
	Deleted bool

	value   []byte
	expires int64
	cover   opset // the writes it means to supersede
	folds   opset // those whose values it has, of a broken run
	coord   *Node
	life    int           // of the coordinator
	acks    [maxNodes]int // lives of the copies that have it durably

	// forgotten is a delete whose tombstone some copy has lost to rot. Who reads there
	// does not know of it, if its dot is above a hole, and overwrites it without
	// saying so: it may stay beside the new version, and shows nothing.
	forgotten bool
	buried    bool // nobody had seen it when its process was sealed
	collected bool // a delete whose tombstone may be gone, for a copy collected it
}

// Token is what a client carries from an answer to a later write.
type Token struct {
	key   int
	ctx   kv.VV
	cover opset
}
