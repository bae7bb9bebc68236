package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// system is what a command has of the world: data goes to out, talk to err.
type system struct {
	in      io.Reader
	out     io.Writer
	err     io.Writer
	environ []string
}

// env returns an environment variable's value, the last where it is set twice.
func (s system) env(name string) string {
	for _, pair := range slices.Backward(s.environ) {
		if value, ok := strings.CutPrefix(pair, name+"="); ok {
			return value
		}
	}
	return ""
}

// talk prints a line for people.
func (s system) talk(format string, args ...any) {
	_, _ = fmt.Fprintf(s.err, format+"\n", args...) // nobody is left to tell
}

// run runs the command line and returns the exit code.
func run(args []string, sys system) int {
	root := newRoot(sys)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(context.Background())
	if err == nil {
		return exitOK
	}
	if text := err.Error(); text != "" {
		sys.talk("edged: %s", text)
	}
	if errors.Is(err, errUsage) {
		sys.talk("See `%s --help`.", cmd.CommandPath())
	}
	return exitCode(err)
}

func newRoot(sys system) *cobra.Command {
	root := group(&cobra.Command{
		Use:           "edged",
		Short:         "An edge cache cluster that heals itself",
		SilenceErrors: true,
		SilenceUsage:  true,
	})
	root.SetIn(sys.in)
	root.SetOut(sys.out)
	root.SetErr(sys.err)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w: %w%s", errUsage, err, nearestFlag(cmd, err))
	})
	root.AddCommand(
		serveCommand(sys), configCommand(sys), caCommand(sys), statusCommand(sys), policyCommand(sys),
		rejoinCommand(sys), repairCommand(sys), waitCommand(sys), scrubCommand(sys), syncCommand(sys), dumpCommand(sys), acceptLossCommand(sys), forgetCommand(sys), versionCommand(sys))
	return root
}

// group makes a command that has only others below it: without one of them it
// shows its help and is a wrong use.
func group(cmd *cobra.Command) *cobra.Command {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			cmd.SetOut(cmd.ErrOrStderr())
			_ = cmd.Help() // to stderr: nobody is left to tell
			return fmt.Errorf("%w: a command is missing", errUsage)
		}
		var names []string
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() {
				names = append(names, sub.Name())
			}
		}
		return fmt.Errorf("%w: no command %q in `%s`; did you mean %q?", errUsage, args[0], cmd.CommandPath(), nearest(args[0], names))
	}
	return cmd
}

// exactly wants so many arguments, named as the usage names them.
func exactly(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return fmt.Errorf("%w: %s is missing", errUsage, names[len(args)])
		case len(args) > len(names):
			return fmt.Errorf("%w: unexpected argument %q", errUsage, args[len(names)])
		}
		return nil
	}
}

// nearestFlag completes an error about an unknown flag.
func nearestFlag(cmd *cobra.Command, err error) string {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return ""
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	name := unknown.GetSpecifiedName()
	near := nearest(name, names)
	if 2*edits(name, near) > len(name) { // no slip of the pen
		return fmt.Sprintf("; `%s --help` lists those that there are", cmd.CommandPath())
	}
	return fmt.Sprintf("; did you mean --%s?", near)
}

// nearest returns the name with the least edits to word.
func nearest(word string, names []string) string {
	best, least := "", -1
	for _, name := range names {
		if d := edits(word, name); least < 0 || d < least {
			best, least = name, d
		}
	}
	return best
}

// edits is the Levenshtein distance in bytes.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
