package partition_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
	"edged.dev/edged/partition/state"
)

// BenchmarkLook reads a copy of 4,000 objects of 200 bytes whole, from the engine: a
// partition of a million keys in 256.
func BenchmarkLook(b *testing.B) {
	store, err := cache.Open(cache.Default(b.TempDir()))
	require.NoError(b, err)
	defer func() { require.NoError(b, store.Close()) }()
	set, err := partition.Open(partition.Config{
		Store: store, Partitions: 1, DigestKey: digestKey(), Sync: true, Boot: 1, Node: 1, Rand: func() uint32 { return 1 },
	})
	require.NoError(b, err)
	sh := set.Add(part)
	value := make([]byte, 200)
	for i := range 4000 {
		sh.Write(fmt.Appendf(nil, "key-%06d", i), func(kv.Object) (*partition.Mutation, error) {
			return &partition.Mutation{Version: kv.Version{Value: value}}, nil
		}, func(*state.Change, error) {})
		if i%500 == 499 {
			_, err := set.Committer().CommitGroup()
			require.NoError(b, err)
		}
	}
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		l, err := sh.Look(func(int) error { return ctx.Err() })
		if err != nil || !l.Fit() || l.Objects != 4000 {
			b.Fatal(l, err)
		}
	}
}

func BenchmarkValueSum(b *testing.B) {
	v := kv.Version{Value: make([]byte, 200)}
	for b.Loop() {
		_ = v.ValueSum()
	}
}
