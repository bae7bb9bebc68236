package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
	"edged.dev/edged/partition/state"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// drops are the copies that are being dropped. Between the machine's word and the
// end of the drop nothing may open a new copy in the place of the old one: what comes
// for it waits, and is then for the next copy, under another actor.
type drops struct {
	mu    sync.Mutex
	going map[kv.Partition]chan struct{} // closed when it is over
}

// begin registers a drop unless the partition is owned by now.
func (d *drops) begin(p kv.Partition, owned func() bool) (over func(), ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if owned() || d.going[p] != nil {
		return nil, false
	}
	done := make(chan struct{})
	if d.going == nil {
		d.going = map[kv.Partition]chan struct{}{}
	}
	d.going[p] = done
	return func() {
		d.mu.Lock()
		delete(d.going, p)
		d.mu.Unlock()
		close(done)
	}, true
}

// wait returns when no drop of a partition is under way.
func (d *drops) wait(p kv.Partition) {
	for {
		d.mu.Lock()
		done := d.going[p]
		d.mu.Unlock()
		if done == nil {
			return
		}
		<-done
	}
}

// dropHeld forgets a copy that this node does not own, if nothing came to it since the
// owners were asked.
func (r *Replica) dropHeld(e core.Drop) {
	gone := false
	over, ok := r.drops.begin(e.Partition, func() bool {
		l := r.layout.Load()
		return l == nil || l.Owns(r.cfg.Self, uint32(e.Partition))
	})
	if ok {
		var err error
		if gone, err = r.cfg.Set.DropCovered(e.Partition, e.Clock); err != nil {
			r.noteDrop(e.Partition, err)
		}
		if gone {
			r.stats.CopiesDropped.Add(1)
		}
	}
	r.step(core.Dropped{Partition: e.Partition, Gone: gone})
	if ok {
		over()
	}
}

func (r *Replica) noteDrop(p kv.Partition, err error) {
	if r.cfg.Events.Note != nil {
		r.cfg.Events.Note(core.Note{Kind: "alarm", Partition: p, Text: fmt.Sprintf("its copy here could not be dropped whole, and is quarantined at the next start: %v", err)})
	}
}

// takeFor joins a replicated write into the copy of its partition, opening one where
// there is none. Where this node is no owner in its own view, it holds the copy all
// the same: the ACK is cumulative and must be true of every write below it.
func (r *Replica) takeFor(p kv.Partition, w state.Received, done func()) error {
	for try := 0; ; try++ {
		sh := r.cfg.Set.Shard(p)
		if sh == nil {
			r.drops.wait(p)
			sh = r.cfg.Set.Add(p)
			r.stats.StandInsOpened.Add(1)
			r.step(core.Held{Partition: p})
		}
		err := sh.Apply(w, done)
		if !errors.Is(err, partition.ErrDropped) || try > 1 { // a drop that failed leaves it so
			return err
		}
		r.drops.wait(p)
	}
}

// askCover offers clocks to an owner.
func (r *Replica) askCover(ctx context.Context, e core.SendCover) {
	sortCopies(e.Copies)
	offered := make([]wire.CopyClock, 0, len(e.Copies))
	for _, c := range e.Copies {
		if r.withUnclaimed(&c) {
			offered = append(offered, c)
		}
	}
	resp, err := r.call(ctx, e.Name, wire.Cover{View: e.View, Copies: offered}.Append(nil))
	if err != nil {
		return // offered again
	}
	ack, err := wire.ParseCoverAck(resp)
	if err == nil {
		err = within(partsOf(offered), ack.Covered, "the answer to COVER")
	}
	r.breach(e.Name, err)
	if err == nil {
		r.step(core.Covered{Name: e.Name, Offer: e.Offer, Parts: ack.Covered})
	}
}

// withUnclaimed adds to the clock of a quarantined copy what it holds and has no clock
// for: that must not be dropped either before every owner has seen it. False: it
// cannot be told.
func (r *Replica) withUnclaimed(c *wire.CopyClock) bool {
	sh := r.cfg.Set.Shard(c.Partition)
	if sh == nil || !sh.Quarantined() {
		return true
	}
	unclaimed, err := sh.Unclaimed()
	if told := wire.FirstRuns(unclaimed, wire.MaxHeldDotRuns); err != nil || !told.Equal(unclaimed) {
		return false
	}
	c.Clock = c.Clock.Clone()
	c.Clock.Join(unclaimed)
	c.Trust, c.Quarantined = kv.New, true
	return true
}

// serveCover answers COVER. What is offered beyond this node's copies is fetched, but
// for what a quarantined copy holds, which gives nothing.
func (r *Replica) serveCover(name string, request []byte) ([]byte, error) {
	q, err := wire.ParseCover(request)
	if err != nil {
		return nil, err
	}
	if err := r.forgedClocks(q.Copies); err != nil {
		return nil, err
	}
	peer := r.remote(name)
	if peer == nil {
		return nil, fmt.Errorf("answer cover of %s: not connected", name)
	}
	r.mu.Lock()
	ack := wire.CoverAck{Covered: r.machine.Cover(r.cfg.Boottime(), q.View, q.Copies)}
	r.mu.Unlock()
	told := slices.DeleteFunc(q.Copies, func(c wire.CopyClock) bool { return c.Quarantined })
	r.step(core.DoneAsked{Name: name, Node: peer.node, Copies: told})
	sortParts(ack.Covered)
	return ack.Append(nil), nil
}

// held returns the partitions of which an earlier process left a copy.
func held(cfg *Config) []kv.Partition {
	parts := cfg.Set.Partitions()
	sortParts(parts)
	return parts
}
