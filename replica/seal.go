package replica

import (
	"context"
	"math"
	"sync"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// askSeal asks a member, or this node itself, about former processes of a node.
func (r *Replica) askSeal(ctx context.Context, e core.SendSeal) {
	answer := core.SealAnswered{Name: e.Name, Round: e.Round, Failed: true}
	if e.Name == r.cfg.Self {
		ack, err := r.seal(ctx, e.Seal)
		answer.Ack, answer.Failed = ack, err != nil
	} else if resp, err := r.call(ctx, e.Name, e.Seal.Append(nil)); err == nil {
		ack, err := answerOf(r, e.Name, resp, wire.ParseSealAck)
		answer.Ack, answer.Failed = ack, err != nil
	}
	r.step(answer)
}

// serveSeal answers SEAL.
func (r *Replica) serveSeal(ctx context.Context, request []byte) ([]byte, error) {
	q, err := wire.ParseSeal(request)
	if err != nil {
		return nil, err
	}
	ack, err := r.seal(ctx, q)
	if err != nil {
		return nil, err
	}
	return ack.Append(nil), nil
}

// seal promises, or closes, and answers once that is on stable storage.
func (r *Replica) seal(ctx context.Context, q wire.Seal) (wire.SealAck, error) {
	r.mu.Lock()
	may := r.machine.MaySeal(q)
	r.mu.Unlock()
	over := kv.SealOf(q.Node, q.Boot)
	ack := wire.SealAck{Parts: make([]wire.SealState, len(q.Parts))}
	var published sync.WaitGroup
	for i, p := range q.Parts {
		ack.Parts[i].Partition = p.Partition
		if may {
			published.Add(1)
			if !r.sealPart(over, q.Close, p, &ack.Parts[i], published.Done) {
				published.Done()
			}
		}
	}
	if !may {
		return ack, nil
	}
	if err := waitFor(ctx, &published); err != nil {
		return ack, err
	}
	if err := r.cfg.Set.Committer().SyncApplied(); err != nil {
		return ack, err
	}
	for i := range ack.Parts {
		r.sealState(over, &ack.Parts[i], q.Close)
	}
	return ack, nil
}

// planned marks, while an answer is made, a copy whose promise or close is on its way.
const planned wire.Promise = math.MaxUint8

// sealPart plans one partition's promise or close, and reports whether done will be
// called.
func (r *Replica) sealPart(over kv.Dot, closing bool, p wire.SealPart, s *wire.SealState, done func()) bool {
	sh := r.cfg.Set.Shard(p.Partition)
	if sh == nil {
		s.Promise = wire.SealNoCopy
		return false
	}
	var err error
	if closing {
		err = sh.Seal(over, p.Found, done)
	} else {
		err = sh.Fence(over, done)
	}
	if err != nil {
		return false // refused
	}
	s.Promise = planned
	return true
}

// sealState says what a copy holds now that its promise is durable.
func (r *Replica) sealState(over kv.Dot, s *wire.SealState, closing bool) {
	if s.Promise != planned {
		return
	}
	s.Promise = wire.SealRefused
	sh := r.cfg.Set.Shard(s.Partition)
	if sh == nil { // dropped meanwhile, and with it the promise
		return
	}
	*s = core.SealState(s.Partition, sh.Former(over), sh.Trust())
	if closing && s.Promise == wire.SealClosed {
		r.stats.Sealed.Add(1)
	}
}

// waitFor waits until all of a group is done, or ctx ends.
func waitFor(ctx context.Context, group *sync.WaitGroup) error {
	done := make(chan struct{})
	go func() {
		group.Wait() // the committer ends only with everything planned committed
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Sealed returns how many seals the clocks of this node's copies hold.
func (r *Replica) Sealed() (n int) {
	for _, p := range r.cfg.Set.Partitions() {
		if sh := r.cfg.Set.Shard(p); sh != nil {
			n += sh.Seals()
		}
	}
	return n
}
