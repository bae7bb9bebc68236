package cache_test

import (
	"errors"
	"fmt"
	"testing"

	"edged.dev/edged/cache"

	"github.com/stretchr/testify/require"
)

// ops lists a batch's operations: "+key=value" or "-key".
func ops(t testing.TB, b *cache.Batch) []string {
	t.Helper()
	list := []string{}
	require.NoError(t, b.Each(func(key, value []byte, deleted bool) error {
		if deleted {
			require.Nil(t, value)
			list = append(list, "-"+string(key))
		} else {
			require.NotNil(t, value)
			list = append(list, fmt.Sprintf("+%s=%s", key, value))
		}
		return nil
	}))
	return list
}

func TestBatchListsItsOperationsInOrder(t *testing.T) {
	t.Parallel()
	var b cache.Batch
	require.Zero(t, b.Len())
	require.Zero(t, b.Bytes())
	require.Empty(t, ops(t, &b))
	b.Set([]byte("a"), []byte("1"))
	b.Delete([]byte("b"))
	b.Set([]byte("c"), nil)
	b.Set(nil, make([]byte, 0))
	require.Equal(t, []string{"+a=1", "-b", "+c=", "+="}, ops(t, &b))
	require.Equal(t, 4, b.Len())
	require.Equal(t, 5+3+4+3, b.Bytes())
	b.Reset()
	require.Zero(t, b.Len())
	require.Zero(t, b.Bytes())
	require.Empty(t, ops(t, &b))
}

func TestBatchAppendJoins(t *testing.T) {
	t.Parallel()
	var group, one, empty cache.Batch
	one.Set([]byte("a"), []byte("1"))
	group.Append(&empty)
	group.Append(&one)
	one.Reset()
	one.Delete([]byte("a"))
	group.Append(&one)
	group.Append(&empty)
	require.Equal(t, []string{"+a=1", "-a"}, ops(t, &group))
	require.Equal(t, 2, group.Len())
}

func TestBatchEachStopsAtAnError(t *testing.T) {
	t.Parallel()
	var b cache.Batch
	b.Delete([]byte("a"))
	b.Delete([]byte("b"))
	broken, calls := errors.New("broken"), 0
	require.ErrorIs(t, b.Each(func(_, _ []byte, _ bool) error { calls++; return broken }), broken)
	require.Equal(t, 1, calls)
}
