package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/api/admin"
)

// fakeNode answers the admin API with fixed words.
func fakeNode(t *testing.T, answers map[string]any) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, ok := answers[r.Method+" "+r.URL.RequestURI()]
		problem, bad := answer.(admin.Problem)
		switch {
		case !ok:
			problem = admin.Problem{Title: "no such page", Status: http.StatusNotFound, Detail: r.Method + " " + r.URL.RequestURI()}
			fallthrough
		case bad:
			w.Header().Set("Content-Type", admin.MediaProblem)
			w.WriteHeader(problem.Status)
			answer = problem
		}
		if text, ok := answer.(string); ok {
			_, _ = io.WriteString(w, text)
			return
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(server.Close)
	return server
}

func someStatus() admin.Status {
	return admin.Status{
		Name: "n1", Node: "00000000000000aa", Cluster: "c0ffee00c0ffee00c0ffee00c0ffee00", State: "ready",
		Layout: admin.Layout{
			Partitions: 256, Copies: 3, WriteQuorum: 2, ReadQuorum: 1,
			Members: []admin.Member{{Name: "n1"}, {Name: "n2"}},
		},
		Degraded:    []string{"2 of 3 copies: the layout has 2 members"},
		Partitions:  admin.PartitionCounts{Owned: 256, Live: 250, CatchingUp: 6, Verified: 249},
		BytesBehind: 3 << 10,
		Keys:        1234,
		Policies: []admin.Policy{
			{Name: "union", Ready: true, Bindings: []admin.Binding{{Prefix: "cart:", Epoch: 2}, {Prefix: "x:", Epoch: 5, Conflict: true}}},
			{Name: "lww", Ready: true},
		},
		Nodes: []admin.Node{
			{Name: "n1", Self: true, Alive: true, State: "ready", Address: "127.0.0.1:7383", Owned: 256, Live: 250, Verified: 249},
			{Name: "n2", Alive: true, State: "ready", Address: "127.0.0.2:7383", Owned: 256, Live: 256, RTTMS: 0.25},
			{Name: "n3", State: "down", Owned: 256},
		},
	}
}

func TestStatusTable(t *testing.T) {
	t.Parallel()
	server := fakeNode(t, map[string]any{"GET /status": someStatus()})
	code, out, talk := at(t, nil, "status", "--admin", server.URL)
	require.Empty(t, talk)
	require.Zero(t, code)
	require.Equal(t, `Cluster c0ffee00c0ff: 2 members, 256 partitions, N=3 W=2 R=1
Degraded: 2 of 3 copies: the layout has 2 members

NODE       STATE  ADDRESS         OWNED  LIVE  VERIFIED  RTT
n1 (this)  ready  127.0.0.1:7383  256    250   249       -
n2         ready  127.0.0.2:7383  256    256   -         0.2ms
n3         down   -               256    0     -         -

PARTITIONS HERE  250 live, 6 catching_up
VERIFIED         249 of 256
BYTES BEHIND     3KiB
KEYS             1234
POLICY           union for "cart:" at epoch 2
POLICY           union for "x:" at epoch 5, CONFLICT
`, out)
}

func TestStatusJSONIsTheAPIsType(t *testing.T) {
	t.Parallel()
	server := fakeNode(t, map[string]any{"GET /status": someStatus()})
	code, out, _ := at(t, []string{"EDGED_ADMIN=" + server.URL}, "status", "-o", "json")
	require.Zero(t, code)
	var got admin.Status
	require.NoError(t, json.Unmarshal([]byte(out), &got))
	require.Equal(t, someStatus(), got)
}

func TestStatusShowsWhatIsHeldForOthers(t *testing.T) {
	t.Parallel()
	status := someStatus()
	status.Partitions.StandIn, status.Partitions.StandInKeys = 3, 41
	server := fakeNode(t, map[string]any{"GET /status": status})
	_, out, _ := at(t, nil, "status", "--admin", server.URL)
	require.Contains(t, out, "STANDING IN      3 partitions, 41 versions held for their owners")
}

func TestStatusOfANodeThatIsNotReady(t *testing.T) {
	t.Parallel()
	status := someStatus()
	status.State = "not_ready"
	server := fakeNode(t, map[string]any{"GET /status": status})
	code, out, talk := at(t, nil, "status", "--admin", server.URL)
	require.Equal(t, exitNotReady, code)
	require.Contains(t, out, "PARTITIONS HERE", "what is known is shown all the same")
	require.Contains(t, talk, "n1 is not_ready")
}

func TestNodeIsFoundByItsPortsFile(t *testing.T) {
	t.Parallel()
	server := fakeNode(t, map[string]any{"GET /v1/rejoin": admin.Rejoin{
		PerStep: map[string]int{"L1": 3, "L0": 253},
		Steps: []admin.RejoinStep{
			{Step: "L0", Reason: "clocks are equal", Count: 253, Partitions: "0,2,4,6,8,10,12,14-254"},
			{Step: "L1", Reason: "its clock had dots", Count: 9, Partitions: "1,3,5,7,9,11,13,255,257"},
		},
	}})
	dir := t.TempDir()
	ports, err := json.Marshal(admin.Ports{Admin: strings.TrimPrefix(server.URL, "http://")})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, admin.PortsFile), ports, 0o600))
	for _, environ := range [][]string{nil, {"EDGED_DATA_DIR=" + dir}} {
		args := []string{"rejoin", "status"}
		if environ == nil {
			args = append(args, "--data-dir", dir)
		}
		code, out, talk := at(t, environ, args...)
		require.Zero(t, code, talk)
		require.Contains(t, out, "STEPS         L0 253, L1 3\n")
		require.Contains(t, out, "  L0          253 (0, 2, 4, 6, 8, 10, 12, 14-254): clocks are equal\n")
		require.Contains(t, out, "  L1          9 (1, 3, 5, 7, 9, 11, 13, 255, ...): its clock had dots\n")
		require.Contains(t, out, "CAUGHT UP     not yet\n")
	}
}

func TestWaitSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	yes, no := true, false
	for _, tc := range []struct {
		answer admin.Rejoin
		code   int
		says   string
	}{
		{admin.Rejoin{Synced: &yes, Partitions: admin.PartitionCounts{Live: 256, Owned: 256}}, exitOK, "synced: 256 live partitions"},
		{admin.Rejoin{Synced: &no, Unsynced: "n3 lacks versions of partition 7"}, exitNotReady, "n3 lacks versions of partition 7"},
		{admin.Rejoin{}, exitNotReady, "does not know how to wait"},
	} {
		server := fakeNode(t, map[string]any{"GET /v1/rejoin?wait=2s": tc.answer})
		code, out, talk := at(t, nil, "wait", "--synced", "--admin", server.URL, "--timeout", "2s")
		require.Equal(t, tc.code, code)
		require.Contains(t, out+talk, tc.says)
	}
	code, _, talk := at(t, nil, "wait")
	require.Equal(t, exitUsage, code)
	require.Contains(t, talk, "--synced")
	code, _, talk = at(t, nil, "wait", "--synced", "--timeout", "11m")
	require.Equal(t, exitUsage, code)
	require.Contains(t, talk, "want up to 10m0s")
}

func TestWaitWaitsForANodeThatIsJoining(t *testing.T) {
	t.Parallel()
	yes, asked := true, 0
	joins := 2
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked++; asked <= joins {
			w.WriteHeader(http.StatusServiceUnavailable)
			_ = json.NewEncoder(w).Encode(admin.Problem{Type: admin.ProblemJoining, Title: "joining", Status: http.StatusServiceUnavailable, Detail: "still joining"})
			return
		}
		_ = json.NewEncoder(w).Encode(admin.Rejoin{Synced: &yes, Partitions: admin.PartitionCounts{Live: 256, Owned: 256}})
	}))
	t.Cleanup(server.Close)
	code, out, talk := at(t, nil, "wait", "--synced", "--admin", server.URL)
	require.Equal(t, exitOK, code, talk)
	require.Contains(t, out, "synced: 256 live partitions")
	require.Equal(t, joins+1, asked)

	asked, joins = 0, 1_000_000
	code, _, talk = at(t, nil, "wait", "--synced", "--admin", server.URL, "--timeout", "250ms")
	require.Equal(t, exitNotReady, code)
	require.Contains(t, talk, "still joining")
	require.GreaterOrEqual(t, asked, 1)
}

// Who interrupts a wait for a node that is joining does not wait for its end.
func TestAWaitForANodeThatIsJoiningEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		defer time.AfterFunc(joiningEvery/2, cancel)
		w.WriteHeader(http.StatusServiceUnavailable)
		_ = json.NewEncoder(w).Encode(admin.Problem{Type: admin.ProblemJoining, Title: "joining", Status: http.StatusServiceUnavailable})
	}))
	t.Cleanup(server.Close)
	client := admin.NewClient(server.URL, "")
	t.Cleanup(client.Close)
	ended := make(chan error, 1)
	go func() {
		_, err := waitSynced(ctx, client, time.Hour)
		ended <- err
	}()
	select {
	case err := <-ended:
		require.Error(t, err)
	case <-time.After(20 * time.Second):
		require.Fail(t, "it goes on")
	}
}

func TestTokenIsSent(t *testing.T) {
	t.Parallel()
	var sent []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent = append(sent, r.Header.Get("Authorization"))
		_, _ = io.WriteString(w, "{}")
	}))
	t.Cleanup(server.Close)
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte("s3cret\nnot this\n"), 0o600))
	base := []string{"EDGED_ADMIN=" + server.URL}
	for _, tc := range []struct{ environ, args []string }{
		{base, nil},
		{base, []string{"--token-file", file}},
		{append(base, "EDGED_ADMIN_TOKEN_FILE="+file), nil},
	} {
		code, _, talk := at(t, tc.environ, append([]string{"policy", "list"}, tc.args...)...)
		require.Zero(t, code, talk)
	}
	require.Equal(t, []string{"", "Bearer s3cret", "Bearer s3cret"}, sent)
	require.NoError(t, os.WriteFile(file, []byte("\n"), 0o600))
	code, _, talk := at(t, base, "policy", "list", "--token-file", file)
	require.Equal(t, exitFailed, code)
	require.Contains(t, talk, "first line")
}

func TestPolicyCommands(t *testing.T) {
	t.Parallel()
	union := admin.Policy{
		Name: "union", ID: strings.Repeat("ab", 32), Kind: "merge", Size: 2048, CreatedMS: 1_700_000_000_000, Ready: true,
		Bindings: []admin.Binding{{Prefix: "cart:", Epoch: 2}}, Counters: map[string]uint64{"calls": 7, "fallbacks": 1},
	}
	server := fakeNode(t, map[string]any{
		"GET /v1/policies":                                 admin.Policies{Policies: []admin.Policy{union, {Name: "lww", ID: "lww", Kind: "merge", Ready: true}}},
		"GET /v1/policies/union":                           union,
		"DELETE /v1/policies/union":                        admin.DeletedPolicy{Name: "union", ID: union.ID},
		"DELETE /v1/policies/bound":                        admin.Problem{Title: "policy not deleted", Status: http.StatusConflict, Detail: "the binding of \"cart:\" names it"},
		"POST /v1/policies?name=union&prefix=cart%3A":      admin.Deployed{Name: "union", ID: union.ID, Prefix: "cart:", Epoch: 2, Copies: "2/3"},
		"POST /v1/policies/rollback?prefix=cart%3A":        admin.RolledBack{Prefix: "cart:", Epoch: 3},
		"POST /v1/policies/rollback?prefix=none%3A":        admin.Problem{Title: "no binding", Status: http.StatusConflict},
		"POST /v1/policies?name=u2&prefix=":                admin.Problem{Title: "module refused", Status: http.StatusUnprocessableEntity, Detail: "function 3 is too deep"},
		"POST /v1/policies/rollback?prefix=unavailable%3A": admin.Problem{Title: "no owner serves", Status: http.StatusServiceUnavailable},
	})
	module := filepath.Join(t.TempDir(), "union.wasm")
	require.NoError(t, os.WriteFile(module, []byte("\x00asm"), 0o600))
	for name, tc := range map[string]struct {
		args []string
		code int
		want string
	}{
		"list":        {[]string{"list"}, 0, "union  abababababab  merge  2KiB  2023-11-14T22:13:20Z  yes    \"cart:\"@2\n"},
		"show":        {[]string{"show", "union"}, 0, "CALLS      7\nFALLBACKS  1\n"},
		"deploy":      {[]string{"deploy", module, "--bind", "cart:"}, 0, `"cart:" from epoch 2 on; written to 2/3 copies`},
		"refused":     {[]string{"deploy", module, "--bind", "", "--name", "u2"}, exitFailed, "deploy u2: module refused: function 3 is too deep"},
		"unbound":     {[]string{"deploy", module}, exitUsage, "--bind PREFIX is missing"},
		"no file":     {[]string{"deploy", module + "x", "--bind", "x"}, exitFailed, "read module"},
		"rollback":    {[]string{"rollback", "cart:"}, 0, "the default policy decides keys"},
		"delete":      {[]string{"delete", "union"}, 0, "union (abababababab) is deleted"},
		"bound":       {[]string{"delete", "bound"}, exitConflict, "names it"},
		"conflict":    {[]string{"rollback", "none:"}, exitConflict, "no binding"},
		"unavailable": {[]string{"rollback", "unavailable:"}, exitNotReady, "no owner serves"},
		"unknown":     {[]string{"show", "none"}, exitFailed, "no such page"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, out, talk := at(t, nil, append(append([]string{"policy"}, tc.args...), "--admin", server.URL)...)
			require.Equal(t, tc.code, code, talk)
			require.Contains(t, out+talk, tc.want)
		})
	}
}

func TestModuleOfTheLimitIsSent(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "m.wasm")
	require.NoError(t, os.WriteFile(path, make([]byte, maxModuleBytes), 0o600))
	wasm, err := readModule(path)
	require.NoError(t, err)
	require.Len(t, wasm, maxModuleBytes)
	require.NoError(t, os.WriteFile(path, make([]byte, maxModuleBytes+1), 0o600))
	_, err = readModule(path)
	require.ErrorContains(t, err, "want at most 4MiB")
}

func TestDumpWritesLines(t *testing.T) {
	t.Parallel()
	const lines = `{"version":{"partition":3,"key":"aw==","dot":{"actor":"a","seq":1},"hlc":5,"value_bytes":1,"value_xxh3":"0"}}
{"end":{"partition":3,"versions":1,"clock":[{"actor":"a","base":1}],"root":"ff"}}
`
	server := fakeNode(t, map[string]any{"GET /v1/dump?partition=3": lines, "GET /v1/dump": lines[:strings.Index(lines, "\n")]})
	code, out, talk := at(t, nil, "dump", "--partition", "3", "--admin", server.URL)
	require.Zero(t, code, talk)
	require.Equal(t, lines, out)
	code, _, talk = at(t, nil, "dump", "--admin", server.URL)
	require.Equal(t, exitFailed, code, "a dump without its end is cut off")
	require.Contains(t, talk, "unexpected EOF")
}
