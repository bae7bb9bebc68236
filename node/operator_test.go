package node_test

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/api/admin"
)

// TestLostPartitionsServeByAnOperatorsWord wipes all owners of some partitions, of
// which a fourth member holds nothing.
func TestLostPartitionsServeByAnOperatorsWord(t *testing.T) {
	t.Parallel()
	l := newLab(t, "n1", "n2", "n3", "n4")
	lives := map[string]*life{"n2": l.start(l.config("n2")).ready()}
	join := lives["n2"].ports.Node
	for _, name := range []string{"n3", "n4", "n1"} { // n1 comes last: it never held what it does not own
		lives[name] = l.start(l.config(name, join)).ready()
	}
	n1 := lives["n1"]
	require.Eventually(t, func() bool { return members(t, n1) == 4 && verified(t, n1) }, aMinute, pollEvery)
	lost := -1
	parts, err := n1.admin.Partitions(t.Context())
	require.NoError(t, err)
	for _, p := range parts {
		if p.ID < 16 && !p.Owned {
			lost = int(p.ID)
		}
	}
	require.GreaterOrEqual(t, lost, 0, "n1 owns everything")
	for _, name := range []string{"n2", "n3", "n4"} {
		lives[name].stop()
		require.NoError(t, os.RemoveAll(l.data(name)))
	}
	for _, name := range []string{"n2", "n3", "n4"} {
		lives[name] = l.start(l.config(name, n1.ports.Node))
	}
	n2 := lives["n2"]
	var loss admin.Loss
	require.Eventually(t, func() bool {
		told, err := n2.admin.Losses(t.Context(), admin.AllPartitions)
		if err != nil {
			return false
		}
		for _, x := range told.Partitions {
			if int(x.Partition) == lost && x.Refused == "" && len(x.Copies) > 1 { // another new owner has told of its own
				loss = x
				return true
			}
		}
		return false
	}, aMinute, pollEvery)
	require.GreaterOrEqual(t, len(loss.Copies), 2)
	require.Eventually(t, func() bool { // the look at it that /readyz shows may be of a moment before
		r, err := n2.admin.Readyz(t.Context())
		return err == nil && !r.Ready && strings.Contains(strings.Join(r.Degraded, "; "), "edged accept-loss")
	}, aMinute, pollEvery)

	_, err = n1.admin.AcceptLoss(t.Context(), lost)
	require.ErrorContains(t, err, "does not own it")
	var done admin.Losses
	require.Eventually(t, func() bool { // an owner that connects just then has not told of its copy
		done, err = n2.admin.AcceptLoss(t.Context(), lost)
		return err == nil
	}, aMinute, pollEvery)
	require.Len(t, done.Partitions, 1)
	require.Eventually(t, func() bool { // as they come to know of each other
		_, err := n2.admin.AcceptLoss(t.Context(), admin.AllPartitions)
		left, leftErr := n2.admin.Losses(t.Context(), admin.AllPartitions)
		return err == nil && leftErr == nil && len(left.Partitions) == 0
	}, aMinute, pollEvery)
	for _, f := range lives {
		f.ready()
	}
	require.Eventually(t, func() bool {
		told, err := n1.admin.Losses(t.Context(), admin.AllPartitions)
		return err == nil && len(told.Accepted) > 0 && len(told.Partitions) == 0
	}, aMinute, pollEvery)
	_, err = n2.admin.AcceptLoss(t.Context(), lost)
	require.ErrorContains(t, err, "serves")
	status, _ := n1.do(http.MethodGet, "k", "")
	require.Equal(t, http.StatusNotFound, status)
}

func members(t *testing.T, f *life) int {
	t.Helper()
	s, err := f.admin.Status(t.Context())
	require.NoError(t, err)
	return len(s.Layout.Members)
}

func verified(t *testing.T, f *life) bool {
	t.Helper()
	r, err := f.admin.Readyz(t.Context())
	require.NoError(t, err)
	return r.Ready && r.Partitions.Verified == r.Partitions.Owned
}

// TestAForgottenMemberEndsAndReturnsEmpty gives a member up while it runs.
func TestAForgottenMemberEndsAndReturnsEmpty(t *testing.T) {
	t.Parallel()
	l := newLab(t, "n1", "n2", "n3")
	n1 := l.start(l.config("n1")).ready()
	l.start(l.config("n2", n1.ports.Node)).ready()
	n3 := l.start(l.config("n3", n1.ports.Node)).ready()
	require.Eventually(t, func() bool { return members(t, n1) == 3 && verified(t, n1) }, aMinute, pollEvery)
	status, _ := n3.do(http.MethodPut, "k", "v")
	require.Equal(t, http.StatusNoContent, status)

	f, err := n1.admin.Forgetting(t.Context(), "n3")
	require.NoError(t, err)
	require.Equal(t, admin.Forgetting{Name: "n3", ID: f.ID, Alive: true, Owned: 16}, f)
	_, err = n1.admin.Forget(t.Context(), "n1")
	require.ErrorContains(t, err, "ask another one")
	_, err = n1.admin.Forget(t.Context(), "n9")
	require.ErrorContains(t, err, "no member n9")
	_, err = n1.admin.Forget(t.Context(), "n3")
	require.NoError(t, err)
	require.ErrorContains(t, n3.ended(), "has forgotten")
	_, err = n1.admin.Forget(t.Context(), "n3")
	require.ErrorContains(t, err, "forgotten already")

	again := l.start(l.config("n3", n1.ports.Node))
	require.ErrorContains(t, again.ended(), "has forgotten", "its old directory may not return")
	require.NoError(t, os.RemoveAll(l.data("n3")))
	n3 = l.start(l.config("n3", n1.ports.Node)).ready()
	require.Eventually(t, func() bool {
		s, err := n1.admin.Status(t.Context())
		return err == nil && s.Layout.Members[2].Status == "active"
	}, aMinute, pollEvery)
	status, body := n3.do(http.MethodGet, "k", "")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "v", body)
}

func TestWhatHoldsSyncsBackChangesWhileANodeRuns(t *testing.T) {
	t.Parallel()
	l := newLab(t, "n1")
	n1 := l.start(l.config("n1")).ready()
	was, err := n1.admin.SyncLimits(t.Context())
	require.NoError(t, err)
	require.Equal(t, admin.SyncLimits{Guard: 1.5}, was)
	now, err := n1.admin.SetSync(t.Context(), "20MiB", "")
	require.NoError(t, err)
	require.Equal(t, admin.SyncLimits{RateBytes: 20 << 20, Guard: 1.5}, now)
	now, err = n1.admin.SetSync(t.Context(), "", "0")
	require.NoError(t, err)
	require.Equal(t, admin.SyncLimits{RateBytes: 20 << 20}, now)
	rejoin, err := n1.admin.Rejoin(t.Context())
	require.NoError(t, err)
	require.Zero(t, rejoin.Guard.Factor, "the guard goes by it")
	for _, bad := range [][2]string{{"1KiB", ""}, {"much", ""}, {"", "1.05"}, {"", "101"}, {"", "NaN"}, {"1MiB", "-1"}} {
		_, err = n1.admin.SetSync(t.Context(), bad[0], bad[1])
		var problem *admin.Problem
		require.ErrorAs(t, err, &problem, "%v", bad)
		require.Equal(t, http.StatusBadRequest, problem.Status, "%v", bad)
	}
	told, err := n1.admin.SyncLimits(t.Context())
	require.NoError(t, err)
	require.Equal(t, now, told, "what is refused changes nothing")
}
