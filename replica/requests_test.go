package replica_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/replica"
)

// one is a cluster of one, whose every request runs at its own copy.
func one(t *testing.T) *cluster {
	c := newCluster(t, "n1")
	c.nodes["n1"].start()
	c.live("n1")
	return c
}

type requestCase struct {
	name string
	held string // value before; "" none
	ttl  int64  // of it, in ms from now
	req  kv.Request

	refused bool   // Changed is false, and nothing is written
	gone    bool   // nothing is shown afterwards
	after   string // shown afterwards
	expires int64  // in ms from now, 0 none
	sum     int64  // Response.Int
	old     string // Response.Value
	code    kv.Code
}

const hour = int64(3_600_000)

// TestOperations is every operation with every flag. Times are relative to now.
func TestOperations(t *testing.T) {
	set := func(r kv.Request) kv.Request { r.Op, r.Value = kv.OpSet, []byte("new"); return r }
	expire := func(r kv.Request) kv.Request { r.Op = kv.OpExpire; return r }
	cases := []requestCase{
		{name: "set", req: set(kv.Request{}), after: "new"},
		{name: "set over", held: "v", req: set(kv.Request{}), after: "new"},
		{name: "set drops the expiry", held: "v", ttl: hour, req: set(kv.Request{}), after: "new"},
		{name: "set keeps the expiry", held: "v", ttl: hour, req: set(kv.Request{KeepTTL: true}), after: "new", expires: hour},
		{name: "set keeps none", req: set(kv.Request{KeepTTL: true}), after: "new"},
		{name: "set with expiry", req: set(kv.Request{ExpiresMS: hour}), after: "new", expires: hour},
		{name: "set with expiry past", held: "v", req: set(kv.Request{ExpiresMS: -1}), gone: true},
		{name: "set nx", req: set(kv.Request{NX: true}), after: "new"},
		{name: "set nx held", held: "v", req: set(kv.Request{NX: true}), refused: true, after: "v"},
		{name: "set nx expired", held: "v", ttl: -1, req: set(kv.Request{NX: true}), after: "new"},
		{name: "set xx", req: set(kv.Request{XX: true}), refused: true, gone: true},
		{name: "set xx held", held: "v", req: set(kv.Request{XX: true}), after: "new"},
		{name: "set get", held: "v", req: set(kv.Request{ReturnOld: true}), after: "new", old: "v"},
		{name: "set get none", req: set(kv.Request{ReturnOld: true}), after: "new"},
		{name: "set nx get held", held: "v", req: set(kv.Request{NX: true, ReturnOld: true}), refused: true, after: "v", old: "v"},
		{name: "set if match any", held: "v", req: set(kv.Request{IfMatch: []string{"*"}}), after: "new"},
		{name: "set if match any none", req: set(kv.Request{IfMatch: []string{"*"}}), refused: true, gone: true},
		{name: "set if match other", held: "v", req: set(kv.Request{IfMatch: []string{"x"}}), refused: true, after: "v"},
		{name: "set if none match any", req: set(kv.Request{IfNoneMatch: []string{"*"}}), after: "new"},
		{name: "set if none match any held", held: "v", req: set(kv.Request{IfNoneMatch: []string{"*"}}), refused: true, after: "v"},
		{name: "set if none match other", held: "v", req: set(kv.Request{IfNoneMatch: []string{"x"}}), after: "new"},
		{name: "delete", held: "v", req: kv.Request{Op: kv.OpDelete}, gone: true, old: "v"},
		{name: "delete none", req: kv.Request{Op: kv.OpDelete}, refused: true, gone: true},
		{name: "delete if match other", held: "v", req: kv.Request{Op: kv.OpDelete, IfMatch: []string{"x"}}, refused: true, after: "v"},
		{name: "expire", held: "v", req: expire(kv.Request{ExpiresMS: hour}), after: "v", expires: hour},
		{name: "expire none", req: expire(kv.Request{ExpiresMS: hour}), refused: true, gone: true},
		{name: "expire past", held: "v", req: expire(kv.Request{ExpiresMS: -1}), gone: true},
		{name: "expire nx", held: "v", req: expire(kv.Request{ExpiresMS: hour, NX: true}), after: "v", expires: hour},
		{name: "expire nx held", held: "v", ttl: hour, req: expire(kv.Request{ExpiresMS: 2 * hour, NX: true}), refused: true, after: "v", expires: hour},
		{name: "expire xx", held: "v", req: expire(kv.Request{ExpiresMS: hour, XX: true}), refused: true, after: "v"},
		{name: "expire xx held", held: "v", ttl: hour, req: expire(kv.Request{ExpiresMS: 2 * hour, XX: true}), after: "v", expires: 2 * hour},
		{name: "expire gt less", held: "v", ttl: 2 * hour, req: expire(kv.Request{ExpiresMS: hour, GT: true}), refused: true, after: "v", expires: 2 * hour},
		{name: "expire gt more", held: "v", ttl: hour, req: expire(kv.Request{ExpiresMS: 2 * hour, GT: true}), after: "v", expires: 2 * hour},
		{name: "expire gt never", held: "v", req: expire(kv.Request{ExpiresMS: hour, GT: true}), refused: true, after: "v"},
		{name: "expire lt less", held: "v", ttl: 2 * hour, req: expire(kv.Request{ExpiresMS: hour, LT: true}), after: "v", expires: hour},
		{name: "expire lt more", held: "v", ttl: hour, req: expire(kv.Request{ExpiresMS: 2 * hour, LT: true}), refused: true, after: "v", expires: hour},
		{name: "expire lt never", held: "v", req: expire(kv.Request{ExpiresMS: hour, LT: true}), after: "v", expires: hour},
		{name: "persist", held: "v", ttl: hour, req: kv.Request{Op: kv.OpPersist}, after: "v"},
		{name: "persist what stays", held: "v", req: kv.Request{Op: kv.OpPersist}, refused: true, after: "v"},
		{name: "persist none", req: kv.Request{Op: kv.OpPersist}, refused: true, gone: true},
		{name: "incr", held: "41", req: kv.Request{Op: kv.OpIncr, Delta: 1}, after: "42", sum: 42},
		{name: "incr none", req: kv.Request{Op: kv.OpIncr, Delta: -5}, after: "-5", sum: -5},
		{name: "incr keeps the expiry", held: "1", ttl: hour, req: kv.Request{Op: kv.OpIncr, Delta: 1}, after: "2", sum: 2, expires: hour},
		{name: "incr text", held: "v", req: kv.Request{Op: kv.OpIncr, Delta: 1}, code: kv.CodeNotInteger, after: "v"},
		{name: "incr padded", held: "01", req: kv.Request{Op: kv.OpIncr, Delta: 1}, code: kv.CodeNotInteger, after: "01"},
		{name: "incr to the top", held: fmt.Sprint(math.MaxInt64 - 1), req: kv.Request{Op: kv.OpIncr, Delta: 1}, after: fmt.Sprint(math.MaxInt64), sum: math.MaxInt64},
		{name: "incr over", held: fmt.Sprint(math.MaxInt64), req: kv.Request{Op: kv.OpIncr, Delta: 1}, code: kv.CodeNotInteger, after: fmt.Sprint(math.MaxInt64)},
		{name: "decr under", held: "-1", req: kv.Request{Op: kv.OpIncr, Delta: math.MinInt64}, code: kv.CodeNotInteger, after: "-1"},
		{name: "decr to the bottom", held: "0", req: kv.Request{Op: kv.OpIncr, Delta: math.MinInt64}, after: fmt.Sprint(math.MinInt64), sum: math.MinInt64},
		{name: "append", held: "v", req: kv.Request{Op: kv.OpAppend, Value: []byte("w")}, after: "vw", sum: 2},
		{name: "append none", req: kv.Request{Op: kv.OpAppend, Value: []byte("w")}, after: "w", sum: 1},
		{name: "append keeps the expiry", held: "v", ttl: hour, req: kv.Request{Op: kv.OpAppend, Value: []byte("w")}, after: "vw", sum: 2, expires: hour},
		{name: "unknown", held: "v", req: kv.Request{Op: 99}, code: kv.CodeInvalid, after: "v"},
	}
	inBubble(t, func(t *testing.T) {
		c := one(t)
		for i, tc := range cases {
			tc.req.Key = fmt.Appendf(nil, "key-%d", i)
			runCase(c, tc)
		}
	})
}

func runCase(c *cluster, tc requestCase) {
	t, now := c.t, time.Now().UnixMilli()
	if tc.held != "" {
		held := kv.Request{Op: kv.OpSet, Key: tc.req.Key, Value: []byte(tc.held)}
		if tc.ttl != 0 {
			held.ExpiresMS = now + max(tc.ttl, 1)
		}
		_, err := c.do("n1", held)
		require.NoError(t, err, tc.name)
		if tc.ttl < 0 {
			time.Sleep(time.Second)
			now = time.Now().UnixMilli()
		}
	}
	if tc.req.ExpiresMS != 0 {
		tc.req.ExpiresMS += now
	}
	resp, err := c.do("n1", tc.req)
	require.Equal(t, tc.code, kv.CodeOf(err), "%s: %v", tc.name, err)
	if err == nil {
		require.Equal(t, !tc.refused, resp.Changed, tc.name)
		require.Equal(t, tc.sum, resp.Int, tc.name)
		require.Equal(t, tc.old, string(resp.Value), tc.name)
	}
	shown, err := c.do("n1", kv.Request{Op: kv.OpGet, Key: tc.req.Key})
	require.NoError(t, err, tc.name)
	require.Equal(t, !tc.gone, shown.Found, tc.name)
	require.Equal(t, tc.after, string(shown.Value), tc.name)
	if tc.expires != 0 {
		require.InDelta(t, now+tc.expires, shown.ExpiresMS, 10, tc.name)
	} else {
		require.Zero(t, shown.ExpiresMS, tc.name)
	}
}

func TestEntityTagsGuardWrites(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := one(t)
		key := []byte("k")
		first, err := c.do("n1", kv.Request{Op: kv.OpSet, Key: key, Value: []byte("1"), Meta: true})
		require.NoError(t, err)
		read, err := c.do("n1", kv.Request{Op: kv.OpGet, Key: key, Meta: true})
		require.NoError(t, err)
		require.Equal(t, first.ETag, read.ETag)
		second, err := c.do("n1", kv.Request{Op: kv.OpSet, Key: key, Value: []byte("2"), IfMatch: []string{"x", first.ETag}, Meta: true})
		require.NoError(t, err)
		require.True(t, second.Changed)
		require.NotEqual(t, first.ETag, second.ETag)
		stale, err := c.do("n1", kv.Request{Op: kv.OpDelete, Key: key, IfMatch: []string{first.ETag}})
		require.NoError(t, err)
		require.False(t, stale.Changed)
		same, err := c.do("n1", kv.Request{Op: kv.OpSet, Key: key, Value: []byte("3"), IfNoneMatch: []string{second.ETag}})
		require.NoError(t, err)
		require.False(t, same.Changed)
	})
}

func TestSizesAtTheLimitAndOneOver(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := one(t)
		for name, tc := range map[string]struct {
			key, value int
			code       kv.Code
		}{
			"longest key":   {kv.MaxKeyBytes, 1, 0},
			"key too long":  {kv.MaxKeyBytes + 1, 1, kv.CodeTooLarge},
			"no key":        {0, 1, kv.CodeInvalid},
			"largest value": {1, kv.MaxValueBytes, 0},
			"value over":    {1, kv.MaxValueBytes + 1, kv.CodeTooLarge},
		} {
			_, err := c.do("n1", kv.Request{Op: kv.OpSet, Key: bytes.Repeat([]byte("k"), tc.key), Value: make([]byte, tc.value)})
			require.Equal(t, tc.code, kv.CodeOf(err), name)
		}
		key := []byte("a")
		_, err := c.do("n1", kv.Request{Op: kv.OpSet, Key: key, Value: make([]byte, kv.MaxValueBytes-1)})
		require.NoError(t, err)
		_, err = c.do("n1", kv.Request{Op: kv.OpAppend, Key: key, Value: []byte("x")})
		require.NoError(t, err)
		_, err = c.do("n1", kv.Request{Op: kv.OpAppend, Key: key, Value: []byte("x")})
		require.Equal(t, kv.CodeTooLarge, kv.CodeOf(err))
	})
}

// tokenOf reads a key's token.
func (c *cluster) tokenOf(key string) []byte {
	c.t.Helper()
	resp, err := c.do("n1", kv.Request{Op: kv.OpGet, Key: []byte(key), Meta: true})
	require.NoError(c.t, err)
	require.NotEmpty(c.t, resp.Token)
	return resp.Token
}

func TestTokenIsBoundToItsKey(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := one(t)
		c.set("n1", "a", "1")
		token := c.tokenOf("a")
		try := func(key string, token []byte) kv.Code {
			_, err := c.do("n1", kv.Request{Op: kv.OpSet, Key: []byte(key), Value: []byte("x"), Token: token})
			return kv.CodeOf(err)
		}
		other := byte('b') // of the same partition and length, so that the key alone tells them apart
		for kv.PartitionOf(kv.Hash([]byte{other}), testPartitions) != partOf("a") {
			other++
		}
		require.Equal(t, kv.CodeToken, try(string([]byte{other}), token), "another key")
		require.Equal(t, kv.CodeToken, try("a", []byte{}), "empty")
		for i := range token { // one bit anywhere, and every prefix
			bad := slices.Clone(token)
			bad[i] ^= 1
			require.Equal(t, kv.CodeToken, try("a", bad), "bit %d", i)
			require.Equal(t, kv.CodeToken, try("a", token[:i]), "prefix %d", i)
		}
		require.Equal(t, kv.CodeToken, try("a", append(slices.Clone(token), 0)), "a byte more")
		require.Equal(t, kv.CodeToken, try("a", make([]byte, kv.MaxTokenBytes+1)), "too long")
		require.Zero(t, try("a", token))

		foreign := newCluster(t, "n1")
		foreign.nodes["n1"].cfg = func(cfg *replica.Config) { cfg.TokenKey = [32]byte{8} }
		foreign.nodes["n1"].start()
		foreign.live("n1")
		_, err := foreign.do("n1", kv.Request{Op: kv.OpSet, Key: []byte("a"), Value: []byte("x"), Token: token})
		require.Equal(t, kv.CodeToken, kv.CodeOf(err), "another cluster")
	})
}

func TestTokenSupersedesExactlyWhatWasRead(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := one(t)
		c.set("n1", "k", "1")
		token := c.tokenOf("k")
		c.set("n1", "k", "2") // not seen by the token's reader
		_, err := c.do("n1", kv.Request{Op: kv.OpSet, Key: []byte("k"), Value: []byte("3"), Token: token})
		require.NoError(t, err)
		resp, err := c.do("n1", kv.Request{Op: kv.OpGet, Key: []byte("k"), Siblings: true})
		require.NoError(t, err)
		require.Len(t, resp.Siblings, 2)
		c.set("n1", "k", "4") // a plain write supersedes all that is held
		resp, err = c.do("n1", kv.Request{Op: kv.OpGet, Key: []byte("k"), Siblings: true})
		require.NoError(t, err)
		require.Len(t, resp.Siblings, 1)
	})
}

func TestACountIsOfKeysAndNotOfSiblings(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3", "n4")
		c.up()
		for i := range 20 {
			c.set("n1", fmt.Sprint("k", i), "1")
		}
		for range 3 { // three versions of k3 side by side
			_, err := c.do("n1", kv.Request{Op: kv.OpSet, Key: []byte("k3"), Value: []byte("2"), Token: c.tokenOf("k3")})
			require.NoError(t, err)
		}
		token := c.tokenOf("k4")
		for i := range 3 {
			_, err := c.do("n1", kv.Request{Op: kv.OpSet, Key: []byte("k4"), Value: []byte{byte(i)}, Token: token})
			require.NoError(t, err)
		}
		_, err := c.do("n1", kv.Request{Op: kv.OpDelete, Key: []byte("k5")})
		require.NoError(t, err)
		_, err = c.do("n1", kv.Request{Op: kv.OpDelete, Key: []byte("k6"), Token: token6(c)})
		require.NoError(t, err)
		for _, at := range c.names {
			n, err := c.nodes[at].replica.Count(t.Context())
			require.NoError(t, err)
			require.EqualValues(t, 19, n, at)
		}
	})
}

// token6 is a token of k6 that a later write makes stale: a delete with it leaves that.
func token6(c *cluster) []byte {
	token := c.tokenOf("k6")
	c.set("n1", "k6", "2")
	return token
}

func TestSiblingLimits(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := one(t)
		write := func(key string, token []byte, bytes int) kv.Code {
			_, err := c.do("n1", kv.Request{Op: kv.OpSet, Key: []byte(key), Value: []byte(strings.Repeat("v", bytes)), Token: token})
			return kv.CodeOf(err)
		}
		token := c.tokenOf("many")
		for range kv.MaxSiblings {
			require.Zero(t, write("many", token, 1))
		}
		require.Equal(t, kv.CodeSiblings, write("many", token, 1))
		require.Zero(t, write("many", c.tokenOf("many"), 1), "read, then write with the token")

		token = c.tokenOf("large")
		require.Zero(t, write("large", token, kv.MaxValueBytes))
		require.Zero(t, write("large", token, kv.MaxSiblingBytes-kv.MaxValueBytes))
		require.Equal(t, kv.CodeSiblings, write("large", token, 1))
	})
}

// failing is a policy that cannot run.
type failing struct{}

func (failing) View(context.Context, []byte, []kv.Version) (replica.View, error) {
	return replica.View{}, errors.New("trap")
}

func TestPlainSetGetsThroughWherePolicyCannotRun(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1")
		c.nodes["n1"].cfg = func(cfg *replica.Config) { cfg.Merger = failing{} }
		c.nodes["n1"].start()
		c.live("n1")
		token := c.tokenOf("k")
		for _, value := range []string{"1", "2"} {
			_, err := c.do("n1", kv.Request{Op: kv.OpSet, Key: []byte("k"), Value: []byte(value), Token: token})
			require.NoError(t, err)
		}
		_, err := c.do("n1", kv.Request{Op: kv.OpGet, Key: []byte("k")})
		require.Equal(t, kv.CodePolicy, kv.CodeOf(err))
		_, err = c.do("n1", kv.Request{Op: kv.OpSet, Key: []byte("k"), Value: []byte("x"), NX: true})
		require.Equal(t, kv.CodePolicy, kv.CodeOf(err))
		c.set("n1", "k", "3")
		value, _ := c.get("n1", "k")
		require.Equal(t, "3", value)
	})
}

func TestScanVisitsEveryKeyOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3", "n4")
		c.up()
		want := map[string]bool{}
		for i := range 100 {
			key := fmt.Sprintf("k%d", i)
			c.set("n1", key, "v")
			want[key] = true
		}
		c.set("n1", "other", "v")
		_, err := c.do("n1", kv.Request{Op: kv.OpDelete, Key: []byte("k7")})
		require.NoError(t, err)
		delete(want, "k7")
		for _, at := range c.names { // n4 owns nothing of some partitions
			got := map[string]bool{}
			cursor, rounds := "0", 0
			for cursor != "" {
				keys, next, err := c.nodes[at].replica.Scan(context.Background(), cursor, 7, []byte("k"))
				require.NoError(t, err)
				for _, k := range keys {
					require.False(t, got[string(k.Key)], "%s twice", k.Key)
					got[string(k.Key)] = true
				}
				cursor = next
				rounds++
				require.Less(t, rounds, 1000)
			}
			require.Equal(t, want, got)
			n, err := c.nodes[at].replica.Count(context.Background())
			require.NoError(t, err)
			require.Equal(t, int64(100), n)
		}
	})
}

func TestScanRefusesForeignCursors(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := one(t)
		for _, cursor := range []string{"x", "-1", fmt.Sprint(uint64(testPartitions) << 48), fmt.Sprint(uint64(math.MaxUint64))} {
			_, _, err := c.nodes["n1"].replica.Scan(context.Background(), cursor, 10, nil)
			require.Equal(t, kv.CodeInvalid, kv.CodeOf(err), cursor)
		}
		keys, next, err := c.nodes["n1"].replica.Scan(context.Background(), "", 10, nil)
		require.NoError(t, err)
		require.Empty(t, keys)
		require.Empty(t, next)
	})
}
