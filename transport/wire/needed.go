package wire

import (
	"fmt"
	"slices"

	"github.com/klauspost/compress/zstd"

	"edged.dev/edged/internal/kv"
)

// Needed is an object that a node lacked.
type Needed struct {
	Partition kv.Partition
	Copy      // with explicit context, as stored
}

// NeededBytes is the yardstick of a sync: the length of one zstd frame at its
// best level over the entries, dots included, encoded as in a lane's batches and
// in the order of their dots, with no base, no partition marks and no checks.
// entries is put in that order.
func NeededBytes(entries []Needed) (int, error) {
	slices.SortStableFunc(entries, func(a, b Needed) int {
		if a.Partition != b.Partition {
			return int(int64(a.Partition) - int64(b.Partition))
		}
		return firstDot(a.Object).Compare(firstDot(b.Object))
	})
	e, s := &encoder{inline: true}, newLaneState()
	for i := range entries {
		e.entry(&s, &entries[i].Copy)
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedBestCompression))
	if err != nil {
		return 0, fmt.Errorf("make zstd encoder: %w", err)
	}
	return len(z.EncodeAll(e.b, nil)), nil
}

func firstDot(o kv.Object) kv.Dot {
	if len(o.Versions) == 0 {
		return kv.Dot{}
	}
	return o.Versions[0].Dot
}
