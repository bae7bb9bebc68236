package testcluster_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"edged.dev/edged/api/admin"
)

// TestMain makes this test's own binary stand in for edged, so that what is
// tested here is the starting and stopping alone.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "ca" || os.Args[1] == "serve") {
		if err := standIn(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, "stand-in:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func standIn(args []string) error {
	if args[0] == "ca" {
		if out := valueOf(args, "--out"); out != "" {
			return os.MkdirAll(out, 0o700)
		}
		return os.MkdirAll(valueOf(args, "--dir"), 0o700)
	}
	for _, pair := range os.Environ() {
		if len(pair) > 6 && pair[:6] == "EDGED_" {
			return errors.New("a node's setting came from the environment: " + pair)
		}
	}
	return standInServe(args)
}

// standInServe answers as a node would that is ready at once, and keeps the
// arguments of each of its lives in its data directory.
func standInServe(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	dir := valueOf(args, "--data-dir")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", valueOf(args, "--admin-listen"))
	if err != nil {
		return err
	}
	if slices.Contains(args, "--die") {
		return errors.New("told to die")
	}
	mux := http.NewServeMux()
	mux.HandleFunc(admin.PathReadyz, func(w http.ResponseWriter, _ *http.Request) {
		answer(w, admin.Ready{Ready: true, Partitions: admin.PartitionCounts{Owned: 2, Live: 2, Verified: 2}})
	})
	mux.HandleFunc(admin.PathStatus, func(w http.ResponseWriter, _ *http.Request) {
		answer(w, admin.Status{State: "ready", Layout: admin.Layout{Members: make([]admin.Member, 2)}})
	})
	lives, err := os.OpenFile(filepath.Join(dir, "lives"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(lives).Encode(args); err != nil {
		return err
	}
	lives.Close()
	ports, err := json.Marshal(admin.Ports{Admin: listener.Addr().String(), Node: "127.0.0.1:" + fmt.Sprint(os.Getpid()%60000+1), PID: os.Getpid()})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, admin.PortsFile), ports, 0o600); err != nil {
		return err
	}
	server := &http.Server{Handler: mux}
	go func() {
		<-ctx.Done()
		server.Close()
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func answer(w http.ResponseWriter, v any) { _ = json.NewEncoder(w).Encode(v) }

func valueOf(args []string, flag string) string {
	if i := slices.Index(args, flag); i >= 0 && i+1 < len(args) {
		return args[i+1]
	}
	return ""
}
