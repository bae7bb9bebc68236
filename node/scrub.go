package node

import (
	"context"
	"slices"

	"edged.dev/edged/api/admin"
	"edged.dev/edged/internal/kv"
)

// damaged takes a copy's word that a read found records of it damaged.
func (n *Node) damaged(p kv.Partition) {
	if r := n.serving.Load(); r != nil {
		r.Damaged(p)
	}
}

// maxToldKeys bounds the keys that an answer names of one copy.
const maxToldKeys = 64

// Scrub implements httpapi.Dumper.
func (d dumper) Scrub(ctx context.Context, part int) (admin.Scrubbed, error) {
	parts, err := d.parts(part)
	if err != nil {
		return admin.Scrubbed{}, err
	}
	var out admin.Scrubbed
	for _, p := range parts {
		got, err := d.n.replica.Scrub(ctx, p)
		if err != nil {
			return admin.Scrubbed{}, err
		}
		out.Objects += got.Objects
		out.Bytes += got.Bytes
		if got.Fit {
			continue
		}
		c := admin.DamagedCopy{Partition: uint32(p)}
		for _, key := range got.Damaged[:min(len(got.Damaged), maxToldKeys)] {
			c.Keys = append(c.Keys, []byte(key))
		}
		out.Damaged = append(out.Damaged, c)
	}
	return out, nil
}

// healed tells which copies were healed by the owners' vote, and of what.
func (n *Node) healed() []admin.HealedCopy {
	var out []admin.HealedCopy
	for p := range n.replica.Parts() {
		if p.Path == "L4" && p.Self && p.Partition != kv.System {
			out = append(out, admin.HealedCopy{Partition: uint32(p.Partition), Reason: p.Why})
		}
	}
	slices.SortFunc(out, func(a, b admin.HealedCopy) int { return int(int64(a.Partition) - int64(b.Partition)) })
	return out
}
