package replica

import (
	"context"
	"sync"
)

// applyQueueBytes bounds what sessions have handed to the store here and it has not
// written: a lane that finds no room is not read, its donor's writes wait, and so do
// no locks. What clients write waits behind it in the same store, at some 14 us an
// object: 70 ms at a mebibyte.
const applyQueueBytes = 1 << 20

// applyQueue counts it, over all sessions.
type applyQueue struct {
	mu    sync.Mutex
	bytes int64
	most  int64         // that it held
	room  chan struct{} // closed when some is written; nil: nobody waits
}

// admit waits for room for n bytes. What is larger than the queue has it alone.
func (q *applyQueue) admit(ctx context.Context, n int64) error {
	for {
		q.mu.Lock()
		if q.bytes == 0 || q.bytes+n <= applyQueueBytes {
			q.bytes += n
			q.most = max(q.most, q.bytes)
			q.mu.Unlock()
			return nil
		}
		if q.room == nil {
			q.room = make(chan struct{})
		}
		room := q.room
		q.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-room:
		}
	}
}

// has reports whether there is room for n bytes now.
func (q *applyQueue) has(n int64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes == 0 || q.bytes+n <= applyQueueBytes
}

// wrote gives n bytes back.
func (q *applyQueue) wrote(n int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.bytes -= n
	if q.room != nil {
		close(q.room)
		q.room = nil
	}
}

// held returns how many bytes it has, and the most that it had.
func (q *applyQueue) held() (now, most int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes, q.most
}

// ApplyQueue is how many bytes sessions brought that the store has not written.
func (r *Replica) ApplyQueue() int64 {
	now, _ := r.applies.held()
	return now
}
