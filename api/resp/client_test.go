package resp_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// TestGoRedisWorks drives the server by a client that many use, in both
// versions of the protocol.
func TestGoRedisWorks(t *testing.T) {
	t.Parallel()
	for _, proto := range []int{2, 3} {
		t.Run(fmt.Sprint("RESP", proto), func(t *testing.T) {
			t.Parallel()
			f := start(t, protected)
			c := redis.NewClient(&redis.Options{Addr: f.addr, Password: "secret", Protocol: proto, ClientName: "test"})
			defer c.Close()
			ctx := t.Context()
			require.NoError(t, c.Ping(ctx).Err())
			require.NoError(t, c.Set(ctx, "k", "v", time.Minute).Err())
			require.Equal(t, "v", c.Get(ctx, "k").Val())
			require.Equal(t, time.Minute, c.TTL(ctx, "k").Val())
			require.ErrorIs(t, c.Get(ctx, "none").Err(), redis.Nil)
			require.True(t, c.SetNX(ctx, "nx", "1", 0).Val())
			require.False(t, c.SetNX(ctx, "nx", "1", 0).Val())
			require.Equal(t, "v", c.SetArgs(ctx, "k", "w", redis.SetArgs{Get: true, KeepTTL: true}).Val())
			require.EqualValues(t, 5, c.IncrBy(ctx, "n", 5).Val())
			require.NoError(t, c.MSet(ctx, "a", "1", "b", "2").Err())
			require.Equal(t, []any{"1", nil, "2"}, c.MGet(ctx, "a", "none", "b").Val())
			require.EqualValues(t, 5, c.DBSize(ctx).Val())
			require.True(t, c.ExpireGT(ctx, "k", time.Hour).Val())
			var keys []string
			for it := c.Scan(ctx, 0, "[ab]", 2).Iterator(); it.Next(ctx); {
				keys = append(keys, it.Val())
			}
			require.ElementsMatch(t, []string{"a", "b"}, keys)
			require.EqualValues(t, 2, c.Del(ctx, "a", "b", "none").Val())
			require.Equal(t, "test", c.ClientGetName(ctx).Val())
			require.Equal(t, map[string]string{"databases": "1"}, c.ConfigGet(ctx, "databases").Val())
			commands, err := c.Command(ctx).Result()
			require.NoError(t, err)
			require.EqualValues(t, 2, commands["get"].Arity)
			require.Contains(t, c.Info(ctx, "server").Val(), "edged_version:test")
			require.ErrorContains(t, c.LPush(ctx, "l", "x").Err(), "unknown command 'lpush'")
			require.NoError(t, c.FlushAll(ctx).Err())
			require.Zero(t, c.DBSize(ctx).Val())
		})
	}
}

func TestGoRedisPipelinesFromManyGoroutines(t *testing.T) {
	t.Parallel()
	f := start(t)
	c := redis.NewClient(&redis.Options{Addr: f.addr, PoolSize: 8})
	defer c.Close()
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for range 20 {
				pipe := c.Pipeline()
				for i := range 50 {
					pipe.Incr(t.Context(), fmt.Sprint("n", g, ":", i%10))
					pipe.Get(t.Context(), fmt.Sprint("n", g, ":", i%10))
				}
				cmds, err := pipe.Exec(t.Context())
				if err != nil {
					t.Errorf("pipeline: %v", err)
					return
				}
				for i := 0; i < len(cmds); i += 2 {
					if n := cmds[i].(*redis.IntCmd).Val(); cmds[i+1].(*redis.StringCmd).Val() != fmt.Sprint(n) {
						t.Errorf("read %v after INCR gave %d", cmds[i+1], n)
					}
				}
			}
		})
	}
	wg.Wait()
	v, _ := f.store.Value("n3:7")
	require.Equal(t, "100", v)
}
