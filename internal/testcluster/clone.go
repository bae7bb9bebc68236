package testcluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Clone copies the node's data directory as it is now, also while the node runs,
// and returns a node of the same name and certificate on the copy, which does not
// run yet. It takes free ports; Close ends it with the cluster.
func (n *Node) Clone(ctx context.Context) (*Node, error) {
	n.cluster.mu.Lock()
	label := fmt.Sprintf("%s-clone%d", n.name, len(n.cluster.clones)+1)
	twin := &Node{cluster: n.cluster, name: n.name, label: label}
	n.cluster.clones = append(n.cluster.clones, twin)
	n.cluster.mu.Unlock()
	if err := copyDisk(ctx, n.DataDir(), twin.DataDir()); err != nil {
		return nil, fmt.Errorf("clone %s: %w", n.name, err)
	}
	return twin, nil
}

// Save copies the data directory of the node, running or not, to a directory.
func (n *Node) Save(ctx context.Context, dir string) error {
	if err := copyDisk(ctx, n.DataDir(), dir); err != nil {
		return fmt.Errorf("save %s: %w", n.name, err)
	}
	return nil
}

// Restore puts a copy that Save made in the place of the data directory. The node
// must not run.
func (n *Node) Restore(ctx context.Context, dir string) error {
	if err := n.Wipe(); err != nil {
		return err
	}
	if err := copyDisk(ctx, dir, n.DataDir()); err != nil {
		return fmt.Errorf("restore %s: %w", n.name, err)
	}
	return nil
}

// copyDisk copies a directory. A running node removes files: then it is copied
// anew, as a snapshot of the disk would have all of one moment.
func copyDisk(ctx context.Context, from, to string) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		if err := os.RemoveAll(to); err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return err
		}
		err := os.CopyFS(to, os.DirFS(from))
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}
