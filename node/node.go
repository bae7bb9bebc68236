// Package node is one running node: it builds every part, runs them, stops
// them in order, and turns events into logs, metrics and hooks.
package node

import (
	"context"
	"errors"
	"log/slog"
)

// Options are what a program hands to a node beside its configuration.
type Options struct {
	// Logger takes the node's log lines; nil discards them.
	Logger *slog.Logger
	// Version is shown in the status.
	Version string
}

// Node is one node. New starts nothing; Run does.
type Node struct{}

// errUnbuilt holds the place of the parts that are not in the tree yet.
var errUnbuilt = errors.New("this build has no parts to run")

// New builds a node.
func New(_ Config, _ Options) (*Node, error) { return nil, errUnbuilt }

// Run runs the node until ctx ends, then stops it in order.
func (*Node) Run(context.Context) error { return errUnbuilt }
