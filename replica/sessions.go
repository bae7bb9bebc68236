package replica

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/merkle"
	"edged.dev/edged/partition"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"

	"github.com/zeebo/xxh3"
)

const (
	// maxOutgoing bounds the sessions streamed at once: each holds a snapshot and an
	// encoder a lane, and takes of the same processors; a third returning node finds
	// another donor, or its turn.
	maxOutgoing = 2
	// maxAnswered bounds the HELLOs remembered for their DONE.
	maxAnswered = 64
)

// sessions is what a node keeps of the syncs under way, both ways.
type sessions struct {
	ackDue chan struct{}

	mu       sync.Mutex
	pulls    map[uint64]*pull
	answered map[answerKey]*answered
	order    []answerKey // of answered, oldest first
	outgoing int
	lanesOut int // of the outgoing sessions
	windows  map[laneKey]*window
	ends     []partEnd // published, and not told to the machine
	telling  bool      // somebody sees to them
	unsynced []func()  // ends that wait for stable storage
	syncing  bool      // somebody sees to them
}

type answerKey struct {
	name    string
	session uint64
}

// answered is what a donor told in a HELLO_ACK, for the DONE behind it.
type answered struct {
	copies []wire.CopyClock // told; DONE leans on them
	equal  []wire.CopyClock // with the asker's clocks
}

// pull is one session in which this node receives.
type pull struct {
	id    uint64
	name  string
	wants []kv.Partition // fixed before anybody finds it
	some  []kv.Partition // of them, those that need not come whole

	ready chan struct{} // closed when the HELLO is answered, or will not be

	mu    sync.Mutex
	in    map[kv.Partition]*partition.Incoming // of which no lane has begun to stream
	lanes []*arriving                          // by number; nil: none has come yet
	// lanesLeft is how many of the lanes are not over.
	lanesLeft int
	held      int // lanes that wait for room to apply
	answered  bool
	ack       []wire.CopyClock
	equal     []kv.Partition
	ended     []kv.Partition
	came      []kv.Partition // that a lane has begun
	open      int            // ends handed to the committer and not published yet
	over      bool
	told      bool // that the session ended
	watch     *time.Timer
}

// partEnd is an end of a partition that is published.
type partEnd struct {
	pull *pull
	core.PartEnded
}

func (s *sessions) init() {
	s.ackDue = make(chan struct{}, 1)
	s.pulls = map[uint64]*pull{}
	s.answered = map[answerKey]*answered{}
	s.windows = map[laneKey]*window{}
}

func (s *sessions) add(p *pull) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pulls[p.id] = p
}

func (s *sessions) find(id uint64) *pull {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pulls[id]
}

func (s *sessions) remove(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pulls, id)
}

func (s *sessions) remember(k answerKey, a *answered) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.answered[k]; !ok {
		s.order = append(s.order, k)
	}
	s.answered[k] = a
	for len(s.order) > maxAnswered {
		delete(s.answered, s.order[0])
		s.order = s.order[1:]
	}
}

func (s *sessions) recall(k answerKey) *answered {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.answered[k]
}

func (s *sessions) startOutgoing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.outgoing >= maxOutgoing {
		return false
	}
	s.outgoing++
	return true
}

func (s *sessions) endOutgoing() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outgoing--
}

// streamed counts the sessions that this node streams, maxOutgoing at most.
func (s *sessions) streamed() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.outgoing
}

// takeLanes gives a session lanes of those that a node may stream at once: one in
// any case, and of more what others have left.
func (s *sessions) takeLanes(want, most int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := max(min(want, most-s.lanesOut), 1)
	s.lanesOut += n
	return n
}

func (s *sessions) giveLanes(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lanesOut -= n
}

// of returns the pulls from a peer.
func (s *sessions) of(name string) []*pull {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*pull
	for _, p := range s.pulls {
		if p.name == name {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b *pull) int { return cmp.Compare(a.id, b.id) })
	return out
}

func sortCopies(c []wire.CopyClock) {
	slices.SortFunc(c, func(a, b wire.CopyClock) int { return cmp.Compare(a.Partition, b.Partition) })
}

func sortParts(p []kv.Partition) { slices.Sort(p) }

// rootMark is the partition number of the one digest that stands for many: the
// hash over the digests of all partitions whose clocks are now equal.
const rootMark = kv.System - 1

// rootOf hashes the digests of partitions, in order of their numbers.
func rootOf(parts []kv.Partition, digest func(kv.Partition) (merkle.Digest, bool)) (root [16]byte, ok bool) {
	var h xxh3.Hasher
	for _, p := range parts {
		d, ok := digest(p)
		if !ok {
			return root, false
		}
		sum := d.Bytes()
		var head [12]byte
		putU32(head[:], uint32(p))
		putU64(head[4:], d.Count)
		_, _ = h.Write(head[:]) // a Hasher does not fail
		_, _ = h.Write(sum[:])
	}
	sum := h.Sum128()
	putU64(root[:], sum.Lo)
	putU64(root[8:], sum.Hi)
	return root, true
}

func putU32(b []byte, v uint32) {
	for i := range 4 {
		b[i] = byte(v >> (8 * i))
	}
}

func putU64(b []byte, v uint64) {
	for i := range 8 {
		b[i] = byte(v >> (8 * i))
	}
}
