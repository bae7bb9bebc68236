package transport

import (
	"sync"
	"sync/atomic"
	"time"
)

// bucket is a token bucket of one second's worth.
type bucket struct {
	perSecond float64

	mu     sync.Mutex
	tokens float64
	at     time.Time
}

func newBucket(perSecond float64, now time.Time) *bucket {
	return &bucket{perSecond: perSecond, tokens: perSecond, at: now}
}

// take spends a token if there is one, and says how full the bucket is, 0 to 1.
func (b *bucket) take(now time.Time) (ok bool, fill float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refillLocked(now)
	if b.tokens >= 1 {
		b.tokens--
		ok = true
	}
	return ok, b.tokens / b.perSecond
}

// fill says how full the bucket is, 0 to 1.
func (b *bucket) fill(now time.Time) float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refillLocked(now)
	return b.tokens / b.perSecond
}

func (b *bucket) refillLocked(now time.Time) {
	b.tokens = min(b.perSecond, b.tokens+now.Sub(b.at).Seconds()*b.perSecond)
	b.at = now
}

// budget bounds bytes held at once.
type budget struct {
	limit int64
	used  atomic.Int64
}

func (b *budget) take(n int) bool {
	if b.used.Add(int64(n)) > b.limit {
		b.used.Add(-int64(n))
		return false
	}
	return true
}

func (b *budget) give(n int) { b.used.Add(-int64(n)) }
