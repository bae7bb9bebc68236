package sim

import (
	"fmt"
	"slices"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
	"edged.dev/edged/partition/state"
)

// W is how many durable owner copies acknowledge a write.
const W = 2

// Put says what a client writes.
type Put struct {
	Key     int
	Delete  bool
	Expires int64  // virtual milliseconds, 0 = never
	Held    bool   // supersede all that the coordinator holds (a plain write)
	Token   *Token // supersede what this token's reader saw; nil: nothing
	fold    bool   // it is no client's: it has what it supersedes
}

// ReadToken reads a key at a node and returns what a client keeps of the answer.
func (w *World) ReadToken(n *Node, key int) *Token {
	o, base, err := n.shard(w.partOf(key)).Read(w.keys[key])
	w.must(err)
	ctx := kv.Context(o.Filled(base))
	if w.bug == BugTokenOwnActors {
		ctx = slices.DeleteFunc(ctx, func(d kv.Dot) bool {
			return !slices.ContainsFunc(o.Versions, func(v kv.Version) bool { return v.Dot.Actor == d.Actor })
		})
	}
	return &Token{key, ctx, n.published[key]}
}

// Write plans a write at a node; it is published by the node's next commit. A
// token of another key is refused with nil.
func (w *World) Write(n *Node, p Put) *Op {
	if len(w.ops) == maxOps {
		return nil
	}
	if p.Token != nil && p.Token.key != p.Key {
		if w.bug != BugForeignToken {
			return nil
		}
		p.Token = &Token{ctx: p.Token.ctx}
	}
	if p.Delete {
		p.Expires = 0
	}
	part := w.partOf(p.Key)
	sh := n.shard(part)
	op := &Op{Index: len(w.ops), Key: p.Key, Deleted: p.Delete, expires: p.Expires, coord: n, life: n.life}
	n.seq[part]++
	op.Dot = kv.Dot{Actor: sh.Actor(), Seq: n.seq[part]}
	v := kv.Version{HLC: kv.HLCAt(w.now).Next(w.now), ExpiresMS: p.Expires}
	if p.Delete {
		v.Flags = kv.Tombstone
	} else {
		op.value = fmt.Appendf(nil, "op%d.%x", op.Index, w.rng.Uint64N(1<<uint(8*w.rng.IntN(8))))
		v.Value = op.value
	}
	covers := state.Covers{Held: p.Held}
	if p.Held {
		op.cover = n.planned[p.Key]
	}
	if p.Token != nil {
		covers.Ctx = p.Token.ctx
		op.cover.join(&p.Token.cover)
	}
	if w.bug == BugSeqKept {
		covers.Ctx = covers.Ctx.Join(n.formerly)
	}
	w.register(op)
	before := n.copies[part].clock.Base()
	n.planned[p.Key].join(&op.cover)
	n.planned[p.Key].add(op.Index)
	reflected := n.planned[p.Key]
	sh.Write(w.keys[p.Key], func(held kv.Object) (*partition.Mutation, error) {
		if p.fold {
			op.folds = w.valuesOf(part, held)
		}
		if supersedes(covers, held) > 1 {
			w.stats.Merged++
		}
		return &partition.Mutation{Version: v, Covers: covers}, nil
	}, func(ch *state.Change, err error) {
		if w.must(err); ch == nil {
			return
		}
		if !ch.Base.Covers(before) {
			w.fail("R1", "n%d: op%d is sent with %v, and %v was published before", n.index, op.Index, ch.Base, before)
		}
		w.published(op, ch, reflected)
	})
	w.log("n%d writes op%d k%d %v held=%v token=%v del=%v", n.index, op.Index, p.Key, op.Dot, p.Held, covers.Ctx, p.Delete)
	if w.bug == BugAckEarly {
		w.acknowledge(n, due{op, part})
	}
	return op
}

// supersedes counts the values of an object that go with a write.
func supersedes(c state.Covers, held kv.Object) (n int) {
	for _, v := range held.Versions {
		if !v.Tombstone() && (c.Held || c.Ctx.Has(v.Dot)) {
			n++
		}
	}
	return n
}

// valuesOf returns the writes whose values an object has.
func (w *World) valuesOf(p kv.Partition, o kv.Object) (values opset) {
	for _, v := range o.Versions {
		if op := w.byDot[identity{p, v.Dot}]; op != nil && !op.Deleted {
			values.add(op.Index)
		}
	}
	return values
}

func (w *World) register(op *Op) {
	id := identity{w.partOf(op.Key), op.Dot}
	if old := w.byDot[id]; old != nil {
		w.fail("I5", "op%d gets dot %v, which is op%d's", op.Index, op.Dot, old.Index)
	}
	w.byDot[id] = op
	w.ops = append(w.ops, op)
	w.open = append(w.open, op)
}

// published sends a write that its coordinator has committed to the other owners.
func (w *World) published(op *Op, ch *state.Change, reflected opset) {
	n := op.coord
	if len(ch.Dots) != 1 || ch.Dots[0] != op.Dot {
		w.fail("I6", "op%d was to have dot %v and has %v", op.Index, op.Dot, ch.Dots)
	}
	part := w.partOf(op.Key)
	n.due = append(n.due, due{op, part})
	o := sentCopy{w.spoil(op, ch.Filled(0)), ch.Below}
	if w.bug == BugFloorForgotten {
		o.floor = nil
	}
	for i := range w.owners() {
		if i != n.index {
			w.send(n, i, op, o, reflected)
		}
	}
	for _, s := range w.standIns() {
		w.send(n, s.index, op, o, reflected)
	}
}

// spoil breaks a replicated object where the run is to.
func (w *World) spoil(op *Op, o kv.Object) kv.Object {
	switch w.bug {
	case BugOnlyNewDot:
		v, _ := o.Find(op.Dot)
		o.Versions = []kv.Version{v}
	case BugSiblingsCut:
		if len(o.Versions) > 1 {
			o.Versions = slices.Clone(o.Versions)[1:]
		}
	}
	return o
}

// acknowledge tells a write's coordinator that a copy has it durably.
func (w *World) acknowledge(n *Node, d due) {
	if d.op.coord == n && d.op.life == n.life {
		w.countAck(d.op, n.index, n.life)
		return
	}
	w.sendAck(n, d)
}

func (w *World) countAck(op *Op, from, life int) {
	c := op.coord
	if !c.up || c.life != op.life || op.Acked {
		return
	}
	if from != c.index && c.known[from] != life {
		return
	}
	op.acks[from] = life
	n := 0
	for i, l := range op.acks {
		if l != 0 && (i < Nodes || w.bug == BugStandInCounts) {
			n++
		}
	}
	if n >= W {
		op.Acked = true
		w.stats.Acked++
		w.open = slices.DeleteFunc(w.open, func(o *Op) bool { return o == op })
		w.log("op%d is acknowledged by %v", op.Index, op.acks)
	}
}
