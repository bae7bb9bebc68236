package replica_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/replica"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// spoilRecords damages the records of a node's copies of partitions.
func (m *member) spoilRecords() {
	m.c.t.Helper()
	var b cache.Batch
	for p := range kv.Partition(testPartitions) {
		rec, found, err := m.store.Get(nil, cache.AppendCopyKey(nil, p))
		require.NoError(m.c.t, err)
		if found {
			rec[len(rec)/2] ^= 1
			b.Set(cache.AppendCopyKey(nil, p), rec)
		}
	}
	require.Positive(m.c.t, b.Len())
	require.NoError(m.c.t, m.store.Commit(&b, true))
}

// A node that has lost its clocks and kept its entries comes back by L3: it gets what it
// lacks alone, serves nothing before, brings back nothing that was deleted meanwhile,
// and what it alone wrote is everywhere afterwards.
func TestQuarantinedCopyRejoinsByL3(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		for _, m := range c.nodes {
			m.cfg = func(cfg *replica.Config) { cfg.Horizon = time.Minute }
		}
		c.up()
		const keys = 60
		for i := range keys {
			c.set("n1", fmt.Sprintf("k%d", i), "old")
		}
		c.equal(c.names...)
		c.isolate("n3", partOf("alone"))
		c.set("n3", "alone", "mine")
		c.nodes["n3"].kill()
		for i := range keys / 2 {
			c.del("n1", fmt.Sprintf("k%d", i))
		}
		c.set("n1", "k59", "new")
		time.Sleep(time.Minute) // virtual: past the horizon
		c.collected("n1", "n2")

		n3 := c.nodes["n3"]
		n3.spoilRecords()
		var notes []core.Note
		n3.cfg = func(cfg *replica.Config) { cfg.Events.Note = func(n core.Note) { notes = append(notes, n) } }
		n3.start()
		require.Len(t, n3.set.Quarantined(), testPartitions)
		c.wires.connect("n1", "n3")
		c.wires.connect("n2", "n3")
		for i := range keys {
			_, found := c.get("n3", fmt.Sprintf("k%d", i))
			require.Equal(t, i >= keys/2, found, "k%d", i)
		}
		c.live("n3")
		for p := range n3.replica.Parts() {
			if p.Partition != kv.System {
				require.Equal(t, "L3", p.Path, "partition %d: %s", p.Partition, p.Reason)
				require.Contains(t, p.Reason, "clock was lost")
			}
		}
		c.equal(c.names...)
		for _, name := range c.names {
			for i := range keys {
				require.Equal(t, i >= keys/2, c.nodes[name].holds(fmt.Sprintf("k%d", i)) != "", "k%d at %s", i, name)
			}
			require.Equal(t, "mine", c.nodes[name].holds("alone"), name)
			require.Equal(t, "new", c.nodes[name].holds("k59"), name)
		}
		stats := n3.replica.Stats()
		require.EqualValues(t, testPartitions, stats.Requalified.Load())
		require.EqualValues(t, 1, stats.Adopted.Load())
		require.LessOrEqual(t, stats.EntriesIn.Load(), int64(2), "what it held was not sent")
		kinds := map[string]int{}
		for _, n := range notes {
			kinds[n.Kind]++
		}
		require.Equal(t, testPartitions, kinds["partition.requalified"])
		require.Positive(t, kinds["partition.buried"])
		require.Positive(t, stats.Buried.Load())
		require.True(t, slices.ContainsFunc(notes, func(n core.Note) bool {
			return n.Kind == "alarm" && strings.Contains(n.Text, "would have come back")
		}))
		require.Empty(t, n3.set.InQuarantine())
		c.wait("whole", n3.whole)
	})
}

// While an owner is away that may know what it does not, a quarantined copy neither
// serves nor gives; a peer that lacks something does not ask it.
func TestQuarantinedCopyWaitsForEveryOwner(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		c.up()
		key := c.keyFirstAt("n3")
		c.set("n1", key, "v")
		c.equal(c.names...)
		n3 := c.nodes["n3"]
		n3.kill()
		c.nodes["n2"].kill()
		n3.spoilRecords()
		n3.start()
		c.wires.connect("n1", "n3")
		time.Sleep(20 * time.Second) // virtual
		part, ok := n3.replica.Part(partOf(key))
		require.True(t, ok)
		require.Equal(t, kv.CatchingUp, part.State)
		require.Equal(t, kv.New, part.Trust)
		require.True(t, n3.set.Shard(partOf(key)).Quarantined())
		c.nodes["n2"].start()
		c.wires.connect("n1", "n2")
		c.wires.connect("n2", "n3")
		c.live(c.names...)
		c.equal(c.names...)
		value, found := c.get("n3", key)
		require.True(t, found)
		require.Equal(t, "v", value)
	})
}

// A copy that has lost its clock has seen nothing by what it knows, and must not say so:
// a seal is made where a copy that is nobody's owner has seen nothing of a process.
func TestAQuarantinedCopyHoldsUpASeal(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		c.up()
		key := c.keyFirstAt("n1")
		c.set("n1", key, "v")
		c.equal(c.names...)
		n1, n3 := c.nodes["n1"], c.nodes["n3"]
		gone := n1.boot
		n1.kill()
		n1.start()
		c.wires.connect("n1", "n2")
		c.wires.connect("n1", "n3")
		c.live(c.names...)
		c.equal(c.names...)
		ask := func(at string) wire.SealState {
			q := wire.Seal{View: c.layout(c.names...).ViewHash8(), Node: n1.id, Boot: gone, Parts: []wire.SealPart{{Partition: partOf(key)}}}
			b, err := c.nodes[at].replica.Serve(t.Context(), "n2", q.Append(nil))
			require.NoError(t, err)
			ack, err := wire.ParseSealAck(b)
			require.NoError(t, err)
			return ack.Parts[0]
		}
		require.Contains(t, []wire.Promise{wire.SealFenced, wire.SealClosed}, ask("n3").Promise)
		n3.kill()
		c.nodes["n2"].kill()
		n3.spoilRecords()
		n3.start()
		c.wires.connect("n1", "n3")
		time.Sleep(20 * time.Second) // virtual: level with n1, and n2 may know more
		sh := n3.set.Shard(partOf(key))
		require.True(t, sh.Quarantined())
		require.Equal(t, wire.SealState{Partition: partOf(key), Promise: wire.SealRefused}, ask("n3"))
		c.nodes["n2"].start()
		c.wires.connect("n1", "n2")
		c.wires.connect("n2", "n3")
		c.live(c.names...)
		c.equal(c.names...)
		require.NotEqual(t, wire.SealRefused, ask("n3").Promise)
		c.wait("sealed", func() bool { return sh.Seals() > 0 })
		require.Equal(t, "v", n3.holds(key))
	})
}

// Where the only other copy is new, what the quarantined one holds is all there is: an
// operator who accepts the loss keeps it.
func TestAcceptLossKeepsWhatAQuarantinedCopyHolds(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2")
		c.up()
		c.set("n1", "k", "v")
		c.equal(c.names...)
		c.nodes["n1"].kill()
		c.nodes["n2"].kill()
		c.nodes["n1"].wipe()
		c.nodes["n2"].spoilRecords()
		c.nodes["n1"].start()
		c.nodes["n2"].start()
		c.wires.connect("n1", "n2")
		p := partOf("k")
		c.wait("reported", func() bool { return c.nodes["n2"].replica.Loss(p).Refused == "" })
		time.Sleep(10 * time.Second) // virtual
		part, _ := c.nodes["n2"].replica.Part(p)
		require.False(t, part.State.Serves())
		for q := range kv.Partition(testPartitions) {
			require.NoError(t, c.nodes["n2"].replica.AcceptLoss(t.Context(), q))
		}
		c.live(c.names...)
		c.equal(c.names...)
		require.Equal(t, "v", c.nodes["n1"].holds("k"))
	})
}

// A HELLO is told what a copy holds within the limits of the frame: what goes over
// them is fetched though it is there.
func TestWhatIsHeldIsToldWithinTheLimit(t *testing.T) {
	var dots kv.Clock
	a := kv.Actor{Node: 1}
	var runs []kv.Run
	for i := range uint64(wire.MaxHeldDotRuns + 1) {
		runs = append(runs, kv.Run{From: 2*i + 2, To: 2*i + 2})
	}
	dots = kv.ClockOf(kv.Span{Actor: a, Runs: runs})
	first := wire.FirstRuns(dots, wire.MaxHeldDotRuns)
	require.EqualValues(t, wire.MaxHeldDotRuns, first.Dots())
	codec, err := wire.NewCodec()
	require.NoError(t, err)
	tell := func(d kv.Clock, parts int) error {
		h := wire.Hello{Pending: 1}
		for p := range parts {
			h.Held = append(h.Held, wire.HeldDots{Partition: kv.Partition(p), Dots: d})
		}
		got, err := wire.ParseHello(h.Append(nil, codec, nil), codec, nil)
		if err == nil {
			require.Equal(t, h.Held, got.Held)
		}
		return err
	}
	require.NoError(t, tell(first, 1))
	require.ErrorIs(t, tell(dots, 1), wire.ErrMalformed)
	few := wire.FirstRuns(dots, 2)
	require.NoError(t, tell(few, wire.MaxHeldParts))
	require.ErrorIs(t, tell(few, wire.MaxHeldParts+1), wire.ErrMalformed)
}
