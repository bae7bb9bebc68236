package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"edged.dev/edged/api/admin"
	"edged.dev/edged/node"
)

// maxTokenBytes bounds a token's file, whose first line is the token.
const maxTokenBytes = 4 << 10

// target is the node that a command asks, as its flags say.
type target struct {
	url, tokenFile string
	timeout        time.Duration
}

func (t *target) add(flags *pflag.FlagSet) {
	flags.StringVar(&t.url, "admin", "", "admin URL of the node to ask (default: $EDGED_ADMIN, else the node of --data-dir)")
	flags.StringVar(&t.tokenFile, "token-file", "", "file with the admin token (default: the setting admin.token-file)")
	flags.DurationVar(&t.timeout, "timeout", 10*time.Second, "how long to wait for the answer")
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
	token, err := readToken(tokenFile)
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

// readToken returns the first line of a file, or nothing where there is none
// to read.
func readToken(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	if len(text) > maxTokenBytes {
		return "", fmt.Errorf("read token: %s has %d bytes, want at most %d", path, len(text), maxTokenBytes)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	if line = strings.TrimSpace(line); line == "" {
		return "", fmt.Errorf("read token: the first line of %s is empty", path)
	}
	return line, nil
}
