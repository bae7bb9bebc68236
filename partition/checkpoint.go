package partition

import (
	"encoding/binary"

	"github.com/zeebo/xxh3"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
)

// checkpointRecord is the kind of the records of what was last equal with a peer.
const checkpointRecord = 'C'

// Checkpoints returns what KeepCheckpoint kept, by peer. What does not parse is
// left out: it only saves bytes.
func (s *Set) Checkpoints() (map[string][]byte, error) {
	out := map[string][]byte{}
	lower, upper := cache.PrefixRange(cache.AppendSessionPrefix(nil, kv.System, checkpointRecord)...)
	err := s.cfg.Store.Scan(lower, upper, func(_, value []byte) (bool, error) {
		n, k := binary.Uvarint(value)
		if k > 0 && n <= uint64(len(value)-k) {
			out[string(value[k:][:n])] = append([]byte(nil), value[k+int(n):]...)
		}
		return true, nil
	})
	return out, err
}

// KeepCheckpoint plans the record of a table that this node and a peer have in
// common, in place of the one before.
func (s *Set) KeepCheckpoint(peer string, table []byte) {
	sh := s.Add(kv.System)
	value := binary.AppendUvarint(nil, uint64(len(peer)))
	value = append(append(value, peer...), table...)
	sh.gate.RLock()
	defer sh.gate.RUnlock()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	o := sh.plannedLocked(sh.copy.Noop())
	o.batch.Set(cache.AppendSessionKey(nil, kv.System, checkpointRecord, xxh3.HashString(peer)), value)
	s.committer.enqueue(o)
}
