package node_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/api/admin"
	"edged.dev/edged/node"
	"edged.dev/edged/transport"
)

var logs = flag.Bool("node.logs", false, "show the nodes' logs")

// lab is a cluster whose nodes run in this process, on loopback.
type lab struct {
	t   *testing.T
	dir string
}

// life is one process of a node.
type life struct {
	lab   *lab
	ports node.Ports
	end   context.CancelFunc
	done  chan error
	admin *admin.Client
}

func newLab(t *testing.T, names ...string) *lab {
	l := &lab{t, t.TempDir()}
	require.NoError(t, transport.InitCA(filepath.Join(l.dir, "ca")))
	for _, name := range names {
		require.NoError(t, transport.Issue(filepath.Join(l.dir, "ca"), name, l.tls(name), time.Hour))
	}
	return l
}

func (l *lab) tls(name string) string  { return filepath.Join(l.dir, name, "tls") }
func (l *lab) data(name string) string { return filepath.Join(l.dir, name, "data") }

func (l *lab) config(name string, join ...string) node.Config {
	cfg := node.Default()
	cfg.DataDir, cfg.TLSDir, cfg.ClusterJoin, cfg.ClusterFound = l.data(name), l.tls(name), join, len(join) == 0
	cfg.ClusterPartitions = 16
	cfg.NodeListen, cfg.RESPListen, cfg.HTTPListen, cfg.AdminListen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	return cfg
}

func (l *lab) start(cfg node.Config) *life {
	l.t.Helper()
	return l.startWith(cfg, node.Options{Exit: func(code int) { l.t.Errorf("the process would end with %d", code) }})
}

func (l *lab) startWith(cfg node.Config, opts node.Options) *life {
	l.t.Helper()
	if *logs {
		opts.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil)).With(slog.String("of", filepath.Base(filepath.Dir(cfg.DataDir))+"/"+filepath.Base(cfg.DataDir)))
	}
	n, err := node.New(cfg, opts)
	require.NoError(l.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	f := &life{lab: l, ports: n.Ports(), end: cancel, done: make(chan error, 1), admin: admin.NewClient("http://"+n.Ports().Admin, "")}
	go func() { f.done <- node.RunOn(ctx, n, opts) }()
	l.t.Cleanup(func() {
		cancel()
		f.admin.Close()
		if f.done != nil {
			<-f.done
		}
	})
	return f
}

// ready waits until the node's partitions serve.
func (f *life) ready() *life {
	f.lab.t.Helper()
	require.Eventually(f.lab.t, func() bool {
		r, err := f.admin.Readyz(f.lab.t.Context())
		return err == nil && r.Ready
	}, time.Minute, 5*time.Millisecond)
	return f
}

// ended waits for the process to end by itself, or after stop.
func (f *life) ended() error {
	f.lab.t.Helper()
	select {
	case err := <-f.done:
		f.done = nil
		return err
	case <-time.After(time.Minute):
		require.FailNow(f.lab.t, "the node goes on")
		return nil
	}
}

func (f *life) stop() {
	f.lab.t.Helper()
	f.end()
	require.NoError(f.lab.t, f.ended())
}

// do sends a request to the key-value port and returns status and body.
func (f *life) do(method, key, body string) (int, string) {
	f.lab.t.Helper()
	req, err := http.NewRequestWithContext(f.lab.t.Context(), method, "http://"+f.ports.HTTP+"/v1/kv/"+key, bytes.NewBufferString(body))
	require.NoError(f.lab.t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(f.lab.t, err)
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	require.NoError(f.lab.t, err)
	return resp.StatusCode, string(got)
}

func TestADirectoryBelongsToOneNode(t *testing.T) {
	t.Parallel()
	l, other := newLab(t, "n1", "n2"), newLab(t, "n1")
	l.start(l.config("n1")).ready().stop()

	for name, tls := range map[string]string{"another node": l.tls("n2"), "another cluster": other.tls("n1"), "none": ""} {
		cfg := l.config("n1")
		cfg.TLSDir, cfg.ClusterFound = tls, false
		_, err := node.New(cfg, node.Options{})
		require.ErrorIs(t, err, node.ErrConfig, name)
		require.ErrorContains(t, err, "this data directory is of node n1", name)
	}
	l.start(l.config("n1")).ready()
}

func TestAJoiningNodeAnswers(t *testing.T) {
	t.Parallel()
	l := newLab(t, "n1")
	f := l.start(l.config("n1", "127.0.0.1:1"))
	require.NoError(t, f.admin.Livez(t.Context()))
	r, err := f.admin.Readyz(t.Context())
	require.NoError(t, err)
	require.False(t, r.Ready)
	_, err = f.admin.Status(t.Context())
	require.ErrorContains(t, err, "still joining")
	status, body := f.do(http.MethodPut, "k", "v")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, body, "still joining")
	f.stop()
}

func TestAFormerDirectoryIsFenced(t *testing.T) {
	t.Parallel()
	l := newLab(t, "n1", "n2")
	n1 := l.start(l.config("n1")).ready()
	old := l.start(l.config("n2", n1.ports.Node)).ready()
	status, _ := old.do(http.MethodPut, "k", "v")
	require.Equal(t, http.StatusNoContent, status)

	cfg := l.config("n2", n1.ports.Node)
	cfg.DataDir = filepath.Join(l.dir, "n2", "new")
	fresh := l.start(cfg).ready()
	// It may hear first that its boot number is no longer the highest of its name; a
	// process that starts again with another hears the rest.
	require.Regexp(t, "fenced|boot number .* is taken", old.ended().Error())
	status, body := fresh.do(http.MethodGet, "k", "")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "v", body)

	again := l.start(l.config("n2", n1.ports.Node))
	require.ErrorContains(t, again.ended(), "fenced", "the old directory stays fenced")
	fresh.ready()
}

func TestACorruptStoreIsFetchedAnew(t *testing.T) {
	t.Parallel()
	l := newLab(t, "n1", "n2")
	n1 := l.start(l.config("n1")).ready()
	n2 := l.start(l.config("n2", n1.ports.Node)).ready()
	for i := range 64 {
		status, _ := n2.do(http.MethodPut, fmt.Sprint("k", i), "value")
		require.Equal(t, http.StatusNoContent, status)
	}
	store := filepath.Join(l.data("n2"), "store")
	written := time.Now()
	require.Eventually(t, func() bool { // an idle store flushes its log: this one, and not that of its start
		tables, err := filepath.Glob(filepath.Join(store, "*.sst"))
		require.NoError(t, err)
		return slices.ContainsFunc(tables, func(path string) bool {
			info, err := os.Stat(path)
			return err == nil && info.ModTime().After(written)
		})
	}, time.Minute, 20*time.Millisecond)
	n2.stop()
	damage(t, store)

	n2 = l.start(l.config("n2", n1.ports.Node))
	for i := range 64 { // whichever of them meets the damage, if the start did not
		if resp, err := http.Get("http://" + n2.ports.HTTP + fmt.Sprint("/v1/kv/k", i)); err == nil {
			resp.Body.Close()
		}
	}
	err := n2.ended()
	require.ErrorContains(t, err, "is corrupt")
	require.False(t, errors.Is(err, node.ErrConfig))

	n2 = l.start(l.config("n2", n1.ports.Node)).ready()
	require.DirExists(t, filepath.Join(l.data("n2"), "store.corrupt"))
	for i := range 64 {
		status, body := n2.do(http.MethodGet, fmt.Sprint("k", i), "")
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, "value", body)
	}
}

// damage overwrites the middle of every table of a store.
func damage(t *testing.T, dir string) {
	t.Helper()
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	require.NoError(t, err)
	require.NotEmpty(t, tables)
	for _, path := range tables {
		info, err := os.Stat(path)
		require.NoError(t, err)
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		require.NoError(t, err)
		_, err = f.WriteAt(bytes.Repeat([]byte{0xff}, 64), info.Size()/3)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
}

func TestABuiltinPolicyIsBoundByItsName(t *testing.T) {
	t.Parallel()
	l := newLab(t, "n1")
	n1 := l.start(l.config("n1")).ready()
	done, err := n1.admin.DeployPolicy(t.Context(), nil, "siblings", "s/")
	require.NoError(t, err)
	require.Equal(t, "siblings", done.ID)
	shown, err := n1.admin.Policy(t.Context(), "siblings")
	require.NoError(t, err)
	require.Len(t, shown.Bindings, 1)
	require.Equal(t, "s/", shown.Bindings[0].Prefix)

	_, err = n1.admin.DeployPolicy(t.Context(), []byte("\x00asm"), "lww", "s/")
	require.ErrorContains(t, err, "built-in")
	_, err = n1.admin.DeployPolicy(t.Context(), nil, "mine", "s/")
	require.ErrorContains(t, err, "empty")
	_, err = n1.admin.RollbackPolicy(t.Context(), "s/")
	require.NoError(t, err)
	shown, err = n1.admin.Policy(t.Context(), "siblings")
	require.NoError(t, err)
	require.Empty(t, shown.Bindings)
}
