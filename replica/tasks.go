package replica

import (
	"context"
	"sync"

	"edged.dev/edged/replica/core"
)

// tasks owns the goroutines of a Replica: all are started through it, end with
// its context, and are waited for.
type tasks struct {
	mu     sync.Mutex
	ctx    context.Context
	wg     sync.WaitGroup
	opened chan struct{}
}

func newTasks() *tasks { return &tasks{opened: make(chan struct{})} }

func (t *tasks) open(ctx context.Context) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ctx = ctx
	close(t.opened)
}

// run starts fn, unless the context has ended or was never opened.
func (t *tasks) run(fn func(ctx context.Context)) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ctx == nil || t.ctx.Err() != nil {
		return false
	}
	ctx := t.ctx
	t.wg.Add(1)
	go func() {
		defer t.wg.Done()
		fn(ctx)
	}()
	return true
}

// send hands work to a queue, or drops it when everything ends.
func (t *tasks) send(q chan []core.Effect, work []core.Effect) {
	t.mu.Lock()
	ctx := t.ctx
	t.mu.Unlock()
	if ctx == nil {
		select {
		case q <- work:
		default:
		}
		return
	}
	select {
	case q <- work:
	case <-ctx.Done():
	}
}

func (t *tasks) wait() { t.wg.Wait() }
