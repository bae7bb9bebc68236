package transport

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

// dialing is one dial of an address, however many wait for it. err is set before
// done is closed.
type dialing struct {
	addr string
	done chan struct{}
	err  error
}

// backoff is when gossip may dial an address again.
type backoff struct {
	until time.Time
	delay time.Duration
}

// Connect makes sure that there is a connection with the node at addr, host:port,
// and waits for it: it returns nil at once if addr is known to lead to a living
// one. Run does the dialing; a dial goes on when ctx ends early, and is shared by
// all who ask for the address meanwhile.
func (t *Transport) Connect(ctx context.Context, addr string) error {
	if t.route(addr) != nil {
		return nil
	}
	d, err := t.startDial(addr, true)
	if err != nil {
		return fmt.Errorf("connect %s: %w", addr, err)
	}
	select {
	case <-d.done:
		if d.err != nil {
			return fmt.Errorf("connect %s: %w", addr, d.err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("connect %s: %w", addr, context.Cause(ctx))
	}
}

// startDial joins the dial of addr in flight or asks Run for one. Unless asked
// outright, a dial keeps its distance from those that failed, and is then nil.
func (t *Transport) startDial(addr string, outright bool) (*dialing, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, ErrClosed
	}
	if d := t.dials[addr]; d != nil {
		return d, nil
	}
	if b := t.backoff[addr]; b != nil && !outright && time.Now().Before(b.until) {
		return nil, nil
	}
	if len(t.dials) >= maxDials {
		return nil, ErrBusy
	}
	d := &dialing{addr: addr, done: make(chan struct{})}
	t.dials[addr] = d
	t.pending = append(t.pending, d)
	select {
	case t.dialWake <- struct{}{}:
	default:
	}
	return d, nil
}

func (t *Transport) dialLoop(ctx context.Context, g *errgroup.Group) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.dialWake:
		}
		for _, d := range t.takePending() {
			g.Go(func() error {
				p, err := t.reach(ctx, d.addr)
				if p == nil {
					t.finishDial(d, err)
					return nil
				}
				p.onUp = func() { t.finishDial(d, nil) }
				t.serve(ctx, p)
				return nil
			})
		}
	}
}

func (t *Transport) takePending() []*dialing {
	t.mu.Lock()
	defer t.mu.Unlock()
	pending := t.pending
	t.pending = nil
	return pending
}

func (t *Transport) finishDial(d *dialing, err error) {
	t.mu.Lock()
	delete(t.dials, d.addr)
	if err == nil {
		delete(t.backoff, d.addr)
	} else {
		t.backOffLocked(d.addr, time.Now())
	}
	t.mu.Unlock()
	d.err = err
	close(d.done)
}

func (t *Transport) backOffLocked(addr string, now time.Time) {
	b := t.backoff[addr]
	if b == nil {
		if len(t.backoff) >= maxDials {
			t.forgetBackoffLocked(now)
		}
		b = &backoff{delay: minBackoff / 2}
		t.backoff[addr] = b
	}
	b.delay = min(2*b.delay, maxBackoff)
	b.until = now.Add(b.delay)
}

// forgetBackoffLocked makes room: what has passed goes, or else everything, as a
// table this full is not of a cluster's own addresses.
func (t *Transport) forgetBackoffLocked(now time.Time) {
	for addr, b := range t.backoff {
		if now.After(b.until) {
			delete(t.backoff, addr)
		}
	}
	if len(t.backoff) >= maxDials {
		clear(t.backoff)
	}
}
