package node_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/api/admin"
	"edged.dev/edged/internal/fault"
	"edged.dev/edged/node"
)

// conflict leaves two versions of a key side by side.
func (f *life) conflict(key string) {
	t := f.lab.t
	t.Helper()
	put := func(token, value string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+f.ports.HTTP+"/v1/kv/"+key, bytes.NewBufferString(value))
		require.NoError(t, err)
		if token != "" {
			req.Header.Set("X-Edged-Token", token)
		}
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusNoContent, resp.StatusCode)
	}
	put("", "first")
	token := f.get(key).token
	put(token, "blue")
	put(token, "green")
}

type got struct {
	status            int
	body, token, view string
}

func (f *life) get(key string) got {
	t := f.lab.t
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+f.ports.HTTP+"/v1/kv/"+key, nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return got{resp.StatusCode, string(body), resp.Header.Get("X-Edged-Token"), resp.Header.Get("X-Edged-View")}
}

// A node whose own copy of the system partition has a binding that is not in force here
// yet shows no view of a conflict, and not that of the policy before.
func TestAConflictWaitsForThePoliciesOfItsOwnCopy(t *testing.T) {
	t.Parallel()
	l := newLab(t, "n1")
	opts := node.Options{Exit: func(code int) { t.Errorf("the process would end with %d", code) }, Fault: &fault.Set{}}
	n1 := l.startWith(l.config("n1"), opts).ready()
	n1.conflict("tags/x")
	require.Equal(t, "green", n1.get("tags/x").body)

	reached, release := opts.Fault.Hold("node.take-system")
	defer release()
	deployed := make(chan error, 1)
	go func() {
		_, err := n1.admin.DeployPolicy(context.WithoutCancel(t.Context()), example(t, "union-c", "union.wasm"), "union", "tags/")
		deployed <- err
	}()
	<-reached // the binding, or what it needs, is stored and not in force
	require.Equal(t, http.StatusServiceUnavailable, n1.get("tags/x").status)
	n1.do(http.MethodPut, "plain", "v")
	require.Equal(t, "v", n1.get("plain").body, "one version needs no policy")
	release()
	require.NoError(t, <-deployed)
	require.Eventually(t, func() bool { return n1.get("tags/x").body == "blue\ngreen" }, time.Minute, 5*time.Millisecond, "%v", n1.get("tags/x"))
	require.Contains(t, n1.get("tags/x").view, "@1")
	require.Empty(t, opts.Fault.Unfired())
}

func TestAPolicyThatNothingNamesIsDeleted(t *testing.T) {
	t.Parallel()
	l := newLab(t, "n1")
	n1 := l.start(l.config("n1")).ready()
	union := example(t, "union-c", "union.wasm")
	first, err := n1.admin.DeployPolicy(t.Context(), union, "union", "a/")
	require.NoError(t, err)
	_, err = n1.admin.DeletePolicy(t.Context(), "union")
	require.ErrorContains(t, err, `the binding of "a/" names it`)
	_, err = n1.admin.DeployPolicy(t.Context(), nil, "lww", "a/")
	require.NoError(t, err)
	_, err = n1.admin.DeletePolicy(t.Context(), "union")
	require.ErrorContains(t, err, "names it", "it can be rolled back to")
	_, err = n1.admin.DeployPolicy(t.Context(), nil, "siblings", "a/")
	require.NoError(t, err)

	gone, err := n1.admin.DeletePolicy(t.Context(), first.ID)
	require.NoError(t, err)
	require.Equal(t, admin.DeletedPolicy{Name: "union", ID: first.ID}, gone)
	listed, err := n1.admin.Policies(t.Context())
	require.NoError(t, err)
	require.False(t, slices.ContainsFunc(listed, func(p admin.Policy) bool { return p.Name == "union" }))
	_, err = n1.admin.DeletePolicy(t.Context(), "union")
	require.ErrorContains(t, err, "there is no policy")

	_, err = n1.admin.DeployPolicy(t.Context(), union, "union", "a/") // and it may come back
	require.NoError(t, err)
	n1.conflict("a/x")
	require.Equal(t, "blue\ngreen", n1.get("a/x").body)
}

// All nodes must be set to keep the same number of copies: one that is to join with
// another is turned away, and a member that comes back with one is an alarm.
func TestNodesMustAgreeOnTheCopies(t *testing.T) {
	t.Parallel()
	l := newLab(t, "n1", "n2", "n3")
	n1 := l.start(l.config("n1")).ready()
	odd := func(name string) node.Config {
		cfg := l.config(name, n1.ports.Node)
		cfg.ClusterCopies = 2
		return cfg
	}
	err := l.start(odd("n2")).ended()
	require.ErrorIs(t, err, node.ErrConfig)
	require.ErrorContains(t, err, "keeps 3 copies of each partition, and cluster.copies is 2 here")

	n3 := l.start(l.config("n3", n1.ports.Node)).ready()
	tells := func(f *life, what string) func() bool {
		return func() bool {
			r, err := f.admin.Readyz(t.Context())
			return err == nil && slices.Contains(r.Degraded, what)
		}
	}
	said := "n3 is set to keep 2 copies of each partition, and n1 3: they see different owners; give all nodes one cluster.copies"
	require.False(t, tells(n1, said)())
	n3.stop()
	n3 = l.start(odd("n3"))
	require.Eventually(t, tells(n1, said), time.Minute, 5*time.Millisecond)
	require.Eventually(t, tells(n3, "n1 is set to keep 3 copies of each partition, and n3 2: they see different owners; give all nodes one cluster.copies"), time.Minute, 5*time.Millisecond)
	n3.stop()
	l.start(l.config("n3", n1.ports.Node)).ready()
	require.Eventually(t, func() bool { return !tells(n1, said)() }, time.Minute, 5*time.Millisecond)
}
