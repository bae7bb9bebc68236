package merkle

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/dchest/siphash"
)

const (
	// stepBits is how many levels a round trip goes down: with sixteen children a
	// node, a million items are ten thousand bytes and five round trips away.
	stepBits = 4
	fan      = 1 << stepBits
	// MaxAsk bounds the nodes of one question, so that an answer has 4,096
	// digests of 4 bytes at most.
	MaxAsk = 4096 / fan
)

// ErrQuestion is wrapped by the error of a question that a tree cannot answer.
var ErrQuestion = errors.New("unanswerable question")

// Question asks for short digests of the descendants, Step levels down, of some
// nodes of one level.
type Question struct {
	Salt  uint64 // of the session, so that a collision is not met again in the next
	Level int
	Step  int
	Nodes []uint32 // ascending
}

// Answer returns the short digests asked for, those of one node after another.
// It checks the question, which is a peer's, before it allocates.
func (t *Tree) Answer(q Question) ([]uint32, error) {
	switch {
	case q.Level < 0 || q.Step < 1 || q.Step > stepBits || q.Level+q.Step > t.bits:
		return nil, fmt.Errorf("%w: %d levels below level %d in a tree of %d bits", ErrQuestion, q.Step, q.Level, t.bits)
	case len(q.Nodes) > MaxAsk:
		return nil, fmt.Errorf("%w: %d nodes, the limit is %d", ErrQuestion, len(q.Nodes), MaxAsk)
	}
	out := make([]uint32, 0, len(q.Nodes)<<q.Step)
	for _, n := range q.Nodes {
		if uint64(n) >= 1<<q.Level {
			return nil, fmt.Errorf("%w: level %d has no node %d", ErrQuestion, q.Level, n)
		}
		for i := range 1 << q.Step {
			out = append(out, t.Node(q.Level+q.Step, int(n)<<q.Step+i).short(q.Salt))
		}
	}
	return out, nil
}

// short is a 32-bit digest under a salt.
func (d Digest) short(salt uint64) uint32 {
	var b [24]byte
	binary.LittleEndian.PutUint64(b[:], d.Count)
	binary.LittleEndian.PutUint64(b[8:], d.Sum[0])
	binary.LittleEndian.PutUint64(b[16:], d.Sum[1])
	return uint32(siphash.Hash(salt, salt, b[:]))
}

// Descent finds where a peer's tree differs from a local one, level by level.
// The roots are known to differ when it begins. The local tree must not change
// meanwhile; what changes in the peer's may be missed or reported in vain.
// A Descent sends nothing: its owner carries questions and answers.
//
//	for q, ok := d.Ask(); ok; q, ok = d.Ask() {
//		answer := … // the peer's Tree.Answer(q)
//		err := d.Take(answer)
//	}
type Descent struct {
	tree  *Tree
	depth int
	salt  uint64
	level int
	nodes []uint32 // of level, that differ and were not asked about
	next  []uint32 // of level+step, that differ
	asked Question
}

// NewDescent begins a descent against a peer's tree of remoteBits.
func NewDescent(t *Tree, remoteBits int, salt uint64) *Descent {
	return &Descent{tree: t, depth: min(t.bits, max(remoteBits, 0)), salt: salt, nodes: []uint32{0}}
}

func (d *Descent) step() int { return min(stepBits, d.depth-d.level) }

// Ask returns the next question, and false when the descent is over. Until the
// answer is taken it returns the same one.
func (d *Descent) Ask() (Question, bool) {
	if len(d.asked.Nodes) > 0 {
		return d.asked, true
	}
	if len(d.nodes) == 0 && d.level < d.depth {
		d.level += d.step()
		d.nodes, d.next = d.next, nil
	}
	if len(d.nodes) == 0 || d.level == d.depth {
		return Question{}, false
	}
	n := min(len(d.nodes), MaxAsk)
	d.asked = Question{Salt: d.salt, Level: d.level, Step: d.step(), Nodes: d.nodes[:n]}
	d.nodes = d.nodes[n:]
	return d.asked, true
}

// Take takes the answer to the question last asked.
func (d *Descent) Take(answer []uint32) error {
	mine, err := d.tree.Answer(d.asked)
	if err != nil {
		return fmt.Errorf("take answer: %w", err)
	}
	if len(answer) != len(mine) || len(mine) == 0 {
		return fmt.Errorf("take answer: it has %d digests, want %d", len(answer), len(mine))
	}
	for i, theirs := range answer {
		if theirs != mine[i] {
			parent, child := d.asked.Nodes[i>>d.asked.Step], i&(1<<d.asked.Step-1)
			d.next = append(d.next, parent<<d.asked.Step|uint32(child))
		}
	}
	d.asked = Question{}
	return nil
}

// Ranges returns where the trees differ, ascending, once Ask says that the
// descent is over.
func (d *Descent) Ranges() []Range {
	var out []Range
	for _, n := range d.nodes {
		out = appendRange(out, rangeOf(d.level, int(n)))
	}
	return out
}
