package main

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"slices"

	"github.com/zeebo/xxh3"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/transport/wire"
)

// lack is what a returning node lacks, and what the least is that it could be
// sent.
type lack struct {
	versions int
	bytes    int
	// unknown is how many of the versions hold a value that this run did not
	// write. Their bytes are random ones of the same length.
	unknown int
}

// finder finds a value of a key by its hash.
type finder func(key string, sum uint64) ([]byte, bool)

// neededBy compares what the other nodes hold when a node is brought back, of
// the partitions that it owns, with what that node held when it was taken away.
// A wiped disk held nothing.
func neededBy(find finder, where placement, donors []nodeDump, own nodeDump) (lack, error) {
	w := weigher{find: find, where: where, own: own}
	ids := map[uint32]bool{}
	for _, donor := range donors {
		for id := range donor.partitions {
			ids[id] = true
		}
	}
	for id := range ids {
		w.partition(id, donors)
	}
	return w.lack()
}

// weigher gathers what a node lacks, a partition at a time.
type weigher struct {
	find    finder
	where   placement
	own     nodeDump // of which the dots count
	out     lack
	entries []wire.Needed
}

// partition adds what the donors hold of a partition and the node does not.
func (w *weigher) partition(id uint32, donors []nodeDump) {
	if !w.where.owns(w.own.node, id) {
		return
	}
	had := map[kv.Dot]bool{}
	if p := w.own.partitions[id]; p != nil {
		for _, v := range p.versions {
			had[v.dot] = true
		}
	}
	for _, donor := range donors {
		p := donor.partitions[id]
		if p == nil {
			continue
		}
		for versions := range byKey(p.versions) {
			if entry, n := w.out.entry(w.find, id, had, versions); n > 0 {
				w.entries = append(w.entries, entry)
				w.out.versions += n
			}
		}
	}
}

// read adds what some nodes hold.
func (w *weigher) read(ctx context.Context, donors []door) error {
	return eachPartition(ctx, donors, w.where, func(id uint32, copies []nodeDump) error {
		w.partition(id, copies)
		return nil
	})
}

// lack is what has been gathered, weighed.
func (w *weigher) lack() (lack, error) {
	if len(w.entries) == 0 {
		return w.out, nil
	}
	var err error
	w.out.bytes, err = wire.NeededBytes(w.entries)
	return w.out, err
}

// byKey yields the versions of each key of a sorted slice.
func byKey(versions []version) func(func([]version) bool) {
	return func(yield func([]version) bool) {
		for len(versions) > 0 {
			n := 1
			for n < len(versions) && versions[n].key == versions[0].key {
				n++
			}
			if !yield(versions[:n]) {
				return
			}
			versions = versions[n:]
		}
	}
}

// entry is what is missing of one key, and of how many versions. What it
// returns counts as had from now on: every donor has it.
func (k *lack) entry(find finder, id uint32, had map[kv.Dot]bool, versions []version) (wire.Needed, int) {
	out := wire.Needed{Partition: kv.Partition(id)}
	for _, v := range versions {
		if had[v.dot] {
			continue
		}
		had[v.dot] = true
		w := kv.Version{Dot: v.dot, HLC: kv.HLC(v.hlc), ExpiresMS: v.expiresMS}
		if v.tombstone {
			w.Flags = kv.Tombstone
		} else {
			value, ok := find(v.key, v.sum)
			if !ok {
				k.unknown++
				value = noise(v)
			}
			w.Value = value
		}
		out.Object.Versions = append(out.Object.Versions, w)
	}
	if len(out.Object.Versions) > 0 {
		out.Key = []byte(versions[0].key)
	}
	return out, len(out.Object.Versions)
}

// value finds a value among those that the run wrote to its key.
func (l *ledger) value(key string, sum uint64) ([]byte, bool) {
	candidates, known := l.find(key)
	if i, ok := l.index(key); known && ok {
		candidates = append(candidates, uint32(i)+1) // as it was loaded
	}
	for _, n := range candidates {
		if n == 0 {
			continue
		}
		if value := l.values.of(n); xxh3.Hash(value) == sum {
			return value, true
		}
	}
	return nil, false
}

// noise is as many random bytes as a version's value has, the same each time.
func noise(v version) []byte {
	r := rand.New(rand.NewPCG(v.sum, v.dot.Seq))
	out := make([]byte, 0, v.bytes+8)
	for len(out) < v.bytes {
		out = binary.LittleEndian.AppendUint64(out, r.Uint64())
	}
	return slices.Clip(out[:v.bytes])
}
