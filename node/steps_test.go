package node

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/api/admin"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/replica/core"
)

func TestStepsAreGroupedByReason(t *testing.T) {
	t.Parallel()
	var parts []*core.Part
	add := func(step, why string, numbers ...kv.Partition) {
		for _, p := range numbers {
			parts = append(parts, &core.Part{Partition: p, Self: true, Path: step, Why: why})
		}
	}
	add("L1", "lacked", 9, 3, 1, 2)
	add("L0", "equal", 0, 7)
	add("L4", "healed", 5)
	add("L4", "otherwise", 6)
	add("", "not synced yet", 8)
	add("L1", "lacked", kv.System)
	parts = append(parts, &core.Part{Partition: 4, Path: "L1", Why: "of others"})
	require.Equal(t, []admin.RejoinStep{
		{Step: "L0", Reason: "equal", Count: 2, Partitions: "0,7"},
		{Step: "L1", Reason: "lacked", Count: 4, Partitions: "1-3,9"},
		{Step: "L4", Reason: "healed", Count: 1, Partitions: "5"},
		{Step: "L4", Reason: "otherwise", Count: 1, Partitions: "6"},
	}, stepsOf(slices.Values(parts)))
	require.Equal(t, []admin.RejoinStep{}, stepsOf(slices.Values(parts[:0])), "a list, and no null, before anything came")
}

// At the bound each reason is told apart; one over, the rest are one entry.
func TestReasonsOfStepsAreBounded(t *testing.T) {
	t.Parallel()
	var parts []*core.Part
	for i := range admin.MaxRejoinSteps {
		parts = append(parts, &core.Part{Partition: kv.Partition(i), Self: true, Path: "L4", Why: fmt.Sprintf("reason %03d", i)})
	}
	got := stepsOf(slices.Values(parts))
	require.Len(t, got, admin.MaxRejoinSteps)
	require.NotContains(t, got[0].Reason+got[len(got)-1].Reason, otherReasons)
	for i := range 2 {
		parts = append(parts, &core.Part{Partition: kv.Partition(900 + i), Self: true, Path: "L4", Why: fmt.Sprintf("reason 9%d", i)})
	}
	got = stepsOf(slices.Values(parts))
	require.Len(t, got, admin.MaxRejoinSteps+1)
	require.Equal(t, admin.RejoinStep{Step: "L4", Reason: otherReasons, Count: 2, Partitions: "900-901"}, got[0])
	parts = append(parts, &core.Part{Partition: 902, Self: true, Path: "L1", Why: "the only one"})
	got = stepsOf(slices.Values(parts))
	require.Equal(t, "L1", got[0].Step)
	total := 0
	for _, s := range got {
		total += s.Count
	}
	require.Equal(t, len(parts), total)
}
