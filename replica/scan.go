package replica

import (
	"bytes"
	"context"
	"strconv"
	"time"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

func untilMS(at time.Time) int64 { return time.Until(at).Milliseconds() }

func durationMS(ms uint32) time.Duration { return time.Duration(ms) * time.Millisecond }

// orderBits is how many bits of a cursor are the order inside the partition.
const orderBits = 48

// Scan returns up to limit shown keys from the cursor on, over all partitions of
// the cluster. The cursor is a decimal number: partition and key order; "" and
// "0" begin, "" ends.
func (r *Replica) Scan(ctx context.Context, cursor string, limit int, prefix []byte) (keys []wire.ScannedKey, next string, err error) {
	at := uint64(0)
	if cursor != "" {
		if at, err = strconv.ParseUint(cursor, 10, 64); err != nil || at>>orderBits >= uint64(r.cfg.Partitions) {
			return nil, "", kv.Errorf(kv.CodeInvalid, "cursor %q is not one of this cluster; begin with 0", cursor)
		}
	}
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	limit = min(max(limit, 1), wire.MaxScanKeys)
	p, from := at>>orderBits, at&(1<<orderBits-1)
	begun := at
	for p < uint64(r.cfg.Partitions) && len(keys) < limit {
		ack, err := r.scanPartition(ctx, wire.Scan{Partition: kv.Partition(p), From: from, Limit: uint32(limit - len(keys)), Prefix: prefix})
		if now := p<<orderBits | from; err != nil && now != begun {
			return keys, strconv.FormatUint(now, 10), nil // what there is; the next call says what is wrong
		}
		if err != nil {
			return nil, "", err
		}
		keys = append(keys, ack.Keys...)
		if from = ack.Next; ack.Done {
			p, from = p+1, 0
		}
	}
	if p == uint64(r.cfg.Partitions) {
		return keys, "", nil
	}
	return keys, strconv.FormatUint(p<<orderBits|from, 10), nil
}

func (r *Replica) scanPartition(ctx context.Context, q wire.Scan) (wire.ScanAck, error) {
	for ctx.Err() == nil {
		r.mu.Lock()
		changed := r.changed
		r.mu.Unlock()
		part := r.part(q.Partition)
		if part != nil && part.State.Serves() && r.leased(part) {
			return r.scanHere(part, q)
		}
		if part != nil {
			for _, name := range part.Serving {
				if name == r.cfg.Self {
					continue
				}
				resp, err := r.cfg.Peers.Call(ctx, name, q.Append(nil))
				if err != nil {
					continue
				}
				if ack, err := answerOf(r, name, resp, wire.ParseScanAck); err == nil && ack.State.Serves() {
					return ack, nil
				}
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	return wire.ScanAck{}, kv.Errorf(kv.CodeUnavailable, "no copy of partition %d serves at present", q.Partition)
}

// scanHere scans this node's copy. Siblings are not resolved: a key is shown if
// any version of it is live, as its policy may still show it as absent.
func (r *Replica) scanHere(part *core.Part, q wire.Scan) (wire.ScanAck, error) {
	ack := wire.ScanAck{State: part.State}
	sh := r.cfg.Set.Shard(q.Partition)
	if sh == nil {
		return wire.ScanAck{}, kv.Errorf(kv.CodeNotServing, "partition %d has no copy here", q.Partition)
	}
	now := r.NowMS()
	var err error
	ack.Next, ack.Done, err = sh.Scan(q.From, int(min(q.Limit, wire.MaxScanKeys)), func(key []byte, o kv.Object) {
		if !bytes.HasPrefix(key, q.Prefix) {
			return
		}
		if live := o.Live(nil, now); len(live) > 0 {
			ack.Keys = append(ack.Keys, wire.ScannedKey{Key: bytes.Clone(key), ExpiresMS: live[0].ExpiresMS})
		}
	})
	return ack, err
}

func (r *Replica) serveScan(request []byte) ([]byte, error) {
	q, err := wire.ParseScan(request)
	if err != nil {
		return nil, err
	}
	part := r.part(q.Partition)
	if part == nil || !part.State.Serves() || !r.leased(part) {
		return wire.ScanAck{}.Append(nil), nil
	}
	ack, err := r.scanHere(part, q)
	if err != nil {
		return nil, err
	}
	return ack.Append(nil), nil
}

// Count returns the number of keys in the cluster, counted at one serving owner of
// each partition. Expired ones count until they are removed, within about a second.
func (r *Replica) Count(ctx context.Context) (int64, error) {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	var total int64
	ask := map[string][]kv.Partition{}
	for p := range r.cfg.Partitions {
		part := r.part(kv.Partition(p))
		switch {
		case part == nil || len(part.Serving) == 0 && !part.State.Serves():
			return 0, kv.Errorf(kv.CodeUnavailable, "no copy of partition %d serves at present", p)
		case part.State.Serves():
			n, err := r.cfg.Set.Add(kv.Partition(p)).Keys()
			if err != nil {
				return 0, r.storeError(part, err)
			}
			total += int64(n)
		default:
			ask[part.First] = append(ask[part.First], kv.Partition(p))
		}
	}
	for name, parts := range ask {
		resp, err := r.cfg.Peers.Call(ctx, name, wire.Count{Partitions: parts}.Append(nil))
		if err != nil {
			return 0, kv.Errorf(kv.CodeUnavailable, "count at %s: %v", name, err)
		}
		ack, err := r.parseCount(name, len(parts), resp)
		if err != nil {
			return 0, kv.Errorf(kv.CodeInternal, "count at %s: %v", name, err)
		}
		for _, n := range ack.Keys {
			total += max(n, 0)
		}
	}
	return total, nil
}

func (r *Replica) serveCount(request []byte) ([]byte, error) {
	q, err := wire.ParseCount(request)
	if err != nil {
		return nil, err
	}
	ack := wire.CountAck{Keys: make([]int64, len(q.Partitions))}
	for i, p := range q.Partitions {
		ack.Keys[i] = -1
		if part, sh := r.part(p), r.cfg.Set.Shard(p); part != nil && sh != nil && part.State.Serves() {
			n, err := sh.Keys()
			if err != nil {
				return nil, err
			}
			ack.Keys[i] = int64(n)
		}
	}
	return ack.Append(nil), nil
}
