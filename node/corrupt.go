package node

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"edged.dev/edged/cluster"
)

// corruptFile in the data directory says that a file of the store was found
// damaged. A copy that cannot be read must neither serve nor be skipped over, so
// the node ends; its next start sets the store aside and fetches everything from
// the other owners, as a node with an empty disk does.
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
	n.halt(fmt.Errorf("store file %s is corrupt (%w): start the node again, and it sets the store aside and fetches its copies from the other owners", path, err))
}

// setAsideCorrupt renames a store that was found damaged, and removes one that was
// renamed before. The new store has a node ID of its own.
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
	n.log.Error("the store was found corrupt; it is set aside, and the copies are fetched anew",
		slog.String("found", strings.TrimSpace(string(text))), slog.String("kept", aside))
	if err := os.RemoveAll(aside); err != nil {
		return fmt.Errorf("remove an earlier corrupt store: %w", err)
	}
	if err := os.Rename(n.storeDir(), aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("set the corrupt store aside: %w", err)
	}
	return os.Remove(marker)
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
