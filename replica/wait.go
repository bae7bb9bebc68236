package replica

import (
	"sync"
	"time"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/replica/core"
)

// waiting is a write that waits for its quorum. settle is called once, without
// the lock.
type waiting struct {
	dot kv.Dot // that it gave out

	mu     sync.Mutex
	quorum core.Quorum
	open   bool // replication began: it may settle
	over   bool
	late   bool
	timer  *time.Timer
	settle func(q core.Quorum, late bool)
}

func (w *waiting) ack(owner, first string) { w.note(func(q *core.Quorum) { q.Ack(owner, first) }) }
func (w *waiting) fail(owner string)       { w.note(func(q *core.Quorum) { q.Fail(owner) }) }

// begin lets the write settle, at the latest after d.
func (w *waiting) begin(d time.Duration) {
	w.mu.Lock()
	w.open = true
	if !w.quorum.Settled() {
		w.timer = time.AfterFunc(d, func() {
			w.mu.Lock()
			w.late = true
			w.mu.Unlock()
			w.note(func(*core.Quorum) {})
		})
	}
	w.mu.Unlock()
	w.note(func(*core.Quorum) {})
}

func (w *waiting) note(fn func(*core.Quorum)) {
	w.mu.Lock()
	fn(&w.quorum)
	if !w.open || w.over || !w.quorum.Settled() && !w.late {
		w.mu.Unlock()
		return
	}
	w.over = true
	if w.timer != nil {
		w.timer.Stop()
	}
	q, late := w.quorum, !w.quorum.Settled()
	w.mu.Unlock()
	w.settle(q, late)
}
