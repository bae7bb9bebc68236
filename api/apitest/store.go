// Package apitest has an in-memory api.Store with which the front doors are
// tested: its answers follow the contract of kv.Request, and a test can hold
// requests in flight, make them fail and look at what arrived.
package apitest

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"edged.dev/edged/api"
	"edged.dev/edged/internal/kv"
)

// copies is the count of durable copies that every write claims.
const copies = 3

// Store is a cluster of one map. It is safe for concurrent use.
type Store struct {
	now func() time.Time

	mu      sync.Mutex
	objects map[string]*object
	seq     uint64
	fail    func(*kv.Request) error
	adorn   func(*kv.Request, *kv.Response)
	noFast  bool
	fence   []byte
	holding bool
	held    []*call
	started int
	wake    chan struct{} // closed and replaced whenever a request starts
}

type object struct {
	versions []version // oldest first; the last is shown
}

type version struct {
	value     []byte
	seq       uint64
	expiresMS int64
}

type call struct {
	req  *kv.Request
	done func(*kv.Response, error)
}

var _ api.Store = (*Store)(nil)

// New returns an empty store that tells expired values by now.
func New(now func() time.Time) *Store {
	return &Store{now: now, objects: map[string]*object{}, wake: make(chan struct{})}
}

// Fail makes every request answer fn's error where it returns one; nil ends it.
func (s *Store) Fail(fn func(*kv.Request) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = fn
}

// Adorn lets fn look at every request that succeeds and change its answer; nil
// ends it.
func (s *Store) Adorn(fn func(*kv.Request, *kv.Response)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.adorn = fn
}

// SlowReads makes GetFast handle nothing, so that every read goes through Start.
func (s *Store) SlowReads(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noFast = on
}

// Fence makes every write answer with that read fence; nil ends it.
func (s *Store) Fence(fence []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fence = fence
}

// Hold keeps every request that starts from now on in flight until Release.
func (s *Store) Hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holding = true
}

// Release answers the held requests, the last started first, and holds no more.
func (s *Store) Release() {
	s.mu.Lock()
	held := s.held
	s.held, s.holding = nil, false
	s.mu.Unlock()
	for i := len(held) - 1; i >= 0; i-- {
		held[i].done(s.run(held[i].req))
	}
}

// ReleaseFirst answers the held request that was started first, and goes on holding.
func (s *Store) ReleaseFirst() {
	s.mu.Lock()
	first := s.held[0]
	s.held = s.held[1:]
	s.mu.Unlock()
	first.done(s.run(first.req))
}

// Held returns how many requests are held.
func (s *Store) Held() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.held)
}

// Started returns how many requests were started since New.
func (s *Store) Started() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.started
}

// WaitStarted returns once n requests have started since New, or with an error
// when ctx ends first.
func (s *Store) WaitStarted(ctx context.Context, n int) error {
	for {
		s.mu.Lock()
		started, wake := s.started, s.wake
		s.mu.Unlock()
		if started >= n {
			return nil
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return fmt.Errorf("wait for %d requests, have %d: %w", n, started, ctx.Err())
		}
	}
}

// Put stores a value as a plain write would.
func (s *Store) Put(key, value string) {
	if _, err := s.run(&kv.Request{Op: kv.OpSet, Key: []byte(key), Value: []byte(value)}); err != nil {
		panic("bug: put failed: " + err.Error())
	}
}

// Value returns what a read of key would show.
func (s *Store) Value(key string) (value string, found bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.shownLocked([]byte(key))
	if v == nil {
		return "", false
	}
	return string(v.value), true
}

// Expires returns the absolute expiry of what a read of key would show, in
// Unix milliseconds; 0 is none.
func (s *Store) Expires(key string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.shownLocked([]byte(key)); v != nil {
		return v.expiresMS
	}
	return 0
}

// Start implements api.Store.
func (s *Store) Start(ctx context.Context, req *kv.Request, done func(*kv.Response, error)) {
	s.mu.Lock()
	s.started++
	close(s.wake)
	s.wake = make(chan struct{})
	if s.holding {
		s.held = append(s.held, &call{req, done})
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	if ctx.Err() != nil {
		done(nil, kv.Errorf(kv.CodeTimeout, "deadline passed before anything was started"))
		return
	}
	done(s.run(req))
}

// GetFast implements api.Store.
func (s *Store) GetFast(dst, key []byte) (value []byte, found, handled bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.noFast || s.fail != nil {
		return dst, false, false
	}
	o := s.objects[string(key)]
	if o == nil {
		return dst, false, true
	}
	if len(o.versions) != 1 || o.versions[0].expiresMS != 0 {
		return dst, false, false
	}
	return append(dst, o.versions[0].value...), true, true
}

// Scan implements api.Store. Keys are in the order of their hashes, and the
// cursor is the last one's: so it stays true when keys come and go.
func (s *Store) Scan(_ context.Context, cursor string, limit int, prefix []byte) ([]api.ScannedKey, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		if err := s.fail(&kv.Request{Op: kv.OpGet, Key: prefix}); err != nil {
			return nil, "", err
		}
	}
	after := uint64(0)
	if cursor != "" {
		n, err := strconv.ParseUint(cursor, 10, 62)
		if err != nil {
			return nil, "", kv.Errorf(kv.CodeInvalid, "cursor %q is not one of a scan", cursor)
		}
		after = n
	}
	type spot struct {
		at   uint64
		name string
	}
	var spots []spot
	for name := range s.objects {
		if at := place(name); at > after && s.shownLocked([]byte(name)) != nil {
			spots = append(spots, spot{at, name})
		}
	}
	slices.SortFunc(spots, func(a, b spot) int { return cmp.Compare(a.at, b.at) })
	var keys []api.ScannedKey
	for i, next := range spots {
		if i >= limit && next.at != after {
			return keys, strconv.FormatUint(after, 10), nil
		}
		after = next.at
		if strings.HasPrefix(next.name, string(prefix)) {
			keys = append(keys, api.ScannedKey{Key: []byte(next.name), ExpiresMS: s.shownLocked([]byte(next.name)).expiresMS})
		}
	}
	return keys, "", nil
}

// place is where a key stands in a scan, never 0.
func place(name string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(name)) // a hash never refuses
	return h.Sum64()>>3 | 1
}

// Count implements api.Store.
func (s *Store) Count(context.Context) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var n int64
	for name := range s.objects {
		if s.shownLocked([]byte(name)) != nil {
			n++
		}
	}
	return n, nil
}

func (s *Store) shownLocked(key []byte) *version {
	o := s.objects[string(key)]
	if o == nil {
		return nil
	}
	v := &o.versions[len(o.versions)-1]
	if v.expiresMS != 0 && v.expiresMS <= s.now().UnixMilli() {
		delete(s.objects, string(key))
		return nil
	}
	return v
}

func (s *Store) etagLocked(key []byte) string {
	o := s.objects[string(key)]
	if o == nil {
		return ""
	}
	h := fnv.New64a()
	for _, v := range o.versions {
		h.Write(binary.BigEndian.AppendUint64(nil, v.seq)) // a hash never refuses
	}
	return strconv.FormatUint(h.Sum64(), 16)
}

// tokenLocked is the newest version's number and the key it is bound to.
func (s *Store) tokenLocked(key []byte) []byte {
	var seq uint64
	if o := s.objects[string(key)]; o != nil {
		seq = o.versions[len(o.versions)-1].seq
	}
	return append(strconv.AppendUint(nil, seq, 10), ":"+string(key)...)
}
