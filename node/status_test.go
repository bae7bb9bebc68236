package node

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/replica/core"
)

func TestDegradedPartitionsAreCountedByTheirReason(t *testing.T) {
	t.Parallel()
	part := func(p kv.Partition, self bool, s kv.State, reason string) *core.Part {
		return &core.Part{Partition: p, Self: self, State: s, Reason: reason}
	}
	require.Equal(t, []string{"1 partitions are degraded: it is damaged", "2 partitions are degraded: too few owners answered"}, degradedBy(slices.Values([]*core.Part{
		part(0, true, kv.Degraded, "too few owners answered"), part(1, true, kv.Degraded, "it is damaged"),
		part(2, true, kv.Degraded, "too few owners answered"), part(3, true, kv.Live, "it covers"), part(4, false, kv.Degraded, "not owned"),
	})))
}
