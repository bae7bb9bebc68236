package cache_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"edged.dev/edged/cache"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"
)

// workload is a history of groups whose states can be told apart: every group
// sets "last" to its number, and much else.
type workload struct {
	groups int
	acked  atomic.Int64 // groups known to be durable
}

// group returns the batch of group n.
func (w *workload) group(n int) *cache.Batch {
	pad := strings.Repeat("x", 900)
	return batch(
		fmt.Sprintf("group/%04d=%d", n, n),
		fmt.Sprintf("slot/%d=%d %s", n%7, n, pad),
		fmt.Sprintf("-group/%04d", n-20),
		fmt.Sprintf("last=%d", n),
	)
}

// run commits the groups, every third with a sync.
func (w *workload) run(s *cache.Store) error {
	for n := range w.groups {
		sync := n%3 == 2
		if err := s.Commit(w.group(n), sync); err != nil {
			return err
		}
		if sync {
			w.acked.Store(int64(n + 1))
		}
		if n%40 == 39 {
			if err := s.Sync(); err != nil {
				return err
			}
			w.acked.Store(int64(n + 1))
		}
	}
	return nil
}

// states returns what a store must hold after each number of groups.
func (w *workload) states() []map[string]string {
	states := []map[string]string{{}}
	for n := range w.groups {
		next := maps.Clone(states[n])
		_ = w.group(n).Each(func(key, value []byte, deleted bool) error {
			if deleted {
				delete(next, string(key))
			} else {
				next[string(key)] = string(value)
			}
			return nil
		})
		states = append(states, next)
	}
	return states
}

// verify opens the file system of a crash: the groups in it must be whole, the
// first so many of the history, and all that were acknowledged.
func verify(t *testing.T, fs vfs.FS, states []map[string]string, acked int64) {
	t.Helper()
	s, err := cache.Open(crashConfig(fs))
	require.NoError(t, err)
	got := dump(t, s)
	held := 0
	if last, ok := got["last"]; ok {
		_, err := fmt.Sscan(last, &held)
		require.NoError(t, err)
		held++
	}
	require.GreaterOrEqual(t, int64(held), acked, "an acknowledged group is lost")
	require.Equal(t, states[held], got, "a group is not whole, or one before it is missing")
	require.NoError(t, s.Close())
}

// crashConfig has the smallest memtable, so that a short history flushes,
// rotates its log and compacts.
func crashConfig(fs vfs.FS) cache.Config {
	cfg := memory(fs)
	cfg.MemtableBytes = 64 << 10
	cfg.DiskSlow = 0
	return cfg
}

// TestCrashAtEveryOperation takes the disk away at every few operations on the
// file system, with none, half or all of the unsynced data kept.
func TestCrashAtEveryOperation(t *testing.T) {
	t.Parallel()
	type crash struct {
		fs    *vfs.MemFS
		acked int64
	}
	const every = 2
	const seed = 7
	mem := vfs.NewCrashableMem()
	var w workload
	w.groups = 1200
	var mu sync.Mutex
	var crashes []crash
	operations := 0
	rng := rand.New(rand.NewPCG(seed, seed))
	record := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsRead {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		if operations++; operations%every == 0 {
			// Before the copy: what is acknowledged now is in it.
			acked := w.acked.Load()
			cfg := vfs.CrashCloneCfg{UnsyncedDataPercent: operations / every % 3 * 50, RNG: rng}
			crashes = append(crashes, crash{mem.CrashClone(cfg), acked})
		}
		return nil
	})
	s := open(t, crashConfig(errorfs.Wrap(mem, record)))
	require.NoError(t, w.run(s))
	mu.Lock()
	defer mu.Unlock()
	require.Greater(t, len(crashes), 100)
	require.Positive(t, s.Flushes(), "the history is long enough to flush")
	t.Logf("seed %d: %d crashes in %d operations, %d flushes", seed, len(crashes), operations, s.Flushes())
	states := w.states()
	for _, c := range crashes {
		verify(t, c.fs, states, c.acked)
	}
}

// TestErrorAtEveryOperation fails one operation on the file system, another one
// each run, and never loses what was acknowledged: the store goes on, or says
// that its process must end.
func TestErrorAtEveryOperation(t *testing.T) {
	t.Parallel()
	states := (&workload{groups: 150}).states()
	fatal, opened, ran, at := 0, 0, 0, int32(0)
	for ; ; at++ {
		var operations atomic.Int32
		nth := at + 1 // the store's own goroutines may outlive this round
		outcome, w, mem := runWithErrors(errorfs.InjectorFunc(func(errorfs.Op) error {
			if operations.Add(1) == nth {
				return errorfs.ErrInjected
			}
			return nil
		}))
		switch outcome {
		case "fatal":
			fatal++
		case "not opened":
			opened++
		default:
			ran++
		}
		verify(t, mem.CrashClone(vfs.CrashCloneCfg{}), states, w.acked.Load())
		if operations.Load() <= at {
			break // the history has fewer operations than that
		}
	}
	t.Logf("%d operations: %d runs ended by a fatal error, %d not opened, %d went on", at, fatal, opened, ran)
	require.Positive(t, fatal)
	require.Positive(t, opened)
	require.Positive(t, ran)
}

// runWithErrors runs a workload with errors injected and tells how it ended. A
// run that ends fatally leaves its goroutines behind, where the process would.
func runWithErrors(injector errorfs.Injector) (string, *workload, *vfs.MemFS) {
	mem := vfs.NewCrashableMem()
	w := &workload{groups: 150}
	cfg := crashConfig(errorfs.Wrap(mem, injector))
	ended := make(chan string, 2)
	cfg.Events.Fatal = func(error) {
		ended <- "fatal"
		select {} // as os.Exit, it does not return
	}
	go func() {
		s, err := cache.Open(cfg)
		if err != nil {
			ended <- "not opened"
			return
		}
		err = w.run(s)
		if err == nil {
			err = s.Close()
		}
		ended <- fmt.Sprint(err)
	}()
	return <-ended, w, mem
}
