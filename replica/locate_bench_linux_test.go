package replica_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/merkle"
	"edged.dev/edged/partition"
	"edged.dev/edged/partition/state"
	"edged.dev/edged/transport/wire"
)

// BenchmarkLocate holds the processor time that a donor spends on finding what a peer
// lacks against what it spends on compressing that, at the level that a lane of so much
// takes: 10,000 changed keys of 200,000, each with a JSON-like value, in 256
// partitions. The versions come with the scan; what copying them takes, which is not
// locating, is measured by doing it once more. The goal is locate/compress <= 0.5.
func BenchmarkLocate(b *testing.B) {
	const partitions, keys, changed = 256, 200_000, 10_000
	store, err := cache.Open(cache.Default(b.TempDir()))
	require.NoError(b, err)
	defer func() { require.NoError(b, store.Close()) }()
	set, err := partition.Open(partition.Config{
		Store: store, Partitions: partitions, DigestKey: merkle.KeyOf([]byte("cluster")), Sync: true, Boot: 1, Node: 1,
		Rand: func() uint32 { return 1 },
	})
	require.NoError(b, err)
	rng := rand.New(rand.NewPCG(1, 2))
	write := func(n int) {
		for i := range n {
			key := fmt.Appendf(nil, "key:%08d", rng.IntN(keys))
			value := fmt.Appendf(nil, `{"id":%d,"user":"u%07x","email":"%08x@mail.example","score":%.3f,"active":%t,"note":"%016x"}`,
				rng.Uint32(), rng.Uint32N(1<<28), rng.Uint32(), rng.Float64()*1000, rng.IntN(2) == 0, rng.Uint64())
			sh := set.Add(kv.PartitionOf(kv.Hash(key), partitions))
			sh.Write(key, func(kv.Object) (*partition.Mutation, error) {
				return &partition.Mutation{Version: kv.Version{HLC: kv.HLCAt(int64(i)), Value: value}, Covers: state.Covers{Held: true}}, nil
			}, func(*state.Change, error) {})
			if i%500 == 499 {
				_, err := set.Committer().CommitGroup()
				require.NoError(b, err)
			}
		}
	}
	write(keys)
	have := make([]kv.Clock, partitions)
	for p := range have {
		st := set.Add(kv.Partition(p)).Status()
		have[p] = st.Clock.Clone()
	}
	write(changed)
	codec, err := wire.NewCodec()
	require.NoError(b, err)

	runtime.LockOSThread() // whose processor time is taken
	defer runtime.UnlockOSThread()
	var scan, fetch, pack time.Duration
	var copied []partition.KeyObject
	for b.Loop() {
		begun := threadTime(b)
		snap, err := set.Snapshot()
		require.NoError(b, err)
		chunks := make([]partition.Chunk, partitions)
		for p := range have {
			o, err := set.Shard(kv.Partition(p)).Open(2, have[p])
			require.NoError(b, err)
			require.NoError(b, o.Use(snap))
			chunks[p], _, err = o.Next(1 << 20)
			require.NoError(b, err)
			o.Close()
		}
		require.NoError(b, snap.Close())
		scan += threadTime(b) - begun

		begun = threadTime(b)
		copied = nil
		for _, c := range chunks {
			for _, o := range c.Objects {
				copied = append(copied, partition.KeyObject{
					Key:    slices.Clone(o.Key),
					Object: kv.Object{Versions: []kv.Version{{Value: slices.Clone(o.Object.Versions[0].Value)}}},
				})
			}
		}
		fetch += threadTime(b) - begun

		begun = threadTime(b)
		lane, err := codec.LaneWriter(io.Discard, wire.LaneDefault)
		require.NoError(b, err)
		for p, c := range chunks {
			batch := wire.Batch{Base: c.Base}
			for _, o := range c.Objects {
				batch.Copies = append(batch.Copies, wire.Copy{Key: o.Key, Object: o.Object})
			}
			require.NoError(b, lane.Begin(wire.Begin{Partition: kv.Partition(p), Mode: wire.ModeInterval}))
			require.NoError(b, lane.Batch(batch))
		}
		require.NoError(b, lane.Close())
		pack += threadTime(b) - begun
	}
	require.NotEmpty(b, copied)
	perReturn := func(d time.Duration) float64 { return d.Seconds() * 1000 / float64(b.N) }
	b.ReportMetric(perReturn(scan-fetch), "locate-ms")
	b.ReportMetric(perReturn(fetch), "fetch-ms")
	b.ReportMetric(perReturn(pack), "compress-ms")
	b.ReportMetric((scan-fetch).Seconds()/pack.Seconds(), "locate/compress")
}

// threadTime is the processor time that this thread has taken.
func threadTime(b *testing.B) time.Duration {
	b.Helper()
	var at unix.Timespec
	require.NoError(b, unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &at))
	return time.Duration(at.Nano())
}
