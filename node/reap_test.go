package node_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/api/admin"
)

// dump returns a node's own versions, those of tombstones left out, and the ends
// of its partitions: clock and root.
func (f *life) dump() (versions int, ends string) {
	f.lab.t.Helper()
	var b strings.Builder
	for p := range 16 {
		require.NoError(f.lab.t, f.admin.Dump(f.lab.t.Context(), p, func(line admin.DumpLine) error {
			switch {
			case line.End != nil:
				fmt.Fprintln(&b, p, line.End.Clock, line.End.Root)
			case !line.Version.Tombstone:
				versions++
			}
			return nil
		}))
	}
	return versions, b.String()
}

// Expired keys leave every node's disk within a moment, over a real network and a
// real store, and a restart finds nothing left of them.
func TestExpiredKeysLeaveEveryNode(t *testing.T) {
	t.Parallel()
	l := newLab(t, "n1", "n2")
	a := l.start(l.config("n1")).ready()
	b := l.start(l.config("n2", a.ports.Node)).ready()
	const keys = 40
	for i := range keys {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, fmt.Sprintf("http://%s/v1/kv/k%d", a.ports.HTTP, i), strings.NewReader("v"))
		require.NoError(t, err)
		req.Header.Set("X-Edged-TTL", "700ms")
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusNoContent, resp.StatusCode)
	}
	status, _ := b.do(http.MethodPut, "lasts", "v")
	require.Equal(t, http.StatusNoContent, status)
	same := func() bool {
		n, ends := a.dump()
		m, other := b.dump()
		return n == 1 && m == 1 && ends == other
	}
	require.Eventually(t, same, 30*time.Second, 20*time.Millisecond)
	reaped := uint64(0)
	for _, f := range []*life{a, b} {
		st, err := f.admin.Status(t.Context())
		require.NoError(t, err)
		require.Eventually(t, func() bool { // counted by asking, a moment ago perhaps
			st, err := f.admin.Status(t.Context())
			return err == nil && st.Keys == 1
		}, 30*time.Second, 20*time.Millisecond)
		require.Zero(t, st.Counters["reap_errors_total"])
		reaped += st.Counters["versions_reaped_total"]
	}
	require.EqualValues(t, keys, reaped, "each by one node alone")
	b.stop()
	cfg := l.config("n2", a.ports.Node)
	b = l.start(cfg).ready()
	require.Eventually(t, same, 30*time.Second, 20*time.Millisecond)
}
