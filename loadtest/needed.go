package main

import (
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
	had := map[place]bool{}
	for id, p := range own.partitions {
		for _, v := range p.versions {
			had[place{id, v.dot}] = true
		}
	}
	var out lack
	var entries []wire.Needed
	for _, donor := range donors {
		for id, p := range donor.partitions {
			if !where.owns(own.node, id) {
				continue
			}
			for versions := range byKey(p.versions) {
				entry, n := out.entry(find, id, had, versions)
				if n == 0 {
					continue
				}
				entries = append(entries, entry)
				out.versions += n
			}
		}
	}
	if len(entries) == 0 {
		return out, nil
	}
	var err error
	out.bytes, err = wire.NeededBytes(entries)
	return out, err
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

// place is a dot in its partition: a dot counts in one partition alone.
type place struct {
	partition uint32
	dot       kv.Dot
}

// entry is what is missing of one key, and of how many versions. What it
// returns counts as had from now on: every donor has it.
func (k *lack) entry(find finder, id uint32, had map[place]bool, versions []version) (wire.Needed, int) {
	out := wire.Needed{Partition: kv.Partition(id)}
	for _, v := range versions {
		if had[place{id, v.dot}] {
			continue
		}
		had[place{id, v.dot}] = true
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
