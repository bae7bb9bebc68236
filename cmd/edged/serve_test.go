package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/node"
)

func TestFirstSignalDrainsSecondStops(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	signals := make(chan os.Signal)
	draining, drained := make(chan struct{}), make(chan struct{})
	result := make(chan error, 1)
	go func() {
		result <- runUntilSignal(t.Context(), func(ctx context.Context) error {
			<-ctx.Done()
			close(draining)
			<-drained
			return nil
		}, signals, func() {}, log)
	}()
	signals <- syscall.SIGTERM
	<-draining
	signals <- syscall.SIGTERM
	require.ErrorIs(t, <-result, errKilled)
	require.Equal(t, exitFailed, exitCode(errKilled))
	close(drained)
}

func TestDrainedNodeEndsWell(t *testing.T) {
	t.Parallel()
	signals := make(chan os.Signal, 1)
	signals <- syscall.SIGINT
	cause := make(chan error, 1)
	err := runUntilSignal(t.Context(), func(ctx context.Context) error {
		<-ctx.Done()
		cause <- context.Cause(ctx)
		return nil
	}, signals, func() {}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.ErrorContains(t, <-cause, "signal: interrupt")
}

func TestHangupReloads(t *testing.T) {
	t.Parallel()
	signals := make(chan os.Signal)
	reloaded := make(chan struct{})
	result := make(chan error, 1)
	stopped := errors.New("stopped by itself")
	go func() {
		result <- runUntilSignal(t.Context(), func(context.Context) error {
			<-reloaded
			return stopped
		}, signals, func() { close(reloaded) }, slog.New(slog.DiscardHandler))
	}()
	signals <- syscall.SIGHUP
	require.ErrorIs(t, <-result, stopped)
}

func TestReloadTakesWhatItCanAndNamesTheRest(t *testing.T) {
	t.Parallel()
	var lines bytes.Buffer
	level := new(slog.LevelVar)
	running, next := node.Default(), node.Default()
	next.LogLevel, next.Durability, next.MemoryBytes, next.SyncRateBytes, next.SyncGuard = "debug", node.DurabilityRelaxed, 1<<30, 20<<20, 2.5
	now := applyReload(running, next, level, newLogger(&lines, "json", level))
	want := node.Default()
	want.LogLevel, want.SyncRateBytes, want.SyncGuard = "debug", 20<<20, 2.5
	require.Equal(t, want, now)
	require.Equal(t, slog.LevelDebug, level.Level())
	require.Contains(t, lines.String(), `"settings need a restart","settings":"memory durability"`)
	require.Contains(t, lines.String(), `"settings reloaded","settings":"sync.rate sync.guard log.level"`)
}
