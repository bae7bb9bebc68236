package admin_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/api/admin"
)

// serving returns a client of a server that answers every request by fn.
func serving(t *testing.T, fn http.HandlerFunc) *admin.Client {
	t.Helper()
	server := httptest.NewServer(fn)
	client := admin.NewClient(server.URL+"/", "t0ken")
	t.Cleanup(func() {
		client.Close()
		server.Close()
	})
	return client
}

func answering(t *testing.T, status int, body string) *admin.Client {
	t.Helper()
	return serving(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})
}

func TestReadyzTellsReadinessFromErrors(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		status int
		body   string
		ready  bool
		err    string
	}{
		"ready":     {200, `{"ready":true,"degraded":["2 of 3 copies"],"partitions":{"owned":2,"live":2}}`, true, ""},
		"not ready": {503, `{"ready":false,"partitions":{"owned":2,"live":1,"catching_up":1}}`, false, ""},
		"refused":   {401, `{"title":"token missing","status":401}`, false, "token missing"},
		"no JSON":   {200, `ok`, false, "read /readyz"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ready, err := answering(t, tc.status, tc.body).Readyz(t.Context())
			if tc.err != "" {
				require.ErrorContains(t, err, tc.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tc.ready, ready.Ready)
			require.Equal(t, 2, ready.Partitions.Owned)
		})
	}
}

func TestProblemsKeepTheirStatus(t *testing.T) {
	t.Parallel()
	_, err := answering(t, 409, `{"type":"conflict","title":"bound elsewhere","status":200,"detail":"epoch 3"}`).RollbackPolicy(t.Context(), "x")
	var problem *admin.Problem
	require.ErrorAs(t, err, &problem)
	require.Equal(t, &admin.Problem{Type: "conflict", Title: "bound elsewhere", Status: 409, Detail: "epoch 3"}, problem)

	_, err = answering(t, 502, "a proxy's page").Status(t.Context())
	require.ErrorAs(t, err, &problem)
	require.Equal(t, "Bad Gateway: a proxy's page", problem.Error())
	require.Equal(t, 502, problem.Status)
}

func TestNobodyThereIsUnreachable(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	url := server.URL
	server.Close()
	require.ErrorIs(t, admin.NewClient(url, "").Livez(t.Context()), admin.ErrUnreachable)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := answering(t, 200, "").Livez(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

func TestRequestsAreWhatTheServerMounts(t *testing.T) {
	t.Parallel()
	var got []string
	client := serving(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = append(got, fmt.Sprintf("%s %s %s %q", r.Method, r.URL.RequestURI(), r.Header.Get("Authorization"), body))
		_, _ = io.WriteString(w, "{}")
	})
	ctx := t.Context()
	require.NoError(t, client.Livez(ctx))
	_, err := client.Nodes(ctx)
	require.NoError(t, err)
	_, err = client.Partitions(ctx)
	require.NoError(t, err)
	_, err = client.Rejoin(ctx)
	require.NoError(t, err)
	_, err = client.Policies(ctx)
	require.NoError(t, err)
	_, err = client.Policy(ctx, "a/b")
	require.NoError(t, err)
	_, err = client.DeployPolicy(ctx, []byte("\x00asm"), "n", "p:&=")
	require.NoError(t, err)
	metrics, err := client.Metrics(ctx)
	require.NoError(t, err)
	require.Equal(t, "{}", string(metrics))
	require.Equal(t, []string{
		`GET /livez Bearer t0ken ""`,
		`GET /v1/nodes Bearer t0ken ""`,
		`GET /v1/partitions Bearer t0ken ""`,
		`GET /v1/rejoin Bearer t0ken ""`,
		`GET /v1/policies Bearer t0ken ""`,
		`GET /v1/policies/a%2Fb Bearer t0ken ""`,
		`POST /v1/policies?name=n&prefix=p%3A%26%3D Bearer t0ken "\x00asm"`,
		`GET /metrics Bearer t0ken ""`,
	}, got)
}

func TestEventsUntilTheCallerHasEnough(t *testing.T) {
	t.Parallel()
	client := serving(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, ": hello\n\nid: 1\nevent: node.join\ndata: {\"seq\":1,\"kind\":\"node.join\",\"node\":\"n2\"}\n\ndata:{\"seq\":2,\"kind\":\"repair.step\",\"partition\":0}\n\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	enough := errors.New("enough")
	var got []admin.Event
	err := client.Events(t.Context(), func(e admin.Event) error {
		got = append(got, e)
		if len(got) == 2 {
			return enough
		}
		return nil
	})
	require.ErrorIs(t, err, enough)
	require.Equal(t, "n2", got[0].Node)
	require.Nil(t, got[0].Partition)
	require.Zero(t, *got[1].Partition)

	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, client.Events(ctx, func(admin.Event) error { cancel(); return nil }), "an end that was asked for is no error")
}

func TestDumpWantsItsEnd(t *testing.T) {
	t.Parallel()
	const version = `{"version":{"partition":1,"key":"AGs=","dot":{"actor":"a","seq":7},"hlc":9,"tombstone":true,"value_bytes":0,"value_xxh3":""}}` + "\n"
	const end = `{"end":{"partition":1,"versions":1,"clock":[{"actor":"a","base":5,"runs":[{"first":7,"last":7}]}],"root":"00"}}` + "\n"
	for name, tc := range map[string]struct{ body, err string }{
		"whole":           {version + end, ""},
		"empty":           {end, ""},
		"two":             {version + end + end, ""},
		"cut":             {version + end + version, "unexpected EOF"},
		"cut in a line":   {version + end[:20], "read dump"},
		"neither":         {"{}\n", "neither a version nor an end"},
		"both":            {version[:len(version)-2] + "," + end[1:], "neither a version nor an end"},
		"a line too long": {strings.Repeat("x", 4<<20) + "\n", "token too long"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var lines []admin.DumpLine
			err := answering(t, 200, tc.body).Dump(t.Context(), admin.AllPartitions, func(l admin.DumpLine) error {
				lines = append(lines, l)
				return nil
			})
			if tc.err != "" {
				require.ErrorContains(t, err, tc.err)
				return
			}
			require.NoError(t, err)
			require.Len(t, lines, strings.Count(tc.body, "\n"))
			if v := lines[0].Version; v != nil {
				require.Equal(t, []byte("\x00k"), v.Key)
				require.Equal(t, admin.Dot{Actor: "a", Seq: 7}, v.Dot)
			}
		})
	}
}

// Every field's name in JSON is snake_case and given, so that a renamed field
// in Go changes nothing on the wire.
func TestNamesAreSnakeCase(t *testing.T) {
	t.Parallel()
	seen := map[reflect.Type]bool{}
	for _, v := range []any{
		admin.Status{},
		admin.Nodes{},
		admin.Partitions{},
		admin.Rejoin{},
		admin.Policies{},
		admin.Deployed{},
		admin.RolledBack{},
		admin.Event{},
		admin.Ready{},
		admin.Ports{},
		admin.Problem{},
		admin.DumpLine{},
	} {
		checkNames(t, reflect.TypeOf(v), seen)
	}
	require.Contains(t, seen, reflect.TypeFor[admin.ClockRun]())
}

func checkNames(t *testing.T, typ reflect.Type, seen map[reflect.Type]bool) {
	t.Helper()
	for typ.Kind() == reflect.Slice || typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Map {
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct || seen[typ] {
		return
	}
	seen[typ] = true
	for i := range typ.NumField() {
		field := typ.Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		require.Regexp(t, `^[a-z][a-z0-9_]*$`, name, "%s.%s", typ, field.Name)
		checkNames(t, field.Type, seen)
	}
}
