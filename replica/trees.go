package replica

import (
	"context"
	"errors"
	"fmt"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/merkle"
	"edged.dev/edged/partition"
	"edged.dev/edged/transport/wire"
)

// AnswerTree answers a TREE from a node's copies. An error means that the question
// makes no sense.
func AnswerTree(ctx context.Context, set *partition.Set, request []byte) ([]byte, error) {
	q, err := wire.ParseTree(request)
	if err != nil {
		return nil, err
	}
	sh, clock, code := level(set, q.Partition, q.Clock)
	if code != wire.TreeOK {
		return wire.TreeAck{Code: code}.Append(nil), nil
	}
	a, err := answerTree(ctx, sh, clock, q.Ask)
	if errors.Is(err, partition.ErrMoved) {
		return wire.TreeAck{Code: wire.TreeMoved}.Append(nil), nil
	}
	if err != nil {
		return nil, fmt.Errorf("answer tree: %w", err)
	}
	ack := wire.TreeAck{Fit: a.Fit, Bits: a.Bits, Count: a.Root.Count, Sum: a.Root.Bytes(), Nodes: a.Nodes}
	if len(q.Ranges) == 0 {
		return ack.Append(nil), nil
	}
	items, upto, err := itemsOf(sh, clock, q.Ranges, q.Ask.Salt, wire.MaxTreeItems-wire.MaxVersions)
	if errors.Is(err, partition.ErrMoved) {
		return wire.TreeAck{Code: wire.TreeMoved}.Append(nil), nil
	}
	if err != nil {
		return nil, err
	}
	for _, it := range items[:min(len(items), wire.MaxTreeItems)] {
		ack.Items = append(ack.Items, it.Short)
	}
	ack.Upto = upto
	return ack.Append(nil), nil
}

// level returns the copy that is asked about, if it is at the clock whose hash is
// given and nothing of it goes beyond that clock. With hash 0 no clock is asked for, and
// the clock is nil.
func level(set *partition.Set, p kv.Partition, hash uint64) (*partition.Shard, *kv.Clock, wire.TreeCode) {
	sh := set.Shard(p)
	if sh == nil {
		return nil, nil, wire.TreeNone
	}
	if hash == 0 {
		if sh.Quarantined() {
			return nil, nil, wire.TreeMoved
		}
		return sh, nil, wire.TreeOK
	}
	st := sh.Status()
	if !st.Comparable() || clockHash(p, st.Clock) != hash {
		return nil, nil, wire.TreeMoved
	}
	return sh, &st.Clock, wire.TreeOK
}

func answerTree(ctx context.Context, sh *partition.Shard, at *kv.Clock, q merkle.Question) (partition.TreeAnswer, error) {
	if at == nil {
		return sh.AnswerNow(ctx, q)
	}
	return sh.Answer(ctx, *at, q)
}

func itemsOf(sh *partition.Shard, at *kv.Clock, ranges []merkle.Range, salt uint64, limit int) ([]partition.Item, uint64, error) {
	if at == nil {
		return sh.ItemsNow(ranges, salt, limit)
	}
	return sh.Items(*at, ranges, salt, limit)
}

// AnswerHeld answers a HELD from a node's copies.
func AnswerHeld(ctx context.Context, set *partition.Set, request []byte) ([]byte, error) {
	q, err := wire.ParseHeld(request)
	if err != nil {
		return nil, err
	}
	sh, clock, code := level(set, q.Partition, q.Clock)
	if code != wire.TreeOK {
		return wire.HeldAck{Code: code}.Append(nil), nil
	}
	ack, err := heldBy(ctx, sh, clock, q)
	if errors.Is(err, partition.ErrMoved) {
		return wire.HeldAck{Code: wire.TreeMoved}.Append(nil), nil
	}
	if err != nil {
		return nil, err
	}
	return ack.Append(nil), nil
}

func heldBy(ctx context.Context, sh *partition.Shard, at *kv.Clock, q wire.Held) (wire.HeldAck, error) {
	keys := q.Keys
	if len(q.Items) > 0 {
		wanted := map[uint64]bool{}
		for _, s := range q.Items {
			wanted[s] = true
		}
		items, _, err := itemsOf(sh, at, q.Ranges, q.Salt, wire.MaxTreeItems)
		if err != nil {
			return wire.HeldAck{}, err
		}
		for _, it := range items {
			last := len(keys) - 1
			if wanted[it.Short] && len(keys) < wire.MaxHeldKeys && (last < 0 || string(keys[last]) != string(it.Key)) {
				keys = append(keys, it.Key)
			}
		}
	}
	a, err := answerTree(ctx, sh, at, merkle.Question{})
	if err != nil {
		return wire.HeldAck{}, err
	}
	ack := wire.HeldAck{Fit: a.Fit, Told: at == nil}
	var found []partition.FoundObject
	if at == nil {
		found, ack.Clock, err = sh.HeldNow(keys)
	} else {
		found, err = sh.Held(*at, keys)
	}
	if err != nil {
		return wire.HeldAck{}, err
	}
	for i := range found {
		versions := heldVersions(&found[i])
		ack.Objects = append(ack.Objects, wire.HeldObject{
			Key: found[i].Key, Beyond: found[i].Beyond, Versions: versions[:min(len(versions), wire.MaxVersions)],
		})
	}
	return ack, nil
}
