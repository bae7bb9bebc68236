package main

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"strconv"
	"time"

	"edged.dev/edged/internal/testcluster"
)

const (
	// benchStartWait bounds the start of a server.
	benchStartWait = 20 * time.Second
	// benchSettle lets both servers finish what the fill left in the background.
	benchSettle = 2 * time.Second
)

// benchServer is a server that is measured.
type benchServer struct {
	name  string
	addr  string
	pid   int
	close func() error
}

// startEdged runs one node, alone in its cluster.
func startEdged(ctx context.Context, o *benchOptions, dir, durability string) (*benchServer, error) {
	cluster, err := testcluster.New(ctx, testcluster.Options{
		Binary: o.edged, Dir: filepath.Join(dir, "edged-"+durability), Nodes: 1, Args: []string{"--durability", durability},
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, benchStartWait)
	defer cancel()
	if err := cluster.Start(ctx); err != nil {
		return nil, errors.Join(err, cluster.Close())
	}
	n := cluster.Node(0)
	return &benchServer{name: "edged", addr: n.Ports().RESP, pid: n.PID(), close: cluster.Close}, nil
}

// startRedis runs redis-server with an append-only file.
func startRedis(ctx context.Context, o *benchOptions, dir, fsync string) (*benchServer, error) {
	server, err := newRedisServer(o.redisServer, filepath.Join(dir, "redis-"+fsync), "--appendonly", "yes", "--appendfsync", fsync)
	if err != nil {
		return nil, err
	}
	if _, err := server.start(); err != nil {
		return nil, err
	}
	s := &benchServer{name: "redis", addr: server.addr, pid: server.cmd.Process.Pid, close: server.end}
	return s, server.waitAnswer(ctx)
}

// fill writes every key that redis-benchmark may ask for.
func (s *benchServer) fill(ctx context.Context, o *benchOptions) error {
	conn, err := dialRESP(ctx, s.addr)
	if err != nil {
		return err
	}
	defer conn.close()
	set, value := []byte("SET"), bytes.Repeat([]byte("x"), o.valueBytes)
	for i := 0; i < o.keys; {
		n := min(pipelineDepth, o.keys-i)
		for j := range n {
			conn.send(set, benchKey(i+j), value)
		}
		if err := conn.flush(); err != nil {
			return err
		}
		for range n {
			if _, err := conn.receive(); err != nil {
				return err
			}
		}
		i += n
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return pause(ctx, benchSettle)
}

// benchKey is the name that redis-benchmark gives key number i.
func benchKey(i int) []byte {
	const digits = 12
	n := strconv.Itoa(i)
	return append(append([]byte("key:"), bytes.Repeat([]byte("0"), digits-len(n))...), n...)
}
