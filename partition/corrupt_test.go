package partition_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
	"edged.dev/edged/partition/state"

	"github.com/stretchr/testify/require"
)

// A damaged file of a real store quarantines the copy whose records it has; the other
// one is as it was.
func TestCorruptTableQuarantinesOnlyItsCopies(t *testing.T) {
	t.Parallel()
	dir, fresh := t.TempDir(), t.TempDir()
	boot := uint32(0)
	open := func(dir string) (*cache.Store, *partition.Set) {
		cfg := cache.Default(dir)
		cfg.FlushAfterBytes = 1
		store, err := cache.Open(cfg)
		require.NoError(t, err)
		boot++
		set, err := partition.Open(partition.Config{
			Store: store, Partitions: 1, DigestKey: digestKey(), Sync: true, Boot: boot, Node: 1, Rand: func() uint32 { return boot },
		})
		require.NoError(t, err)
		return store, set
	}
	store, set := open(dir)
	rng := rand.New(rand.NewPCG(1, 2))
	var marked []byte
	for _, p := range []kv.Partition{part, kv.System} {
		sh := set.Add(p)
		for i := range 40 {
			value := make([]byte, 1024)
			for j := range value {
				value[j] = byte(rng.Uint32())
			}
			if p == part && i == 20 {
				marked = value
			}
			sh.Write(fmt.Append(nil, "k", i), func(kv.Object) (*mutation, error) {
				return &mutation{Version: kv.Version{Value: value}}, nil
			}, func(_ *state.Change, err error) { require.NoError(t, err) })
		}
		sh.SetTrust(kv.Whole, nil)
	}
	for done := 1; done > 0; {
		var err error
		done, err = set.Committer().CommitGroup()
		require.NoError(t, err)
	}
	before := set.Shard(kv.System).Status()
	ctx, stop := context.WithCancel(t.Context())
	running := make(chan error, 1)
	go func() { running <- store.Run(ctx) }() // flushes
	var table string
	var at int
	require.Eventually(t, func() bool {
		tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
		require.NoError(t, err)
		for _, table = range tables {
			data, err := os.ReadFile(table)
			if at = bytes.Index(data, marked[:64]); err == nil && at >= 0 {
				return true
			}
		}
		return false
	}, time.Minute, 20*time.Millisecond)
	stop()
	require.NoError(t, <-running)
	require.NoError(t, store.Close())
	data, err := os.ReadFile(table)
	require.NoError(t, err)
	data[at] ^= 1
	require.NoError(t, os.WriteFile(table, data, 0o600))

	to, err := cache.Open(cache.Default(fresh))
	require.NoError(t, err)
	touched, err := cache.Salvage(cache.Default(dir), to)
	require.NoError(t, err)
	require.Equal(t, []kv.Partition{part}, touched)
	require.NoError(t, to.Close())
	store, set = open(fresh)
	require.Equal(t, []kv.Partition{part}, set.Quarantined())
	after := set.Shard(kv.System).Status()
	after.Actor = before.Actor
	require.Equal(t, before, after)
	require.Equal(t, kv.Whole, after.Trust)
	look, err := set.Shard(kv.System).Look(nil)
	require.NoError(t, err)
	require.True(t, look.Fit())
	look, err = set.Shard(part).Look(nil)
	require.NoError(t, err)
	require.True(t, look.Fit(), "what is left verifies")
	require.Positive(t, look.Objects)
	require.Less(t, look.Objects, 40)
	require.NoError(t, store.Close())
}
