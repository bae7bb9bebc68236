package testcluster_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/testcluster"
)

func standInCluster(t *testing.T, args ...string) *testcluster.Cluster {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	return testcluster.ForTest(t.Context(), t, testcluster.Options{Binary: self, Nodes: 2, Args: args})
}

// lives returns the arguments of each of the node's lives.
func lives(t *testing.T, n *testcluster.Node) [][]string {
	t.Helper()
	file, err := os.Open(filepath.Join(n.DataDir(), "lives"))
	require.NoError(t, err)
	defer file.Close()
	var out [][]string
	for dec := json.NewDecoder(file); dec.More(); {
		var args []string
		require.NoError(t, dec.Decode(&args))
		out = append(out, args)
	}
	return out
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func TestFirstNodeFoundsOnceAndTheOthersJoin(t *testing.T) {
	t.Setenv("EDGED_MEMORY", "1GiB") // a node of a cluster here never sees it
	c := standInCluster(t, "--log-level", "debug")
	require.Equal(t, "n1", c.Node(0).Name())
	first, second := lives(t, c.Node(0))[0], lives(t, c.Node(1))[0]
	require.Contains(t, first, "--cluster-found")
	require.Equal(t, c.Node(0).Ports().Node, valueOf(second, "--cluster-join"))
	require.NotContains(t, second, "--cluster-found")
	require.Equal(t, "debug", valueOf(second, "--log-level"))

	_, err := c.Node(0).Restart(t.Context())
	require.NoError(t, err)
	require.NoError(t, c.Node(0).WaitPorts(t.Context()))
	again := lives(t, c.Node(0))[1]
	require.NotContains(t, again, "--cluster-found", "a founder that comes back joins")
	require.Equal(t, c.Node(1).Ports().Node, valueOf(again, "--cluster-join"))
}

func TestRestartTakesTheSamePortsAndElsewhereFreeOnes(t *testing.T) {
	t.Parallel()
	n := standInCluster(t).Node(1)
	before, pid := n.Ports(), n.PID()
	start := time.Now()
	execAt, err := n.Restart(t.Context())
	require.NoError(t, err)
	require.False(t, execAt.Before(start))
	require.NoError(t, n.WaitPorts(t.Context()))
	require.Equal(t, before.Admin, n.Ports().Admin)
	require.NotEqual(t, pid, n.PID())
	require.False(t, alive(pid))
	require.NoError(t, n.WaitVerified(t.Context()))

	_, err = n.RestartElsewhere(t.Context())
	require.NoError(t, err)
	require.NoError(t, n.WaitPorts(t.Context()))
	last := lives(t, n)[2]
	require.Equal(t, "127.0.0.1:0", valueOf(last, "--admin-listen"))
	require.NoError(t, n.WaitReady(t.Context()), "the client follows the ports")
}

func TestStopKillPauseWipe(t *testing.T) {
	t.Parallel()
	n := standInCluster(t).Node(1)
	require.Error(t, n.Wipe(), "a node that runs keeps its data")
	_, err := n.Start(t.Context())
	require.Error(t, err, "it runs already")

	require.NoError(t, n.Pause())
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, n.WaitReady(short), context.DeadlineExceeded)
	_, err = n.Resume()
	require.NoError(t, err)
	require.NoError(t, n.WaitReady(t.Context()))

	require.NoError(t, n.Stop(t.Context()))
	require.False(t, n.Running())
	require.Zero(t, n.PID())
	require.NoError(t, n.Stop(t.Context()))
	require.NoError(t, n.Kill())
	require.ErrorIs(t, n.Pause(), testcluster.ErrNotRunning)
	require.ErrorIs(t, n.WaitReady(t.Context()), testcluster.ErrNotRunning)
	require.NoError(t, n.Wipe())
	require.NoDirExists(t, n.DataDir())
}

func TestCloseLeavesNothing(t *testing.T) {
	t.Parallel()
	c := standInCluster(t)
	pids := []int{c.Node(0).PID(), c.Node(1).PID()}
	require.NoError(t, c.Node(1).Pause())
	require.NoError(t, c.Close())
	require.NoError(t, c.Close())
	require.False(t, slices.ContainsFunc(pids, alive))
	require.NoDirExists(t, c.Dir())
}

func TestEndOfAProcessEndsTheWaitAndShowsTheLog(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "kept")
	c, err := testcluster.New(t.Context(), testcluster.Options{Binary: self, Dir: dir, Nodes: 1, Args: []string{"--die"}})
	require.NoError(t, err)
	err = c.Start(t.Context())
	require.ErrorContains(t, err, "its process ended: exit status 1")
	require.ErrorContains(t, err, "told to die")
	require.NoError(t, c.Close())
	require.DirExists(t, dir)
}

func TestNonsenseIsRefused(t *testing.T) {
	t.Parallel()
	for _, opts := range []testcluster.Options{{Nodes: -1}, {Nodes: 33}, {Binary: "/nowhere/edged"}} {
		_, err := testcluster.New(t.Context(), opts)
		require.ErrorContains(t, err, "make cluster", fmt.Sprint(opts))
	}
}

// told is a test that fails without ending the goroutine it runs on.
type told struct {
	*testing.T
	lines []string
	ends  []func()
}

func (t *told) Cleanup(fn func())          { t.ends = append(t.ends, fn) }
func (t *told) Failed() bool               { return true }
func (t *told) Logf(f string, args ...any) { t.lines = append(t.lines, fmt.Sprintf(f, args...)) }

func TestFailureShowsEveryLog(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	require.NoError(t, err)
	tb := &told{T: t}
	testcluster.ForTest(t.Context(), tb, testcluster.Options{Binary: self, Nodes: 2})
	for _, end := range tb.ends {
		end()
	}
	text := strings.Join(tb.lines, "\n")
	require.Contains(t, text, "the end of n1's log")
	require.Contains(t, text, "the end of n2's log")
}

func TestRoutesAreOneANode(t *testing.T) {
	t.Parallel()
	_, err := testcluster.New(t.Context(), testcluster.Options{Binary: "true", Dir: t.TempDir(), Routes: make([]testcluster.Route, 2)})
	require.ErrorContains(t, err, "2 routes for 3 nodes")
}
