package node_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/api/admin"
)

// copyLive copies the data directory of a running node, as a snapshot of its disk
// would have it: a file that goes meanwhile means that it is copied anew.
func (l *lab) copyLive(name, to string) string {
	l.t.Helper()
	dir := filepath.Join(l.dir, name, to)
	require.Eventually(l.t, func() bool {
		require.NoError(l.t, os.RemoveAll(dir))
		return os.CopyFS(dir, os.DirFS(l.data(name))) == nil
	}, time.Minute, time.Millisecond)
	return dir
}

// dots adds what a node holds to what others do: a dot stands for one value of one
// key wherever it is (I5).
func (f *life) dots(seen map[string]string) {
	f.lab.t.Helper()
	err := f.admin.Dump(f.lab.t.Context(), admin.AllPartitions, func(line admin.DumpLine) error {
		v := line.Version
		if v == nil {
			return nil
		}
		at, what := fmt.Sprint(v.Partition, v.Dot), string(v.Key)+"="+v.ValueXXH3
		if was, ok := seen[at]; ok {
			require.Equal(f.lab.t, was, what, "%s was issued twice", at)
		}
		seen[at] = what
		return nil
	})
	require.NoError(f.lab.t, err)
}

// TestACloneOfALiveNodeStandsBy starts a copy of a running node's disk: the node
// goes on, the copy takes no request until the node is gone, and then has all that
// was written meanwhile.
func TestACloneOfALiveNodeStandsBy(t *testing.T) {
	t.Parallel()
	l := newLab(t, "n1", "n2", "n3")
	n1 := l.start(l.config("n1")).ready()
	n2 := l.start(l.config("n2", n1.ports.Node)).ready()
	n3 := l.start(l.config("n3", n1.ports.Node)).ready()
	put := func(f *life, from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			status, body := f.do(http.MethodPut, fmt.Sprint("k", i), fmt.Sprint("v", i))
			require.Equal(t, http.StatusNoContent, status, body)
		}
	}
	put(n3, 0, 32)
	cfg := l.config("n3", n1.ports.Node, n2.ports.Node)
	cfg.DataDir = l.copyLive("n3", "clone")
	put(n3, 32, 64)
	clone := l.start(cfg)
	require.Eventually(t, func() bool { return clone.standsBy() }, time.Minute, 5*time.Millisecond)
	put(n3, 64, 96)
	for i := range 32 {
		status, _ := clone.do(http.MethodPut, fmt.Sprint("k", i), "of the clone")
		require.Equal(t, http.StatusServiceUnavailable, status)
		status, _ = clone.do(http.MethodGet, fmt.Sprint("k", i), "")
		require.Equal(t, http.StatusServiceUnavailable, status)
	}
	n3.ready()
	seen := map[string]string{}
	n1.dots(seen)
	n2.dots(seen)
	n3.dots(seen)

	n3.stop()
	clone.ready()
	put(clone, 96, 128)
	for i := range 128 {
		status, body := clone.do(http.MethodGet, fmt.Sprint("k", i), "")
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, fmt.Sprint("v", i), body)
	}
	n1.dots(seen)
	n2.dots(seen)
	clone.dots(seen)
}

// standsBy reports whether a node waits for another process of its directory to go.
func (f *life) standsBy() bool {
	_, err := f.admin.Status(f.lab.t.Context())
	var problem *admin.Problem
	return errors.As(err, &problem) && problem.Type == "standby"
}

const (
	aMinute   = time.Minute
	pollEvery = 5 * time.Millisecond
)
