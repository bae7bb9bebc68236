package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/spf13/cobra"

	"edged.dev/edged/node"
)

func serveCommand(sys system) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a node",
		Long: `Run a node until SIGTERM or SIGINT, which drain it; a second one stops it at
once. SIGHUP reads the settings again.

Each setting may be given as a flag, as a variable (--cluster-join is
EDGED_CLUSTER_JOIN) or in a YAML file (cluster: {join: ...}); a flag wins over a
variable, and that over the file.`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serve(cmd, sys)
		},
	}
	addSettings(cmd.Flags())
	return cmd
}

func serve(cmd *cobra.Command, sys system) error {
	settings, err := load(cmd.Flags(), sys)
	if err != nil {
		return err
	}
	if err := settings.cfg.Validate(); err != nil {
		return err
	}
	level := new(slog.LevelVar)
	if err := level.UnmarshalText([]byte(settings.cfg.LogLevel)); err != nil {
		return node.Invalid("log.level", settings.cfg.LogLevel, err.Error())
	}
	log := newLogger(sys.err, settings.cfg.LogFormat, level)
	for _, warning := range settings.cfg.Warnings() {
		log.Warn("setting needs care", slog.String("warning", warning))
	}
	rate, guard := new(atomic.Int64), new(atomic.Int64)
	take := func(cfg node.Config) {
		rate.Store(cfg.SyncRateBytes)
		guard.Store(cfg.SyncGuardPermille())
	}
	take(settings.cfg)
	opts := node.Options{Logger: log, Version: version, SyncRate: rate, SyncGuard: guard}
	n, err := node.New(settings.cfg, opts)
	if err != nil {
		return err
	}
	running := settings.cfg
	reload := func() {
		next, err := load(cmd.Flags(), sys)
		if err == nil {
			err = next.cfg.Validate()
		}
		if err != nil {
			log.Error("settings not reloaded", slog.Any("error", err))
			return
		}
		running = applyReload(running, next.cfg, level, log)
		take(running)
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(signals)
	run := func(ctx context.Context) error { return node.RunOn(ctx, n, opts) }
	return runUntilSignal(cmd.Context(), run, signals, reload, log)
}

// runUntilSignal runs a node until it returns. The first SIGTERM or SIGINT
// ends its context, and it drains; after the second nothing is waited for: the
// process is about to end.
func runUntilSignal(parent context.Context, run func(context.Context) error, signals <-chan os.Signal, reload func(), log *slog.Logger) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	draining := false
	for {
		select {
		case err := <-done:
			return err
		case sig := <-signals:
			switch {
			case sig == syscall.SIGHUP:
				reload()
			case draining:
				return errKilled
			default:
				draining = true
				log.Info("draining; a second signal stops at once", slog.String("signal", sig.String()))
				cancel(fmt.Errorf("signal: %s", sig))
			}
		}
	}
}

// applyReload takes from next what a running node can take, says what it
// cannot, and returns the configuration in force.
func applyReload(running, next node.Config, level *slog.LevelVar, log *slog.Logger) node.Config {
	var taken, refused []string
	for _, s := range node.Settings() {
		value := s.Get(&next)
		switch {
		case value == s.Get(&running):
		case !s.Reloadable:
			refused = append(refused, s.Key)
		default:
			if err := s.Set(&running, value); err != nil {
				log.Error("setting not reloaded", slog.String("setting", s.Key), slog.Any("error", err))
				continue
			}
			taken = append(taken, s.Key)
		}
	}
	if err := level.UnmarshalText([]byte(running.LogLevel)); err != nil {
		log.Error("setting not reloaded", slog.String("setting", "log.level"), slog.Any("error", err))
	}
	if len(refused) > 0 {
		log.Warn("settings need a restart", slog.String("settings", strings.Join(refused, " ")))
	}
	log.Info("settings reloaded", slog.String("settings", strings.Join(taken, " ")))
	return running
}

func newLogger(w io.Writer, format string, level slog.Leveler) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}
