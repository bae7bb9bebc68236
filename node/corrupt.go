package node

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"edged.dev/edged/cache"
	"edged.dev/edged/cluster"
	"edged.dev/edged/internal/kv"
)

// corruptFile in the data directory says that a file of the store was found
// damaged. A copy that cannot be read must neither serve nor be skipped over, so
// the node ends; its next start sets the store aside and goes on with what can be
// read of it. Copies of which nothing is damaged are as they were; the others are
// quarantined, and compare what is left of them with the other owners'. Where the
// node's own records are damaged, everything is fetched, as to an empty disk.
const corruptFile = "corrupt"

func (n *Node) storeDir() string { return filepath.Join(n.cfg.DataDir, "store") }

func (n *Node) peersFile() cluster.FileStore {
	return cluster.FileStore(filepath.Join(n.cfg.DataDir, "peers.json"))
}

// corrupted takes the store's word that a file is damaged. A node that is alone
// has nobody to fetch from: it goes on with what can be read, and the rest is an
// error to whoever asks for it.
func (n *Node) corrupted(path string, err error) {
	n.log.Error("store file is corrupt", slog.String("path", path), slog.String("error", err.Error())) // the error itself would print its stack
	peers, loadErr := n.peersFile().Load()
	if loadErr != nil || len(peers) == 0 {
		return
	}
	text := fmt.Sprintf("%s: %v\n", path, err)
	if err := os.WriteFile(filepath.Join(n.cfg.DataDir, corruptFile), []byte(text), 0o600); err != nil {
		n.log.Error("corruption not noted", slog.Any("error", err))
	}
	n.halt(fmt.Errorf("store file %s is corrupt (%w): start the node again, and it sets the store aside, keeps what can be read of it, and fetches the rest from the other owners", path, err))
}

// setAsideCorrupt renames a store that was found damaged, removes one that was
// renamed before, and makes a new one of what can be read. It goes on where an earlier
// start was cut short.
func (n *Node) setAsideCorrupt() error {
	marker := filepath.Join(n.cfg.DataDir, corruptFile)
	text, err := os.ReadFile(marker)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", marker, err)
	}
	aside := n.storeDir() + ".corrupt"
	n.log.Error("the store was found corrupt; it is set aside",
		slog.String("found", strings.TrimSpace(string(text))), slog.String("kept", aside))
	if _, err := os.Stat(n.storeDir()); err == nil {
		if err := os.RemoveAll(aside); err != nil {
			return fmt.Errorf("remove an earlier corrupt store: %w", err)
		}
		if err := os.Rename(n.storeDir(), aside); err != nil {
			return fmt.Errorf("set the corrupt store aside: %w", err)
		}
	}
	if err := n.salvage(aside); err != nil {
		return err
	}
	return os.Remove(marker)
}

// salvage makes the store of what can be read of a damaged one. It is there whole or
// not at all.
func (n *Node) salvage(damaged string) error {
	fresh := n.storeDir() + ".salvaged"
	if err := os.RemoveAll(fresh); err != nil {
		return fmt.Errorf("remove an unfinished store: %w", err)
	}
	touched, err := salvageInto(damaged, fresh)
	if err != nil {
		n.log.Error("nothing of the corrupt store can be kept; all copies are fetched anew", slog.String("error", err.Error()))
		return os.RemoveAll(fresh)
	}
	n.log.Warn("the rest of the corrupt store is kept", slog.Int("copies_touched", len(touched)))
	if err := os.Rename(fresh, n.storeDir()); err != nil {
		return fmt.Errorf("take the salvaged store: %w", err)
	}
	return nil
}

func salvageInto(damaged, fresh string) (touched []kv.Partition, err error) {
	to, err := cache.Open(cache.Default(fresh))
	if err != nil {
		return nil, err
	}
	touched, err = cache.Salvage(cache.Default(damaged), to)
	return touched, errors.Join(err, to.Close())
}

// remembered returns where peers of an earlier life are, for a node whose store
// is gone though its data directory is not.
func (n *Node) remembered() []string {
	peers, err := n.peersFile().Load()
	if err != nil {
		return nil // damaged too: the addresses to join are the operator's to give
	}
	var out []string
	for _, p := range peers {
		out = append(out, p.Addresses...)
	}
	return out
}
