package wire

import (
	"encoding/binary"
	"slices"

	"edged.dev/edged/internal/kv"
)

// dict numbers actors in the order of their first use.
type dict struct {
	actors []kv.Actor
	index  map[kv.Actor]int // only past a handful, where a loop gets slow
}

const dictLoop = 8

func (d *dict) find(a kv.Actor) (int, bool) {
	if d.index != nil {
		i, ok := d.index[a]
		return i, ok
	}
	i := slices.Index(d.actors, a)
	return i, i >= 0
}

// add returns the number of a and whether it is new.
func (d *dict) add(a kv.Actor) (int, bool) {
	if i, ok := d.find(a); ok {
		return i, false
	}
	i := len(d.actors)
	d.actors = append(d.actors, a)
	if len(d.actors) == dictLoop+1 {
		d.index = make(map[kv.Actor]int, 2*dictLoop)
		for j, b := range d.actors {
			d.index[b] = j
		}
	} else if d.index != nil {
		d.index[a] = i
	}
	return i, true
}

// finish inserts the dictionary and returns the frame. The actors are told by
// columns: numbers of their nodes, new nodes, boots, random bits.
func (e *encoder) finish() []byte {
	fresh := e.dict.actors[e.known:]
	head := encoder{b: make([]byte, 0, binary.MaxVarintLen32+len(fresh)*kv.ActorBytes)}
	head.uvarint(uint64(len(fresh)))
	nodes := nodesOf(e.dict.actors[:e.known])
	var boots, rands encoder
	for _, a := range fresh {
		i, boot, known := nodes.find(a.Node)
		head.uvarint(uint64(i))
		if !known {
			head.u64(uint64(a.Node))
		}
		boots.zigzag(int64(a.Boot) - int64(boot))
		rands.b = binary.LittleEndian.AppendUint32(rands.b, a.Rand)
		nodes.add(a)
	}
	head.raw(boots.b)
	head.raw(rands.b)
	return slices.Insert(e.b, e.head, head.b...)
}

// nodes are those of a dictionary's actors, so that a node comes once, and of each
// the boot seen last, near which its others are.
type nodes struct {
	index map[kv.NodeID]int
	boots []uint32
	last  uint32
}

func nodesOf(actors []kv.Actor) *nodes {
	n := &nodes{index: map[kv.NodeID]int{}}
	for _, a := range actors {
		n.add(a)
	}
	return n
}

func (n *nodes) add(a kv.Actor) {
	i, _, known := n.find(a.Node)
	if !known {
		n.index[a.Node] = i
		n.boots = append(n.boots, 0)
	}
	n.boots[i], n.last = a.Boot, a.Boot
}

// find returns a node's number and the boot to go by; a new one has the next
// number, and the boot of the actor before.
func (n *nodes) find(id kv.NodeID) (i int, boot uint32, known bool) {
	if i, known = n.index[id]; known {
		return i, n.boots[i], true
	}
	return len(n.boots), n.last, false
}

// leastActor is how many bytes an actor of a dictionary has at least: the number of
// its node, its boot and its random bits.
const leastActor = 6

func (r *reader) dictionary() {
	n := r.count("actors", MaxDictActors, leastActor)
	if n == 0 {
		return
	}
	seen := nodesOf(r.dict.actors)
	byNumber, named := make([]kv.NodeID, len(seen.boots)), map[kv.NodeID]bool{}
	for id, i := range seen.index {
		byNumber[i], named[id] = id, true
	}
	fresh := make([]kv.Actor, n)
	for i := range fresh {
		at := int(r.upTo("a node", uint64(len(byNumber))))
		if at == len(byNumber) {
			id := kv.NodeID(r.u64())
			if named[id] {
				r.fail("a dictionary names a node twice")
				return
			}
			named[id] = true
			byNumber = append(byNumber, id)
		}
		fresh[i].Node = byNumber[at]
	}
	for i := range fresh {
		_, boot, _ := seen.find(fresh[i].Node)
		fresh[i].Boot = uint32(int64(boot) + r.zigzag())
		seen.add(fresh[i])
	}
	for i := range fresh {
		fresh[i].Rand = binary.LittleEndian.Uint32(r.take(4))
	}
	if r.err == nil {
		r.dict.actors = append(r.dict.actors, fresh...)
	}
}
