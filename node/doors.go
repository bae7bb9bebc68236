package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"edged.dev/edged/api/admin"
	"edged.dev/edged/api/console"
	"edged.dev/edged/api/httpapi"
	"edged.dev/edged/api/resp"
)

// Ports says where a node listens.
type Ports = admin.Ports

// doors are the node's listeners and what answers behind them.
type doors struct {
	node              *Node
	resp, http, admin net.Listener
	ports             Ports
	kv                *httpapi.KV
	respServer        *resp.Server
}

// bindDoors binds every address and writes the ports to the data directory.
func bindDoors(n *Node) (*doors, error) {
	d := &doors{node: n}
	var err error
	for _, l := range []struct {
		at   string
		key  string
		into *net.Listener
	}{
		{n.cfg.RESPListen, "resp.listen", &d.resp},
		{n.cfg.HTTPListen, "http.listen", &d.http},
		{n.cfg.AdminListen, "admin.listen", &d.admin},
	} {
		if *l.into, err = net.Listen("tcp", l.at); err != nil {
			d.close()
			return nil, fmt.Errorf("listen for %s: %w", l.key, err)
		}
	}
	if n.links, err = newLinks(n); err != nil {
		d.close()
		return nil, fmt.Errorf("listen for node.listen: %w", err)
	}
	d.ports = Ports{
		RESP: d.resp.Addr().String(), HTTP: d.http.Addr().String(), Admin: d.admin.Addr().String(),
		Node: n.links.transport.Addr().String(), PID: os.Getpid(),
	}
	if err := d.prepare(); err != nil {
		d.close()
		return nil, err
	}
	return d, d.writePorts()
}

// prepare makes what answers behind the client doors.
func (d *doors) prepare() error {
	password, err := d.password()
	if err != nil {
		return err
	}
	store := apiStore{d.node}
	d.respServer, err = resp.New(resp.Config{
		Store: store, Now: d.now, Password: password, Version: d.node.version, Info: d.node.info,
		Limits: resp.DefaultLimits(),
	})
	if err != nil {
		return err
	}
	d.kv, err = httpapi.NewKV(httpapi.KVConfig{Store: store, Now: d.now, Password: password})
	return err
}

// rebindLinks takes a new transport on the address of the one that has stopped.
func (d *doors) rebindLinks() error {
	n := d.node
	n.cfg.NodeListen = d.ports.Node
	var err error
	if n.links, err = newLinks(n); err != nil {
		return fmt.Errorf("listen for node.listen again: %w", err)
	}
	return nil
}

func (d *doors) writePorts() error {
	b, err := json.MarshalIndent(d.ports, "", "  ")
	if err != nil {
		return fmt.Errorf("write ports: %w", err)
	}
	path := filepath.Join(d.node.cfg.DataDir, admin.PortsFile)
	if err := os.WriteFile(path+".new", append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write ports: %w", err)
	}
	return os.Rename(path+".new", path)
}

func (d *doors) close() {
	for _, l := range []net.Listener{d.resp, d.http, d.admin} {
		if l != nil {
			_ = l.Close() // closed already where it was served
		}
	}
}

// run serves every door until ctx ends.
func (d *doors) run(g *errgroup.Group, ctx context.Context) {
	g.Go(func() error { return d.serveRESP(ctx) })
	g.Go(func() error { return d.serveHTTP(ctx) })
	g.Go(func() error { return d.serveAdmin(ctx) })
}

func (d *doors) password() (string, error) {
	if d.node.cfg.RESPPasswordFile == "" {
		return "", nil
	}
	return ReadSecret(d.node.cfg.RESPPasswordFile)
}

func (d *doors) serveRESP(ctx context.Context) error {
	return ignoreCancel(d.respServer.Serve(ctx, d.resp))
}

// now is cluster time, by which relative expiries are made absolute.
func (d *doors) now() time.Time {
	if r := d.node.serving.Load(); r != nil {
		return time.UnixMilli(r.NowMS())
	}
	return time.Now()
}

func (d *doors) serveHTTP(ctx context.Context) error { return d.serve(ctx, d.http, d.kv) }

func (d *doors) serveAdmin(ctx context.Context) error {
	token := ""
	if file := d.node.cfg.AdminTokenFile; file != "" {
		var err error
		if token, err = ReadSecret(file); err != nil {
			return err
		}
	}
	handler, err := httpapi.NewAdmin(httpapi.AdminConfig{
		Status: status{d.node}, Policies: policyAdmin{d.node}, Events: d.node.events, Dumper: dumper{d.node},
		Operator: operator{d.node}, Repair: repairAdmin{d.node}, Metrics: newMetrics(d.node), Token: token,
	})
	if err != nil {
		return err
	}
	return d.serve(ctx, d.admin, console.Handler(d.joining(handler)))
}

// joining answers for a node that is still joining its cluster: it lives, is not
// ready, and has nothing else to tell.
func (d *doors) joining(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if d.node.serving.Load() != nil || req.URL.Path == admin.PathLivez {
			next.ServeHTTP(w, req)
			return
		}
		kind, text := d.node.whyNot()
		var body any = admin.Problem{Type: kind, Title: kind, Status: http.StatusServiceUnavailable, Detail: text}
		w.Header().Set("Content-Type", admin.MediaProblem)
		if req.URL.Path == admin.PathReadyz {
			body = admin.Ready{}
			w.Header().Set("Content-Type", "application/json")
		}
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusServiceUnavailable)
		_ = json.NewEncoder(w).Encode(body) // a prober that hung up wants no answer
	})
}

func (d *doors) serve(ctx context.Context, ln net.Listener, h http.Handler) error {
	err := httpapi.Serve(ctx, ln, httpapi.ServerConfig{
		Handler: h, ErrorLog: slog.NewLogLogger(d.node.log.Handler(), slog.LevelDebug),
	})
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return ignoreCancel(err)
}
