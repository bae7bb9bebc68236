package partition_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/internal/sim"
	"edged.dev/edged/partition"
	"edged.dev/edged/partition/state"
)

// arrivals are a donor's objects of a session, and what two others hold before it:
// some keys the same, some older, some beside it, some not at all.
func arrivals(t *testing.T) (objects []partition.KeyObject, base, floor kv.VV, b, c *node) {
	t.Helper()
	a := newNode(t, 1)
	b, c = newNode(t, 2), newNode(t, 2)
	for i := range partition.MaxRun {
		key := fmt.Sprintf("key-%02d", i)
		if i%4 != 0 {
			first := a.put(key, "first of "+key)
			b.get(first)
			c.get(first)
		}
		switch i % 4 {
		case 2:
			a.put(key, "")
		case 3:
			for _, n := range []*node{b, c} {
				n.write(key, "beside "+key, state.Covers{}) // its value is read where it stays
			}
			fallthrough
		default:
			a.put(key, "second of "+key)
		}
	}
	s := begin(newNode(t, 3), a)
	for more := true; more; {
		var chunk partition.Chunk
		var err error
		chunk, more, err = s.out.Next(1 << 20)
		require.NoError(t, err)
		base, floor = chunk.Base, chunk.Floor
		for _, o := range chunk.Objects {
			objects = append(objects, partition.KeyObject{Key: slices.Clone(o.Key), Object: o.Object.Filled(base)})
		}
	}
	require.Len(t, objects, partition.MaxRun)
	return objects, base, floor, b, c
}

// A run is what Apply of each object is, the same key twice in it included.
func TestARunIsApplyOfEach(t *testing.T) {
	t.Parallel()
	objects, base, floor, b, c := arrivals(t)
	slices.Reverse(objects)                   // not in the order of the store
	objects = append(objects[1:], objects[9]) // again
	batch := partition.Batch{Base: base, Floor: floor}
	one, _ := b.Begin(1, 1)
	for _, o := range objects {
		require.NoError(t, one.Apply(o.Key, o.Object, batch, nil))
	}
	b.commit()
	run, _ := c.Begin(1, 1)
	told := make([]int, len(objects))
	taken, err := run.ApplyRun(objects, batch, func(i int) { told[i]++ })
	require.NoError(t, err)
	require.Equal(t, len(objects), taken)
	c.commit()
	for i, n := range told {
		require.Equal(t, 1, n, "object %d", i)
	}
	require.Equal(t, b.digest(), c.digest())
	for _, o := range objects {
		require.Equal(t, b.values(string(o.Key)), c.values(string(o.Key)))
	}
	require.Equal(t, []string{"beside key-03", "second of key-03"}, sorted(c.values("key-03")))
	require.Equal(t, []string{"-"}, c.values("key-02"))
	require.Equal(t, []string{"second of key-01"}, c.values("key-01"))
}

func sorted(s []string) []string {
	slices.Sort(s)
	return s
}

// scarce is a store that cannot read many keys at once, for a table is damaged.
type scarce struct {
	*sim.Store
	asked int
}

func (s *scarce) GetMany([][]byte, func(int, []byte) error) error {
	s.asked++
	return cache.ErrCorrupt
}

func TestARunGoesOnKeyByKeyWhereATableIsDamaged(t *testing.T) {
	t.Parallel()
	objects, base, _, b, c := arrivals(t)
	store := &scarce{Store: c.store}
	set, err := partition.Open(partition.Config{
		Store: store, Partitions: 1, DigestKey: digestKey(), Sync: true, Boot: 9, Node: 2, Rand: func() uint32 { return 9 },
	})
	require.NoError(t, err)
	require.Equal(t, 1, store.asked, "for the contexts of complex objects, and it opens all the same")
	c.set, c.Shard = set, set.Add(part)
	for _, n := range []*node{b, c} {
		in, _ := n.Begin(1, 1)
		_, err := in.ApplyRun(objects, partition.Batch{Base: base}, func(int) {})
		require.NoError(t, err)
		n.commit()
	}
	require.Equal(t, 2, store.asked)
	require.Equal(t, b.digest(), c.digest())
}

func TestARunSaysHowMuchOfItWasTaken(t *testing.T) {
	t.Parallel()
	objects, base, _, b, _ := arrivals(t)
	in, _ := b.Begin(1, 1)
	taken, err := in.ApplyRun(append(objects, objects[0]), partition.Batch{Base: base}, func(int) { t.Error("one too many") })
	require.ErrorContains(t, err, "the limit is 64")
	require.Zero(t, taken)
	b.committing(func() { require.NoError(t, b.set.Drop(part)) })
	taken, err = in.ApplyRun(objects, partition.Batch{Base: base}, func(int) { t.Error("it was not taken") })
	require.ErrorIs(t, err, partition.ErrDropped)
	require.Zero(t, taken)
}

// What waits for a key, such as one whose policy is asked, holds no other up.
func TestARunThatWaitsForAKeyHoldsNoOtherUp(t *testing.T) {
	t.Parallel()
	objects, base, _, b, _ := arrivals(t)
	held, answer := make(chan struct{}), make(chan struct{})
	go b.Write(objects[1].Key, func(kv.Object) (*partition.Mutation, error) {
		close(held)
		<-answer
		return nil, nil
	}, func(*state.Change, error) {})
	<-held
	in, _ := b.Begin(1, 1)
	done, ran := make(chan int, len(objects)), make(chan error)
	go func() {
		_, err := in.ApplyRun(objects, partition.Batch{Base: base}, func(i int) { done <- i })
		ran <- err
	}()
	require.Eventually(t, func() bool { b.commit(); return len(done) > 0 }, time.Minute, time.Millisecond)
	require.Zero(t, <-done, "the first is there, and the second is waited for")
	close(answer)
	require.NoError(t, <-ran)
	b.commit()
	require.Len(t, done, len(objects)-1)
}
