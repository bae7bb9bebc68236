package httpapi_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/api/admin"
)

// Scrub finds partition 1 damaged, and knows no others than 0 and 1.
func (n *node) Scrub(_ context.Context, partition int) (admin.Scrubbed, error) {
	out := admin.Scrubbed{Objects: 2, Bytes: 20}
	switch partition {
	case 0:
	case admin.AllPartitions, 1:
		out.Damaged = []admin.DamagedCopy{{Partition: 1, Keys: [][]byte{[]byte("k\xff")}}}
	default:
		return admin.Scrubbed{}, &admin.Problem{Type: "no-such-partition", Status: 404, Detail: "partition is not held here"}
	}
	return out, nil
}

func TestScrubTellsWhatIsDamaged(t *testing.T) {
	client, addr, _ := operate(t, &node{}, "")
	sound, err := client.Scrub(t.Context(), 0)
	require.NoError(t, err)
	require.Equal(t, admin.Scrubbed{Objects: 2, Bytes: 20, Damaged: []admin.DamagedCopy{}}, sound)
	for _, p := range []int{1, admin.AllPartitions} {
		found, err := client.Scrub(t.Context(), p)
		require.NoError(t, err)
		require.Equal(t, []admin.DamagedCopy{{Partition: 1, Keys: [][]byte{[]byte("k\xff")}}}, found.Damaged)
	}
	_, err = client.Scrub(t.Context(), 7)
	var problem *admin.Problem
	require.ErrorAs(t, err, &problem)
	require.Equal(t, 404, problem.Status)
	for path, status := range map[string]int{
		admin.PathScrub + "?partition=x": 400, admin.PathScrub + "?part=1": 400,
	} {
		require.Equal(t, status, answerTo(t, "POST", addr+path), path)
	}
	require.Equal(t, 405, answerTo(t, "GET", addr+admin.PathScrub))
}

// answerTo returns the status of a request without a body.
func answerTo(t *testing.T, method, url string) int {
	t.Helper()
	if !strings.Contains(url, "://") {
		url = "http://" + url
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode
}
