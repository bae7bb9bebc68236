package policies

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// The keys of the system partition that belong to policies.
const (
	policyPrefix  = "policy/"
	bindingPrefix = "binding/"
	modulePrefix  = "module/"
)

// Record is one live version of a key of the system partition. Concurrent writes
// leave several of one key.
type Record struct {
	Key                 string
	Value               []byte
	HLC, Actor, Counter uint64
}

// Write is a key and value for the node to write, as it would any other.
type Write struct {
	Key   string
	Value []byte
}

// IsRecord tells the keys of the system partition that Table.Update wants to see.
func IsRecord(key string) bool {
	return strings.HasPrefix(key, policyPrefix) || strings.HasPrefix(key, bindingPrefix) || strings.HasPrefix(key, modulePrefix)
}

func sha256Hex(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// bindingKey names the record of a prefix: its hash, as a prefix may be as long
// as a key and hold any bytes.
func bindingKey(prefix []byte) string { return bindingPrefix + sha256Hex(prefix) }

// repairBindingKey is the record of the one binding of a repair policy.
const repairBindingKey = bindingPrefix + KindRepair

func (b Binding) key() string {
	if b.Kind == KindRepair {
		return repairBindingKey
	}
	return bindingKey(b.Prefix)
}

// SplitModule cuts a module into zstd frames, each below MaxChunkBytes and named
// by its SHA-256, and returns the names in order and the records to write.
func SplitModule(wasm []byte) (names []string, writes []Write, err error) {
	if len(wasm) == 0 || len(wasm) > MaxModuleBytes {
		return nil, nil, fmt.Errorf("split module: %d bytes are not within 1 and %d", len(wasm), MaxModuleBytes)
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(true), zstd.WithWindowSize(zstdWindowBytes))
	if err != nil {
		return nil, nil, fmt.Errorf("split module: %w", err)
	}
	for piece := range slices.Chunk(wasm, chunkPlainBytes) {
		frame := enc.EncodeAll(piece, nil)
		name := sha256Hex(frame)
		names = append(names, name)
		writes = append(writes, Write{Key: modulePrefix + name, Value: frame})
	}
	return names, writes, enc.Close()
}

// JoinModule puts a module together from its stored pieces and verifies each of
// them and the whole. chunk returns the value of a module/ record by the chunk's
// name.
func JoinModule(m Manifest, chunk func(name string) ([]byte, bool)) ([]byte, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(zstdWindowBytes), zstd.WithDecoderMaxMemory(chunkPlainBytes))
	if err != nil {
		return nil, fmt.Errorf("join module: %w", err)
	}
	defer dec.Close()
	var wasm []byte
	for _, name := range m.Chunks {
		frame, ok := chunk(name)
		if !ok {
			return nil, fmt.Errorf("join module %s: chunk %s has not arrived", m.Module, name)
		}
		if len(frame) > MaxChunkBytes || sha256Hex(frame) != name {
			return nil, fmt.Errorf("join module %s: chunk %s is damaged", m.Module, name)
		}
		piece, err := dec.DecodeAll(frame, nil) // the limit would count what is before it in dst
		if err != nil {
			return nil, fmt.Errorf("join module %s: decompress chunk %s: %w", m.Module, name, err)
		}
		wasm = append(wasm, piece...)
		if len(wasm) > m.Size {
			return nil, fmt.Errorf("join module %s: longer than its %d bytes", m.Module, m.Size)
		}
	}
	if len(wasm) != m.Size || sha256Hex(wasm) != m.Module {
		return nil, fmt.Errorf("join module %s: the pieces make up another module", m.Module)
	}
	return wasm, nil
}

// state is what the records of the system partition say.
type state struct {
	manifests map[string]Manifest // by policy id
	bindings  map[string]Binding  // by prefix; the one in force
	conflicts map[string]bool     // prefixes with concurrent bindings
	repair    repairState
	chunks    map[string][]byte // by name
	problems  []string          // records that say nothing
}

// repairState is the binding of a repair policy; its epoch is 0 if there is none.
type repairState struct {
	binding  Binding
	conflict bool
}

// newestRecord orders records like siblings, newest first.
func newestRecord(a, b Record) int {
	return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(b.HLC, a.HLC), cmp.Compare(b.Actor, a.Actor), cmp.Compare(b.Counter, a.Counter))
}

// readState interprets the records, the same from any order of them. A record
// that cannot be read is as if it were not there, and named in problems.
func readState(records []Record) *state {
	s := &state{
		manifests: map[string]Manifest{}, bindings: map[string]Binding{},
		conflicts: map[string]bool{}, chunks: map[string][]byte{},
	}
	for _, r := range slices.SortedFunc(slices.Values(records), newestRecord) {
		var err error
		switch {
		case strings.HasPrefix(r.Key, policyPrefix):
			err = s.addManifest(r)
		case strings.HasPrefix(r.Key, bindingPrefix):
			err = s.addBinding(r)
		case strings.HasPrefix(r.Key, modulePrefix):
			s.chunks[strings.TrimPrefix(r.Key, modulePrefix)] = r.Value
		}
		if err != nil {
			s.problems = append(s.problems, fmt.Sprintf("%.100s: %v", r.Key, err))
		}
	}
	return s
}

func (s *state) addManifest(r Record) error {
	m, err := DecodeManifest(r.Value)
	if err != nil {
		return err
	}
	id := m.ID()
	if policyPrefix+id != r.Key {
		return errors.New("the manifest belongs to another policy")
	}
	if _, newer := s.manifests[id]; !newer {
		s.manifests[id] = m
	}
	return nil
}

// addBinding keeps the binding with the highest epoch, of equal epochs the newest
// record's, which comes first.
func (s *state) addBinding(r Record) error {
	b, err := DecodeBinding(r.Value)
	if err != nil {
		return err
	}
	if b.key() != r.Key {
		return errors.New("the binding belongs to another prefix")
	}
	if b.Kind == KindRepair {
		s.repair.conflict = s.repair.binding.Epoch > 0
		if b.Epoch > s.repair.binding.Epoch {
			s.repair.binding = b
		}
		return nil
	}
	prefix := string(b.Prefix)
	old, found := s.bindings[prefix]
	if found {
		s.conflicts[prefix] = true
	}
	if !found || b.Epoch > old.Epoch {
		s.bindings[prefix] = b
	}
	return nil
}

func (s *state) chunk(name string) ([]byte, bool) {
	b, ok := s.chunks[name]
	return b, ok
}

// binding returns the one of a kind and prefix.
func (s *state) binding(kind string, prefix []byte) (Binding, bool) {
	if kind == KindRepair {
		return s.repair.binding, s.repair.binding.Epoch > 0
	}
	b, ok := s.bindings[string(prefix)]
	return b, ok
}

// has reports whether a policy of a kind is stored, or built in.
func (s *state) has(kind, id string) bool {
	m, ok := s.manifests[id]
	return ok && m.Kind == kind || builtinOf(kind, id)
}

// nextEpoch is above that of every binding.
func (s *state) nextEpoch() uint64 {
	highest := s.repair.binding.Epoch
	for _, b := range s.bindings {
		highest = max(highest, b.Epoch)
	}
	return highest + 1
}
