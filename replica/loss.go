package replica

import (
	"context"
	"fmt"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/replica/core"
)

// Losses returns the partitions that this node owns and cannot serve, since every
// copy may be new, with what an operator gives up who accepts that.
func (r *Replica) Losses() []core.Loss {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.machine.Losses()
}

// Loss returns what is given up with one partition, or why there is nothing to
// accept.
func (r *Replica) Loss(p kv.Partition) core.Loss {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.machine.Loss(p)
}

// AcceptLoss makes this node's NEW copy of a partition WHOLE by an operator's word.
// It returns when that is durable; the copy serves by the rules from then on, and
// the other owners follow it. It is refused while a copy that is not NEW is in
// reach, or one that is in reach has not reported.
func (r *Replica) AcceptLoss(ctx context.Context, p kv.Partition) error {
	if l := r.Loss(p); l.Refused != "" {
		return fmt.Errorf("accept loss of partition %d: %s", p, l.Refused)
	}
	if sh := r.cfg.Set.Add(p); sh.Quarantined() { // what it holds is all there is
		adopted := make(chan error, 1)
		r.adopt(p, func(err error) { adopted <- err })
		select {
		case err := <-adopted:
			if err != nil {
				return fmt.Errorf("accept loss of partition %d: %w", p, err)
			}
		case <-ctx.Done():
			return fmt.Errorf("accept loss of partition %d: %w", p, context.Cause(ctx))
		}
	}
	done := make(chan struct{})
	r.cfg.Set.Add(p).SetTrust(kv.Whole, func() { close(done) })
	select {
	case <-done:
	case <-ctx.Done():
		return fmt.Errorf("accept loss of partition %d: %w", p, context.Cause(ctx))
	}
	r.step(core.Decreed{Partition: p})
	return nil
}
