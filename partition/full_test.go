package partition_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
	"edged.dev/edged/partition/state"
)

func TestFullDiskRefusesClientsAndTakesPeers(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	a.put("k", "old")
	a.full = true
	before := a.Status()
	refused := false
	a.Write([]byte("k"), func(kv.Object) (*partition.Mutation, error) {
		t.Error("planned on a full disk")
		return nil, nil
	}, func(ch *state.Change, err error) {
		refused = true
		require.Nil(t, ch)
		require.ErrorIs(t, err, partition.ErrFull)
	})
	require.True(t, refused)
	a.commit()
	require.Equal(t, before, a.Status())
	require.Equal(t, []string{"old"}, a.values("k"), "reads go on")

	a.get(b.put("other", "from a peer")) // its writer holds it already; refusing helps nobody
	require.Equal(t, []string{"from a peer"}, a.values("other"))
	a.full = false
	a.put("k", "new")
	require.Equal(t, []string{"new"}, a.values("k"))
}
