package replica

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/internal/repair"
	"edged.dev/edged/partition"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

func TestHeatTellsWhatIsRead(t *testing.T) {
	t.Parallel()
	h, now := newHeat(4), int64(1)
	h.tick(now)
	second := func(hot, warm int) {
		for i := range hot {
			h.read(1, fmt.Appendf(nil, "session:%d", i))
		}
		for i := range warm {
			h.read(2, fmt.Appendf(nil, "cart/%d", i))
		}
		h.read(3, []byte("no prefix"))
		h.read(99, []byte("no:partition"))
		now += int64(time.Second)
		h.tick(now)
	}
	for range 8 {
		second(6400, 640)
	}
	in := repair.Input{Ranges: []repair.Range{{Partition: 0}, {Partition: 1}, {Partition: 2}, {Partition: 9}}}
	h.show(&in, now, nil)
	require.Zero(t, in.Ranges[0].Reads)
	require.InDelta(t, 6400, in.Ranges[1].Reads, 100)
	require.InDelta(t, 640, in.Ranges[2].Reads, 20)
	require.InDelta(t, 7041, in.RequestsPerS, 150)
	require.Len(t, in.Hot, 2)
	require.Equal(t, "session:", in.Hot[0].Prefix)
	require.InDelta(t, 6400, in.Hot[0].Reads, 100)
	require.Equal(t, "cart/", in.Hot[1].Prefix)
	for range 30 {
		second(0, 0)
	}
	in = repair.Input{Ranges: []repair.Range{{Partition: 1}}}
	h.show(&in, now, nil)
	require.Zero(t, in.Ranges[0].Reads)
	require.Empty(t, in.Hot, "what is not read any more makes room")
}

func TestHeatOfANodeThatHasJustStarted(t *testing.T) {
	t.Parallel()
	h, now := newHeat(2), int64(1)
	h.tick(now)
	for i := range 640 {
		h.read(1, fmt.Appendf(nil, "session:%d", i))
	}
	in := repair.Input{Ranges: []repair.Range{{Partition: 0}, {Partition: 1}}}
	h.show(&in, now+int64(50*time.Millisecond), nil)
	require.Zero(t, in.Ranges[1].Reads, "too soon to tell")
	h.show(&in, now+int64(200*time.Millisecond), nil)
	require.Zero(t, in.Ranges[0].Reads)
	require.Equal(t, uint32(3200), in.Ranges[1].Reads)
	require.Equal(t, []repair.Hot{{Prefix: "session:", Reads: 3200}}, in.Hot)
}

// A node that returns knows by its donors what is read, of each the most that one says.
func TestHeatGoesByTheDonorsToo(t *testing.T) {
	t.Parallel()
	h, now := newHeat(4), int64(1)
	h.tick(now)
	for i := range 640 {
		h.read(1, fmt.Appendf(nil, "session:%d", i))
	}
	now += int64(time.Second)
	in := repair.Input{Ranges: []repair.Range{{Partition: 0}, {Partition: 1}, {Partition: 2}, {Partition: 3}}}
	h.show(&in, now, []wire.Heat{
		{Partitions: []wire.PartHeat{{Partition: 1, Reads: 100}, {Partition: 2, Reads: 7}}, Prefixes: []wire.PrefixHeat{{Prefix: "cart:", Reads: 900}}},
		{Partitions: []wire.PartHeat{{Partition: 2, Reads: 9}, {Partition: 99, Reads: 1}}, Prefixes: []wire.PrefixHeat{{Prefix: "cart:", Reads: 5}, {Prefix: "session:", Reads: 6}}},
	})
	var reads []uint32
	for _, r := range in.Ranges {
		reads = append(reads, r.Reads)
	}
	require.Equal(t, []uint32{0, 640, 9, 0}, reads)
	require.Equal(t, []repair.Hot{{Prefix: "cart:", Reads: 900}, {Prefix: "session:", Reads: 640}}, in.Hot)
	told := h.tell([]wire.CopyClock{{Partition: 0}, {Partition: 1}, {Partition: kv.System}}, now)
	require.Equal(t, wire.Heat{Partitions: []wire.PartHeat{{Partition: 1, Reads: 640}}, Prefixes: []wire.PrefixHeat{{Prefix: "session:", Reads: 640}}}, told)
}

// What is told is bounded, and is the hottest.
func TestHeatTellsTheHottest(t *testing.T) {
	t.Parallel()
	const parts = wire.MaxHeatParts + 1
	h, now := newHeat(parts), int64(1)
	h.tick(now)
	var asked []wire.CopyClock
	for p := range kv.Partition(parts) {
		asked = append(asked, wire.CopyClock{Partition: p})
		for range 1 + int(p) {
			h.read(p, []byte("key"))
		}
	}
	for i := range wire.MaxHeatPrefixes + 1 {
		for range 1 + i {
			h.sample(0, fmt.Appendf(nil, "p%d:key", i))
		}
	}
	now += int64(time.Second)
	told := h.tell(asked, now)
	require.Len(t, told.Partitions, wire.MaxHeatParts)
	require.Equal(t, wire.PartHeat{Partition: parts - 1, Reads: parts}, told.Partitions[0])
	require.Equal(t, uint32(2), told.Partitions[wire.MaxHeatParts-1].Reads)
	require.Len(t, told.Prefixes, wire.MaxHeatPrefixes)
	require.Equal(t, fmt.Sprintf("p%d:", wire.MaxHeatPrefixes), told.Prefixes[0].Prefix)
	require.Len(t, h.tell(asked[parts-2:], now).Partitions, 2)
	require.Len(t, h.tell(asked[1:], now).Partitions, wire.MaxHeatParts)
}

func TestHeatBoundsItsPrefixes(t *testing.T) {
	t.Parallel()
	h := newHeat(1)
	for i := range 10 * heatPrefixes {
		h.sample(0, fmt.Appendf(nil, "p%d:key", i))
	}
	require.Len(t, h.prefixes, heatPrefixes)
	require.Len(t, h.keys, 10*heatPrefixes)
	for i := range 2 * heatKeys {
		h.sample(0, fmt.Appendf(nil, "k%d", i))
	}
	require.Len(t, h.keys, heatKeys)
}

func TestHeatKnowsTheHottestKeys(t *testing.T) {
	t.Parallel()
	h, now := newHeat(2), int64(1)
	h.tick(now)
	for range 20 * sampleReads {
		h.read(0, []byte("own"))
	}
	for range 30 * sampleForwards * keyWeight {
		h.readElsewhere(0, []byte("forwarded"))
	}
	for range sampleReads {
		h.read(1, []byte("other"))
	}
	h.readElsewhere(9, []byte("no partition"))
	require.Equal(t, map[kv.Partition][]string{0: {"forwarded", "own"}}, h.hotKeys([]kv.Partition{0}))
	for i := range 2 * partition.MaxFirst {
		h.sample(1, fmt.Appendf(nil, "k%d", i))
	}
	require.Len(t, h.hotKeys([]kv.Partition{1})[1], partition.MaxFirst)
	for range 12 * keysFade { // 240 is halved eight times until nothing is left
		now += int64(time.Second)
		h.tick(now)
	}
	require.Empty(t, h.keys)
}

func TestHeatTellsThe99thPercentile(t *testing.T) {
	t.Parallel()
	h, now := newHeat(1), int64(1)
	for range 990 {
		h.took(int64(200 * time.Microsecond))
	}
	for range 9 {
		h.took(int64(50 * time.Millisecond))
	}
	h.tick(now)
	require.InDelta(t, 200, h.p99US, 50)
	for range 90 {
		h.took(int64(50 * time.Millisecond))
	}
	now += int64(time.Second)
	h.tick(now)
	require.InDelta(t, 50_000, h.p99US, 12_500)
	for range 20 { // nothing is asked: it fades
		now += int64(time.Second)
		h.tick(now)
	}
	require.Zero(t, h.p99US)
	for _, d := range []time.Duration{0, time.Nanosecond, time.Hour} {
		h.took(int64(d)) // in some bucket
	}
}

// TestTheLongestDelayIsOne: the guard of plans and the machine agree.
func TestTheLongestDelayIsOne(t *testing.T) {
	t.Parallel()
	require.Equal(t, repair.MaxIntervalMS*int64(time.Millisecond), core.MaxDelay)
	require.Equal(t, repair.RoundMS*int64(time.Millisecond), core.PlanEvery)
}
