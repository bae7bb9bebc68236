package main

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"maps"
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
	return readDumpOf(ctx, d, admin.AllPartitions)
}

// readDumpOf reads a node's own copy of one partition.
func readDumpOf(ctx context.Context, d door, partition int) (nodeDump, error) {
	c := collector{
		out:    nodeDump{node: d.name, partitions: map[uint32]*partitionDump{}},
		actors: map[string]kv.Actor{},
	}
	if err := d.admin.Dump(ctx, partition, c.line); err != nil {
		return nodeDump{}, fmt.Errorf("dump %s: %w", d.name, err)
	}
	for _, p := range c.out.partitions {
		slices.SortFunc(p.versions, func(a, b version) int {
			return cmp.Or(cmp.Compare(a.key, b.key), a.dot.Compare(b.dot))
		})
	}
	return c.out, nil
}

// eachPartition reads the copies of some nodes, one partition after the other,
// so that a million keys need no more memory than one partition of them. What a
// node does not own is not asked of it, nor the system partition, which it does
// not show.
func eachPartition(ctx context.Context, doors []door, where placement, use func(id uint32, copies []nodeDump) error) error {
	for _, id := range slices.Sorted(maps.Keys(where.owners)) {
		if id == uint32(kv.System) {
			continue
		}
		copies, err := readCopies(ctx, doors, where, id)
		if err != nil {
			return err
		}
		if err := use(id, copies); err != nil {
			return err
		}
	}
	return nil
}

// readCopies reads the copies that some nodes own of one partition.
func readCopies(ctx context.Context, doors []door, where placement, id uint32) ([]nodeDump, error) {
	copies := make([]nodeDump, len(doors))
	group, ctx := errgroup.WithContext(ctx)
	for i, d := range doors {
		copies[i].node = d.name
		if !where.owns(d.name, id) {
			continue
		}
		group.Go(func() (err error) {
			copies[i], err = readDumpOf(ctx, d, int(id))
			return err
		})
	}
	return copies, group.Wait()
}

// readHeld reads which versions a node holds, and of each nothing but its dot.
func readHeld(ctx context.Context, d door, where placement) (nodeDump, error) {
	out := nodeDump{node: d.name, partitions: map[uint32]*partitionDump{}}
	err := eachPartition(ctx, []door{d}, where, func(id uint32, copies []nodeDump) error {
		p := copies[0].partitions[id]
		if p == nil {
			return nil
		}
		held := &partitionDump{versions: make([]version, len(p.versions))}
		for i, v := range p.versions {
			held.versions[i].dot = v.dot
		}
		out.partitions[id] = held
		return nil
	})
	return out, err
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
