package policies

import (
	"crypto/sha256"
	"slices"
	"sync"
)

const (
	// maxMemo bounds the merges that are remembered: as many conflicts that a bad
	// policy fails at as one node is likely to be asked for again and again. With
	// maxMemoValue they take 5 MiB at most.
	maxMemo = 4096
	// maxMemoValue bounds the value of a costly merge that is remembered; a larger one
	// is made anew.
	maxMemoValue = 1 << 10
	// costlyShare is the share of its fuel from which a merge is remembered though it
	// succeeded: a tenth of the default is some 500 us, a thousand times a usual merge.
	costlyShare = 10
)

// memo remembers what became of merges that failed or cost much: a guest is a pure
// function of its module, its manifest and the request, so the same conflict under the
// same policy ends the same way, and each read of one that loops need not burn the
// policy's whole fuel. What fails for the node's own reasons is not remembered. Merges
// that are neither are not either: they cost less than it would to find them here.
type memo struct {
	mu    sync.Mutex
	known map[memoKey]decision
	order []memoKey      // of known, oldest first, in a ring that begins at first
	first int            // in order, once it is full
	of    map[string]int // entries by policy id
	hits  uint64
}

// memoKey names a policy, which has all that can change a result, and the request:
// the object as the guest is shown it.
type memoKey struct {
	policy  string
	request [sha256.Size]byte
}

func newMemo() *memo { return &memo{known: map[memoKey]decision{}, of: map[string]int{}} }

// find returns what is remembered of a request, and the key to remember it by.
func (m *memo) find(policy string, request []byte) (k memoKey, d decision, ok bool) {
	m.mu.Lock()
	none := m.of[policy] == 0
	m.mu.Unlock()
	if none { // the usual case, which is not made to hash its values
		return memoKey{}, decision{}, false
	}
	k = memoKey{policy, sha256.Sum256(request)}
	m.mu.Lock()
	defer m.mu.Unlock()
	if d, ok = m.known[k]; ok {
		m.hits++
	}
	return k, d, ok
}

// keep remembers a decision that is worth it. k is what find returned.
func (m *memo) keep(k memoKey, policy string, request []byte, d decision, limits Limits) {
	if !worthKeeping(d, limits) {
		return
	}
	if k.policy == "" {
		k = memoKey{policy, sha256.Sum256(request)}
	}
	d.verdict.Value = slices.Clone(d.verdict.Value)
	d.log, d.detail = nil, nil
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.known[k]; known {
		return
	}
	if len(m.order) < maxMemo {
		m.order = append(m.order, k)
	} else {
		m.forgetLocked(m.order[m.first])
		m.order[m.first] = k
		m.first = (m.first + 1) % maxMemo
	}
	m.known[k] = d
	m.of[k.policy]++
}

func (m *memo) forgetLocked(k memoKey) {
	delete(m.known, k)
	if m.of[k.policy]--; m.of[k.policy] == 0 {
		delete(m.of, k.policy)
	}
}

func worthKeeping(d decision, limits Limits) bool {
	if len(d.verdict.Value) > maxMemoValue {
		return false
	}
	return d.reason.failed() || d.fuel >= limits.Fuel/costlyShare
}

// Remembered returns how many merges that failed or cost much are remembered, and how
// often one was not made again for it.
func (t *Table) Remembered() (merges int, spared uint64) {
	t.memo.mu.Lock()
	defer t.memo.mu.Unlock()
	return len(t.memo.known), t.memo.hits
}
