package kv

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// NodeID names a data directory: 64 random bits, minted with it.
type NodeID uint64

// String returns the identity as 16 hexadecimal digits.
func (n NodeID) String() string { return fmt.Sprintf("%016x", uint64(n)) }

// Actor is one incarnation of one copy of a partition: the node that holds it,
// that node's boot number, and 32 bits drawn when the copy was opened. An actor
// read from disk never issues a dot (rule R3), so a restored backup or a cloned
// disk cannot reuse one. Boot only orders.
type Actor struct {
	Node NodeID
	Boot uint32
	Rand uint32
}

// ActorBytes is the length of an encoded actor.
const ActorBytes = 16

// IsZero reports whether a is the zero actor, which issues nothing.
func (a Actor) IsZero() bool { return a == Actor{} }

// Compare orders actors by node, boot, random bits: a total order, the same everywhere.
func (a Actor) Compare(b Actor) int {
	if c := cmp.Compare(a.Node, b.Node); c != 0 {
		return c
	}
	if c := cmp.Compare(a.Boot, b.Boot); c != 0 {
		return c
	}
	return cmp.Compare(a.Rand, b.Rand)
}

// Append appends the 16-byte big-endian form, which sorts as Compare does.
func (a Actor) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(a.Node))
	dst = binary.BigEndian.AppendUint32(dst, a.Boot)
	return binary.BigEndian.AppendUint32(dst, a.Rand)
}

// ActorFrom decodes what Append wrote; b must hold ActorBytes bytes.
func ActorFrom(b []byte) Actor {
	return Actor{
		Node: NodeID(binary.BigEndian.Uint64(b)),
		Boot: binary.BigEndian.Uint32(b[8:]),
		Rand: binary.BigEndian.Uint32(b[12:]),
	}
}

// String returns node.boot.random in hexadecimal, decimal, hexadecimal.
func (a Actor) String() string { return fmt.Sprintf("%s.%d.%08x", a.Node, a.Boot, a.Rand) }

// ParseActor reads what String wrote.
func ParseActor(s string) (Actor, error) {
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return Actor{}, fmt.Errorf("parse actor %q: want node.boot.random", s)
	}
	node, err := strconv.ParseUint(parts[0], 16, 64)
	if err != nil {
		return Actor{}, fmt.Errorf("parse actor %q: %w", s, err)
	}
	boot, err := strconv.ParseUint(parts[1], 10, 32)
	if err != nil {
		return Actor{}, fmt.Errorf("parse actor %q: %w", s, err)
	}
	random, err := strconv.ParseUint(parts[2], 16, 32)
	if err != nil {
		return Actor{}, fmt.Errorf("parse actor %q: %w", s, err)
	}
	return Actor{NodeID(node), uint32(boot), uint32(random)}, nil
}

// Dot is the identity of one write: the actor that issued it and its place in
// that actor's sequence, which starts at 1. Seq 0 is no dot.
type Dot struct {
	Actor Actor
	Seq   uint64
}

// Compare orders dots by actor, then sequence.
func (d Dot) Compare(e Dot) int {
	if c := d.Actor.Compare(e.Actor); c != 0 {
		return c
	}
	return cmp.Compare(d.Seq, e.Seq)
}

// String returns actor:seq.
func (d Dot) String() string { return d.Actor.String() + ":" + strconv.FormatUint(d.Seq, 10) }
