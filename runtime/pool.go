package wasmrt

import (
	"container/list"
	"context"
	"sync"
)

// pool decides who may run. It counts instances and their memory; it makes and
// closes none itself, so nothing slow happens under its lock.
//
// An instance that runs is counted with the most memory it can grow to, an idle
// one with what it has. A call waits, in order of arrival, until it fits beside
// the others that run; idle instances give way to it, the least recently used
// first.
type pool struct {
	maxBytes            int64
	maxRunning, maxIdle int

	mu           sync.Mutex
	closed       bool
	imageBytes   int64
	runningBytes int64
	idleBytes    int64
	running      int
	idle         list.List // of *instance, most recently used first
	waiters      list.List // of *waiter, in order of arrival
	drained      chan struct{}
}

type waiter struct {
	m        *Module
	admitted bool          // counted as running
	ready    chan struct{} // closed once admitted, or turned away
}

func newPool(c Config) *pool {
	return &pool{maxBytes: c.MaxMemoryBytes, maxRunning: c.MaxRunning, maxIdle: c.MaxIdle, drained: make(chan struct{})}
}

// acquire waits until one more call of m may run. It returns an idle instance of
// m, or nil where the caller must make one, and instances to close. Whoever got
// no error owes a release.
func (p *pool) acquire(ctx context.Context, m *Module) (in *instance, evicted []*instance, err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || m.closed {
		return nil, nil, ErrClosed
	}
	if p.waiters.Len() > 0 || !p.fitsLocked(m) {
		if err := p.waitLocked(ctx, m); err != nil {
			return nil, nil, err
		}
	} else {
		p.admitLocked(m)
	}
	in = p.takeIdleLocked(m)
	return in, p.evictLocked(), nil
}

func (p *pool) fitsLocked(m *Module) bool {
	return p.running < p.maxRunning && p.imageBytes+p.runningBytes+m.maxBytes <= p.maxBytes
}

func (p *pool) admitLocked(m *Module) {
	p.running++
	p.runningBytes += m.maxBytes
	m.running++
}

// waitLocked lets go of the lock while it waits. It returns nil once admitted.
func (p *pool) waitLocked(ctx context.Context, m *Module) error {
	w := &waiter{m: m, ready: make(chan struct{})}
	e := p.waiters.PushBack(w)
	p.mu.Unlock()
	var ended error
	select {
	case <-w.ready:
	case <-ctx.Done():
		ended = ctx.Err()
	}
	p.mu.Lock()
	if ended == nil && (p.closed || m.closed) {
		ended = ErrClosed
	}
	if ended == nil {
		return nil
	}
	// Gone, though perhaps admitted at the same moment. Either way the next in
	// line may fit now.
	if w.admitted {
		p.releaseLocked(m)
		return ended
	}
	p.waiters.Remove(e) // does nothing where it was turned away
	if !p.closed {
		p.admitWaitersLocked()
	}
	return ended
}

func (p *pool) admitWaitersLocked() {
	for e := p.waiters.Front(); e != nil; e = p.waiters.Front() {
		w := e.Value.(*waiter)
		if !p.fitsLocked(w.m) {
			return
		}
		p.admitLocked(w.m)
		w.admitted = true
		p.waiters.Remove(e)
		close(w.ready)
	}
}

func (p *pool) takeIdleLocked(m *Module) *instance {
	for e := p.idle.Front(); e != nil; e = e.Next() {
		if in := e.Value.(*instance); in.m == m {
			p.idleBytes -= in.bytes()
			p.idle.Remove(e)
			return in
		}
	}
	return nil
}

// evictLocked removes idle instances until the rest fits.
func (p *pool) evictLocked() (evicted []*instance) {
	for p.idle.Len() > p.maxIdle || p.idle.Len() > 0 && p.imageBytes+p.runningBytes+p.idleBytes > p.maxBytes {
		e := p.idle.Back()
		in := e.Value.(*instance)
		p.idleBytes -= in.bytes()
		p.idle.Remove(e)
		evicted = append(evicted, in)
	}
	return evicted
}

// release ends a call of m. The instance, if it is given, stays for later calls;
// what is returned is to be closed.
func (p *pool) release(m *Module, in *instance) (evicted []*instance) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if in != nil && (p.closed || m.closed) {
		evicted, in = append(evicted, in), nil
	}
	if in != nil {
		p.idle.PushFront(in)
		p.idleBytes += in.bytes()
	}
	p.releaseLocked(m)
	return append(evicted, p.evictLocked()...)
}

func (p *pool) releaseLocked(m *Module) {
	p.running--
	p.runningBytes -= m.maxBytes
	m.running--
	if m.closed && m.running == 0 {
		close(m.drained)
	}
	if p.closed {
		if p.running == 0 {
			close(p.drained)
		}
		return
	}
	p.admitWaitersLocked()
}

// addImage sets memory aside for the image of a module, for as long as it lives.
func (p *pool) addImage(bytes int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.imageBytes+bytes+maxMemoryPages*wasmPageBytes > p.maxBytes {
		return ErrBudget
	}
	p.imageBytes += bytes
	return nil
}

// drop takes a module out: no call of it begins any more, and its idle instances
// are returned for closing. It waits until ctx ends for the calls that run.
func (p *pool) drop(ctx context.Context, m *Module) ([]*instance, error) {
	p.mu.Lock()
	if m.closed {
		p.mu.Unlock()
		return nil, ErrClosed
	}
	m.closed = true
	p.imageBytes -= int64(len(m.image))
	var idle []*instance
	for in := p.takeIdleLocked(m); in != nil; in = p.takeIdleLocked(m) {
		idle = append(idle, in)
	}
	p.turnAwayLocked(func(w *waiter) bool { return w.m == m })
	if m.running == 0 {
		close(m.drained)
	}
	if !p.closed {
		p.admitWaitersLocked()
	}
	p.mu.Unlock()
	select {
	case <-m.drained:
		return idle, nil
	case <-ctx.Done():
		return idle, ctx.Err()
	}
}

// close turns everyone away, waits for the calls that run, and returns the idle
// instances for closing.
func (p *pool) close(ctx context.Context) ([]*instance, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, ErrClosed
	}
	p.closed = true
	p.turnAwayLocked(func(*waiter) bool { return true })
	var idle []*instance
	for e := p.idle.Front(); e != nil; e = e.Next() {
		idle = append(idle, e.Value.(*instance))
	}
	p.idle.Init()
	p.idleBytes = 0
	if p.running == 0 {
		close(p.drained)
	}
	p.mu.Unlock()
	select {
	case <-p.drained:
		return idle, nil
	case <-ctx.Done():
		return idle, ctx.Err()
	}
}

// turnAwayLocked wakes waiters that will never be admitted.
func (p *pool) turnAwayLocked(match func(*waiter) bool) {
	for e := p.waiters.Front(); e != nil; {
		next := e.Next()
		if w := e.Value.(*waiter); match(w) {
			p.waiters.Remove(e)
			close(w.ready)
		}
		e = next
	}
}

func (p *pool) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

func (p *pool) stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Stats{
		Running: p.running, Idle: p.idle.Len(), Waiting: p.waiters.Len(),
		MemoryBytes: p.imageBytes + p.runningBytes + p.idleBytes,
	}
}
