package sim_test

import (
	"testing"

	"edged.dev/edged/cache"
	"edged.dev/edged/cache/storetest"
	"edged.dev/edged/internal/sim"

	"github.com/stretchr/testify/require"
)

func TestStoreKeepsTheRules(t *testing.T) {
	t.Parallel()
	storetest.TestStore(t, func(testing.TB) storetest.Store { return sim.NewStore() })
}

func commit(t *testing.T, s *sim.Store, sync bool, keys ...string) error {
	t.Helper()
	var b cache.Batch
	for _, k := range keys {
		b.Set([]byte(k), []byte("x"))
	}
	return s.Commit(&b, sync)
}

func keysOf(t *testing.T, s *sim.Store) (keys []string) {
	t.Helper()
	require.NoError(t, s.Scan(nil, nil, func(key, _ []byte) (bool, error) {
		keys = append(keys, string(key))
		return true, nil
	}))
	return keys
}

func TestCrashTakesWholeGroupsFromTheEnd(t *testing.T) {
	t.Parallel()
	s := sim.NewStore()
	require.NoError(t, commit(t, s, true, "a"))
	require.NoError(t, commit(t, s, false, "b1", "b2"))
	require.NoError(t, commit(t, s, false, "c1", "c2"))
	require.Equal(t, 2, s.Tail())
	s.Crash(1)
	require.Equal(t, []string{"a", "b1", "b2"}, keysOf(t, s))
	require.NoError(t, commit(t, s, false, "d"))
	s.Crash(0)
	require.Equal(t, []string{"a", "b1", "b2"}, keysOf(t, s), "what a crash kept is durable")
	require.NoError(t, commit(t, s, false, "e"))
	require.NoError(t, s.Sync())
	s.Crash(0)
	require.Equal(t, []string{"a", "b1", "b2", "e"}, keysOf(t, s))
}

func TestBackupIsWhatWasDurable(t *testing.T) {
	t.Parallel()
	s := sim.NewStore()
	require.NoError(t, commit(t, s, true, "a"))
	require.NoError(t, commit(t, s, false, "b"))
	b := s.Backup()
	require.NoError(t, commit(t, s, true, "c"))
	s.Restore(b)
	require.Equal(t, []string{"a"}, keysOf(t, s))
	s.FailNext(true)
	require.ErrorIs(t, commit(t, s, true, "d"), sim.ErrCrash)
	require.Equal(t, []string{"a", "d"}, keysOf(t, s))
}
