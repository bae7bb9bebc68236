package wire

import (
	"bytes"
	"encoding/binary"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/merkle"
)

// TreeCode says how a question about a copy's tree was taken.
type TreeCode uint8

// How a TREE or a HELD may be answered. Part of the protocol: append only.
const (
	TreeOK    TreeCode = iota
	TreeMoved          // the copy is not at that clock, or has something beyond it
	TreeNone           // no such copy
)

// Tree asks about what a copy holds at a clock: the digests of nodes of its hash
// tree, or, with Ranges, the items in them. With neither it asks for the root.
type Tree struct {
	Partition kv.Partition
	Clock     uint64          // hash of the clock at which copies are compared; 0: at whatever clock it is
	Ask       merkle.Question // its Salt is the items' too
	Ranges    []merkle.Range  // ascending
}

// TreeAck answers Tree. Count and Sum are the root; Items are short digests, of
// merkle.ShortBytes each, of all items up to the hash Upto.
type TreeAck struct {
	Code  TreeCode
	Fit   bool // what the copy holds agrees with its own record
	Bits  int
	Count uint64
	Sum   [16]byte
	Nodes []uint32
	Items []uint64
	Upto  uint64
}

// Held asks what a copy really holds, at a clock, of keys, and of the keys of the
// items in Ranges that Items names.
type Held struct {
	Partition kv.Partition
	Clock     uint64 // as in Tree
	Salt      uint64
	Ranges    []merkle.Range
	Items     []uint64
	Keys      [][]byte
}

// HeldAck answers Held. One that was asked for no clock tells its own.
type HeldAck struct {
	Code    TreeCode
	Fit     bool
	Told    bool     // Clock, and Beyond of the objects
	Clock   kv.Clock // of the moment; it may not be on stable storage yet
	Objects []HeldObject
}

// HeldObject is what a copy holds of a key: its values, tombstones left out.
type HeldObject struct {
	Key      []byte
	Beyond   bool // its context goes beyond Clock
	Versions []HeldVersion
}

// HeldVersion is one value: Hash is the xxh3-64 of what was read, and Verified says
// that it agrees with the checksum stored when it was written.
type HeldVersion struct {
	Dot       kv.Dot
	HLC       kv.HLC
	ExpiresMS int64
	Hash      uint64
	Verified  bool
}

// Append appends the frame.
func (t Tree) Append(dst []byte) []byte {
	e := newEncoder(dst, TypeTree)
	e.uvarint(uint64(t.Partition))
	e.u64(t.Clock)
	e.u64(t.Ask.Salt)
	e.byte(byte(t.Ask.Level))
	e.byte(byte(t.Ask.Step))
	e.uvarint(uint64(len(t.Ask.Nodes)))
	prev := uint32(0)
	for _, n := range t.Ask.Nodes { // ascending
		e.uvarint(uint64(n - prev))
		prev = n
	}
	e.ranges(t.Ranges)
	return e.b
}

// ParseTree reads a TREE. Whether the nodes exist is for the tree to say.
func ParseTree(frame []byte) (Tree, error) {
	r := newReader(frame, TypeTree)
	t := Tree{Partition: r.partition(), Clock: r.u64()}
	t.Ask = merkle.Question{Salt: r.u64(), Level: int(r.byte()), Step: int(r.byte())}
	n := r.count("nodes", merkle.MaxAsk, 1)
	prev := uint64(0)
	for range n {
		if prev += r.uvarint(); prev > 1<<merkle.MaxBits {
			r.fail("node %d is in no tree", prev)
			prev = 0
		}
		t.Ask.Nodes = append(t.Ask.Nodes, uint32(prev))
	}
	t.Ranges = r.ranges()
	return t, r.end("tree")
}

func (e *encoder) ranges(rs []merkle.Range) {
	e.uvarint(uint64(len(rs)))
	for _, r := range rs {
		e.u64(r.From)
		e.u64(r.To)
	}
}

func (r *reader) ranges() []merkle.Range {
	n := r.count("ranges", MaxTreeRanges, 16)
	var out []merkle.Range
	for i := range n {
		x := merkle.Range{From: r.u64(), To: r.u64()}
		if x.To < x.From || i > 0 && x.From <= out[i-1].To {
			r.fail("ranges do not ascend")
			return nil
		}
		out = append(out, x)
	}
	return out
}

func (e *encoder) shorts(items []uint64) {
	e.uvarint(uint64(len(items)))
	for _, s := range items {
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], s)
		e.raw(b[:merkle.ShortBytes])
	}
}

func (r *reader) shorts() []uint64 {
	n := r.count("items", MaxTreeItems, merkle.ShortBytes)
	var out []uint64
	for range n {
		var b [8]byte
		copy(b[:], r.take(merkle.ShortBytes)[:merkle.ShortBytes])
		out = append(out, binary.LittleEndian.Uint64(b[:]))
	}
	return out
}

// Append appends the frame.
func (a TreeAck) Append(dst []byte) []byte {
	e := newEncoder(dst, TypeTreeAck)
	e.byte(byte(a.Code))
	e.byte(b2u(a.Fit))
	e.byte(byte(a.Bits))
	e.uvarint(a.Count)
	e.raw(a.Sum[:])
	e.uvarint(uint64(len(a.Nodes)))
	for _, n := range a.Nodes {
		e.b = binary.LittleEndian.AppendUint32(e.b, n)
	}
	e.shorts(a.Items)
	e.u64(a.Upto)
	return e.b
}

// ParseTreeAck reads a TREE_ACK.
func ParseTreeAck(frame []byte) (TreeAck, error) {
	r := newReader(frame, TypeTreeAck)
	a := TreeAck{Code: r.treeCode(), Fit: r.byte()&1 == 1, Bits: int(r.byte()), Count: r.uvarint(), Sum: r.root()}
	if a.Bits > merkle.MaxBits {
		r.fail("a tree has %d bits, the limit is %d", a.Bits, merkle.MaxBits)
	}
	n := r.count("digests", MaxTreeNodes, 4)
	for range n {
		a.Nodes = append(a.Nodes, binary.LittleEndian.Uint32(r.take(4)))
	}
	a.Items = r.shorts()
	a.Upto = r.u64()
	return a, r.end("tree ack")
}

func (r *reader) treeCode() TreeCode {
	c := TreeCode(r.byte())
	if c > TreeNone {
		r.fail("tree code %d is unknown", c)
	}
	return c
}

// Append appends the frame.
func (h Held) Append(dst []byte) []byte {
	e := newEncoder(dst, TypeHeld)
	e.uvarint(uint64(h.Partition))
	e.u64(h.Clock)
	e.u64(h.Salt)
	e.ranges(h.Ranges)
	e.shorts(h.Items)
	e.uvarint(uint64(len(h.Keys)))
	for _, k := range h.Keys {
		e.bytes(k)
	}
	return e.b
}

// ParseHeld reads a HELD.
func ParseHeld(frame []byte) (Held, error) {
	r := newReader(frame, TypeHeld)
	h := Held{Partition: r.partition(), Clock: r.u64(), Salt: r.u64(), Ranges: r.ranges(), Items: r.shorts()}
	n := r.count("keys", MaxHeldKeys, 2)
	for range n {
		h.Keys = append(h.Keys, bytes.Clone(r.key()))
	}
	return h, r.end("held")
}

// Append appends the frame.
func (h HeldAck) Append(dst []byte) []byte {
	e := newEncoder(dst, TypeHeldAck)
	e.byte(byte(h.Code))
	e.byte(b2u(h.Fit) | b2u(h.Told)<<1)
	if h.Told {
		e.clock(h.Clock)
	}
	e.uvarint(uint64(len(h.Objects)))
	for _, o := range h.Objects {
		e.bytes(o.Key)
		if h.Told {
			e.byte(b2u(o.Beyond))
		}
		e.uvarint(uint64(len(o.Versions)))
		for _, v := range o.Versions {
			e.byte(b2u(v.Verified))
			e.actor(v.Dot.Actor)
			e.uvarint(v.Dot.Seq)
			e.u64(uint64(v.HLC))
			e.zigzag(v.ExpiresMS)
			e.u64(v.Hash)
		}
	}
	return e.finish()
}

// ParseHeldAck reads a HELD_ACK.
func ParseHeldAck(frame []byte) (HeldAck, error) {
	r := newDictReader(frame, TypeHeldAck)
	h := HeldAck{Code: r.treeCode()}
	flags := r.byte()
	h.Fit, h.Told = flags&1 == 1, flags&2 == 2
	if h.Told {
		h.Clock = r.clock()
	}
	n := r.count("objects", MaxHeldKeys, 3)
	for range n {
		o := HeldObject{Key: bytes.Clone(r.key())}
		if h.Told {
			o.Beyond = r.byte()&1 == 1
		}
		m := r.count("versions", MaxVersions, 20)
		for range m {
			v := HeldVersion{Verified: r.byte()&1 == 1, Dot: kv.Dot{Actor: r.issuer(), Seq: r.seq()}}
			v.HLC, v.ExpiresMS, v.Hash = kv.HLC(r.u64()), r.zigzag(), r.u64()
			o.Versions = append(o.Versions, v)
		}
		h.Objects = append(h.Objects, o)
		if r.err != nil {
			break
		}
	}
	return h, r.end("held ack")
}
