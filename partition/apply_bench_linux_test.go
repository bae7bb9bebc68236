package partition_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
	"edged.dev/edged/partition/state"
)

// BenchmarkApplyReturn takes what a session brings to a node that has just opened its
// store: 10,000 changed objects of 200,000, a batch for each of 256 partitions, and
// counts the processor time of everything, the store's own work included.
func BenchmarkApplyReturn(b *testing.B) {
	const partitions, keys, changed = 256, 200_000, 10_000
	cfg := cache.Default(b.TempDir())
	open := func() (*cache.Store, *partition.Set, func()) {
		store, err := cache.Open(cfg)
		require.NoError(b, err)
		set, err := partition.Open(partition.Config{
			Store: store, Partitions: partitions, DigestKey: digestKey(), Sync: true, Boot: 1, Node: 1, Rand: rand.Uint32,
			Fail: func(err error) { panic(err) },
		})
		require.NoError(b, err)
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- set.Committer().Run(ctx) }()
		return store, set, func() {
			stop()
			require.NoError(b, <-ended)
			require.NoError(b, store.Close())
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	value := func() []byte {
		return fmt.Appendf(nil, `{"id":%d,"user":"u%07x","email":"%08x@mail.example","score":%.3f,"active":%t,"note":"%0100x"}`,
			rng.Uint32(), rng.Uint32N(1<<28), rng.Uint32(), rng.Float64()*1000, rng.IntN(2) == 0, rng.Uint64())
	}
	_, set, shut := open()
	var wait chan struct{}
	for i := range keys {
		key := fmt.Appendf(nil, "key:%08d", i)
		sh := set.Add(kv.PartitionOf(kv.Hash(key), partitions))
		if i%500 == 499 {
			wait = make(chan struct{})
		}
		w := wait
		sh.Write(key, func(kv.Object) (*partition.Mutation, error) {
			return &partition.Mutation{Version: kv.Version{HLC: kv.HLCAt(int64(i)), Value: value()}, Covers: state.Covers{Held: true}}, nil
		}, func(*state.Change, error) {
			if w != nil {
				close(w)
			}
		})
		if wait != nil {
			<-wait
			wait = nil
		}
	}
	shut()
	donor := kv.Actor{Node: 9, Boot: 1, Rand: 7}
	var session uint64
	seqs := make([]uint64, partitions)
	var wall, cpu float64
	for b.Loop() {
		b.StopTimer()
		batches := make([][]partition.KeyObject, partitions)
		for _, i := range rng.Perm(keys)[:changed] {
			key := fmt.Appendf(nil, "key:%08d", i)
			p := kv.PartitionOf(kv.Hash(key), partitions)
			seqs[p]++
			batches[p] = append(batches[p], partition.KeyObject{Key: key, Object: kv.Object{
				Versions: []kv.Version{{Dot: kv.Dot{Actor: donor, Seq: seqs[p]}, HLC: kv.HLCAt(int64(keys + seqs[p])), Value: value()}},
			}})
		}
		b.StartTimer()
		begun := processTime(b)
		_, set, shut := open()
		left := make(chan struct{}, partitions)
		for p, batch := range batches {
			session++
			in, clock := set.Shard(kv.Partition(p)).Begin(session, 9)
			base := clock.Base()
			for i := range batch {
				batch[i].Object = batch[i].Object.Filled(base)
			}
			for run := range slices.Chunk(batch, partition.MaxRun) {
				_, err := in.ApplyRun(run, partition.Batch{Base: base}, func(int) {})
				require.NoError(b, err)
			}
			for _, o := range batch {
				clock.Add(o.Object.Versions[0].Dot)
			}
			require.NoError(b, in.End(clock, nil, func() { left <- struct{}{} }))
		}
		for range batches {
			<-left
		}
		cpu += (processTime(b) - begun)
		wall += 1
		b.StopTimer()
		shut()
		b.StartTimer()
	}
	b.ReportMetric(cpu/wall/changed*1e6, "cpu-us/object")
}

// processTime is the processor time of the process in seconds.
func processTime(b *testing.B) float64 {
	b.Helper()
	var at unix.Timespec
	require.NoError(b, unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &at))
	return float64(at.Nano()) / 1e9
}
