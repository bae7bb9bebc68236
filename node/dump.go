package node

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"

	"edged.dev/edged/api/admin"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
)

// dumper reads this node's own copies for /v1/dump.
type dumper struct{ n *Node }

// Dump implements httpapi.Dumper.
func (d dumper) Dump(ctx context.Context, part int, emit func(admin.DumpLine) error) error {
	parts, err := d.parts(part)
	if err != nil {
		return err
	}
	for _, p := range parts {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := d.one(d.n.set.Shard(p), emit); err != nil {
			return err
		}
	}
	return nil
}

// parts returns the partition that was asked for, or all that this node holds.
func (d dumper) parts(part int) ([]kv.Partition, error) {
	parts := d.n.set.Partitions()
	slices.Sort(parts)
	parts = slices.DeleteFunc(parts, func(p kv.Partition) bool { return p == kv.System })
	if part == admin.AllPartitions {
		return parts, nil
	}
	if !slices.Contains(parts, kv.Partition(part)) {
		return nil, &admin.Problem{Title: "no such copy", Status: http.StatusNotFound, Detail: fmt.Sprintf("this node has no copy of partition %d", part)}
	}
	return []kv.Partition{kv.Partition(part)}, nil
}

func (d dumper) one(sh *partition.Shard, emit func(admin.DumpLine) error) error {
	versions := 0
	c, err := sh.Dump(func(v partition.DumpedVersion) error {
		versions++
		line := admin.DumpVersion{
			Partition: uint32(sh.ID()), Key: v.Key, HLC: uint64(v.HLC), Tombstone: v.Tombstone(),
			Dot: admin.Dot{Actor: v.Dot.Actor.String(), Seq: v.Dot.Seq}, ExpiresMS: v.ExpiresMS, ValueBytes: v.Bytes,
		}
		if !v.Tombstone() {
			line.ValueXXH3 = fmt.Sprintf("%016x", v.Sum)
		}
		return emit(admin.DumpLine{Version: &line})
	})
	if err != nil {
		return err
	}
	end := admin.DumpEnd{Partition: uint32(sh.ID()), Versions: versions, Root: hex.EncodeToString(c.Sum[:])}
	for _, s := range c.Clock.Spans() {
		e := admin.ClockEntry{Actor: s.Actor.String(), Base: s.Base}
		for _, r := range s.Runs {
			e.Runs = append(e.Runs, admin.ClockRun{First: r.From, Last: r.To})
		}
		end.Clock = append(end.Clock, e)
	}
	return emit(admin.DumpLine{End: &end})
}
