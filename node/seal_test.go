package node_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// mostActors returns the longest clock of a node's copies, and how many seals all of
// them hold.
func (f *life) mostActors() (most, sealed int) {
	f.lab.t.Helper()
	parts, err := f.admin.Partitions(f.lab.t.Context())
	require.NoError(f.lab.t, err)
	for _, p := range parts {
		most, sealed = max(most, p.ClockActors), sealed+p.Sealed
	}
	return most, sealed
}

// fill writes some keys to every partition.
func (f *life) fill(value string) {
	f.lab.t.Helper()
	for i := range 64 {
		status, body := f.do(http.MethodPut, fmt.Sprint("k", i), value)
		require.Equal(f.lab.t, http.StatusNoContent, status, body)
	}
}

func TestRestartsLeaveClocksBounded(t *testing.T) {
	t.Parallel()
	l := newLab(t, "n1", "n2")
	n1 := l.start(l.config("n1")).ready()
	var n2 *life
	const restarts = 8
	for i := range restarts {
		n2 = l.start(l.config("n2", n1.ports.Node)).ready()
		n2.fill(fmt.Sprint("v", i))
		if i < restarts-1 {
			n2.stop()
		}
	}
	for _, n := range []*life{n1, n2} {
		require.Eventually(t, func() bool {
			most, sealed := n.mostActors()
			return most <= 3 && sealed > 0 // both nodes' present processes, and n2's seal
		}, aMinute, pollEvery)
	}
	n2.fill("last")
	for i := range 64 {
		status, body := n1.do(http.MethodGet, fmt.Sprint("k", i), "")
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, "last", body)
	}
}

func TestAForgottenMemberIsSealed(t *testing.T) {
	t.Parallel()
	l := newLab(t, "n1", "n2")
	n1 := l.start(l.config("n1")).ready()
	n2 := l.start(l.config("n2", n1.ports.Node)).ready()
	n2.fill("v")
	n2.stop()
	_, err := n1.admin.Forget(t.Context(), "n2")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		most, sealed := n1.mostActors()
		return most <= 2 && sealed > 0
	}, aMinute, pollEvery)
	status, body := n1.do(http.MethodGet, "k0", "")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "v", body)
}
