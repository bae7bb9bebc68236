package replica_test

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/replica"
	"edged.dev/edged/replica/core"
)

// told keeps the notes of a member.
type told struct {
	mu    sync.Mutex
	notes []core.Note
}

// tells has a member's next processes tell what they note.
func (m *member) tells() *told {
	x := &told{}
	before := m.cfg
	m.cfg = func(cfg *replica.Config) {
		if before != nil {
			before(cfg)
		}
		cfg.Events.Note = func(n core.Note) {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.notes = append(x.notes, n)
		}
	}
	return x
}

// of returns the notes of a kind, in order.
func (x *told) of(kind string) []core.Note {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(x.notes), func(n core.Note) bool { return n.Kind != kind })
}

// alarmedOf reports whether an alarm says a text.
func (x *told) alarmedOf(text string) bool {
	return slices.ContainsFunc(x.of("alarm"), func(n core.Note) bool { return strings.Contains(n.Text, text) })
}

// A node that comes back tells of each partition which step it took, from whom, and why.
func TestEachStepIsTold(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		c.up()
		c.set("n1", "k", "v")
		c.equal(c.names...)
		n3 := c.nodes["n3"]
		n3.kill()
		c.set("n1", "k", "w")
		notes := n3.tells()
		n3.start()
		c.wires.connect("n1", "n3")
		c.wires.connect("n2", "n3")
		c.live("n3")
		c.equal(c.names...)
		last := map[kv.Partition]core.Note{}
		counted := map[string]int64{}
		for _, n := range notes.of("repair.step") {
			last[n.Partition] = n
			counted[n.Step]++
		}
		require.Len(t, last, testPartitions)
		for p, n := range last {
			part, _ := n3.replica.Part(p)
			require.Equal(t, part.Path, n.Step, "partition %d", p)
			require.Equal(t, part.Why, n.Text, "partition %d", p)
			require.NotEmpty(t, n.Text, "partition %d", p)
		}
		of := last[partOf("k")]
		require.Equal(t, "L1", of.Step)
		require.Contains(t, []string{"n1", "n2"}, of.Peer)
		require.EqualValues(t, 1, counted["L1"])
		require.GreaterOrEqual(t, counted["L0"], int64(testPartitions-1))
		for i, step := range core.Steps() {
			require.Equal(t, counted[step], n3.replica.Stats().Steps[i].Load(), step)
		}
	})
}
