package partition

import (
	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
)

// versionOverhead is what a value takes in the store besides itself and its key,
// which is there twice: the keys and heads of two records, before compression.
const versionOverhead = 64

// Weight is what the values of one key take, and when the newest was written.
type Weight struct {
	Key    []byte // the callee's until it returns
	Newest kv.HLC
	Bytes  int64
	Warm   bool // the memory tier has it: it was written or read of late
}

// Weigh calls fn for up to limit objects in key-hash order from order on, but for
// those without a value, and returns where to go on; done means there is no more.
func (s *Shard) Weigh(from uint64, limit int, fn func(Weight)) (next uint64, done bool, err error) {
	return s.entries(from, limit, func(key []byte, o kv.Object, checks []cache.Check) {
		w := Weight{Key: key}
		for i, v := range o.Versions {
			if !v.Tombstone() {
				w.Newest = max(w.Newest, v.HLC)
				w.Bytes += int64(2*len(key) + checks[i].Bytes + versionOverhead)
			}
		}
		if w.Bytes == 0 {
			return
		}
		if t := s.set.cfg.Tier; t != nil {
			w.Warm = t.Holds(uint32(s.id), kv.Hash(key), key)
		}
		fn(w)
	})
}
