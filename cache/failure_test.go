package cache_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"edged.dev/edged/cache"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"
)

// failing returns a store whose log fails in one kind of operation once broken
// is set, with what its Fatal reported.
func failing(t *testing.T, kind errorfs.OpKind, broken *atomic.Bool) (*cache.Store, chan error) {
	t.Helper()
	fatal := make(chan error, 8)
	cfg := memory(errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken.Load() && op.Kind == kind && strings.HasSuffix(op.Path, ".log") {
			return errorfs.ErrInjected
		}
		return nil
	})))
	cfg.Events.Fatal = func(err error) { fatal <- err }
	s, err := cache.Open(cfg)
	require.NoError(t, err)
	return s, fatal
}

func TestLogErrorIsFatal(t *testing.T) {
	t.Parallel()
	for name, kind := range map[string]errorfs.OpKind{
		"sync": errorfs.OpFileSyncData, "write": errorfs.OpFileWrite,
	} {
		var broken atomic.Bool
		s, fatal := failing(t, kind, &broken)
		commit(t, s, true, "a=1")
		broken.Store(true)
		require.ErrorIs(t, s.Commit(batch("b=2"), true), cache.ErrFailed, name)
		require.ErrorIs(t, <-fatal, errorfs.ErrInjected, name)
		broken.Store(false)
		_, _, err := s.Get(nil, []byte("a"))
		require.ErrorIs(t, err, cache.ErrFailed, name)
		require.ErrorIs(t, s.Commit(batch("c=3"), false), cache.ErrFailed, name)
		require.ErrorIs(t, s.Sync(), cache.ErrFailed, name)
		require.ErrorIs(t, s.Run(t.Context()), cache.ErrFailed, name)
		require.ErrorIs(t, s.Close(), cache.ErrFailed, name)
		require.Empty(t, fatal, "reported once")
	}
}

// TestLogErrorOfUnsyncedCommitIsFatal: the engine itself says nothing before the
// next sync.
func TestLogErrorOfUnsyncedCommitIsFatal(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	s, fatal := failing(t, errorfs.OpFileWrite, &broken)
	broken.Store(true)
	var err error
	require.Eventually(t, func() bool { // an unsynced write reaches its file when it likes, or with the next
		_ = s.Commit(batch("a=1"), false)
		select {
		case err = <-fatal:
			return true
		default:
			return false
		}
	}, time.Minute, time.Millisecond)
	require.ErrorIs(t, err, errorfs.ErrInjected)
	require.ErrorIs(t, s.Commit(batch("b=2"), false), cache.ErrFailed)
}

func TestSnapshotOfFailedStoreRefuses(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	s, fatal := failing(t, errorfs.OpFileSyncData, &broken)
	commit(t, s, true, "a=1")
	snap, err := s.Snapshot()
	require.NoError(t, err)
	broken.Store(true)
	require.Error(t, s.Sync())
	require.Error(t, <-fatal)
	_, _, err = snap.Get(nil, []byte("a"))
	require.ErrorIs(t, err, cache.ErrFailed)
	require.ErrorIs(t, snap.Scan(nil, nil, nil), cache.ErrFailed)
	require.NoError(t, snap.Close())
}

func TestCorruptTableIsReported(t *testing.T) {
	t.Parallel()
	cfg := cache.Default(t.TempDir())
	s, err := cache.Open(cfg)
	require.NoError(t, err)
	commit(t, s, true, "a="+strings.Repeat("v", 3000), "b=2")
	require.NoError(t, s.Flush())
	require.NoError(t, s.Close())
	tables, err := filepath.Glob(filepath.Join(cfg.Dir, "*.sst"))
	require.NoError(t, err)
	require.Len(t, tables, 1)
	data, err := os.ReadFile(tables[0])
	require.NoError(t, err)
	data[20] ^= 1 // in the first data block
	require.NoError(t, os.WriteFile(tables[0], data, 0o600))

	files := make(chan string, 8)
	cfg.Events.CorruptFile = func(path string, err error) { files <- path }
	s, err = cache.Open(cfg)
	require.NoError(t, err)
	_, _, err = s.Get(nil, []byte("a"))
	require.ErrorIs(t, err, cache.ErrCorrupt, "and not: not found")
	require.Equal(t, filepath.Base(tables[0]), filepath.Base(<-files))
	err = s.Scan(nil, nil, func(_, _ []byte) (bool, error) { return true, nil })
	require.ErrorIs(t, err, cache.ErrCorrupt)
	commit(t, s, true, "a=again")
	got, found, err := s.Get(nil, []byte("a"))
	require.NoError(t, err, "what is written anew is read again")
	require.True(t, found)
	require.Equal(t, "again", string(got))
	require.NoError(t, s.Close())
}

func TestCorruptManifestFailsOpen(t *testing.T) {
	t.Parallel()
	cfg := cache.Default(t.TempDir())
	s, err := cache.Open(cfg)
	require.NoError(t, err)
	commit(t, s, true, "a=1")
	require.NoError(t, s.Close())
	manifests, err := filepath.Glob(filepath.Join(cfg.Dir, "MANIFEST-*"))
	require.NoError(t, err)
	for _, name := range manifests {
		data, err := os.ReadFile(name)
		require.NoError(t, err)
		data[len(data)/2] ^= 1
		require.NoError(t, os.WriteFile(name, data, 0o600))
	}
	_, err = cache.Open(cfg)
	require.ErrorIs(t, err, cache.ErrCorrupt)
	_, err = cache.Open(cfg)
	require.NotErrorIs(t, err, cache.ErrLocked, "a failed open lets the directory go")
}

func TestWatermarks(t *testing.T) {
	t.Parallel()
	const gib = 1 << 30
	for _, test := range []struct{ total, low, exit uint64 }{
		{100 << 20, 20 << 20, 4 << 20},
		{5 * gib, gib, gib / 5},
		{8 * gib, gib, gib / 5},
		{50 * gib, 5 * gib, gib},
		{100 * gib, 10 * gib, 2 * gib},
		{4000 * gib, 10 * gib, 2 * gib},
	} {
		low, exit := cache.Watermarks(test.total)
		require.Equal(t, test.low, low, test.total)
		require.Equal(t, test.exit, exit, test.total)
	}
}

func TestFullDiskRefusesWritesAndRecovers(t *testing.T) {
	t.Parallel()
	const total = 50 << 30
	var free atomic.Uint64
	free.Store(5 << 30)
	cfg := memory(vfs.NewMem())
	cfg.FreeSpace = func() (uint64, uint64) { return free.Load(), total }
	var told []bool
	cfg.Events.Writable = func(writable bool, _, _ uint64) { told = append(told, writable) }
	fatal := make(chan error, 1)
	cfg.Events.Fatal = func(err error) { fatal <- err }
	s, err := cache.Open(cfg)
	require.NoError(t, err)
	commit(t, s, true, "a=1")

	free.Store(5<<30 - 1)
	s.CheckSpace()
	s.CheckSpace()
	require.True(t, s.Full())
	require.Equal(t, map[string]string{"a": "1"}, dump(t, s), "reads go on")
	commit(t, s, true, "b=1") // what was planned before is never refused
	require.NoError(t, s.Sync())

	free.Store(6 << 30)
	s.CheckSpace()
	require.False(t, s.Full())
	commit(t, s, true, "b=2")
	require.Equal(t, []bool{false, true}, told)

	free.Store(1<<30 - 1)
	s.CheckSpace()
	require.ErrorIs(t, <-fatal, cache.ErrDiskFull)
	require.ErrorIs(t, s.Commit(batch("c=3"), true), cache.ErrFailed)
}

// TestFullDiskIsNoticedWithoutRun commits on a disk that fills up.
func TestFullDiskIsNoticedWithoutRun(t *testing.T) {
	t.Parallel()
	const total = 50 << 30
	var free atomic.Uint64
	free.Store(total)
	cfg := memory(vfs.NewMem())
	cfg.FreeSpace = func() (uint64, uint64) { return free.Load(), total }
	s, err := cache.Open(cfg)
	require.NoError(t, err)
	free.Store(2 << 30)
	large := batch("a=" + strings.Repeat("v", 1<<20))
	for range 8 {
		require.NoError(t, s.Commit(large, false))
	}
	require.True(t, s.Full())
	require.NoError(t, s.Close())
}

func TestStalledCommitIsReportedOnce(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	var told []time.Duration
	cfg := memory(vfs.NewMem())
	cfg.Now = func() time.Time { return now }
	cfg.Events.CommitStalled = func(elapsed time.Duration) { told = append(told, elapsed) }
	s, err := cache.Open(cfg)
	require.NoError(t, err)
	commit(t, s, true, "a=1")
	require.False(t, s.CheckCommits(now.Add(time.Hour), false), "no commit waits")
	end := s.BeginCommit(now)
	require.False(t, s.CheckCommits(now.Add(9999*time.Millisecond), false))
	require.True(t, s.CheckCommits(now.Add(10*time.Second), false))
	require.True(t, s.CheckCommits(now.Add(11*time.Second), true))
	require.Equal(t, []time.Duration{10 * time.Second}, told)
	end()
	require.False(t, s.CheckCommits(now.Add(time.Minute), true))
	require.NoError(t, s.Close())
}

func TestFlushIsDueWhenLogIsLongOrIdle(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	cfg := memory(vfs.NewMem())
	cfg.Now = func() time.Time { return now }
	cfg.MemtableBytes = 16 << 20 // so that no flush is the engine's own
	s, err := cache.Open(cfg)
	require.NoError(t, err)
	flushed := func(want int64) {
		t.Helper()
		require.Eventually(t, func() bool { return s.Flushes() == want }, 10*time.Second, time.Millisecond)
	}
	require.NoError(t, s.FlushIfDue(now.Add(time.Hour)), "nothing was committed")
	commit(t, s, false, "a=1")
	require.NoError(t, s.FlushIfDue(now.Add(1999*time.Millisecond)))
	flushed(0)
	require.NoError(t, s.FlushIfDue(now.Add(2*time.Second)))
	flushed(1)
	require.NoError(t, s.FlushIfDue(now.Add(time.Hour)), "all is flushed")
	for range 3 {
		commit(t, s, false, "a="+strings.Repeat("v", 700<<10))
	}
	require.NoError(t, s.FlushIfDue(now))
	flushed(2)
	require.Less(t, s.LogBytes(), uint64(64<<10))
	require.NoError(t, s.Close())
}

// Right after an open, tables are merged under pressure alone; later, at ease.
func TestAStoreThatWasJustOpenedPutsMergingOff(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		since  time.Duration
		tables int
		pairs  []string // of each
		merges bool
	}{
		{"at once, at ease", 0, 9, nil, false},
		{"at once, most of it deleted", 0, 9, deletes(1000), false},
		{"at once, under pressure", 0, 12, nil, true},
		{"to the last", 2*time.Second - 1, 9, nil, false},
		{"later", 2 * time.Second, 9, nil, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			at := time.Unix(1000, 0)
			var since atomic.Int64
			cfg := memory(vfs.NewMem())
			cfg.Now = func() time.Time { return at.Add(time.Duration(since.Load())) }
			s, err := cache.Open(cfg)
			require.NoError(t, err)
			defer func() { require.NoError(t, s.Close()) }()
			since.Store(int64(tc.since))
			for range tc.tables {
				commit(t, s, false, append(tc.pairs, "a=1", "z=1")...) // each table meets those before
				require.NoError(t, s.Flush())
			}
			if tc.merges {
				require.Eventually(t, func() bool { return s.Compactions() > 0 }, 10*time.Second, time.Millisecond)
				return
			}
			require.Never(t, func() bool { return s.Compactions() > 0 }, 300*time.Millisecond, 10*time.Millisecond)
		})
	}
}

// deletes are of n keys.
func deletes(n int) (pairs []string) {
	for i := range n {
		pairs = append(pairs, fmt.Sprintf("-k%04d", i))
	}
	return pairs
}

// TestRunFlushesALongLog needs no clock: the commit that passes the size asks.
func TestRunFlushesALongLog(t *testing.T) {
	t.Parallel()
	s := open(t, memory(vfs.NewMem()))
	for range 3 {
		commit(t, s, false, "a="+strings.Repeat("v", 900<<10))
	}
	require.Eventually(t, func() bool { return s.Flushes() > 0 && s.LogBytes() < 1<<20 },
		10*time.Second, time.Millisecond)
}

func TestRunReturnsWithItsContext(t *testing.T) {
	t.Parallel()
	s, err := cache.Open(memory(vfs.NewMem()))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, s.Run(ctx))
	require.NoError(t, s.Close())
}
