package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/api/admin"
	"edged.dev/edged/api/httpapi"
	"edged.dev/edged/internal/kv"
)

// node is a fake of everything that the admin API asks a node.
type node struct {
	ready  admin.Ready
	status admin.Status
	nodes  []admin.Node
	parts  []admin.Partition
	rejoin admin.Rejoin

	policies   []admin.Policy
	policyErr  error
	deployed   string // name, prefix and module of the last deploy
	rolledBack string
	deleted    string
	losses     admin.Losses
	accepted   []int
	synced     []string
	forgotten  string

	mu     sync.Mutex
	subs   int
	events chan admin.Event

	lines   int           // of each partition's dump
	dumpErr error         // after the lines
	dumping chan struct{} // where it is not nil, gets one of each dump that began
	dumpOn  chan struct{} // which then waits for one of these
	waiting chan struct{} // where it is not nil, is closed by a wait, which then waits for its context
}

func (n *node) Ready() admin.Ready            { return n.ready }
func (n *node) Status() admin.Status          { return n.status }
func (n *node) Nodes() []admin.Node           { return n.nodes }
func (n *node) Partitions() []admin.Partition { return n.parts }
func (n *node) Rejoin(ctx context.Context, wait time.Duration) admin.Rejoin {
	r := n.rejoin
	if wait > 0 && n.waiting != nil {
		close(n.waiting)
		<-ctx.Done()
	}
	if wait > 0 {
		synced := wait >= time.Minute
		r.Synced = &synced
	}
	return r
}
func (n *node) Policies() []admin.Policy { return n.policies }

func (n *node) DeployPolicy(_ context.Context, name, prefix string, wasm []byte) (admin.Deployed, error) {
	n.deployed = fmt.Sprintf("%s %s %d", name, prefix, len(wasm))
	return admin.Deployed{Name: name, Prefix: prefix, ID: "abc", Epoch: 4, Copies: "2/3"}, n.policyErr
}

func (n *node) RollbackPolicy(_ context.Context, prefix string) (admin.RolledBack, error) {
	n.rolledBack = prefix
	return admin.RolledBack{Prefix: prefix, Name: "lww", Epoch: 5}, n.policyErr
}

func (n *node) DeletePolicy(_ context.Context, name string) (admin.DeletedPolicy, error) {
	n.deleted = name
	return admin.DeletedPolicy{Name: name, ID: "abc"}, n.policyErr
}

func (n *node) Losses(partition int) admin.Losses {
	if partition != admin.AllPartitions {
		return admin.Losses{Partitions: []admin.Loss{{Partition: uint32(partition), Refused: "there is no such partition"}}}
	}
	return n.losses
}

func (n *node) AcceptLoss(_ context.Context, partition int) (admin.Losses, error) {
	n.accepted = append(n.accepted, partition)
	return n.losses, n.policyErr
}

func (n *node) Forgetting(name string) (admin.Forgetting, error) {
	return admin.Forgetting{Name: name}, n.policyErr
}

func (n *node) Forget(_ context.Context, name string) (admin.Forgetting, error) {
	n.forgotten = name
	return admin.Forgetting{Name: name, Owned: 4}, n.policyErr
}

func (n *node) Sync(rate, guard string) (admin.SyncLimits, error) {
	n.synced = append(n.synced, rate+" "+guard)
	return admin.SyncLimits{RateBytes: 1 << 20, Guard: 2}, n.policyErr
}

func (n *node) Subscribe(context.Context) <-chan admin.Event {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.subs++
	return n.events
}

func (n *node) Dump(ctx context.Context, partition int, emit func(admin.DumpLine) error) error {
	if n.dumping != nil {
		n.dumping <- struct{}{}
		<-n.dumpOn
	}
	parts := []int{partition}
	if partition == admin.AllPartitions {
		parts = []int{0, 1}
	}
	if partition > 1 {
		return &admin.Problem{Type: "no-such-partition", Status: 404, Detail: "partition is not held here"}
	}
	for _, p := range parts {
		for i := range n.lines {
			if err := emit(admin.DumpLine{Version: &admin.DumpVersion{Partition: uint32(p), Key: fmt.Append(nil, "k<", i)}}); err != nil {
				return err
			}
		}
		if n.dumpErr != nil {
			return n.dumpErr
		}
		if err := emit(admin.DumpLine{End: &admin.DumpEnd{Partition: uint32(p), Versions: n.lines}}); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// operate serves a fake node's admin API and returns a client of it.
func operate(t *testing.T, n *node, token string) (client *admin.Client, addr string, stop func()) {
	t.Helper()
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("edged_up 1\n")) })
	h, err := httpapi.NewAdmin(httpapi.AdminConfig{Status: n, Policies: n, Events: n, Dumper: n, Operator: n, Repair: n, Metrics: metrics, Token: token})
	require.NoError(t, err)
	addr, stop = listen(t, h)
	client = admin.NewClient(addr, token)
	t.Cleanup(client.Close)
	return client, addr, stop
}

func TestAdminClientReadsWhatTheNodeTells(t *testing.T) {
	t.Parallel()
	n := &node{
		status: admin.Status{Name: "n1", Boot: 7}, nodes: []admin.Node{{Name: "n2"}}, parts: []admin.Partition{{ID: 3, Owners: []string{"n1"}}},
		rejoin: admin.Rejoin{OfflineMS: 9}, policies: []admin.Policy{{Name: "lww"}, {Name: "my union/1"}},
		ready: admin.Ready{Degraded: []string{"alone"}},
	}
	c, addr, _ := operate(t, n, "secret")
	ctx := t.Context()
	require.NoError(t, c.Livez(ctx))
	ready, err := c.Readyz(ctx)
	require.NoError(t, err)
	require.Equal(t, n.ready, ready)
	status, err := c.Status(ctx)
	require.NoError(t, err)
	require.Equal(t, n.status, status)
	nodes, err := c.Nodes(ctx)
	require.NoError(t, err)
	require.Equal(t, n.nodes, nodes)
	parts, err := c.Partitions(ctx)
	require.NoError(t, err)
	require.Equal(t, n.parts, parts)
	rejoin, err := c.Rejoin(ctx)
	require.NoError(t, err)
	require.Equal(t, n.rejoin, rejoin)
	policies, err := c.Policies(ctx)
	require.NoError(t, err)
	require.Equal(t, n.policies, policies)
	policy, err := c.Policy(ctx, "my union/1")
	require.NoError(t, err)
	require.Equal(t, n.policies[1], policy)
	metrics, err := c.Metrics(ctx)
	require.NoError(t, err)
	require.Equal(t, "edged_up 1\n", string(metrics))
	requireProblem(t, second(c.Policy(ctx, "none")), 404, "no-such-policy")

	// Ready and not: the status is what a prober looks at, without the token.
	require.Equal(t, 503, code(t, addr, admin.PathReadyz))
	require.Equal(t, 200, code(t, addr, admin.PathLivez))
	require.Equal(t, 401, code(t, addr, admin.PathStatus))
	require.Equal(t, 401, code(t, addr, "/nonsense"))
	n.ready.Ready = true
	require.Equal(t, 200, code(t, addr, admin.PathReadyz))
	other := admin.NewClient(addr, "wrong")
	defer other.Close()
	requireProblem(t, second(other.Status(ctx)), 401, "unauthorized")
}

func code(t *testing.T, addr, path string) int {
	t.Helper()
	nc, r := dial(t, addr)
	say(t, nc, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path)
	return status(t, r)
}

func second[T any](_ T, err error) error { return err }

func requireProblem(t *testing.T, err error, status int, typ string) {
	t.Helper()
	var p *admin.Problem
	require.ErrorAs(t, err, &p)
	require.Equal(t, status, p.Status, p)
	require.Equal(t, typ, p.Type, p)
}

func TestEmptyListsAreLists(t *testing.T) {
	t.Parallel()
	n := &node{}
	h, err := httpapi.NewAdmin(httpapi.AdminConfig{Status: n, Policies: n, Events: n, Dumper: n, Operator: n, Repair: n, Metrics: http.NotFoundHandler()})
	require.NoError(t, err)
	for path, want := range map[string]string{
		admin.PathNodes: `{"nodes":[]}`, admin.PathPartitions: `{"partitions":[]}`, admin.PathPolicies: `{"policies":[]}`,
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", path, nil))
		require.Equal(t, want+"\n", w.Body.String())
		require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	}
}

func TestPathsAndMethodsOfTheAdminAPI(t *testing.T) {
	t.Parallel()
	n := &node{}
	h, err := httpapi.NewAdmin(httpapi.AdminConfig{Status: n, Policies: n, Events: n, Dumper: n, Operator: n, Repair: n, Metrics: http.NotFoundHandler()})
	require.NoError(t, err)
	do := func(method, path string, head ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
		for i := 0; i < len(head); i += 2 {
			r.Header.Set(head[i], head[i+1])
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	problem(t, do("GET", "/nonsense"), 404, "no-such-path")
	for path, allow := range map[string]string{
		admin.PathStatus: "GET, HEAD", admin.PathRollback: "POST", admin.PathPolicies + "/lww": "GET, HEAD, DELETE", admin.PathPolicies: "GET, HEAD, POST",
	} {
		w := do("PUT", path)
		problem(t, w, 405, "method-not-allowed")
		require.Equal(t, allow, w.Header().Get("Allow"))
	}
	problem(t, do("GET", admin.PathRollback), 405, "method-not-allowed")
	require.Equal(t, 200, do("HEAD", admin.PathStatus).Code)
	// A page in the operator's browser is refused, whatever it sends.
	problem(t, do("POST", admin.PathPolicies+"?name=x&prefix=", "Sec-Fetch-Site", "cross-site"), 403, "cross-origin")
	require.Empty(t, n.deployed)
}

func TestPoliciesAreDeployedAndRolledBack(t *testing.T) {
	t.Parallel()
	n := &node{}
	c, addr, _ := operate(t, n, "")
	ctx := t.Context()
	deployed, err := c.DeployPolicy(ctx, make([]byte, 4<<20), "union", "set:")
	require.NoError(t, err)
	require.Equal(t, admin.Deployed{Name: "union", Prefix: "set:", ID: "abc", Epoch: 4, Copies: "2/3"}, deployed)
	require.Equal(t, "union set: 4194304", n.deployed)
	back, err := c.RollbackPolicy(ctx, "")
	require.NoError(t, err)
	require.Equal(t, admin.RolledBack{Name: "lww", Epoch: 5}, back)
	require.Empty(t, n.rolledBack)

	gone, err := c.DeletePolicy(ctx, "union v2")
	require.NoError(t, err)
	require.Equal(t, admin.DeletedPolicy{Name: "union v2", ID: "abc"}, gone)
	require.Equal(t, "union v2", n.deleted)
	requireProblem(t, second(c.DeletePolicy(ctx, "lww")), 400, "invalid")
	requireProblem(t, second(c.DeletePolicy(ctx, admin.BuiltinPlan)), 400, "invalid")

	n.deployed = ""
	_, err = c.DeployPolicy(ctx, make([]byte, 4<<20+1), "union", "set:")
	if !errors.Is(err, admin.ErrUnreachable) { // the connection may break under a client that still sends
		requireProblem(t, err, 413, "too-large")
	}
	requireProblem(t, second(c.DeployPolicy(ctx, nil, "union", "")), 400, "invalid")
	requireProblem(t, second(c.DeployPolicy(ctx, []byte{1}, "", "")), 400, "invalid")
	requireProblem(t, second(c.DeployPolicy(ctx, []byte{1}, strings.Repeat("n", 65), "")), 400, "invalid")
	requireProblem(t, second(c.DeployPolicy(ctx, []byte{1}, "n", strings.Repeat("p", 1025))), 400, "invalid")
	requireProblem(t, second(c.RollbackPolicy(ctx, strings.Repeat("p", 1025))), 400, "invalid")
	require.Empty(t, n.deployed)
	for _, target := range []string{admin.PathPolicies + "?name=x", admin.PathRollback, admin.PathRollback + "?prefix=a&name=b"} {
		nc, r := dial(t, addr)
		say(t, nc, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx", target)
		require.Equal(t, 400, status(t, r), "the prefix must be said: %s", target)
	}

	n.policyErr = kv.Errorf(kv.CodeInvalid, "module has a start section")
	requireProblem(t, second(c.DeployPolicy(ctx, []byte{1}, "n", "p")), 400, "invalid")
	n.policyErr = &admin.Problem{Type: "no-such-binding", Status: 404, Detail: "nothing is bound"}
	requireProblem(t, second(c.RollbackPolicy(ctx, "p")), 404, "no-such-binding")
	n.policyErr = errors.New("broken")
	requireProblem(t, second(c.RollbackPolicy(ctx, "p")), 500, "internal")
}

func TestEventsAreStreamed(t *testing.T) {
	t.Parallel()
	n := &node{events: make(chan admin.Event, 2)}
	c, _, stop := operate(t, n, "")
	p := uint32(9)
	want := []admin.Event{{Seq: 1, Kind: "node.join", Node: "n2", Text: "joined\nnow"}, {Seq: 2, Kind: "partition.state", Partition: &p}}
	n.events <- want[0]
	n.events <- want[1]
	var got []admin.Event
	enough := errors.New("enough")
	require.ErrorIs(t, c.Events(t.Context(), func(e admin.Event) error {
		got = append(got, e)
		if len(got) == 2 {
			return enough
		}
		return nil
	}), enough)
	require.Equal(t, want, got)

	// A stream ends when the node drains, and when its subscription does.
	ended := make(chan error, 1)
	n.mu.Lock()
	n.events = make(chan admin.Event, 1) // the first stream may not have ended yet
	n.mu.Unlock()
	n.events <- want[0]
	begun := make(chan struct{})
	go func() {
		ended <- c.Events(t.Context(), func(admin.Event) error { close(begun); return nil })
	}()
	<-begun
	stop()
	require.NoError(t, <-ended)

	n2 := &node{events: make(chan admin.Event)}
	close(n2.events)
	c2, _, _ := operate(t, n2, "")
	require.NoError(t, c2.Events(t.Context(), func(admin.Event) error { return nil }))
}

func TestEventStreamsHaveALimit(t *testing.T) {
	t.Parallel()
	n := &node{events: make(chan admin.Event)}
	c, addr, _ := operate(t, n, "")
	for range 64 {
		nc, r := dial(t, addr)
		say(t, nc, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", admin.PathEvents)
		resp, err := http.ReadResponse(r, nil)
		require.NoError(t, err)
		require.Equal(t, "text/event-stream", resp.Header.Get("Content-Type"))
	}
	requireProblem(t, c.Events(t.Context(), func(admin.Event) error { return nil }), 503, "too-many")
}

func TestDumpIsStreamed(t *testing.T) {
	t.Parallel()
	n := &node{lines: 3000}
	c, _, _ := operate(t, n, "")
	for partition, want := range map[int]int{0: 3001, 1: 3001, admin.AllPartitions: 6002} {
		lines := 0
		require.NoError(t, c.Dump(t.Context(), partition, func(l admin.DumpLine) error {
			if l.Version != nil {
				require.Equal(t, fmt.Sprint("k<", lines%3001), string(l.Version.Key))
			}
			lines++
			return nil
		}))
		require.Equal(t, want, lines)
	}
	requireProblem(t, c.Dump(t.Context(), 5, func(admin.DumpLine) error { return nil }), 404, "no-such-partition")
	requireProblem(t, c.Dump(t.Context(), -2, func(admin.DumpLine) error { return nil }), 400, "invalid")
}

// TestDumpThatFailsIsSeenToFail: even where a partition was whole before.
func TestDumpThatFailsIsSeenToFail(t *testing.T) {
	t.Parallel()
	for _, lines := range []int{0, 3000} { // before and after the first bytes are out
		n := &node{lines: lines, dumpErr: kv.Errorf(kv.CodeInternal, "disk is bad")}
		c, _, _ := operate(t, n, "")
		err := c.Dump(t.Context(), 0, func(admin.DumpLine) error { return nil })
		require.Error(t, err)
		if lines == 0 {
			requireProblem(t, err, 500, "internal")
		}
	}
}

func TestDumpsHaveALimit(t *testing.T) {
	t.Parallel()
	n := &node{dumping: make(chan struct{}), dumpOn: make(chan struct{})}
	c, _, _ := operate(t, n, "")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { _ = c.Dump(context.WithoutCancel(t.Context()), 0, func(admin.DumpLine) error { return nil }) })
		<-n.dumping
	}
	requireProblem(t, c.Dump(t.Context(), 0, func(admin.DumpLine) error { return nil }), 503, "too-many")
	for range 4 {
		n.dumpOn <- struct{}{}
	}
	wg.Wait()
}

func TestRejoinWaits(t *testing.T) {
	t.Parallel()
	n := &node{}
	h, err := httpapi.NewAdmin(httpapi.AdminConfig{Status: n, Policies: n, Events: n, Dumper: n, Operator: n, Repair: n, Metrics: http.NotFoundHandler()})
	require.NoError(t, err)
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	for wait, want := range map[string]string{
		"":      `"started_ms"`,
		"1s":    `"synced":false`,
		"10m":   `"synced":true`,
		"10m1s": "want a duration up to 10m0s",
		"-1s":   "want a duration",
		"soon":  "want a duration",
	} {
		resp, err := http.Get(server.URL + admin.PathRejoin + "?wait=" + wait)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, errors.Join(err, resp.Body.Close()))
		require.Contains(t, strings.ReplaceAll(string(body), " ", ""), strings.ReplaceAll(want, " ", ""), wait)
	}
}

func TestAWaitEndsWhenTheNodeDrains(t *testing.T) {
	t.Parallel()
	n := &node{waiting: make(chan struct{})}
	c, _, stop := operate(t, n, "")
	answered := make(chan error, 1)
	var got admin.Rejoin
	go func() {
		var err error
		got, err = c.WaitSynced(t.Context(), 30*time.Second)
		answered <- err
	}()
	<-n.waiting
	stop()
	require.NoError(t, <-answered, "it is answered, and not cut off once the time to drain is over")
	require.False(t, *got.Synced)
}

func TestDumpLinesAreOneObjectEach(t *testing.T) {
	t.Parallel()
	n := &node{lines: 1}
	h, err := httpapi.NewAdmin(httpapi.AdminConfig{Status: n, Policies: n, Events: n, Dumper: n, Operator: n, Repair: n, Metrics: http.NotFoundHandler()})
	require.NoError(t, err)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", admin.PathDump+"?partition=0", nil))
	require.Equal(t, "application/x-ndjson", w.Header().Get("Content-Type"))
	lines := strings.Split(strings.TrimSuffix(w.Body.String(), "\n"), "\n")
	require.Len(t, lines, 2)
	for _, line := range lines {
		require.True(t, json.Valid([]byte(line)))
	}
}
