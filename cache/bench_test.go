package cache_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edged.dev/edged/cache"

	"github.com/stretchr/testify/require"
)

// The benchmarks work on a million records of 150 bytes over 256 partitions,
// committed in random order in groups of 64 without sync.
const (
	benchKeys       = 1_000_000
	benchPartitions = 256
	benchGroup      = 64
)

// benchKey writes the key of record n: partition and number, in order.
func benchKey(key []byte, n uint32) []byte {
	key = append(key[:0], 'd')
	key = binary.BigEndian.AppendUint16(key, uint16(n%benchPartitions))
	return binary.BigEndian.AppendUint32(key, n/benchPartitions)
}

// fill commits the records in this order.
func fill(b *testing.B, s *cache.Store, order []int) {
	var group cache.Batch
	key, value := []byte(nil), make([]byte, 150)
	rng := rand.NewChaCha8([32]byte{1})
	for _, n := range order {
		key = benchKey(key, uint32(n))
		_, _ = rng.Read(value[:75]) // half random, so that it compresses by half
		group.Set(key, value)
		if group.Len() == benchGroup {
			require.NoError(b, s.Commit(&group, false))
			group.Reset()
		}
	}
	require.NoError(b, s.Commit(&group, true))
}

// order returns the record numbers shuffled.
func order() []int { return rand.New(rand.NewPCG(1, 2)).Perm(benchKeys) }

// BenchmarkReopenAfterKill opens what a kill leaves of a million records: right
// in the midst of the load, and when the store was idle for its flush.
func BenchmarkReopenAfterKill(b *testing.B) {
	s := open(b, cache.Default(b.TempDir()))
	dir := s.Dir()
	fill(b, s, order())
	b.Run("underLoad", func(b *testing.B) { benchReopen(b, dir) })
	require.NoError(b, s.FlushIfDue(time.Now().Add(time.Hour)))
	require.NoError(b, s.Flush())
	b.Run("idle", func(b *testing.B) { benchReopen(b, dir) })
}

// benchReopen opens copies of the files of a running store.
func benchReopen(b *testing.B, dir string) {
	b.StopTimer()
	for range b.N {
		cfg := cache.Default(filepath.Join(b.TempDir(), "image"))
		replay := image(b, dir, cfg.Dir)
		b.StartTimer()
		s, err := cache.Open(cfg)
		b.StopTimer()
		require.NoError(b, err)
		require.NoError(b, s.Close())
		b.ReportMetric(float64(replay), "logbytes")
	}
}

// image copies a running store's files, tables by link, and returns the bytes of
// its logs. A kill leaves the files of one moment; so must the copy, and it is
// taken again while a compaction changes them under it.
func image(b *testing.B, from, to string) (logBytes int64) {
	for {
		before := listing(b, from)
		logBytes = copyFiles(b, from, to)
		if listing(b, from) == before {
			return logBytes
		}
		require.NoError(b, os.RemoveAll(to))
	}
}

// listing tells which tables there are, and how long the manifest is.
func listing(b *testing.B, dir string) string {
	entries, err := os.ReadDir(dir)
	require.NoError(b, err)
	out := ""
	for _, entry := range entries {
		if filepath.Ext(entry.Name()) == ".log" {
			continue
		}
		info, err := entry.Info()
		if err != nil { // gone while it was listed: equal to no other listing
			return fmt.Sprintln(entry.Name(), time.Now())
		}
		out += fmt.Sprintln(entry.Name(), info.Size())
	}
	return out
}

func copyFiles(b *testing.B, from, to string) (logBytes int64) {
	require.NoError(b, os.MkdirAll(to, 0o700))
	entries, err := os.ReadDir(from)
	require.NoError(b, err)
	for _, entry := range entries {
		source, target := filepath.Join(from, entry.Name()), filepath.Join(to, entry.Name())
		switch filepath.Ext(entry.Name()) {
		case ".sst":
			if err := os.Link(source, target); !errors.Is(err, fs.ErrNotExist) {
				require.NoError(b, err)
			}
			continue
		case ".log":
			info, err := entry.Info()
			require.NoError(b, err)
			logBytes += info.Size()
		}
		if entry.Name() == "LOCK" {
			continue
		}
		copyFile(b, source, target)
	}
	return logBytes
}

// copyFile copies a small file.
func copyFile(b *testing.B, source, target string) {
	in, err := os.Open(source)
	require.NoError(b, err)
	out, err := os.Create(target)
	require.NoError(b, err)
	_, err = io.Copy(out, in)
	require.NoError(b, err)
	require.NoError(b, out.Close())
	require.NoError(b, in.Close())
}

// BenchmarkStore measures reads and scans of a million records.
func BenchmarkStore(b *testing.B) {
	s := open(b, cache.Default(b.TempDir()))
	start := time.Now()
	fill(b, s, order())
	b.Logf("commits of %d: %v a record", benchGroup, time.Since(start)/benchKeys)
	b.Run("get", func(b *testing.B) { benchGet(b, s, 0) })
	b.Run("getMissing", func(b *testing.B) { benchGet(b, s, 1) })
	b.Run("scan10kOver256Partitions", func(b *testing.B) { benchScan(b, s) })
}

// benchGet reads random keys, with a suffix that makes them missing.
func benchGet(b *testing.B, s *cache.Store, suffix int) {
	rng := rand.New(rand.NewPCG(3, 4))
	key, dst := []byte(nil), make([]byte, 0, 256)
	tail := []byte(strings.Repeat("x", suffix))
	b.ReportAllocs()
	for b.Loop() {
		key = append(benchKey(key, rng.Uint32N(benchKeys)), tail...)
		if _, found, err := s.Get(dst, key); err != nil || found != (suffix == 0) {
			b.Fatal(found, err)
		}
	}
}

// benchScan reads the last forty records of each partition, through the one
// iterator of a snapshot.
func benchScan(b *testing.B, s *cache.Store) {
	const each = 40
	lower, upper := []byte(nil), []byte(nil)
	b.ReportAllocs()
	for b.Loop() {
		snap, err := s.Snapshot()
		require.NoError(b, err)
		count := 0
		for part := range uint32(benchPartitions) {
			lower = benchKey(lower, part+(benchKeys/benchPartitions-each)*benchPartitions)
			upper = append(benchKey(upper, part)[:3], 0xff)
			err := snap.Scan(lower, upper, func(_, _ []byte) (bool, error) {
				count++
				return true, nil
			})
			require.NoError(b, err)
		}
		require.NoError(b, snap.Close())
		if count < each*benchPartitions {
			b.Fatal(count)
		}
	}
}

// BenchmarkCommit commits groups of one and of 64 records, with and without sync.
func BenchmarkCommit(b *testing.B) {
	for _, size := range []int{1, benchGroup} {
		for _, sync := range []bool{false, true} {
			b.Run(fmt.Sprintf("group%d/sync=%v", size, sync), func(b *testing.B) {
				benchCommit(b, size, sync)
			})
		}
	}
}

// benchCommit overwrites random records.
func benchCommit(b *testing.B, size int, sync bool) {
	s := open(b, cache.Default(b.TempDir()))
	rng := rand.New(rand.NewPCG(5, 6))
	var group cache.Batch
	key, value := []byte(nil), make([]byte, 150)
	b.ReportAllocs()
	for b.Loop() {
		group.Reset()
		for range size {
			key = benchKey(key, rng.Uint32N(benchKeys))
			group.Set(key, value)
		}
		if err := s.Commit(&group, sync); err != nil {
			b.Fatal(err)
		}
	}
}
