package testcluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// SaveDisk copies the node's data directory to where RestoreDisk finds it. A
// running node stands still meanwhile, as for a snapshot of its disk.
func (n *Node) SaveDisk() error {
	return n.copyDisk(n.savedDir())
}

// RestoreDisk puts the copy that SaveDisk took into the place of the data
// directory of a node that does not run.
func (n *Node) RestoreDisk() error {
	if err := n.Wipe(); err != nil {
		return err
	}
	if err := os.CopyFS(n.DataDir(), os.DirFS(n.savedDir())); err != nil {
		return fmt.Errorf("restore disk of %s: %w", n.name, err)
	}
	return nil
}

func (n *Node) savedDir() string { return filepath.Join(n.cluster.dir, n.files+"-saved") }

// Clone copies the node's data directory for a second node with the same name
// and the same certificate, which the cluster ends with the others. It is no
// member of Nodes.
func (n *Node) Clone() (*Node, error) {
	clone := newNode(n.cluster, n.name)
	clone.files = n.name + "-clone"
	if err := n.copyDisk(clone.DataDir()); err != nil {
		return nil, err
	}
	n.cluster.mu.Lock()
	defer n.cluster.mu.Unlock()
	n.cluster.clones = append(n.cluster.clones, clone)
	return clone, nil
}

// copyDisk copies the data directory while nobody writes to it.
func (n *Node) copyDisk(to string) (err error) {
	if n.Running() {
		if err := n.Pause(); err != nil {
			return err
		}
		defer func() {
			_, resumed := n.Resume()
			err = errors.Join(err, resumed)
		}()
	}
	if err := os.RemoveAll(to); err != nil {
		return fmt.Errorf("copy disk of %s: %w", n.name, err)
	}
	if err := os.CopyFS(to, os.DirFS(n.DataDir())); err != nil {
		return fmt.Errorf("copy disk of %s: %w", n.name, err)
	}
	return nil
}
