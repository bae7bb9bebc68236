//go:build interop

package testcluster_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

func testGoRedis(t *testing.T, d door) {
	for _, protocol := range []int{2, 3} {
		t.Run(fmt.Sprintf("resp%d", protocol), func(t *testing.T) {
			c := redis.NewClient(&redis.Options{Addr: d.resp, Protocol: protocol, MaxRetries: -1})
			t.Cleanup(func() { _ = c.Close() })
			goRedisStrings(t, c)
			goRedisExpiry(t, c)
			goRedisPipelines(t, c)
			goRedisScan(t, c)
			goRedisBytes(t, c)
			goRedisErrors(t, c)
		})
	}
}

func goRedisStrings(t *testing.T, c *redis.Client) {
	t.Helper()
	ctx := t.Context()
	require.NoError(t, c.Ping(ctx).Err())
	require.NoError(t, c.Del(ctx, "go:a", "go:b", "go:n", "go:c").Err())
	require.ErrorIs(t, c.Get(ctx, "go:a").Err(), redis.Nil)
	require.True(t, c.SetNX(ctx, "go:a", "first", 0).Val())
	require.False(t, c.SetNX(ctx, "go:a", "second", 0).Val())
	require.True(t, c.SetXX(ctx, "go:a", "third", 0).Val())
	require.False(t, c.SetXX(ctx, "go:none", "v", 0).Val())
	old, err := c.SetArgs(ctx, "go:a", "fourth", redis.SetArgs{Mode: "XX", Get: true}).Result()
	require.NoError(t, err)
	require.Equal(t, "third", old)
	require.Equal(t, "fourth", c.Do(ctx, "getset", "go:a", "fifth").Val())
	require.Equal(t, int64(9), c.Append(ctx, "go:a", "more").Val())
	require.Equal(t, int64(9), c.StrLen(ctx, "go:a").Val())
	require.Equal(t, "fifthmore", c.GetDel(ctx, "go:a").Val())
	require.Equal(t, int64(41), c.IncrBy(ctx, "go:n", 41).Val())
	require.Equal(t, int64(42), c.Incr(ctx, "go:n").Val())
	require.Equal(t, int64(40), c.DecrBy(ctx, "go:n", 2).Val())
	require.NoError(t, c.MSet(ctx, "go:b", "1", "go:c", "2").Err())
	require.Equal(t, []any{"1", nil, "2"}, c.MGet(ctx, "go:b", "go:none", "go:c").Val())
	require.Equal(t, int64(2), c.Exists(ctx, "go:b", "go:c", "go:none").Val())
	require.Equal(t, "string", c.Type(ctx, "go:b").Val())
	require.Equal(t, int64(2), c.Unlink(ctx, "go:b", "go:c").Val())
	require.Positive(t, c.DBSize(ctx).Val())

	// One hundred at once over as many connections as the pool likes: none is lost.
	require.NoError(t, c.Set(ctx, "go:n", 0, 0).Err())
	var wg sync.WaitGroup
	errs := make(chan error, 100)
	for range 100 {
		wg.Go(func() { errs <- c.Incr(ctx, "go:n").Err() })
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { // over another connection, a third copy may be a moment behind
		n, err := c.Get(ctx, "go:n").Int()
		return err == nil && n == 100
	}, 5*time.Second, time.Millisecond)
}

func goRedisExpiry(t *testing.T, c *redis.Client) {
	t.Helper()
	ctx := t.Context()
	require.NoError(t, c.Set(ctx, "go:e", "v", time.Hour).Err())
	require.InDelta(t, time.Hour, c.TTL(ctx, "go:e").Val(), float64(5*time.Second))
	require.NoError(t, c.Set(ctx, "go:e", "w", redis.KeepTTL).Err())
	require.InDelta(t, time.Hour, c.PTTL(ctx, "go:e").Val(), float64(5*time.Second))
	require.True(t, c.Persist(ctx, "go:e").Val())
	require.Equal(t, time.Duration(-1), c.TTL(ctx, "go:e").Val())
	require.Equal(t, time.Duration(-2), c.TTL(ctx, "go:none").Val())
	require.True(t, c.ExpireAt(ctx, "go:e", time.Now().Add(time.Minute)).Val())
	require.False(t, c.ExpireNX(ctx, "go:e", time.Hour).Val())
	require.True(t, c.ExpireGT(ctx, "go:e", time.Hour).Val())
	require.NoError(t, c.Set(ctx, "go:e", "v", 80*time.Millisecond).Err())
	require.Eventually(t, func() bool { return errors.Is(c.Get(ctx, "go:e").Err(), redis.Nil) }, 5*time.Second, 10*time.Millisecond)
	require.NoError(t, c.Set(ctx, "go:e", "v", 0).Err())
	require.True(t, c.PExpire(ctx, "go:e", -time.Second).Val(), "a past time deletes")
	require.Zero(t, c.Exists(ctx, "go:e").Val())
}

func goRedisPipelines(t *testing.T, c *redis.Client) {
	t.Helper()
	ctx := t.Context()
	const many = 2000
	pipe := c.Pipeline()
	for i := range many {
		pipe.Set(ctx, fmt.Sprintf("go:p:%d", i), i, 0)
	}
	_, err := pipe.Exec(ctx)
	require.NoError(t, err)
	gets := make([]*redis.StringCmd, many)
	_, err = c.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range many {
			gets[i] = p.Get(ctx, fmt.Sprintf("go:p:%d", i))
		}
		return nil
	})
	require.NoError(t, err)
	for i, get := range gets {
		n, err := get.Int()
		require.NoError(t, err)
		require.Equal(t, i, n)
	}
	// An error in the middle of a pipeline is its own command's alone.
	pipe = c.Pipeline()
	before, wrong, after := pipe.Set(ctx, "go:w", "text", 0), pipe.Incr(ctx, "go:w"), pipe.Get(ctx, "go:w")
	_, err = pipe.Exec(ctx)
	require.ErrorContains(t, err, "not an integer")
	require.NoError(t, before.Err())
	require.Error(t, wrong.Err())
	require.Equal(t, "text", after.Val())
}

func goRedisScan(t *testing.T, c *redis.Client) {
	t.Helper()
	ctx := t.Context()
	seen := map[string]int{}
	for iter := c.Scan(ctx, 0, "go:p:*", 100).Iterator(); iter.Next(ctx); {
		require.NoError(t, iter.Err())
		seen[iter.Val()]++
	}
	require.Len(t, seen, 2000, "each key that was there all the time is seen")
	keys, err := c.Keys(ctx, "go:p:199?").Result()
	require.NoError(t, err)
	require.Len(t, keys, 10)
}

func goRedisBytes(t *testing.T, c *redis.Client) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	for _, value := range []string{"", "\x00\r\n\xff", strings.Repeat("x", 1<<20)} {
		require.NoError(t, c.Set(ctx, "go:\r\n\x00key", value, 0).Err())
		got, err := c.Get(ctx, "go:\r\n\x00key").Result()
		require.NoError(t, err)
		require.Equal(t, value, got)
	}
}

func goRedisErrors(t *testing.T, c *redis.Client) {
	t.Helper()
	ctx := t.Context()
	// A value over the limit is never read, so its connection ends with the answer.
	big := redis.NewClient(&redis.Options{Addr: c.Options().Addr, Protocol: c.Options().Protocol, MaxRetries: -1})
	require.ErrorContains(t, big.Set(ctx, "go:big", strings.Repeat("x", 1<<20+1), 0).Err(), "invalid bulk length")
	require.NoError(t, big.Close())
	require.ErrorContains(t, c.Set(ctx, strings.Repeat("k", 1025), "v", 0).Err(), "1024")
	require.ErrorContains(t, c.LPush(ctx, "go:l", "v").Err(), "unknown command")
	require.ErrorContains(t, c.Do(ctx, "get").Err(), "wrong number of arguments")
	require.NoError(t, c.Ping(ctx).Err())
}
