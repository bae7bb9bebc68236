package replica

import (
	"context"
	"sync"
)

// tasks owns the goroutines of a Replica: all are started through it, end with
// its context, and are waited for.
type tasks struct {
	mu  sync.Mutex
	ctx context.Context
	wg  sync.WaitGroup
}

func (t *tasks) open(ctx context.Context) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ctx = ctx
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

// wait returns when all have ended. The context has.
func (t *tasks) wait() {
	t.mu.Lock()
	started := &t.wg // whoever saw the context alive has been counted by now
	t.mu.Unlock()
	started.Wait()
}
