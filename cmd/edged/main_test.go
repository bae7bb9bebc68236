package main

import (
	"bytes"
	"os"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"edged": main})
}

// The scripts run the command as a process of its own, with an environment
// that has nothing of this one's.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
		},
	})
}

// exits runs a command and wants an exit code: exits 78 edged config print.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARGS]")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := "0"
	if exit, ok := err.(interface{ ExitCode() int }); ok {
		code = strconv.Itoa(exit.ExitCode())
	} else if err != nil {
		ts.Fatalf("%s: %v", args[1], err)
	}
	if code != args[0] {
		ts.Fatalf("%s exited %s, want %s", args[1], code, args[0])
	}
}

// at runs a command line in this process and returns what it printed.
func at(t *testing.T, environ []string, args ...string) (code int, out, talk string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = run(args, system{in: new(bytes.Buffer), out: &stdout, err: &stderr, environ: environ})
	return code, stdout.String(), stderr.String()
}

func TestNearest(t *testing.T) {
	t.Parallel()
	names := []string{"cluster.join", "cluster.found", "node.name"}
	require.Equal(t, "cluster.join", nearest("clusterjoin", names))
	require.Equal(t, "node.name", nearest("nod.nam", names))
	require.Empty(t, nearest("x", nil))
	require.Equal(t, 3, edits("kitten", "sitting"))
	require.Equal(t, 4, edits("", "four"))
}

func TestEveryCommandHasHelp(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{},
		{"serve"},
		{"config"},
		{"config", "print"},
		{"config", "check"},
		{"ca"},
		{"ca", "init"},
		{"ca", "issue"},
		{"status"},
		{"policy"},
		{"policy", "deploy"},
		{"policy", "list"},
		{"policy", "show"},
		{"policy", "rollback"},
		{"policy", "delete"},
		{"rejoin"},
		{"rejoin", "status"},
		{"wait"},
		{"dump"},
		{"version"},
	} {
		code, out, talk := at(t, nil, append(args, "--help")...)
		require.Zero(t, code, args)
		require.Contains(t, out, "Usage:", args)
		require.Empty(t, talk, args)
	}
}

func TestColoursAreForTerminals(t *testing.T) {
	t.Parallel()
	require.False(t, colours(system{out: new(bytes.Buffer)}))
	file, err := os.Create(t.TempDir() + "/out")
	require.NoError(t, err)
	require.False(t, colours(system{out: file}))
	require.NoError(t, file.Close())
	terminal, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0) // a character device, as a terminal is
	require.NoError(t, err)
	require.True(t, colours(system{out: terminal}))
	require.False(t, colours(system{out: terminal, environ: []string{"NO_COLOR=1"}}))
	require.NoError(t, terminal.Close())
}

func TestColoursDoNotMoveColumns(t *testing.T) {
	t.Parallel()
	fill := func(colour bool) string {
		tab := table{colour: colour}
		tab.row("NODE", "STATE", "X")
		tab.row("n1", "ready", "1")
		tab.row("n2", "down", "2")
		return tab.String()
	}
	require.Equal(t, "NODE  STATE  X\nn1    ready  1\nn2    down   2\n", fill(false))
	require.Equal(t, "NODE  STATE  X\nn1    \x1b[32mready\x1b[0m  1\nn2    \x1b[31mdown\x1b[0m   2\n", fill(true))
}
