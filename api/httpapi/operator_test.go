package httpapi_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/api/admin"
)

func TestAnOperatorGivesUpWhatIsNamed(t *testing.T) {
	t.Parallel()
	n := &node{losses: admin.Losses{Partitions: []admin.Loss{{Partition: 3, Copies: []admin.LossCopy{{Node: "n2"}}}}}}
	c, addr, _ := operate(t, n, "")
	ctx := t.Context()
	told, err := c.Losses(ctx, admin.AllPartitions)
	require.NoError(t, err)
	require.Equal(t, n.losses, told)
	told, err = c.Losses(ctx, 99)
	require.NoError(t, err)
	require.Equal(t, []admin.Loss{{Partition: 99, Copies: []admin.LossCopy{}, Refused: "there is no such partition"}}, told.Partitions)
	_, err = c.AcceptLoss(ctx, 3)
	require.NoError(t, err)
	_, err = c.AcceptLoss(ctx, admin.AllPartitions)
	require.NoError(t, err)
	require.Equal(t, []int{3, admin.AllPartitions}, n.accepted)

	f, err := c.Forgetting(ctx, "n 3")
	require.NoError(t, err)
	require.Equal(t, "n 3", f.Name)
	require.Empty(t, n.forgotten, "a question changes nothing")
	f, err = c.Forget(ctx, "n 3")
	require.NoError(t, err)
	require.Equal(t, 4, f.Owned)
	require.Equal(t, "n 3", n.forgotten)

	n.accepted, n.forgotten = nil, ""
	for _, path := range []string{
		"/v1/accept-loss", "/v1/accept-loss?partition=-1", "/v1/accept-loss?partition=2147483648", "/v1/accept-loss?partition=x",
		"/v1/accept-loss?partition=1&all-new=true", "/v1/accept-loss?all-new=yes", "/v1/accept-loss?all=true", "/v1/nodes/forget",
		"/v1/nodes/forget?name=",
	} {
		resp, err := http.Post("http://"+addr+path, "", nil)
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, http.StatusBadRequest, resp.StatusCode, path)
	}
	require.Empty(t, n.accepted)
	require.Empty(t, n.forgotten)
	n.policyErr = &admin.Problem{Type: "no-loss", Status: http.StatusConflict, Detail: "it serves"}
	_, err = c.AcceptLoss(ctx, 3)
	require.ErrorContains(t, err, "it serves")
}

func TestSyncsAreHeldBackWhileTheyRun(t *testing.T) {
	t.Parallel()
	n := &node{}
	c, addr, _ := operate(t, n, "")
	limits, err := c.SyncLimits(t.Context())
	require.NoError(t, err)
	require.Equal(t, admin.SyncLimits{RateBytes: 1 << 20, Guard: 2}, limits)
	_, err = c.SetSync(t.Context(), "20MiB", "")
	require.NoError(t, err)
	_, err = c.SetSync(t.Context(), "", "1.5")
	require.NoError(t, err)
	_, err = c.SetSync(t.Context(), "0", "0")
	require.NoError(t, err)
	require.Equal(t, []string{" ", "20MiB ", " 1.5", "0 0"}, n.synced)
	for _, query := range []string{"", "?lanes=3", "?rate=", "?rate=1&rate=2"} {
		resp, err := http.Post("http://"+addr+"/v1/sync"+query, "", nil)
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, http.StatusBadRequest, resp.StatusCode, query)
	}
	resp, err := http.Get("http://" + addr + "/v1/sync?rate=20MiB")
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, http.StatusBadRequest, resp.StatusCode, "a question changes nothing")
	require.Len(t, n.synced, 4)
}
