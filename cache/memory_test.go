//go:build !race

// The race detector allocates on its own, so what is counted here is counted
// without it.

package cache_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"edged.dev/edged/cache"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"
)

// TestTierOverheadPerKey holds the memory besides keys and records to 100 bytes
// a key, as the runtime counts it, for tiers that are full.
func TestTierOverheadPerKey(t *testing.T) {
	for _, size := range []int{40, 150, 400} {
		const maxBytes = 64 << 20
		heap := heapBytes()
		tr := tier(t, maxBytes)
		record := make([]byte, size)
		for i := 0; tr.Stats().Evictions == 0 || i%1000 != 0; i++ {
			put(tr, 0, fmt.Appendf(nil, "key%08d", i), record)
		}
		used := heapBytes() - heap
		stats := tr.Stats()
		overhead := (used - stats.LiveBytes) / stats.Entries
		t.Logf("%d-byte records: %d entries, %d bytes of overhead each", size, stats.Entries, overhead)
		require.LessOrEqual(t, overhead, int64(100))
		runtime.KeepAlive(tr)
	}
}

// heapBytes returns the live heap.
func heapBytes() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestTierHitDoesNotAllocate(t *testing.T) {
	tr := tier(t, 1<<20)
	key, record := []byte("key"), make([]byte, 200)
	hash := xxh3.Hash(key)
	tr.Put(1, hash, key, record)
	dst := make([]byte, 0, 256)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		if _, ok := tr.Get(dst, 1, hash, key); !ok {
			t.Error("missed")
		}
	}))
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		tr.View(1, hash, key, func([]byte) {})
	}))
	require.Zero(t, testing.AllocsPerRun(1000, func() { tr.Put(1, hash, key, record) }))
}

func TestGetWithRoomAllocatesLittle(t *testing.T) {
	s := open(t, memory(vfs.NewMem()))
	commit(t, s, false, "key="+strings.Repeat("v", 200))
	require.NoError(t, s.Flush())
	dst, key := make([]byte, 0, 256), []byte("key")
	allocs := testing.AllocsPerRun(500, func() {
		if _, found, err := s.Get(dst, key); err != nil || !found {
			t.Error(found, err)
		}
	})
	require.LessOrEqual(t, allocs, 1.0)
}

func TestBatchReuseDoesNotAllocate(t *testing.T) {
	var b cache.Batch
	key, value := []byte("key"), make([]byte, 300)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		b.Reset()
		for range 64 {
			b.Set(key, value)
			b.Delete(key)
		}
	}))
}
