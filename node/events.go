package node

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"edged.dev/edged/api/admin"
	"edged.dev/edged/cluster"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/internal/layout"
	"edged.dev/edged/replica"
	"edged.dev/edged/replica/core"
)

// A subscriber that is further behind is cut off: it must not take an incomplete
// story for a complete one. A return tells of each partition up to three times within a
// moment (what step it takes, that it is level, what it buried), which whoever keeps up
// with everything else must not be cut off for.
const (
	subscriberQueue  = 1024
	queueOfPartition = 4
)

// hub hands events to those who watch.
type hub struct {
	partitions func() int

	mu   sync.Mutex
	seq  uint64
	subs map[chan admin.Event]struct{}
}

// newHub makes a hub for a node of a cluster with so many partitions, at most
// layout.MaxPartitions: 17,408 events for each subscriber.
func newHub(partitions func() int) *hub {
	return &hub{partitions: partitions, subs: map[chan admin.Event]struct{}{}}
}

// partitions is how many there are, or may be where the layout is not known yet.
func (n *Node) partitions() int {
	if l := n.replica.Layout(); l != nil {
		return l.Partitions()
	}
	return layout.MaxPartitions
}

// Subscribe implements httpapi.Events.
func (h *hub) Subscribe(ctx context.Context) <-chan admin.Event {
	ch := make(chan admin.Event, subscriberQueue+queueOfPartition*h.partitions())
	h.mu.Lock()
	h.subs[ch] = struct{}{}
	h.mu.Unlock()
	context.AfterFunc(ctx, func() { h.drop(ch) })
	return ch
}

func (h *hub) drop(ch chan admin.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.subs[ch]; ok {
		delete(h.subs, ch)
		close(ch)
	}
}

func (h *hub) emit(e admin.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seq++
	e.Seq, e.TimeMS = h.seq, time.Now().UnixMilli()
	for ch := range h.subs {
		select {
		case ch <- e:
		default: // too slow: cut off
			delete(h.subs, ch)
			close(ch)
		}
	}
}

// gossip tells what gossip heard of a node; one that is a member already rejoins.
func (h *hub) gossip(e cluster.Event, member bool) {
	kind := "node.join"
	switch {
	case e.Kind == cluster.Left:
		kind = "node.leave"
	case member:
		kind = "node.rejoin"
	}
	h.emit(admin.Event{Kind: kind, Node: e.Member.Name, Text: "gossip: " + e.Kind.String()})
}

// replicaEvents turns what the replica tells into events and log lines.
func (n *Node) replicaEvents() replica.Events {
	return replica.Events{Part: func(core.Part) { n.noteCaughtUp() }, Plan: n.planned, Outlived: n.outlived, Note: func(note core.Note) {
		e := admin.Event{Kind: note.Kind, Node: note.Peer, Text: note.Text}
		if note.Step != "" {
			e.Text, e.Fields = note.Step+": "+note.Text, map[string]string{"step": note.Step, "reason": note.Text}
		}
		if note.Partition != kv.System {
			p := uint32(note.Partition)
			e.Partition = &p
		}
		n.events.emit(e)
		level := slog.LevelDebug
		if note.Kind == "alarm" {
			level = slog.LevelError
		}
		n.log.Log(context.Background(), level, "replica", slog.String("kind", note.Kind),
			slog.Int64("partition", int64(int32(note.Partition))), slog.String("peer", note.Peer), slog.String("text", note.Text))
	}}
}
