package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"edged.dev/edged/api/admin"
	"edged.dev/edged/node"
)

// How long a command waits for its answer unless it is told: a question, a
// module that is checked and spread, and a copy that is read to its end.
const (
	askTimeout    = 10 * time.Second
	deployTimeout = time.Minute
	dumpTimeout   = 30 * time.Minute
	waitTimeout   = 30 * time.Second
)

// target is the node that a command asks, as its flags say.
type target struct {
	url, tokenFile string
	timeout        time.Duration
}

// add gives a command the target's flags; wait is how long its answer may take.
func (t *target) add(flags *pflag.FlagSet, wait time.Duration) {
	flags.StringVar(&t.url, "admin", "", "admin URL of the node to ask (default: $EDGED_ADMIN, else the node of --data-dir)")
	flags.StringVar(&t.tokenFile, "token-file", "", "file with the admin token (default: the setting admin.token-file)")
	flags.DurationVar(&t.timeout, "timeout", wait, "how long to wait for the answer")
	defaults := node.Default()
	flags.String("data-dir", defaults.DataDir, "data directory of a node on this host")
	flags.String(configFlag, "", "YAML file with settings")
}

// call runs fn with a client of the target and a deadline.
func (t *target) call(cmd *cobra.Command, sys system, fn func(context.Context, *admin.Client) error) error {
	client, err := t.client(cmd.Flags(), sys)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(cmd.Context(), t.timeout)
	defer cancel()
	return fn(ctx, client)
}

func (t *target) client(flags *pflag.FlagSet, sys system) (*admin.Client, error) {
	settings, err := load(flags, sys)
	if err != nil {
		return nil, err
	}
	url := t.url
	if url == "" {
		url = sys.env(adminEnv)
	}
	if url == "" {
		if url, err = localAdmin(settings.cfg.DataDir); err != nil {
			return nil, err
		}
	}
	tokenFile := t.tokenFile
	if tokenFile == "" {
		tokenFile = settings.cfg.AdminTokenFile
	}
	token, err := secret(tokenFile)
	if err != nil {
		return nil, err
	}
	return admin.NewClient(url, token), nil
}

// localAdmin finds the admin address of the node that runs on a data
// directory, in the file that it wrote its ports to.
func localAdmin(dir string) (string, error) {
	path := filepath.Join(dir, admin.PortsFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w: no %s: start a node with `edged serve`, or name one with --admin URL or --data-dir DIR", admin.ErrUnreachable, path)
	}
	if err != nil {
		return "", fmt.Errorf("find node: %w", err)
	}
	var ports admin.Ports
	if err := json.Unmarshal(text, &ports); err != nil {
		return "", fmt.Errorf("find node: read %s: %w", path, err)
	}
	if ports.Admin == "" {
		return "", fmt.Errorf("%w: %s names no admin address", admin.ErrUnreachable, path)
	}
	return "http://" + ports.Admin, nil
}

// secret returns the secret in a file, or none where no file is named.
func secret(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	return node.ReadSecret(path)
}
