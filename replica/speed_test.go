package replica_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/internal/layout"
	"edged.dev/edged/merkle"
	"edged.dev/edged/partition"
	"edged.dev/edged/replica"
	"edged.dev/edged/transport/wire"
)

// nobody is the network of a cluster of one.
type nobody struct{}

var errNobody = errors.New("a cluster of one has no peers")

func (nobody) SendControl(string, []byte) error                             { return errNobody }
func (nobody) SendLive(string, []byte) error                                { return errNobody }
func (nobody) Call(context.Context, string, []byte) ([]byte, error)         { return nil, errNobody }
func (nobody) Hangup(string, wire.Breach, string)                           {}
func (nobody) OpenLane(context.Context, string) (replica.LaneStream, error) { return nil, errNobody }

// newest shows the newest of concurrent versions.
type newest struct{}

func (newest) View(_ context.Context, _ []byte, live []kv.Version) (replica.View, error) {
	return replica.View{Found: true, Value: live[0].Value}, nil
}

// alone runs the whole data path of a cluster of one on a store on disk.
func alone(tb testing.TB, sync bool) *replica.Replica {
	tb.Helper()
	const partitions = 256
	store, err := cache.Open(cache.Default(tb.TempDir()))
	require.NoError(tb, err)
	tier, err := cache.NewTier(64 << 20)
	require.NoError(tb, err)
	set, err := partition.Open(partition.Config{
		Store: store, Tier: tier, Partitions: partitions, DigestKey: merkle.KeyOf([]byte("cluster")), Sync: sync, Boot: 1, Node: 1,
		Rand: func() uint32 { return 1 }, Fail: func(err error) { tb.Errorf("the store failed: %v", err) },
	})
	require.NoError(tb, err)
	began := time.Now()
	r, err := replica.New(replica.Config{
		Self: "n1", Node: 1, Boot: 1, Set: set, Peers: nobody{}, Merger: newest{}, Partitions: partitions, R: 1, W: 2, Relaxed: !sync,
		Boottime: func() int64 { return int64(time.Since(began)) + 1 },
		WallMS:   func() int64 { return time.Now().UnixMilli() },
		Jitter:   func() uint64 { return 0 },
	})
	require.NoError(tb, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running errgroup.Group
	running.Go(func() error { return store.Run(ctx) })
	running.Go(func() error { return set.Run(ctx) })
	running.Go(func() error { return r.Run(ctx) })
	tb.Cleanup(func() {
		cancel()
		require.NoError(tb, running.Wait())
		require.NoError(tb, store.Close())
	})
	l, err := layout.New(partitions, 3, []layout.Member{{Name: "n1", Node: 1, Weight: 1}})
	require.NoError(tb, err)
	r.SetLayout(l)
	return r
}

// ask starts a request and waits for its answer.
func ask(tb testing.TB, r *replica.Replica, req kv.Request) *kv.Response {
	tb.Helper()
	type answer struct {
		resp *kv.Response
		err  error
	}
	answers := make(chan answer, 1)
	ctx, cancel := context.WithTimeout(tb.Context(), 10*time.Second)
	defer cancel()
	r.Start(ctx, &req, func(resp *kv.Response, err error) { answers <- answer{resp, err} })
	a := <-answers
	require.NoError(tb, a.err)
	return a.resp
}

// TestGetFastAllocatesNothing holds a read from memory to its budget, and shows
// that it answers what the long way does.
func TestGetFastAllocatesNothing(t *testing.T) { // not parallel: others would be counted
	r := alone(t, false)
	key, value := []byte("k"), []byte(strings.Repeat("v", 100))
	ask(t, r, kv.Request{Op: kv.OpSet, Key: key, Value: value})
	ask(t, r, kv.Request{Op: kv.OpSet, Key: []byte("gone"), Value: value})
	ask(t, r, kv.Request{Op: kv.OpDelete, Key: []byte("gone")})
	ask(t, r, kv.Request{Op: kv.OpSet, Key: []byte("brief"), Value: value, ExpiresMS: time.Now().UnixMilli() + 3_600_000})
	buf := make([]byte, 0, 256)
	for name, tc := range map[string]struct {
		key   string
		found bool
	}{"held": {"k", true}, "deleted": {"gone", false}, "expires": {"brief", true}} {
		t.Run(name, func(t *testing.T) {
			key := []byte(tc.key)
			got, found, handled := r.GetFast(buf, key)
			require.True(t, handled || !tc.found)
			require.Equal(t, tc.found, found)
			resp := ask(t, r, kv.Request{Op: kv.OpGet, Key: key})
			require.Equal(t, found, resp.Found)
			require.Equal(t, string(resp.Value), string(got))
			require.Eventually(t, func() bool {
				if !tc.found { // what is left of a delete is collected within a second or two
					ask(t, r, kv.Request{Op: kv.OpSet, Key: key, Value: value})
					ask(t, r, kv.Request{Op: kv.OpDelete, Key: key})
				}
				fromMemory := true
				allocs := testing.AllocsPerRun(1000, func() {
					_, _, ok := r.GetFast(buf, key)
					fromMemory = fromMemory && ok
				})
				require.Zero(t, allocs)
				return fromMemory
			}, 10*time.Second, time.Millisecond)
		})
	}
}

func TestGetFastHidesWhatExpired(t *testing.T) {
	t.Parallel()
	r := alone(t, false)
	at := time.Now().UnixMilli() + 50
	ask(t, r, kv.Request{Op: kv.OpSet, Key: []byte("k"), Value: []byte("v"), ExpiresMS: at})
	require.Eventually(t, func() bool { return r.NowMS() >= at }, 5*time.Second, 5*time.Millisecond)
	value, found, handled := r.GetFast([]byte("before"), []byte("k"))
	require.True(t, handled)
	require.False(t, found)
	require.Equal(t, "before", string(value))
}

func BenchmarkGetFast(b *testing.B) {
	r := alone(b, false)
	const keys = 10_000
	for i := range keys {
		ask(b, r, kv.Request{Op: kv.OpSet, Key: fmt.Appendf(nil, "key:%012d", i), Value: make([]byte, 100)})
	}
	names := make([][]byte, keys)
	for i := range names {
		names[i] = fmt.Appendf(nil, "key:%012d", i)
	}
	b.ReportAllocs()
	buf := make([]byte, 0, 256)
	for i := 0; b.Loop(); i++ {
		if _, found, _ := r.GetFast(buf, names[i*7919%keys]); !found {
			b.Fatal("not found")
		}
	}
}

// BenchmarkSetGroups overwrites keys with 800 writes under way at a time, as 50
// connections with 16 commands each have them, so that groups form.
func BenchmarkSetGroups(b *testing.B) {
	for _, bc := range []struct {
		name string
		sync bool
	}{{"relaxed", false}, {"sync", true}} {
		b.Run(bc.name, func(b *testing.B) {
			r := alone(b, bc.sync)
			const keys, underWay = 10_000, 800
			names := make([][]byte, keys)
			for i := range names {
				names[i] = fmt.Appendf(nil, "key:%012d", i)
			}
			value := make([]byte, 100)
			tokens := make(chan struct{}, underWay)
			b.ReportAllocs()
			before := processorTime(b)
			for i := 0; b.Loop(); i++ {
				tokens <- struct{}{}
				req := &kv.Request{Op: kv.OpSet, Key: names[i*7919%keys], Value: value}
				r.Start(b.Context(), req, func(_ *kv.Response, err error) {
					if err != nil {
						b.Error(err)
					}
					<-tokens
				})
			}
			for range underWay { // until all are answered
				tokens <- struct{}{}
			}
			b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/op")
		})
	}
}

// processorTime is what the process has used of the processors, which tells more
// than the time of day where others work on the same machine.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
