// Command embed runs a node inside a program of its own: the program reads and
// writes without a connection, and Redis and HTTP clients see the same data.
//
//	go run ./examples/embed DIRECTORY
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"edged.dev/edged/node"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: embed DIRECTORY")
		os.Exit(2)
	}
	if err := run(ctx, os.Args[1], os.Stdout, ctx.Done()); err != nil {
		fmt.Fprintln(os.Stderr, "embed:", err)
		os.Exit(1)
	}
}

// run keeps a node in dir, counts the program's starts in it, and goes on until
// enough is closed.
func run(ctx context.Context, dir string, out io.Writer, enough <-chan struct{}) error {
	cfg := node.Default()
	cfg.DataDir = dir
	cfg.NodeListen, cfg.RESPListen, cfg.HTTPListen, cfg.AdminListen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	n, err := node.New(cfg, node.Options{Version: "embedded"})
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- n.Run(running) }()
	err = greet(ctx, n, out)
	if err == nil {
		<-enough
	}
	stop()
	if runErr := <-ended; err == nil {
		err = runErr
	}
	return err
}

func greet(ctx context.Context, n *node.Node, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := n.WaitReady(ctx); err != nil {
		return err
	}
	starts, _, err := n.Get(ctx, []byte("starts"))
	if err != nil {
		return err
	}
	starts = append(starts, '|')
	if _, err := n.Put(ctx, []byte("starts"), starts, 0); err != nil {
		return err
	}
	fmt.Fprintf(out, "starts so far: %s\n", starts)
	fmt.Fprintf(out, "redis-cli -p %s get starts\n", port(n.Ports().RESP))
	return nil
}

func port(addr string) string {
	for i := len(addr) - 1; i >= 0; i-- {
		if addr[i] == ':' {
			return addr[i+1:]
		}
	}
	return addr
}
