package sim

import (
	"bytes"
	"errors"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
	"edged.dev/edged/partition/state"
	"edged.dev/edged/transport/wire"
)

// message is a frame on its way. It may be lost, doubled, late and out of order.
type message struct {
	from, to  int
	life      int // of the sender
	node      kv.NodeID
	op        *Op
	frame     []byte
	ack       bool
	reflected opset // the oracle's part of an APPLY
}

// sentCopy is an object with the floor of the copy that sends it.
type sentCopy struct {
	object kv.Object
	floor  kv.VV
}

// send puts a write's object on its way as an APPLY frame.
func (w *World) send(n *Node, to int, op *Op, c sentCopy, reflected opset) {
	part := w.partOf(op.Key)
	frame := wire.Apply{Writes: []wire.Write{{
		Seq: uint64(op.Index) + 1, Partition: part, Copy: wire.Copy{Key: w.keys[op.Key], Object: c.object}, Floor: c.floor,
	}}}.Append(nil)
	w.hash(frame)
	w.net = append(w.net, message{from: n.index, to: to, life: n.life, node: n.id, op: op, frame: frame, reflected: reflected})
}

// sendAck puts the acknowledgement of a durable copy on its way.
func (w *World) sendAck(n *Node, d due) {
	frame := wire.Ack{Seq: uint64(d.op.Index) + 1, Copies: []wire.CopyClock{n.copyClock(d.part)}}.Append(nil)
	w.hash(frame)
	w.net = append(w.net, message{
		from: n.index, to: d.op.coord.index, life: n.life, node: n.id, op: d.op, frame: frame, ack: true,
	})
}

// copyClock is what a node tells of a copy.
func (n *Node) copyClock(p kv.Partition) wire.CopyClock {
	st := n.shard(p).Status()
	n.show(p, st.Clock)
	return wire.CopyClock{Partition: p, Actor: st.Actor, Trust: st.Trust, Clock: st.Clock}
}

// deliver takes the i-th message: it arrives, is lost or stays as a double too.
func (w *World) deliver(i int) {
	m := w.net[i]
	drop := w.mix.DropPM
	if m.ack {
		drop = w.mix.AckDropPM
	}
	double := w.chance(w.mix.DoublePM)
	if !double {
		w.net[i] = w.net[len(w.net)-1]
		w.net = w.net[:len(w.net)-1]
	}
	if w.chance(drop) {
		w.log("lost op%d n%d->n%d ack=%v", m.op.Index, m.from, m.to, m.ack)
		return
	}
	w.arrive(m)
}

// Deliver lets a write's frames and acknowledgements on their way to a node
// arrive there, once each.
func (w *World) Deliver(op *Op, to int) {
	var left []message
	arriving := w.net
	w.net = nil
	for _, m := range arriving {
		if m.op == op && m.to == to {
			w.arrive(m)
		} else {
			left = append(left, m)
		}
	}
	w.net = append(left, w.net...)
}

func (w *World) arrive(m message) {
	n := w.nodes[m.to]
	if !n.up {
		return
	}
	w.log("arrives op%d n%d->n%d ack=%v", m.op.Index, m.from, m.to, m.ack)
	frame := bytes.Clone(m.frame) // whoever parses it keeps it
	if m.ack {
		a, err := wire.ParseAck(frame)
		w.must(err)
		if op := w.ops[a.Seq-1]; op != m.op || !w.bug.lies() && !a.Copies[0].Clock.Has(op.Dot) {
			w.fail("R4", "n%d acknowledges op%d and its clock has it not", m.from, m.op.Index)
		}
		n.meet(m.from, m.life)
		n.hear(m.from, m.life, a.Copies[0].Partition, a.Copies[0].Clock, false)
		w.countAck(m.op, m.from, m.life)
		return
	}
	a, err := wire.ParseApply(frame)
	w.must(err)
	if from := w.nodes[m.from]; m.life < from.since && n.known[m.from] >= from.since {
		w.log("refused: an older process sent it")
		return
	}
	n.meet(m.from, m.life)
	for _, wr := range a.Writes {
		w.saw(wr.Key, wr.Object)
		n.standIn(wr.Partition)
		d := due{m.op, wr.Partition}
		r := state.Received{Key: wr.Key, Object: wr.Object, Floor: wr.Floor, From: m.node}
		err := n.shard(wr.Partition).Apply(r, func() { n.due = append(n.due, d) })
		if errors.Is(err, partition.ErrSealed) {
			if !w.late(n, r, m.op, d) {
				continue
			}
			err = nil
		}
		if w.refused(n, err) {
			continue
		}
		n.planned[m.op.Key].join(&m.reflected)
		if w.bug == BugAckEarly {
			w.acknowledge(n, d)
		}
	}
}

// refused reports whether a copy did not take something in, which may be of a key that
// rotted there: it is not acknowledged, and comes again.
func (w *World) refused(n *Node, err error) bool {
	if n.rotten && errors.Is(err, partition.ErrDamaged) {
		w.log("n%d refuses it: %v", n.index, err)
		return true
	}
	w.must(err)
	return false
}
