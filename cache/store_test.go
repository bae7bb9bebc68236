package cache_test

import (
	"context"
	"testing"

	"edged.dev/edged/cache"
	"edged.dev/edged/cache/storetest"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// open opens a store with its Run, and closes both when the test ends.
func open(t testing.TB, cfg cache.Config) *cache.Store {
	t.Helper()
	s, err := cache.Open(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
		require.NoError(t, s.Close())
	})
	return s
}

// memory returns the configuration of a store in memory.
func memory(fs vfs.FS) cache.Config {
	cfg := cache.Default("data")
	cfg.FS = fs
	return cfg
}

func TestStoreOnDiskConforms(t *testing.T) {
	t.Parallel()
	storetest.TestStore(t, func(t testing.TB) storetest.Store {
		return open(t, cache.Default(t.TempDir()))
	})
}

func TestStoreInMemoryConforms(t *testing.T) {
	t.Parallel()
	storetest.TestStore(t, func(t testing.TB) storetest.Store {
		return open(t, memory(vfs.NewMem()))
	})
}
