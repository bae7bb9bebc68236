// Command loadtest runs a real cluster through an outage and measures how it
// heals: `rejoin` takes a node away, changes data, brings the node back, and
// reports times, bytes and whether every node holds what it must; `soak` plays random
// faults and judges what clients were told; `demo` plays the first story on three nodes
// for somebody to watch.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// The exit codes.
const (
	exitOK      = 0
	exitFailed  = 1
	exitUsage   = 2
	exitTimeout = 3
	exitWrong   = 4 // something was lost, stale, resurrected or diverged
)

var (
	// errUsage is wrapped by errors about how the command was called.
	errUsage = errors.New("usage")
	// errTimeout is wrapped by errors about what did not come in time.
	errTimeout = errors.New("timed out")
	// errWrong ends a run that found something wrong with the data.
	errWrong = errors.New("the data is not as it must be")
)

// system is what a command has of the world: data goes to out, talk to err.
type system struct {
	out io.Writer
	err io.Writer
	env func(string) string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], system{out: os.Stdout, err: os.Stderr, env: os.Getenv})
	stop()
	os.Exit(code)
}

// run runs the command line and returns the exit code.
func run(ctx context.Context, args []string, sys system) int {
	root := &cobra.Command{
		Use:           "loadtest",
		Short:         "Outages and load against a real cluster, with a report",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SetOut(sys.err)
			return errors.Join(cmd.Help(), fmt.Errorf("%w: a command is missing", errUsage))
		},
	}
	root.SetArgs(args)
	root.SetOut(sys.out)
	root.SetErr(sys.err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fmt.Errorf("%w: %w", errUsage, err) })
	root.AddCommand(rejoinCommand(sys), soakCommand(sys), demoCommand(sys), benchCommand(sys), burnCommand())
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil {
		fmt.Fprintf(sys.err, "loadtest: %v\n", err)
	}
	code := exitCode(err)
	if code == exitUsage {
		fmt.Fprintf(sys.err, "See `%s --help`.\n", cmd.CommandPath())
	}
	return code
}

func exitCode(err error) int {
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errUsage):
		return exitUsage
	case errors.Is(err, errWrong):
		return exitWrong
	case errors.Is(err, errTimeout), errors.Is(err, context.DeadlineExceeded):
		return exitTimeout
	}
	return exitFailed
}

// noArguments refuses arguments, as a wrong use.
func noArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%w: unexpected argument %q", errUsage, args[0])
	}
	return nil
}

// painterFor colours what goes to a terminal of somebody who has not asked for
// none.
func (s system) painterFor(w io.Writer) painter {
	return painter{colour: terminal(w) && s.env("NO_COLOR") == ""}
}
