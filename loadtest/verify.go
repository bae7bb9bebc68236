package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/zeebo/xxh3"

	"edged.dev/edged/api/admin"
	"edged.dev/edged/internal/kv"
)

// placement says which nodes own each partition, by name, and how many there
// are.
type placement struct {
	partitions uint32
	owners     map[uint32][]string
}

// owns reports whether a node holds a partition. The system partition, which
// has no owners here, is everybody's.
func (p placement) owns(node string, id uint32) bool {
	owners, ok := p.owners[id]
	return !ok || len(owners) == 0 || slices.Contains(owners, node)
}

// copies is how many owners a partition has.
func (p placement) copies() int {
	most := 0
	for _, owners := range p.owners {
		most = max(most, len(owners))
	}
	return most
}

func readPlacement(ctx context.Context, d door) (placement, error) {
	status, err := d.admin.Status(ctx)
	if err != nil {
		return placement{}, fmt.Errorf("read layout of %s: %w", d.name, err)
	}
	parts, err := d.admin.Partitions(ctx)
	if err != nil {
		return placement{}, fmt.Errorf("read partitions of %s: %w", d.name, err)
	}
	out := placement{partitions: uint32(status.Layout.Partitions), owners: map[uint32][]string{}}
	for _, p := range parts {
		out.owners[p.ID] = p.Owners
	}
	return out, nil
}

// verification is what the dumps of all nodes say of a run's end.
type verification struct {
	lost        int // keys whose last acknowledged write some owner lacks
	resurrected int // keys that were deleted and that some owner shows
	diverged    int // keys, or else whole clocks, in which two owners differ
	// leftovers are keys that also hold an older value, which a later write should
	// have covered. The same value twice is a write that was sent again because
	// nobody knew what had become of it.
	leftovers  int
	rootsEqual bool
	faults     []string
}

func (v *verification) fault(format string, args ...any) {
	if len(v.faults) < maxFaults {
		v.faults = append(v.faults, fmt.Sprintf(format, args...))
	}
}

// verify judges the copies of all nodes: each wanted key by what was
// acknowledged, and each partition by what its owners hold.
func verify(want []wanted, where placement, dumps []nodeDump) verification {
	v := verification{rootsEqual: true}
	ids := map[uint32]bool{}
	for _, d := range dumps {
		for id := range d.partitions {
			ids[id] = true
		}
	}
	byPartition := map[uint32][]wanted{}
	for _, w := range want {
		id := uint32(kv.PartitionOf(kv.Hash([]byte(w.key)), where.partitions))
		byPartition[id] = append(byPartition[id], w)
		ids[id] = true
	}
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		v.partition(id, byPartition[id], where, dumps)
	}
	return v
}

// partition judges one partition's copies.
func (v *verification) partition(id uint32, want []wanted, where placement, dumps []nodeDump) {
	owners := where.owners[id]
	var copies []ownedCopy
	for _, d := range dumps {
		// A partition without owners is the system's, which is everybody's.
		if len(owners) > 0 && !slices.Contains(owners, d.node) {
			continue
		}
		p := d.partitions[id]
		if p == nil {
			p = &partitionDump{}
		}
		copies = append(copies, ownedCopy{d.node, p})
	}
	v.compare(id, copies)
	v.keys(want, copies)
}

// ownedCopy is one owner's copy of a partition.
type ownedCopy struct {
	node string
	*partitionDump
}

// compare holds the copies of a partition's owners against each other.
func (v *verification) compare(id uint32, copies []ownedCopy) {
	if len(copies) == 0 {
		return
	}
	first, apart := copies[0], map[string]bool{}
	for _, other := range copies[1:] {
		if other.root != first.root {
			v.rootsEqual = false
			v.fault("partition %d: root %s at %s, %s at %s", id, first.root, first.node, other.root, other.node)
		}
		for key := range different(first.live(), other.live()) {
			apart[key] = true
			v.fault("partition %d: %s differs between %s and %s", id, key, first.node, other.node)
		}
	}
	v.diverged += len(apart)
	for _, other := range copies[1:] {
		if len(apart) == 0 && !sameClock(first.clock, other.clock) {
			v.diverged++
			v.fault("partition %d: clocks differ between %s and %s", id, first.node, other.node)
			return
		}
	}
}

// different yields the keys in which two sorted slices differ.
func different(a, b []version) map[string]bool {
	out := map[string]bool{}
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && order(a[0], b[0]) < 0:
			out[a[0].key] = true
			a = a[1:]
		case len(a) == 0 || order(a[0], b[0]) > 0:
			out[b[0].key] = true
			b = b[1:]
		default:
			if a[0] != b[0] {
				out[a[0].key] = true
			}
			a, b = a[1:], b[1:]
		}
	}
	return out
}

func order(a, b version) int { return cmp.Or(cmp.Compare(a.key, b.key), a.dot.Compare(b.dot)) }

func sameClock(a, b []admin.ClockEntry) bool {
	return slices.EqualFunc(a, b, func(x, y admin.ClockEntry) bool {
		return x.Actor == y.Actor && x.Base == y.Base && slices.Equal(x.Runs, y.Runs)
	})
}

// wanted is a key and what it must hold.
type wanted struct {
	key string
	// sums are the hashes of the values that must be there, none where the key
	// must be absent. may is one more that may be there in their place; 0 is
	// none.
	sums []uint64
	may  uint64
}

// keys holds each owner's copy against what was acknowledged.
func (v *verification) keys(want []wanted, copies []ownedCopy) {
	held := make([]map[string][]uint64, len(copies))
	for i, c := range copies {
		held[i] = map[string][]uint64{}
		for _, version := range c.versions {
			if !version.tombstone {
				held[i][version.key] = append(held[i][version.key], version.sum)
			}
		}
	}
	for _, w := range want {
		v.key(w, copies, held)
	}
}

func (v *verification) key(w wanted, copies []ownedCopy, held []map[string][]uint64) {
	lost, shown, more := "", "", ""
	for i, c := range copies {
		have := held[i][w.key]
		switch {
		case len(w.sums) == 0 && len(have) > 0:
			shown = c.node
		case w.may != 0 && slices.Contains(have, w.may):
		case !containsAll(have, w.sums):
			lost = c.node
		case !containsAll(w.sums, have):
			more = c.node
		}
	}
	switch {
	case shown != "":
		v.resurrected++
		v.fault("%s was deleted, and %s holds it", w.key, shown)
	case lost != "":
		v.lost++
		v.fault("%s: %s lacks an acknowledged write", w.key, lost)
	case more != "":
		v.leftovers++
		v.fault("%s: %s also holds what a later write should have covered", w.key, more)
	}
}

func containsAll(have, want []uint64) bool {
	for _, sum := range want {
		if !slices.Contains(have, sum) {
			return false
		}
	}
	return true
}

// quietLimit is how long copies may take to become equal once nobody writes:
// the tick that finds a gap comes every 10 s.
const quietLimit = 30 * time.Second

// waitEqual waits until the roots of all owners are equal, as nodes say, or
// the limit has passed: what is wrong then, the dumps tell.
func waitEqual(ctx context.Context, doors []door) error {
	late := time.Now().Add(quietLimit)
	for {
		equal, err := rootsEqual(ctx, doors)
		if err != nil || equal || time.Now().After(late) {
			return err
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

func rootsEqual(ctx context.Context, doors []door) (bool, error) {
	roots := map[uint32]string{}
	equal := true
	for _, d := range doors {
		parts, err := d.admin.Partitions(ctx)
		if err != nil {
			return false, fmt.Errorf("read roots of %s: %w", d.name, err)
		}
		for _, p := range parts {
			if !p.Owned {
				continue
			}
			if root, ok := roots[p.ID]; ok && root != p.Root {
				equal = false
			}
			roots[p.ID] = p.Root
		}
	}
	return equal, nil
}

// wanted returns what each key of the run must hold.
func (l *ledger) wanted() []wanted {
	var out []wanted
	for i := range l.names() {
		if w, ok := l.wantedAt(i); ok {
			out = append(out, w)
		}
	}
	return out
}

// names is how many keys there are, the background clients' behind the others.
func (l *ledger) names() int { return len(l.want) + trafficKeys }

// wantedAt returns what one of the names must hold, if it was ever written.
func (l *ledger) wantedAt(i int) (wanted, bool) {
	if i < len(l.want) {
		e := l.want[i]
		if !e.gone && e.a == 0 {
			return wanted{}, false
		}
		return wanted{key: l.key(i), sums: l.sums(e)}, true
	}
	i -= len(l.want)
	last, begun := l.traffic[i].Load(), l.begun[i].Load()
	if last == 0 {
		return wanted{}, false
	}
	w := wanted{key: l.trafficKey(i), sums: l.sums(expectation{a: last})}
	if begun != last {
		w.may = xxh3.Hash(l.values.of(begun))
	}
	return w, true
}

// byPartition sorts the names by the partitions that their keys fall into.
func (l *ledger) byPartition(partitions uint32) map[uint32][]int32 {
	out := map[uint32][]int32{}
	for i := range l.names() {
		name := l.trafficKey(max(0, i-len(l.want)))
		if i < len(l.want) {
			name = l.key(i)
		}
		id := uint32(kv.PartitionOf(kv.Hash([]byte(name)), partitions))
		out[id] = append(out[id], int32(i))
	}
	return out
}

// verifyCopies reads and judges the copies of all nodes, one partition after the
// other. Copies that differ are read again until the limit has passed: roots say
// nothing of clocks, and a dot that was overwritten before it was everywhere, or a
// seal, is told by a later tick.
func verifyCopies(ctx context.Context, l *ledger, where placement, doors []door, limit time.Duration) (verification, error) {
	v := verification{rootsEqual: true}
	late := time.Now().Add(limit)
	names := l.byPartition(where.partitions)
	err := eachPartition(ctx, doors, where, func(id uint32, copies []nodeDump) error {
		var want []wanted
		for _, i := range names[id] {
			if w, ok := l.wantedAt(int(i)); ok {
				want = append(want, w)
			}
		}
		delete(names, id)
		for copiesDiffer(id, where, copies) && time.Now().Before(late) {
			if err := pause(ctx, againEvery); err != nil {
				return err
			}
			var err error
			if copies, err = readCopies(ctx, doors, where, id); err != nil {
				return err
			}
		}
		v.partition(id, want, where, copies)
		return nil
	})
	if err == nil && len(names) > 0 {
		err = fmt.Errorf("verify: no node told of %d partitions that hold keys", len(names))
	}
	return v, err
}

// againEvery spaces the looks at copies that differ.
const againEvery = 100 * time.Millisecond

// copiesDiffer reports whether owners hold different versions or clocks.
func copiesDiffer(id uint32, where placement, copies []nodeDump) bool {
	v := verification{rootsEqual: true}
	v.partition(id, nil, where, copies)
	return v.diverged > 0 || !v.rootsEqual
}

func (l *ledger) sums(e expectation) []uint64 {
	if e.gone {
		return nil
	}
	out := []uint64{xxh3.Hash(l.values.of(e.a))}
	if e.b != 0 {
		out = append(out, xxh3.Hash(l.values.of(e.b)))
	}
	return out
}
