package cluster

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// Peer is a node to look for when it is not there.
type Peer struct {
	Name      string   `json:"name"`
	Node      uint64   `json:"node"`
	Boot      uint32   `json:"boot"`
	Addresses []string `json:"addresses"`
}

// PeerStore keeps the remembered peers between lives.
type PeerStore interface {
	Load() ([]Peer, error)
	Save(peers []Peer) error
}

// FileStore keeps peers in a JSON file at the path, replaced whole at each save.
type FileStore string

// Load reads the file; none is no peers. A file that does not parse is an error:
// without its peers a node could not find its cluster, and would not say so.
func (f FileStore) Load() ([]Peer, error) {
	info, err := os.Stat(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("load peers: %w", err)
	}
	if info.Size() > maxPeerFileBytes {
		return nil, fmt.Errorf("load peers: %s has %d bytes, at most %d", f, info.Size(), maxPeerFileBytes)
	}
	b, err := os.ReadFile(string(f))
	if err != nil {
		return nil, fmt.Errorf("load peers: %w", err)
	}
	var peers []Peer
	if err := json.Unmarshal(b, &peers); err != nil {
		return nil, fmt.Errorf("load peers: %s: %w", f, err)
	}
	return peers, nil
}

// Save writes the file beside its place, flushes it, and renames it into it.
func (f FileStore) Save(peers []Peer) error {
	b, err := json.MarshalIndent(peers, "", "  ")
	if err != nil {
		return fmt.Errorf("save peers: %w", err)
	}
	file, err := os.CreateTemp(filepath.Dir(string(f)), filepath.Base(string(f))+".*")
	if err != nil {
		return fmt.Errorf("save peers: %w", err)
	}
	_, err = file.Write(append(b, '\n'))
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), string(f))
	}
	if err != nil {
		_ = os.Remove(file.Name())
		return fmt.Errorf("save peers: %w", err)
	}
	return nil
}

// memory is the remembered peers.
type memory struct {
	store PeerStore
	self  uint64

	saving sync.Mutex // held over a save, so that saves are in order

	mu    sync.Mutex
	known map[uint64]Peer
}

func newMemory(store PeerStore, self uint64) (*memory, error) {
	m := &memory{store: store, self: self, known: map[uint64]Peer{}}
	if store == nil {
		return m, nil
	}
	peers, err := store.Load()
	if err != nil {
		return nil, err
	}
	for _, p := range peers[:min(len(peers), maxPeers)] {
		if p.Node != self {
			m.known[p.Node] = p
		}
	}
	return m, nil
}

// note remembers a living member and saves if that is news.
func (m *memory) note(member Member) error {
	p := Peer{Name: member.Name, Node: member.Node, Boot: member.Boot, Addresses: member.Addresses}
	m.mu.Lock()
	old, known := m.known[p.Node]
	same := known && old.Boot == p.Boot && old.Name == p.Name && slices.Equal(old.Addresses, p.Addresses)
	full := !known && len(m.known) >= maxPeers
	if !same && !full {
		// A name has one data directory: what was remembered of another is past.
		maps.DeleteFunc(m.known, func(_ uint64, q Peer) bool { return q.Name == p.Name })
		m.known[p.Node] = p
	}
	m.mu.Unlock()
	if same || full {
		return nil
	}
	return m.save()
}

func (m *memory) forget(node uint64) error {
	m.mu.Lock()
	delete(m.known, node)
	m.mu.Unlock()
	return m.save()
}

func (m *memory) save() error {
	if m.store == nil {
		return nil
	}
	m.saving.Lock()
	defer m.saving.Unlock()
	return m.store.Save(m.peers())
}

// peers returns the remembered peers by node ID.
func (m *memory) peers() []Peer {
	m.mu.Lock()
	defer m.mu.Unlock()
	peers := slices.Collect(maps.Values(m.known))
	slices.SortFunc(peers, func(a, b Peer) int { return cmp.Compare(a.Node, b.Node) })
	return peers
}
