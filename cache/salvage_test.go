package cache_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"

	"github.com/stretchr/testify/require"
)

// noise is a value that no compression shortens, so that it lies in a table as it is.
func noise(seed uint64) []byte {
	rng := rand.New(rand.NewPCG(seed, 1))
	out := make([]byte, 1024)
	for i := range out {
		out[i] = byte(rng.Uint32())
	}
	return out
}

// spoilTable changes a byte of the table in which a value lies.
func spoilTable(t *testing.T, dir string, value []byte) {
	t.Helper()
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	require.NoError(t, err)
	for _, path := range tables {
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		if at := bytes.Index(data, value[:64]); at >= 0 {
			data[at] ^= 1
			require.NoError(t, os.WriteFile(path, data, 0o600))
			return
		}
	}
	require.FailNow(t, "no table has the value")
}

// damagedStore has records of four copies, and one value of the third that cannot be
// read, or the node's record.
func damagedStore(t *testing.T, nodeToo bool) (cfg cache.Config, want map[string][]byte) {
	t.Helper()
	cfg = cache.Default(t.TempDir())
	s, err := cache.Open(cfg)
	require.NoError(t, err)
	want = map[string][]byte{}
	var b cache.Batch
	put := func(key, value []byte) {
		b.Set(key, value)
		want[string(key)] = value
	}
	put(cache.NodeKey(), noise(1))
	put(cache.AppendActorKey(nil, 0), noise(2))
	for i, p := range []kv.Partition{0, 1, 2, kv.System} {
		put(cache.AppendCopyKey(nil, p), []byte(fmt.Sprint("copy of ", p)))
		for j := range uint64(40) {
			put(cache.AppendVersionKey(nil, p, 0, j+1), noise(1000*uint64(i+1)+j))
			put(cache.AppendEntryKey(nil, p, j, fmt.Append(nil, "k", j)), fmt.Append(nil, "directory", j))
		}
	}
	b.Set(cache.ExpiryIndexKey(), nil)
	require.NoError(t, s.Commit(&b, true))
	require.NoError(t, s.Flush())
	require.NoError(t, s.Close())
	spoilTable(t, cfg.Dir, noise(3020))
	if nodeToo {
		spoilTable(t, cfg.Dir, noise(1))
	}
	return cfg, want
}

func TestCorruptTableTouchesOnlyTheCopiesInIt(t *testing.T) {
	t.Parallel()
	cfg, want := damagedStore(t, false)
	to, err := cache.Open(cache.Default(t.TempDir()))
	require.NoError(t, err)
	touched, err := cache.Salvage(cfg, to)
	require.NoError(t, err)
	require.Equal(t, []kv.Partition{2}, touched)
	kept := 0
	require.NoError(t, to.Scan(nil, nil, func(key, value []byte) (bool, error) {
		if bytes.Equal(key, cache.AppendCopyKey(nil, 2)) {
			_, err := cache.ParseCopy(value, nil)
			require.ErrorIs(t, err, cache.ErrRecord)
			return true, nil
		}
		require.Equal(t, want[string(key)], value, "%x", key)
		kept++
		return true, nil
	}))
	lost := len(want) - 1 - kept
	require.Positive(t, lost)
	require.LessOrEqual(t, lost, 24, "of the versions of one copy, those from the damaged block on")
	_, found, err := to.Get(nil, cache.ExpiryIndexKey())
	require.NoError(t, err)
	require.False(t, found, "it is made anew")
	require.NoError(t, to.Close())
}

func TestCorruptNodeRecordLeavesNothingToSalvage(t *testing.T) {
	t.Parallel()
	cfg, _ := damagedStore(t, true)
	to, err := cache.Open(cache.Default(t.TempDir()))
	require.NoError(t, err)
	_, err = cache.Salvage(cfg, to)
	require.ErrorIs(t, err, cache.ErrCorrupt)
	require.NoError(t, to.Close())
}
