package cache_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"edged.dev/edged/cache"
	"edged.dev/edged/cache/storetest"
	"edged.dev/edged/internal/fault"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/assert"
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

// commit commits pairs of "key=value".
func commit(t testing.TB, s *cache.Store, sync bool, pairs ...string) {
	t.Helper()
	require.NoError(t, s.Commit(batch(pairs...), sync))
}

// batch returns a batch of sets, "key=value", and deletes, "-key".
func batch(pairs ...string) *cache.Batch {
	var b cache.Batch
	for _, pair := range pairs {
		key, value, isSet := strings.Cut(pair, "=")
		if isSet {
			b.Set([]byte(key), []byte(value))
		} else {
			b.Delete([]byte(strings.TrimPrefix(pair, "-")))
		}
	}
	return &b
}

// dump returns all pairs of a store.
func dump(t testing.TB, s *cache.Store) map[string]string {
	t.Helper()
	pairs := map[string]string{}
	require.NoError(t, s.Scan(nil, nil, func(key, value []byte) (bool, error) {
		pairs[string(key)] = string(value)
		return true, nil
	}))
	return pairs
}

func TestConfigRejectsNonsense(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*cache.Config){
		"dir":             func(c *cache.Config) { c.Dir = "" },
		"small memtable":  func(c *cache.Config) { c.MemtableBytes = 64<<10 - 1 },
		"large memtable":  func(c *cache.Config) { c.MemtableBytes = 64<<20 + 1 },
		"block cache":     func(c *cache.Config) { c.BlockCacheBytes = -1 },
		"flush size":      func(c *cache.Config) { c.FlushAfterBytes = 0 },
		"flush idle time": func(c *cache.Config) { c.FlushIdle = 0 },
		"commit timeout":  func(c *cache.Config) { c.CommitTimeout = -1 },
		"disk slow":       func(c *cache.Config) { c.DiskSlow = -1 },
		"clock":           func(c *cache.Config) { c.Now = nil },
	} {
		cfg := memory(vfs.NewMem())
		spoil(&cfg)
		_, err := cache.Open(cfg)
		require.ErrorContains(t, err, "check store configuration", name)
	}
}

func TestOpenHoldsTheDirectory(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]cache.Config{
		"disk": cache.Default(t.TempDir()), "memory": memory(vfs.NewMem()),
	} {
		first, err := cache.Open(cfg)
		require.NoError(t, err, name)
		_, err = cache.Open(cfg)
		require.ErrorIs(t, err, cache.ErrLocked, name)
		require.ErrorContains(t, err, "another edged uses this data directory", name)
		require.NoError(t, first.Close(), name)
		again, err := cache.Open(cfg)
		require.NoError(t, err, name)
		require.NoError(t, again.Close(), name)
	}
}

func TestOpenClosesTheDirectoryToOthers(t *testing.T) {
	t.Parallel()
	existing := t.TempDir()
	require.NoError(t, os.Chmod(existing, 0o755))
	for _, dir := range []string{existing, filepath.Join(t.TempDir(), "a", "b")} {
		open(t, cache.Default(dir))
		info, err := os.Stat(dir)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	}
}

func TestReopenFindsWhatWasCommitted(t *testing.T) {
	t.Parallel()
	cfg := cache.Default(t.TempDir())
	s, err := cache.Open(cfg)
	require.NoError(t, err)
	commit(t, s, true, "a=1", "b=2")
	commit(t, s, false, "-a", "c=3")
	require.NoError(t, s.Close())
	require.Equal(t, map[string]string{"b": "2", "c": "3"}, dump(t, open(t, cfg)))
}

func TestClosedStoreRefuses(t *testing.T) {
	t.Parallel()
	s, err := cache.Open(memory(vfs.NewMem()))
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	_, _, err = s.Get(nil, []byte("a"))
	require.ErrorIs(t, err, cache.ErrClosed)
	require.ErrorIs(t, s.Scan(nil, nil, nil), cache.ErrClosed)
	_, err = s.Snapshot()
	require.ErrorIs(t, err, cache.ErrClosed)
	require.ErrorIs(t, s.Commit(batch("a=1"), false), cache.ErrClosed)
	require.ErrorIs(t, s.Sync(), cache.ErrClosed)
}

// TestCloseWaitsForCalls closes while a scan runs whose callback reads.
func TestCloseWaitsForCalls(t *testing.T) {
	t.Parallel()
	s, err := cache.Open(memory(vfs.NewMem()))
	require.NoError(t, err)
	commit(t, s, false, "a=1", "b=2")
	closed := make(chan error, 1)
	err = s.Scan(nil, nil, func(_, _ []byte) (bool, error) {
		go func() { closed <- s.Close() }()
		for { // until Close has shut the door
			if _, _, err := s.Get(nil, []byte("a")); err != nil {
				require.ErrorIs(t, err, cache.ErrClosed)
				break
			}
		}
		select {
		case <-closed:
			t.Error("closed under a scan")
		default:
		}
		return false, nil
	})
	require.NoError(t, err)
	require.NoError(t, <-closed)
}

func TestFaultPointsFailBeforeAnythingIsDone(t *testing.T) {
	t.Parallel()
	cfg := memory(vfs.NewMem())
	cfg.Fault = &fault.Set{}
	s := open(t, cfg)
	cfg.Fault.FailNth("cache.commit", 1, nil)
	require.ErrorIs(t, s.Commit(batch("a=1"), true), fault.ErrInjected)
	require.Empty(t, dump(t, s))
	commit(t, s, true, "a=1")
	cfg.Fault.FailNth("cache.sync", 1, nil)
	require.ErrorIs(t, s.Sync(), fault.ErrInjected)
	require.NoError(t, s.Sync())
	require.Empty(t, cfg.Fault.Unfired())
}

func TestConcurrentCommitsAndReads(t *testing.T) {
	t.Parallel()
	s := open(t, memory(vfs.NewMem()))
	var group sync.WaitGroup
	for worker := range 4 {
		group.Go(func() {
			var b cache.Batch
			for i := range 300 {
				b.Reset()
				b.Set(fmt.Appendf(nil, "%d/a", worker), fmt.Appendf(nil, "%d", i))
				b.Set(fmt.Appendf(nil, "%d/b", worker), fmt.Appendf(nil, "%d", i))
				assert.NoError(t, s.Commit(&b, i%50 == 0))
			}
		})
		group.Go(func() {
			for range 100 {
				snap, err := s.Snapshot()
				if !assert.NoError(t, err) {
					return
				}
				a, _, errA := snap.Get(nil, fmt.Appendf(nil, "%d/a", worker))
				b, _, errB := snap.Get(nil, fmt.Appendf(nil, "%d/b", worker))
				assert.NoError(t, errors.Join(errA, errB, snap.Close()))
				assert.Equal(t, a, b, "half a batch was seen")
			}
		})
	}
	group.Wait()
	for worker := range 4 {
		require.Equal(t, "299", dump(t, s)[fmt.Sprintf("%d/a", worker)])
	}
}
