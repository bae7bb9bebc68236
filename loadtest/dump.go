package main

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"edged.dev/edged/api/admin"
	"edged.dev/edged/internal/kv"
)

// version is one line of a dump.
type version struct {
	key       string
	dot       kv.Dot
	hlc       uint64
	expiresMS int64
	sum       uint64 // xxh3 of the value
	bytes     int    // length of the value
	tombstone bool
}

// partitionDump is one partition of one node's copy: versions sorted by key
// and dot.
type partitionDump struct {
	versions []version
	clock    []admin.ClockEntry
	root     string
}

// live returns the versions that are no tombstones.
func (p *partitionDump) live() []version {
	out := make([]version, 0, len(p.versions))
	for _, v := range p.versions {
		if !v.tombstone {
			out = append(out, v)
		}
	}
	return out
}

// nodeDump is a node's own copy.
type nodeDump struct {
	node       string
	partitions map[uint32]*partitionDump
}

// collector builds a nodeDump of a dump's lines. The words of actors are
// parsed once each.
type collector struct {
	out    nodeDump
	actors map[string]kv.Actor
}

// readDump reads a node's own copy of everything.
func readDump(ctx context.Context, d door) (nodeDump, error) {
	c := collector{
		out:    nodeDump{node: d.name, partitions: map[uint32]*partitionDump{}},
		actors: map[string]kv.Actor{},
	}
	if err := d.admin.Dump(ctx, admin.AllPartitions, c.line); err != nil {
		return nodeDump{}, fmt.Errorf("dump %s: %w", d.name, err)
	}
	for _, p := range c.out.partitions {
		slices.SortFunc(p.versions, func(a, b version) int {
			return cmp.Or(cmp.Compare(a.key, b.key), a.dot.Compare(b.dot))
		})
	}
	return c.out, nil
}

// readDumps reads the copies of some nodes, two at a time.
func readDumps(ctx context.Context, doors []door) ([]nodeDump, error) {
	out := make([]nodeDump, len(doors))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(2) // a dump keeps a core busy at each end
	for i, d := range doors {
		group.Go(func() error {
			dump, err := readDump(ctx, d)
			out[i] = dump
			return err
		})
	}
	return out, group.Wait()
}

func (c *collector) partition(id uint32) *partitionDump {
	p := c.out.partitions[id]
	if p == nil {
		p = &partitionDump{}
		c.out.partitions[id] = p
	}
	return p
}

func (c *collector) line(line admin.DumpLine) error {
	if end := line.End; end != nil {
		p := c.partition(end.Partition)
		if end.Versions != len(p.versions) {
			return fmt.Errorf("partition %d ends with a count of %d after %d versions", end.Partition, end.Versions, len(p.versions))
		}
		p.clock, p.root = end.Clock, end.Root
		return nil
	}
	v := line.Version
	dot, err := c.dot(v.Dot)
	if err != nil {
		return err
	}
	out := version{
		key: string(v.Key), dot: dot, hlc: v.HLC, expiresMS: v.ExpiresMS,
		bytes: v.ValueBytes, tombstone: v.Tombstone,
	}
	if !v.Tombstone {
		if out.sum, err = parseSum(v.ValueXXH3); err != nil {
			return fmt.Errorf("hash of %q: %w", v.Key, err)
		}
	}
	p := c.partition(v.Partition)
	p.versions = append(p.versions, out)
	return nil
}

func (c *collector) dot(d admin.Dot) (kv.Dot, error) {
	actor, ok := c.actors[d.Actor]
	if !ok {
		var err error
		if actor, err = kv.ParseActor(d.Actor); err != nil {
			return kv.Dot{}, err
		}
		c.actors[d.Actor] = actor
	}
	return kv.Dot{Actor: actor, Seq: d.Seq}, nil
}

// parseSum reads 16 hexadecimal digits.
func parseSum(text string) (uint64, error) {
	var raw [8]byte
	if len(text) != 16 {
		return 0, fmt.Errorf("want 16 hexadecimal digits, not %q", text)
	}
	if _, err := hex.Decode(raw[:], []byte(text)); err != nil {
		return 0, err
	}
	var n uint64
	for _, b := range raw {
		n = n<<8 | uint64(b)
	}
	return n, nil
}
