package node_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"edged.dev/edged/api/admin"
	"edged.dev/edged/node"
)

// startAlone runs a node that is a cluster of one and returns its RESP address.
func startAlone(tb testing.TB, durability string) string {
	tb.Helper()
	cfg := node.Default()
	cfg.DataDir, cfg.Durability = tb.TempDir(), durability
	cfg.NodeListen, cfg.RESPListen, cfg.HTTPListen, cfg.AdminListen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	n, err := node.New(cfg, node.Options{Exit: func(code int) { tb.Errorf("the node ended with %d", code) }})
	require.NoError(tb, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running errgroup.Group
	running.Go(func() error { return n.Run(ctx) })
	tb.Cleanup(func() {
		cancel()
		require.NoError(tb, running.Wait())
	})
	cl := admin.NewClient("http://"+n.Ports().Admin, "")
	defer cl.Close()
	require.Eventually(tb, func() bool {
		ready, err := cl.Readyz(tb.Context())
		return err == nil && ready.Ready
	}, 30*time.Second, 2*time.Millisecond)
	return n.Ports().RESP
}

// client is one connection that knows how long the replies are that it waits for.
type client struct {
	nc  net.Conn
	got []byte
}

func dial(tb testing.TB, addr string) *client {
	tb.Helper()
	nc, err := net.Dial("tcp", addr)
	require.NoError(tb, err)
	tb.Cleanup(func() { nc.Close() })
	require.NoError(tb, nc.SetDeadline(time.Now().Add(time.Minute)))
	return &client{nc: nc}
}

// round sends a batch and reads so many bytes of replies.
func (c *client) round(batch []byte, replies int) ([]byte, error) {
	if cap(c.got) < replies {
		c.got = make([]byte, replies)
	}
	if _, err := c.nc.Write(batch); err != nil {
		return nil, err
	}
	_, err := io.ReadFull(c.nc, c.got[:replies])
	return c.got[:replies], err
}

func respCommand(args ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, arg := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(arg), arg)
	}
	return b.String()
}

// TestReadFromMemoryAllocatesNothing counts over whole round trips through a node:
// the client's side is in it, and whatever the node does beside. That only ever
// adds, so the least of some counts is what a read costs.
func TestReadFromMemoryAllocatesNothing(t *testing.T) { // not parallel: others would be counted
	addr := startAlone(t, node.DurabilityRelaxed)
	c := dial(t, addr)
	value := strings.Repeat("v", 100)
	got, err := c.round([]byte(respCommand("SET", "k", value)), len("+OK\r\n"))
	require.NoError(t, err)
	require.Equal(t, "+OK\r\n", string(got))
	reply := fmt.Sprintf("$%d\r\n%s\r\n", len(value), value)
	batch, want := []byte(strings.Repeat(respCommand("GET", "k"), 16)), []byte(strings.Repeat(reply, 16))
	round := func() {
		got, err := c.round(batch, len(want))
		if err != nil || !bytes.Equal(got, want) {
			t.Fatal(err, string(got))
		}
	}
	least := testing.AllocsPerRun(20, round)
	for range 50 {
		if least == 0 {
			return
		}
		least = min(least, testing.AllocsPerRun(20, round))
	}
	require.Zero(t, least)
}

// BenchmarkRESP is 50 connections with 16 commands in flight each, on 10,000
// keys; an operation is one command.
func BenchmarkRESP(b *testing.B) {
	const clients, depth, keys = 50, 16, 10_000
	value := strings.Repeat("v", 100)
	for _, bc := range []struct{ durability, op string }{
		{node.DurabilityRelaxed, "GET"}, {node.DurabilityRelaxed, "SET"}, {node.DurabilitySync, "SET"},
	} {
		b.Run(bc.op+"/"+bc.durability, func(b *testing.B) {
			addr := startAlone(b, bc.durability)
			key := func(i int) string { return fmt.Sprintf("key:%012d", i%keys) }
			batchOf := func(op string, i int) []byte {
				var batch []byte
				for j := range depth {
					args := []string{op, key(i + j)}
					if op == "SET" {
						args = append(args, value)
					}
					batch = append(batch, respCommand(args...)...)
				}
				return batch
			}
			filler := dial(b, addr)
			for i := 0; i < keys; i += depth {
				_, err := filler.round(batchOf("SET", i), depth*len("+OK\r\n"))
				require.NoError(b, err)
			}
			replies := depth * len("+OK\r\n")
			if bc.op == "GET" {
				replies = depth * len("$100\r\n"+value+"\r\n")
			}
			batches := make([][]byte, 512)
			for i := range batches {
				batches[i] = batchOf(bc.op, i*7919)
			}
			b.ResetTimer()
			var all sync.WaitGroup
			rounds := b.N/depth/clients + 1
			for n := range clients {
				c := dial(b, addr)
				all.Go(func() {
					for i := range rounds {
						if _, err := c.round(batches[(n*31+i)%len(batches)], replies); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			all.Wait()
		})
	}
}
