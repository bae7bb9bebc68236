package replica

import (
	"context"
	"errors"
	"sync"
	"time"

	"edged.dev/edged/transport/wire"
)

// A donor compresses faster than its receiver writes down, and what a receiver had got
// and not written when it died has to come again. So a donor keeps a window under way:
// the receiver tells it which chunks are written (TAKEN), and it goes on by that.

const (
	// windowBytes is what a session keeps under way where the round trip is nothing:
	// some chunks of small values. With a chunk or two (16 KiB) a return on busy
	// processors took 1.7 times as long as with a mebibyte, with this 1.2 times.
	windowBytes = 64 << 10
	// takeRate is what a receiver is thought to write, in compressed bytes a second,
	// until it has written faster: values of 200 bytes at 14 us each.
	takeRate = 4 << 20
	// maxWindowBytes is all that a stream of the transport has room for.
	maxWindowBytes = 1 << 20
	// takeWait is how long a receiver may take for a window before its lane is given up,
	// and with it a snapshot: its own store would have ended it long before.
	takeWait = time.Minute
)

var errNotTaken = errors.New("the receiver takes nothing more")

// window is what a donor keeps of a lane under way: no more than its size, or else the
// one chunk that is being written.
type window struct {
	rtt   time.Duration
	lanes int64        // that share the session's
	now   func() int64 // nanoseconds

	mu      sync.Mutex
	since   int64 // the first chunk began
	begun   uint64
	sent    int64
	taken   uint64        // chunks
	takenTo int64         // where they end
	ends    []int64       // of the chunks between those taken and the last begun
	more    chan struct{} // closed when some are taken; nil: nobody waits
}

// begin notes that a chunk begins.
func (w *window) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.begun == 0:
		w.since = w.now()
	case w.taken == w.begun:
		w.takenTo = w.sent
	default:
		w.ends = append(w.ends, w.sent)
	}
	w.begun++
}

// take takes the receiver's word that so many chunks are written.
func (w *window) take(chunks uint64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case chunks > w.begun:
		return wire.Breached(wire.BreachUnasked, "%d chunks of a lane are taken, of which %d were sent", chunks, w.begun)
	case chunks <= w.taken:
		return wire.Breached(wire.BreachReplayed, "%d chunks of a lane are taken, after %d", chunks, w.taken)
	}
	if n := min(int(chunks-w.taken), len(w.ends)); n > 0 {
		w.takenTo, w.ends = w.ends[n-1], w.ends[n:]
	}
	w.taken = chunks
	if w.more != nil {
		close(w.more)
		w.more = nil
	}
	return nil
}

// sizeLocked is what may be under way: what a window is without a round trip, and
// twice what is written within one. The caller holds mu.
func (w *window) sizeLocked() int64 {
	rate := float64(takeRate)
	if past := time.Duration(w.now() - w.since).Seconds(); past > 0 {
		rate = max(rate, float64(w.takenTo)/past)
	}
	return min(windowBytes+int64(2*rate*w.rtt.Seconds()), maxWindowBytes) / w.lanes
}

// room returns how many of n bytes may be written now; for none, what to wait for.
func (w *window) room(n int) (int, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.taken+1 >= w.begun { // nothing but the chunk that is being written
		return n, nil
	}
	if free := w.sizeLocked() - (w.sent - w.takenTo); free > 0 {
		return min(n, int(free)), nil
	}
	if w.more == nil {
		w.more = make(chan struct{})
	}
	return 0, w.more
}

// wait waits until some of n bytes may be written, and returns how many.
func (w *window) wait(ctx context.Context, done <-chan struct{}, n int) (int, error) {
	var timeout *time.Timer
	for {
		free, more := w.room(n)
		if free > 0 {
			return free, nil
		}
		if timeout == nil {
			timeout = time.NewTimer(takeWait)
			defer timeout.Stop()
		}
		select {
		case <-more:
		case <-done:
			return 0, errNotTaken
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-timeout.C:
			return 0, errNotTaken
		}
	}
}

func (w *window) wrote(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent += int64(n)
}

// laneKey names a lane that this node streams.
type laneKey struct {
	name    string // of the receiver
	session uint64
	lane    uint8
}

func (s *sessions) openWindow(k laneKey, w *window) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.windows[k] = w
}

func (s *sessions) closeWindow(k laneKey, w *window) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.windows[k] == w { // a peer may use a number twice
		delete(s.windows, k)
	}
}

// takenBy takes a TAKEN of a peer. One may come when its lane is over.
func (r *Replica) takenBy(name string, t wire.Taken) error {
	r.sessions.mu.Lock()
	w := r.sessions.windows[laneKey{name, t.Session, t.Lane}]
	r.sessions.mu.Unlock()
	if w == nil {
		return nil
	}
	return w.take(t.Chunks)
}

// taking is what a receiver knows of how far a lane is written down. The zero value is
// ready once tell is set.
type taking struct {
	tell func(chunks uint64) // with mu, so that what it sends goes in order; it does not wait

	mu      sync.Mutex
	handed  uint64 // objects given to the store
	written uint64 // of them
	whole   []taken
}

// taken is a chunk of which something is not written yet.
type taken struct {
	chunks uint64 // it and those before
	handed uint64 // objects of them
}

// hand notes n objects that are given to the store.
func (t *taking) hand(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.handed += uint64(n)
}

// wrote notes that the store has written one.
func (t *taking) wrote() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.written++
	t.tellLocked()
}

// chunk notes that the last of so many chunks was given to the store.
func (t *taking) chunk(chunks uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.whole = append(t.whole, taken{chunks, t.handed})
	t.tellLocked()
}

func (t *taking) tellLocked() {
	n := 0
	for n < len(t.whole) && t.whole[n].handed <= t.written {
		n++
	}
	if n > 0 {
		t.tell(t.whole[n-1].chunks)
		t.whole = t.whole[n:]
	}
}

// writes reports whether the store has not written all that it was given.
func (t *taking) writes() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.written < t.handed
}
