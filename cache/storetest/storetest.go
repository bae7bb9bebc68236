// Package storetest holds every implementation of the partition's store to the
// same rules: the durable one of package cache, and the simulator's map.
package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"sort"
	"testing"

	"edged.dev/edged/cache"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// Store is what a partition asks of its store.
type Store interface {
	Reader
	Commit(b *cache.Batch, sync bool) error
	Sync() error
}

// Reader is what is read of it.
type Reader interface {
	Get(dst, key []byte) (value []byte, found bool, err error)
	GetMany(keys [][]byte, fn func(i int, value []byte) error) error
	Snapshot() (cache.Snapshot, error)
	Scan(lower, upper []byte, fn func(key, value []byte) (more bool, err error)) error
}

// TestStore runs the conformance tests; open returns a new and empty store, and
// closes it by t.Cleanup.
func TestStore(t *testing.T, open func(t testing.TB) Store) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, s Store)
	}{
		{"GetAppendsToDst", testGetAppends},
		{"GetOfMissingKeyLeavesDst", testGetMissing},
		{"EmptyValueIsFound", testEmptyValue},
		{"GetManyFindsWhatIsThere", testGetMany},
		{"LaterOperationWins", testLaterWins},
		{"BatchIsReusable", testBatchReuse},
		{"EmptyBatchCommits", testEmptyBatch},
		{"StoreCopiesBytes", testCopies},
		{"ScanHasHalfOpenBoundsInOrder", testScanBounds},
		{"ScanStopsWhenTold", testScanStop},
		{"ScanReturnsTheCallbacksError", testScanError},
		{"ScanSeesOneMoment", testScanMoment},
		{"SnapshotSeesOneMoment", testSnapshotMoment},
		{"SnapshotScansNest", testSnapshotNested},
		{"SnapshotClosesTwice", testSnapshotClose},
		{"LargeBatch", testLargeBatch},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
	t.Run("MatchesModel", func(t *testing.T) { testModel(t, open) })
}

// set commits pairs, each "key=value".
func set(t *testing.T, s Store, pairs ...string) {
	t.Helper()
	var b cache.Batch
	for _, pair := range pairs {
		key, value, _ := bytes.Cut([]byte(pair), []byte("="))
		b.Set(key, value)
	}
	require.NoError(t, s.Commit(&b, false))
}

// scanner is a Store or a Snapshot.
type scanner interface {
	Scan(lower, upper []byte, fn func(key, value []byte) (more bool, err error)) error
}

// dump returns the pairs of a range, each "key=value".
func dump(t require.TestingT, s scanner, lower, upper string) []string {
	pairs := []string{}
	err := s.Scan([]byte(lower), []byte(upper), func(key, value []byte) (bool, error) {
		pairs = append(pairs, fmt.Sprintf("%s=%s", key, value))
		return true, nil
	})
	require.NoError(t, err)
	return pairs
}

func testGetAppends(t *testing.T, s Store) {
	set(t, s, "k=value")
	dst := make([]byte, 2, 64)
	copy(dst, "p:")
	got, found, err := s.Get(dst, []byte("k"))
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, "p:value", string(got))
	require.Same(t, &dst[0], &got[0], "the room in dst is used")
}

func testGetMissing(t *testing.T, s Store) {
	set(t, s, "k=value")
	got, found, err := s.Get([]byte("p:"), []byte("missing"))
	require.NoError(t, err)
	require.False(t, found)
	require.Equal(t, "p:", string(got))
}

func testGetMany(t *testing.T, s Store) {
	set(t, s, "a=1", "b=", "d=4", "da=5")
	get := func(fail int, keys ...string) (found []string, err error) {
		var asked [][]byte
		for _, k := range keys {
			asked = append(asked, []byte(k))
		}
		err = s.GetMany(asked, func(i int, value []byte) error {
			found = append(found, keys[i]+"="+string(value))
			if i == fail {
				return errors.New("enough")
			}
			return nil
		})
		return found, err
	}
	found, err := get(-1, "", "a", "aa", "b", "c", "d", "db", "e")
	require.NoError(t, err)
	require.Equal(t, []string{"a=1", "b=", "d=4"}, found)
	found, err = get(-1, "d", "d", "da")
	require.NoError(t, err)
	require.Equal(t, []string{"d=4", "d=4", "da=5"}, found, "one key twice")
	found, err = get(1, "a", "b", "d")
	require.EqualError(t, err, "enough")
	require.Equal(t, []string{"a=1", "b="}, found)
	found, err = get(-1)
	require.NoError(t, err)
	require.Empty(t, found)
}

func testEmptyValue(t *testing.T, s Store) {
	set(t, s, "k=")
	got, found, err := s.Get(nil, []byte("k"))
	require.NoError(t, err)
	require.True(t, found)
	require.Empty(t, got)
	require.Equal(t, []string{"k="}, dump(t, s, "", ""))
}

func testLaterWins(t *testing.T, s Store) {
	var b cache.Batch
	b.Set([]byte("a"), []byte("1"))
	b.Set([]byte("a"), []byte("2"))
	b.Set([]byte("b"), []byte("1"))
	b.Delete([]byte("b"))
	b.Delete([]byte("c"))
	b.Set([]byte("c"), []byte("1"))
	b.Delete([]byte("never there"))
	require.NoError(t, s.Commit(&b, true))
	require.Equal(t, []string{"a=2", "c=1"}, dump(t, s, "", ""))
}

func testBatchReuse(t *testing.T, s Store) {
	var b cache.Batch
	for i := range 100 {
		b.Reset()
		b.Set(fmt.Appendf(nil, "k%02d", i), fmt.Appendf(nil, "%d", i))
		require.NoError(t, s.Commit(&b, i%10 == 0))
		require.Equal(t, 1, b.Len(), "a commit leaves the batch as it was")
	}
	require.Len(t, dump(t, s, "", ""), 100)
	require.Equal(t, []string{"k42=42"}, dump(t, s, "k42", "k43"))
}

func testEmptyBatch(t *testing.T, s Store) {
	var b cache.Batch
	require.NoError(t, s.Commit(&b, false))
	require.NoError(t, s.Commit(&b, true))
	require.NoError(t, s.Sync())
	require.Empty(t, dump(t, s, "", ""))
}

func testCopies(t *testing.T, s Store) {
	key, value := []byte("key"), []byte("value")
	var b cache.Batch
	b.Set(key, value)
	copy(key, "xxx")
	require.NoError(t, s.Commit(&b, false))
	b.Reset()
	b.Set([]byte("yyy"), []byte("other"))
	got, _, err := s.Get(nil, []byte("key"))
	require.NoError(t, err)
	copy(got, "XXXXX")
	require.Equal(t, []string{"key=value"}, dump(t, s, "", ""))
}

func testScanBounds(t *testing.T, s Store) {
	set(t, s, "b=2", "a=1", "d=4", "c=3", "c\x00=5", "\xff\xff=6")
	require.Equal(t, []string{"a=1", "b=2", "c=3", "c\x00=5", "d=4", "\xff\xff=6"}, dump(t, s, "", ""))
	require.Equal(t, []string{"b=2", "c=3"}, dump(t, s, "b", "c\x00"))
	require.Equal(t, []string{"c\x00=5", "d=4"}, dump(t, s, "c\x00", "e"))
	require.Empty(t, dump(t, s, "e", "f"))
}

func testScanStop(t *testing.T, s Store) {
	set(t, s, "a=1", "b=2", "c=3")
	var seen []string
	err := s.Scan(nil, nil, func(key, _ []byte) (bool, error) {
		seen = append(seen, string(key))
		return string(key) != "b", nil
	})
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b"}, seen)
}

func testScanError(t *testing.T, s Store) {
	set(t, s, "a=1", "b=2")
	broken := errors.New("broken")
	calls := 0
	err := s.Scan(nil, nil, func(_, _ []byte) (bool, error) {
		calls++
		return true, broken
	})
	require.ErrorIs(t, err, broken)
	require.Equal(t, 1, calls)
}

func testScanMoment(t *testing.T, s Store) {
	set(t, s, "a=1", "b=2", "c=3")
	var seen []string
	err := s.Scan(nil, nil, func(key, value []byte) (bool, error) {
		seen = append(seen, fmt.Sprintf("%s=%s", key, value))
		if len(seen) == 1 {
			set(t, s, "b=later", "bb=later")
		}
		_, found, err := s.Get(nil, []byte("bb"))
		require.NoError(t, err)
		require.True(t, found, "a Get inside the callback reads the present")
		return true, nil
	})
	require.NoError(t, err)
	require.Equal(t, []string{"a=1", "b=2", "c=3"}, seen)
}

func testSnapshotMoment(t *testing.T, s Store) {
	set(t, s, "a=1", "b=2")
	snap, err := s.Snapshot()
	require.NoError(t, err)
	defer func() { require.NoError(t, snap.Close()) }()
	var b cache.Batch
	b.Set([]byte("a"), []byte("later"))
	b.Delete([]byte("b"))
	b.Set([]byte("c"), []byte("later"))
	require.NoError(t, s.Commit(&b, true))
	for range 3 { // again, since later scans may reuse what the first opened
		require.Equal(t, []string{"a=1", "b=2"}, dump(t, snap, "", ""))
		require.Equal(t, []string{"b=2"}, dump(t, snap, "b", "d"))
		require.Empty(t, dump(t, snap, "c", ""))
	}
	got, found, err := snap.Get([]byte("p:"), []byte("b"))
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, "p:2", string(got))
	_, found, err = snap.Get(nil, []byte("c"))
	require.NoError(t, err)
	require.False(t, found)
	require.Equal(t, []string{"a=later", "c=later"}, dump(t, s, "", ""))
}

func testSnapshotNested(t *testing.T, s Store) {
	set(t, s, "a=1", "b=2", "c=3")
	snap, err := s.Snapshot()
	require.NoError(t, err)
	defer func() { require.NoError(t, snap.Close()) }()
	var seen []string
	err = snap.Scan([]byte("a"), []byte("c"), func(key, _ []byte) (bool, error) {
		for _, inner := range dump(t, snap, "b", "") {
			seen = append(seen, string(key)+":"+inner)
		}
		return true, nil
	})
	require.NoError(t, err)
	require.Equal(t, []string{"a:b=2", "a:c=3", "b:b=2", "b:c=3"}, seen)
	require.Equal(t, []string{"a=1", "b=2", "c=3"}, dump(t, snap, "", ""))
}

func testSnapshotClose(t *testing.T, s Store) {
	set(t, s, "a=1")
	snap, err := s.Snapshot()
	require.NoError(t, err)
	require.Equal(t, []string{"a=1"}, dump(t, snap, "", ""))
	require.NoError(t, snap.Close())
	require.NoError(t, snap.Close())
	_, _, err = snap.Get(nil, []byte("a"))
	require.ErrorIs(t, err, cache.ErrClosed)
	err = snap.Scan(nil, nil, func(_, _ []byte) (bool, error) { return true, nil })
	require.ErrorIs(t, err, cache.ErrClosed)
}

// testLargeBatch commits more than a store may keep in one piece.
func testLargeBatch(t *testing.T, s Store) {
	var b cache.Batch
	for i := range 9 {
		b.Set(fmt.Appendf(nil, "k%d", i), bytes.Repeat([]byte{byte('a' + i)}, 1<<20))
	}
	require.NoError(t, s.Commit(&b, true))
	b.Reset()
	b.Set([]byte("k0"), bytes.Repeat([]byte{'z'}, 4<<20))
	for i := range 9 {
		got, found, err := s.Get(nil, fmt.Appendf(nil, "k%d", i))
		require.NoError(t, err)
		require.True(t, found)
		require.Equal(t, bytes.Repeat([]byte{byte('a' + i)}, 1<<20), got, "the batch's buffer is the caller's again")
	}
}

// testModel compares a store with a map over random histories.
func testModel(t *testing.T, open func(t testing.TB) Store) {
	s := open(t)
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		prefix := fmt.Sprintf("%08d/", runs) // each history has keys of its own
		end := fmt.Sprintf("%08d0", runs)
		model := map[string]string{}
		var b cache.Batch
		for range rapid.IntRange(1, 12).Draw(t, "commits") {
			b.Reset()
			for range rapid.IntRange(0, 8).Draw(t, "operations") {
				key := prefix + rapid.StringMatching(`[a-c]{0,3}`).Draw(t, "key")
				if rapid.Bool().Draw(t, "delete") {
					b.Delete([]byte(key))
					delete(model, key)
					continue
				}
				value := rapid.StringN(0, 20, -1).Draw(t, "value")
				b.Set([]byte(key), []byte(value))
				model[key] = value
			}
			require.NoError(t, s.Commit(&b, rapid.Bool().Draw(t, "sync")))
			require.Equal(t, pairsOf(model), dump(t, s, prefix, end))
			key := prefix + rapid.StringMatching(`[a-c]{0,3}`).Draw(t, "read")
			got, found, err := s.Get(nil, []byte(key))
			require.NoError(t, err)
			want, exists := model[key]
			require.Equal(t, exists, found)
			require.Equal(t, want, string(got))
		}
	})
}

// pairsOf returns the model's pairs, in order.
func pairsOf(model map[string]string) []string {
	keys := make([]string, 0, len(model))
	for key := range model {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	pairs := make([]string, 0, len(keys))
	for _, key := range keys {
		pairs = append(pairs, key+"="+model[key])
	}
	return pairs
}
