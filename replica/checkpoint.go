package replica

import (
	"context"
	"sync"

	"edged.dev/edged/transport/wire"
)

// checkpoints are tables of clocks that this node and a peer once had alike, found
// by equal roots. A HELLO is told relative to one, so that it costs what changed
// since and not what there is. They only save bytes: a HELLO names its table by a
// hash over all of it, and a peer that has no such table asks for the whole.
type checkpoints struct {
	mu     sync.Mutex
	tables map[string][]checkpoint // newest first
}

type checkpoint struct {
	id    uint64
	table []wire.CopyClock
}

// maxCheckpoints is how many a peer are remembered: it may have kept the newest
// or, killed before that, the one before.
const maxCheckpoints = 2

// openCheckpoints reads what earlier processes kept.
func openCheckpoints(cfg *Config) (*checkpoints, error) {
	kept, err := cfg.Set.Checkpoints()
	if err != nil {
		return nil, err
	}
	c := &checkpoints{tables: map[string][]checkpoint{}}
	for name, blob := range kept {
		if ack, err := wire.ParseAck(blob); err == nil { // another format only costs bytes
			c.add(name, ack.Copies)
		}
	}
	return c, nil
}

// add takes a table, and reports whether it is not the newest already.
func (c *checkpoints) add(name string, table []wire.CopyClock) bool {
	id := wire.CheckpointID(table)
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.tables[name]
	if len(table) == 0 || len(old) > 0 && old[0].id == id {
		return false
	}
	list := append([]checkpoint{{id, table}}, old...)
	c.tables[name] = list[:min(len(list), maxCheckpoints)]
	return true
}

// newest returns the table to lean on towards a peer, nil if there is none.
func (c *checkpoints) newest(name string) []wire.CopyClock {
	c.mu.Lock()
	defer c.mu.Unlock()
	if list := c.tables[name]; len(list) > 0 {
		return list[0].table
	}
	return nil
}

// find returns the table of an id that a peer leans on, nil if it is not here.
func (c *checkpoints) find(name string, id uint64) []wire.CopyClock {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, x := range c.tables[name] {
		if x.id == id {
			return x.table
		}
	}
	return nil
}

// checkpoint keeps clocks that a peer was found to have too.
func (r *Replica) checkpoint(name string, table []wire.CopyClock) {
	if r.checkpoints.add(name, table) {
		r.cfg.Set.KeepCheckpoint(name, wire.Ack{Copies: table}.Append(nil))
	}
}

// askHello asks a peer by HELLO, and again with whole clocks where it has not got the
// checkpoint.
func (r *Replica) askHello(ctx context.Context, name string, h wire.Hello) (wire.HelloAck, error) {
	ack, err := r.askHelloOn(ctx, name, h, r.checkpoints.newest(name))
	if err == nil && ack.Code == wire.HelloNeedClocks {
		return r.askHelloOn(ctx, name, h, nil)
	}
	return ack, err
}

// askHelloOn asks with clocks told relative to a checkpoint.
func (r *Replica) askHelloOn(ctx context.Context, name string, h wire.Hello, checkpoint []wire.CopyClock) (wire.HelloAck, error) {
	req := h.Append(nil, r.codec, checkpoint)
	r.stats.SyncBytesOut.Add(int64(len(req)))
	resp, err := r.call(ctx, name, req)
	if err != nil {
		return wire.HelloAck{}, err
	}
	r.stats.SyncBytesIn.Add(int64(len(resp)))
	ack, err := wire.ParseHelloAck(resp, r.codec, h.Copies)
	if err == nil {
		err = r.checkHelloAck(&h, &ack)
	}
	r.breach(name, err)
	if err == nil {
		for i := range ack.Equal {
			at, _ := placeOf(h.Copies, ack.Equal[i].Partition)
			ack.Equal[i].Clock = h.Copies[at].Clock
		}
	}
	return ack, err
}
