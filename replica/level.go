package replica

import (
	"context"
	"fmt"
	"time"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/transport/wire"
)

// levelPoll spaces the questions of whoever waits for a sync point.
const levelPoll = 50 * time.Millisecond

// Level waits for a sync point: until every owner of every partition that this
// node owns durably holds all that any of them held when it was called, and this
// node's copies are LIVE. Writes that come later do not hold it up. The error says
// what was missing when ctx ended.
func (r *Replica) Level(ctx context.Context) error {
	mark := map[kv.Partition]*kv.Clock{} // what all must cover
	var missing error
	told := map[string]bool{} // owners whose clocks are in mark
	level := map[string]bool{}
	for {
		if missing = r.levelRound(ctx, mark, told, level); missing == nil {
			return nil
		}
		timer := time.NewTimer(levelPoll)
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("not level: %w", missing)
		case <-timer.C:
		}
	}
}

// levelRound asks every owner that is not level yet, and returns what is missing.
func (r *Replica) levelRound(ctx context.Context, mark map[kv.Partition]*kv.Clock, told, level map[string]bool) error {
	of := map[string][]kv.Partition{}
	for p := range r.Parts() {
		if !p.Self {
			continue
		}
		for _, name := range p.Owners {
			of[name] = append(of[name], p.Partition)
		}
	}
	if len(of) == 0 {
		return fmt.Errorf("%s has no partitions yet", r.cfg.Self)
	}
	var missing error
	for name, parts := range of { // first what there is, of everybody
		if !told[name] {
			clocks, err := r.clocksOf(ctx, name, parts)
			if err != nil {
				missing = err
				continue
			}
			told[name] = true
			for _, c := range clocks {
				if mark[c.Partition] == nil {
					mark[c.Partition] = &kv.Clock{}
				}
				mark[c.Partition].Join(c.Clock)
			}
			clear(level)
		}
	}
	if missing != nil {
		return missing
	}
	for name, parts := range of {
		if level[name] {
			continue
		}
		if missing = r.covers(ctx, name, parts, mark); missing != nil {
			return missing
		}
		level[name] = true
	}
	for p := range r.Parts() {
		if p.Self && p.State != kv.Live {
			return fmt.Errorf("partition %d is %s here", p.Partition, p.State)
		}
	}
	return nil
}

// covers says which partition of an owner lacks something of the mark.
func (r *Replica) covers(ctx context.Context, name string, parts []kv.Partition, mark map[kv.Partition]*kv.Clock) error {
	clocks, err := r.clocksOf(ctx, name, parts)
	if err != nil {
		return err
	}
	held := map[kv.Partition]kv.Clock{}
	for _, c := range clocks {
		held[c.Partition] = c.Clock
	}
	for _, p := range parts {
		have := held[p]
		if m := mark[p]; m != nil && !have.Covers(*m) {
			return fmt.Errorf("%s lacks versions of partition %d", name, p)
		}
	}
	return nil
}

// clocksOf returns the durable clocks of an owner's copies, this node's among them.
func (r *Replica) clocksOf(ctx context.Context, name string, parts []kv.Partition) ([]wire.CopyClock, error) {
	sortParts(parts)
	if name == r.cfg.Self {
		return r.copyClocks(parts), nil
	}
	resp, err := r.call(ctx, name, wire.Clocks{Partitions: parts}.Append(nil))
	if err != nil {
		return nil, fmt.Errorf("%s does not answer: %w", name, err)
	}
	ack, err := r.parseClocks(name, parts, resp)
	if err != nil {
		return nil, err
	}
	return ack.Copies, nil
}
