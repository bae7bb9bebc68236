package node

import (
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/api/admin"
)

// Whoever reads nothing while each partition comes back keeps all of it, and is cut off
// by the event that there is no room for.
func TestASubscriberIsCutOffBehindItsQueue(t *testing.T) {
	for _, partitions := range []int{1, 4096} {
		h := newHub(func() int { return partitions })
		events := h.Subscribe(t.Context())
		most := subscriberQueue + queueOfPartition*partitions
		for range most {
			h.emit(admin.Event{Kind: "repair.step"})
		}
		require.Len(t, h.subs, 1, "at the limit")
		h.emit(admin.Event{Kind: "repair.step"})
		require.Empty(t, h.subs, "one over")
		got := 0
		for e := range events {
			got++
			require.EqualValues(t, got, e.Seq)
		}
		require.Equal(t, most, got)
	}
}
