package cache_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"edged.dev/edged/cache"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"
	"pgregory.net/rapid"
)

// tier returns an empty tier of so many bytes.
func tier(t testing.TB, maxBytes int64) *cache.Tier {
	t.Helper()
	tier, err := cache.NewTier(maxBytes)
	require.NoError(t, err)
	return tier
}

// put puts a key by its xxh3.
func put(tier *cache.Tier, part uint32, key, record []byte) bool {
	return tier.Put(part, xxh3.Hash(key), key, record)
}

// get reads a key by its xxh3.
func get(tier *cache.Tier, dst []byte, part uint32, key []byte) ([]byte, bool) {
	return tier.Get(dst, part, xxh3.Hash(key), key)
}

func TestNewTierRejectsSizes(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{-1, 0, 64<<10 - 1, 64<<32 + 1} {
		_, err := cache.NewTier(size)
		require.Error(t, err, size)
	}
	for _, size := range []int64{64 << 10, 64<<10 + 1, 8 << 20, 64 << 32} {
		_, err := cache.NewTier(size)
		require.NoError(t, err, size)
	}
}

func TestTierGetAppendsToDst(t *testing.T) {
	t.Parallel()
	tr := tier(t, 1<<20)
	require.True(t, put(tr, 1, []byte("k"), []byte("record")))
	got, ok := get(tr, []byte("p:"), 1, []byte("k"))
	require.True(t, ok)
	require.Equal(t, "p:record", string(got))
	got, ok = get(tr, []byte("p:"), 2, []byte("k"))
	require.False(t, ok, "a partition's key is not another's")
	require.Equal(t, "p:", string(got))
	var seen string
	require.True(t, tr.View(1, xxh3.Hash([]byte("k")), []byte("k"), func(r []byte) { seen = string(r) }))
	require.Equal(t, "record", seen)
	require.False(t, tr.View(1, 7, []byte("k"), func([]byte) { t.Error("called on a miss") }))
}

func TestTierCopiesWhatIsPut(t *testing.T) {
	t.Parallel()
	tr := tier(t, 1<<20)
	key, record := []byte("key"), []byte("record")
	hash := xxh3.Hash(key)
	tr.Put(0, hash, key, record)
	copy(key, "xxx")
	copy(record, "xxxxxx")
	got, ok := tr.Get(nil, 0, hash, []byte("key"))
	require.True(t, ok)
	require.Equal(t, "record", string(got))
}

func TestTierCollisionReplaces(t *testing.T) {
	t.Parallel()
	tr := tier(t, 1<<20)
	require.True(t, tr.Put(3, 42, []byte("first"), []byte("one")))
	require.True(t, tr.Put(3, 42, []byte("other"), []byte("two")))
	_, ok := tr.Get(nil, 3, 42, []byte("first"))
	require.False(t, ok, "the older key is gone, not mistaken")
	tr.Delete(3, 42, []byte("first"))
	got, ok := tr.Get(nil, 3, 42, []byte("other"))
	require.True(t, ok, "deleting a key leaves the one it collides with")
	require.Equal(t, "two", string(got))
	require.EqualValues(t, 1, tr.Stats().Entries)
	require.NoError(t, tr.Check())
}

// TestTierEqualLowBitsAreFoundApart feeds hashes that an index by their low or
// high bits alone would put into one place.
func TestTierEqualLowBitsAreFoundApart(t *testing.T) {
	t.Parallel()
	for _, shift := range []uint{0, 16, 48} {
		tr := tier(t, 8<<20)
		for i := range uint64(5_000) {
			require.True(t, tr.Put(0, i<<shift, fmt.Appendf(nil, "%d", i), fmt.Appendf(nil, "r%d", i)))
		}
		for i := range uint64(5_000) {
			got, ok := tr.Get(nil, 0, i<<shift, fmt.Appendf(nil, "%d", i))
			require.True(t, ok)
			require.Equal(t, fmt.Sprintf("r%d", i), string(got))
		}
		require.NoError(t, tr.Check())
	}
}

func TestTierRefusesLargeRecordAndForgetsOlder(t *testing.T) {
	t.Parallel()
	tr := tier(t, 1<<20)
	key := []byte("k")
	require.True(t, put(tr, 0, key, []byte("older")))
	require.False(t, put(tr, 0, key, make([]byte, 1<<18)))
	_, ok := get(tr, nil, 0, key)
	require.False(t, ok, "an older record must not outlive the newer write")
	require.EqualValues(t, 1, tr.Stats().Refused)
	require.True(t, put(tr, 0, key, make([]byte, 200<<10)))
	require.False(t, put(tr, 0, make([]byte, 1<<16), nil), "a key longer than its length field")
	require.NoError(t, tr.Check())
}

func TestTierKeepsTheLargestValueFromItsDefaultShards(t *testing.T) {
	t.Parallel()
	tr := tier(t, 256<<20)
	require.True(t, put(tr, 0, make([]byte, 1<<10), make([]byte, 850<<10)))
}

func TestTierSparesWhatIsRead(t *testing.T) {
	t.Parallel()
	tr := tier(t, 1<<20)
	hot, record := []byte("hot"), make([]byte, 200)
	require.True(t, put(tr, 0, hot, record))
	for i := range 100_000 {
		put(tr, 0, fmt.Appendf(nil, "cold%d", i), record)
		if i%100 == 0 {
			_, ok := get(tr, nil, 0, hot)
			require.True(t, ok, "evicted at %d though it is read", i)
		}
	}
	_, ok := get(tr, nil, 0, []byte("cold0"))
	require.False(t, ok)
	require.NotZero(t, tr.Stats().Evictions)
	require.NoError(t, tr.Check())
}

func TestTierDropPartition(t *testing.T) {
	t.Parallel()
	tr := tier(t, 1<<20)
	for i := range 20_000 { // more than it holds, so that the ring has wrapped
		put(tr, uint32(i%3), fmt.Appendf(nil, "k%d", i), make([]byte, i%150))
	}
	before := tr.Stats().Entries
	tr.DropPartition(1)
	require.NoError(t, tr.Check())
	require.Less(t, tr.Stats().Entries, before)
	for i := range 20_000 {
		_, ok := get(tr, nil, 1, fmt.Appendf(nil, "k%d", i))
		require.False(t, ok)
	}
	_, ok := get(tr, nil, 0, []byte("k19998"))
	require.True(t, ok, "another partition's keys stay")
}

// TestTierMatchesModel runs random histories against a map. A hit must be the
// newest record; what is missing must have been deleted, refused or evicted.
func TestTierMatchesModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		tr, err := cache.NewTier(rapid.SampledFrom([]int64{64 << 10, 100_003, 4 << 20}).Draw(t, "bytes"))
		require.NoError(t, err)
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		largest := rapid.SampledFrom([]int{1, 60, 700, 20_000}).Draw(t, "largest")
		keys := rapid.SampledFrom([]int{3, 50, 2_000}).Draw(t, "keys")
		model := map[string]string{}
		for range 2_000 {
			key := fmt.Appendf(nil, "%d", rng.IntN(keys))
			part := uint32(len(key))
			switch rng.IntN(10) {
			case 0:
				tr.Delete(part, xxh3.Hash(key), key)
				delete(model, string(key))
			case 1, 2, 3, 4:
				record := bytes.Repeat(key[:1], rng.IntN(largest))
				delete(model, string(key))
				if put(tr, part, key, record) {
					model[string(key)] = string(record)
				}
			default:
				got, ok := get(tr, nil, part, key)
				want, held := model[string(key)]
				require.False(t, ok && !held, "a key that was deleted or refused came back")
				if ok {
					require.Equal(t, want, string(got))
				} else if held {
					require.NotZero(t, tr.Stats().Evictions, "a key went with nothing evicted")
				}
			}
		}
		require.NoError(t, tr.Check())
		stats := tr.Stats()
		require.LessOrEqual(t, stats.Bytes, stats.MaxBytes)
	})
}

func TestTierIsBoundedAndCounts(t *testing.T) {
	t.Parallel()
	tr := tier(t, 8<<20)
	require.Less(t, tr.Stats().Bytes, int64(16<<10), "it begins small")
	for i := range 200_000 {
		put(tr, 0, fmt.Appendf(nil, "key%d", i), make([]byte, 8+i%32))
	}
	stats := tr.Stats()
	require.LessOrEqual(t, stats.Bytes, stats.MaxBytes)
	require.EqualValues(t, 200_000, stats.Entries+int64(stats.Evictions))
	_, ok := get(tr, nil, 0, []byte("key199999"))
	require.True(t, ok)
	_, ok = get(tr, nil, 0, []byte("key0"))
	require.False(t, ok)
	after := tr.Stats()
	require.Equal(t, stats.Hits+1, after.Hits)
	require.Equal(t, stats.Misses+1, after.Misses)
	require.NoError(t, tr.Check())
}

// TestTierConcurrentUse lets goroutines share keys: a record read is always one
// that was written whole for that key.
func TestTierConcurrentUse(t *testing.T) {
	t.Parallel()
	tr := tier(t, 256<<10)
	var group sync.WaitGroup
	for worker := range 4 {
		group.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(worker), 2))
			for range 20_000 {
				n := rng.IntN(4000)
				key := fmt.Appendf(nil, "%04d", n)
				switch rng.IntN(8) {
				case 0:
					tr.Delete(0, xxh3.Hash(key), key)
				case 1, 2, 3:
					put(tr, 0, key, bytes.Repeat(key, 1+rng.IntN(50)))
				case 4:
					tr.Stats()
				default:
					got, ok := get(tr, nil, 0, key)
					if ok && (len(got) == 0 || !bytes.Equal(got, bytes.Repeat(key, len(got)/4))) {
						t.Errorf("key %s holds %q", key, got)
						return
					}
				}
			}
		})
	}
	group.Wait()
	require.NoError(t, tr.Check())
}

// million returns a tier with a million entries of 150 bytes.
func million(b *testing.B) *cache.Tier {
	tr := tier(b, 512<<20)
	record := make([]byte, 150)
	for i := range 1_000_000 {
		put(tr, uint32(i%256), fmt.Appendf(nil, "key%08d", i), record)
	}
	require.EqualValues(b, 1_000_000, tr.Stats().Entries)
	return tr
}

// BenchmarkTierGC is a full collection with a million entries held; the goal is
// at most 30 ms.
func BenchmarkTierGC(b *testing.B) {
	tr := million(b)
	runtime.GC()
	b.ResetTimer()
	start := time.Now()
	for b.Loop() {
		runtime.GC()
	}
	b.ReportMetric(float64(time.Since(start).Milliseconds())/float64(b.N), "ms/gc")
	runtime.KeepAlive(tr)
}

// BenchmarkTierHit reads random keys of a million.
func BenchmarkTierHit(b *testing.B) {
	tr := million(b)
	rng := rand.New(rand.NewPCG(1, 1))
	key, dst := make([]byte, 0, 16), make([]byte, 0, 256)
	for b.Loop() {
		n := rng.IntN(1_000_000)
		key = fmt.Appendf(key[:0], "key%08d", n)
		if _, ok := get(tr, dst, uint32(n%256), key); !ok {
			b.Fatal("missed")
		}
	}
}

// BenchmarkTierPut overwrites and evicts at the bound.
func BenchmarkTierPut(b *testing.B) {
	tr := tier(b, 16<<20)
	key, record := make([]byte, 0, 16), make([]byte, 150)
	i := 0
	for b.Loop() {
		key = fmt.Appendf(key[:0], "key%08d", i)
		put(tr, 0, key, record)
		i++
	}
}
