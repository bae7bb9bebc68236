//go:build interop

package testcluster_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// `make demo` tells its story, leaves the cluster running, and ends at Ctrl-C.
func TestInteropDemo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	file, err := os.Create(path)
	require.NoError(t, err)
	defer file.Close()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "make", "demo")
	cmd.Dir = "../.."
	cmd.Stdout, cmd.Stderr = file, file
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // as a terminal's job, which Ctrl-C reaches whole
	require.NoError(t, cmd.Start())
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }() // ends with the process, which is ended below
	t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	told := func() string {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		return string(text)
	}
	require.Eventually(t, func() bool { return strings.Contains(told(), "Ctrl-C") }, 3*time.Minute, 50*time.Millisecond)
	require.Contains(t, told(), "All of it held")
	require.Contains(t, told(), `✓ key-125 is "value 125"`)
	require.NoError(t, syscall.Kill(-cmd.Process.Pid, syscall.SIGINT))
	select {
	case <-done: // make calls an interrupted command an error
	case <-time.After(30 * time.Second):
		require.Fail(t, "the demo does not end", told())
	}
	require.NotContains(t, told(), "panic")
}
