package policies_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/policies"
)

// view reads a conflict of two siblings, the newer of which has that value.
func view(t *testing.T, table *policies.Table, newer string) policies.View {
	t.Helper()
	v, err := table.Resolve(t.Context(), []byte("k"), []policies.Sibling{sib("old", 1, 0), sib(newer, 2, 0)})
	require.NoError(t, err)
	return v
}

func TestAMergeThatFailsIsMadeOnce(t *testing.T) {
	t.Parallel()
	for name, params := range map[string]string{"loop": "l", "trap": "t", "rubbish": "Erubbish", "error": string(response(4, 77, "", 0))} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			table, _ := bound(t, []byte(params), "")
			first := view(t, table, "a")
			for range 20 {
				require.Equal(t, first, view(t, table, "a"))
			}
			merges, spared := table.Remembered()
			require.Equal(t, 1, merges)
			require.EqualValues(t, 20, spared)
			require.EqualValues(t, 21, table.Counts()[0].N, "each read is counted as what it shows")
			require.Equal(t, "b", string(view(t, table, "b").Value), "another conflict is another merge")
			merges, spared = table.Remembered()
			require.Equal(t, 2, merges)
			require.EqualValues(t, 20, spared)
		})
	}
}

func TestAMergeThatIsCheapIsMadeAgain(t *testing.T) {
	t.Parallel()
	table, _ := bound(t, response(0, 1, "", 0), "")
	view(t, table, "a")
	view(t, table, "a")
	merges, spared := table.Remembered()
	require.Zero(t, merges)
	require.Zero(t, spared)
}

func TestWhatIsWorthRemembering(t *testing.T) {
	t.Parallel()
	value := make([]byte, policies.MaxMemoValue)
	require.True(t, policies.WorthKeeping(value, 100, 1000))
	require.False(t, policies.WorthKeeping(value, 99, 1000))
	require.False(t, policies.WorthKeeping(append(value, 0), 100, 1000))
}

// What is remembered is bounded: one more, and the oldest is made again.
func TestTheOldestMergeIsForgotten(t *testing.T) {
	t.Parallel()
	table, _ := bound(t, []byte("t"), "")
	for i := range policies.MaxMemo {
		view(t, table, fmt.Sprint(i))
	}
	view(t, table, "0")
	merges, spared := table.Remembered()
	require.Equal(t, policies.MaxMemo, merges)
	require.EqualValues(t, 1, spared)
	view(t, table, "one more")
	view(t, table, "1")
	merges, spared = table.Remembered()
	require.Equal(t, policies.MaxMemo, merges)
	require.EqualValues(t, 2, spared)
	view(t, table, "0")
	_, spared = table.Remembered()
	require.EqualValues(t, 2, spared)
}

// What one policy fails at says nothing of another, and nothing of the node.
func TestWhatIsRememberedIsOfOnePolicy(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	var records []policies.Record
	for prefix, params := range map[string][]byte{"a": []byte("t"), "b": response(0, 1, "", 0)} {
		plan, err := policies.PlanDeploy(records, scripted, policies.DeploySpec{Name: "scripted", Prefix: []byte(prefix), Params: params, NowMS: 1})
		require.NoError(t, err)
		records = store(records, plan.Writes...)
	}
	require.NoError(t, table.Update(t.Context(), records))
	sibs := []policies.Sibling{sib("old", 1, 0), sib("new", 2, 0)}
	for range 2 {
		v, err := table.Resolve(t.Context(), []byte("a1"), sibs)
		require.NoError(t, err)
		require.Equal(t, policies.MarkUnresolved, v.Mark)
		v, err = table.Resolve(t.Context(), []byte("b1"), sibs)
		require.NoError(t, err)
		require.Equal(t, "old", string(v.Value))
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := table.Resolve(gone, []byte("a2"), []policies.Sibling{sib("old", 1, 0), sib("other", 2, 0)})
	if err != nil { // the node's own failure
		merges, _ := table.Remembered()
		require.Equal(t, 1, merges)
	}
}
