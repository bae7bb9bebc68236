package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// foundedFile in tls.dir says that this certificate's node has founded its
// cluster: a wiped founder, or a unit file that keeps the flag, must not found a
// second one.
const foundedFile = "founded"

// mayFound decides how a node without a cluster gets one. It may found where it
// is a cluster of one, or is told to and has not done so before; a node with
// addresses to join never founds.
func (n *Node) mayFound() error {
	if n.self.Partitions == 0 && len(n.cfg.ClusterJoin) == 0 {
		n.cfg.ClusterJoin = n.remembered()
	}
	if n.self.Partitions != 0 || len(n.cfg.ClusterJoin) > 0 {
		return nil
	}
	if n.cfg.TLSDir != "" {
		if !n.cfg.ClusterFound {
			return fmt.Errorf("%w: the data directory is empty and there is nobody to join: give --cluster-join (EDGED_CLUSTER_JOIN, cluster: {join: [...]}) the address of a member, or --cluster-found on the first node of a new cluster", ErrConfig)
		}
		marker := filepath.Join(n.cfg.TLSDir, foundedFile)
		if _, err := os.Stat(marker); err == nil {
			return fmt.Errorf("%w: this would found a second cluster: %s says that this node founded one already, and its data directory is empty; give --cluster-join the address of a member", ErrConfig, marker)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("look for %s: %w", marker, err)
		}
		if err := os.WriteFile(marker, []byte(n.id.Cluster+"\n"), 0o600); err != nil {
			return fmt.Errorf("mark the founding: %w", err)
		}
	}
	n.self.Partitions = uint32(n.cfg.ClusterPartitions)
	n.self.founding = true
	return nil // saved with the first entries
}

// learn waits, where the node is of no cluster yet, for a member to say how many
// partitions there are. It then takes the next boot number, for to its peers the
// life that asked is over.
func (n *Node) learn(ctx context.Context) error {
	if n.self.Partitions != 0 {
		return nil
	}
	n.log.Info("joining", slog.Any("addresses", n.cfg.ClusterJoin))
	for n.self.Partitions == 0 {
		running, stop := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- n.links.transport.Run(running) }()
		p, boot, err := n.askPartitions(running)
		stop()
		err = errors.Join(err, ignoreCancel(<-done))
		if ctx.Err() != nil {
			return nil // told to stop while nobody answered
		}
		if err != nil {
			return err
		}
		n.self.Partitions = p
		n.self.Boot = n.bootTold(boot)
		if err := n.self.save(n.store); err != nil {
			return err
		}
		if err := n.doors.rebindLinks(); err != nil {
			return err
		}
	}
	return nil
}

// askPartitions returns how many partitions a member says there are, or the boot
// number that it wants this node to take first.
func (n *Node) askPartitions(ctx context.Context) (partitions, boot uint32, err error) {
	tick := time.NewTicker(reconnectEvery)
	defer tick.Stop()
	for {
		for _, addr := range n.cfg.ClusterJoin {
			dialCtx, cancel := context.WithTimeout(ctx, time.Second)
			n.dialed(addr, n.links.transport.Connect(dialCtx, addr))
			cancel()
		}
		select {
		case p := <-n.links.cond:
			return p, 0, nil
		case boot := <-n.links.boot:
			return 0, boot, nil
		case <-ctx.Done():
			return 0, 0, fmt.Errorf("join: no member answered: %w", context.Cause(ctx))
		case <-tick.C:
		}
	}
}
