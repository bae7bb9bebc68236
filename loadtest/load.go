package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// pipelineDepth is how many commands are in flight on a connection, and
	// connsPerNode how many connections there are: enough to fill the commit
	// groups, and bounded.
	pipelineDepth = 128
	connsPerNode  = 2
	// retryWait is the pause before what was refused is sent again, and
	// retryLimit ends that: a partition whose first owner has just died finds
	// another in about 2 s.
	retryWait  = 50 * time.Millisecond
	retryLimit = 20 * time.Second
)

// write is one change of a key: a value, or its removal.
type write struct {
	key    int
	number uint32 // of the value
	remove bool
}

// loader writes through the RESP doors of some nodes, pipelined, and notes in
// the ledger what was acknowledged.
type loader struct {
	ledger *ledger
	doors  []door
	// step is told how many writes were acknowledged since the last call; it
	// may be called from several goroutines.
	step func(int)

	retries atomic.Int64 // writes that were sent again
	mu      sync.Mutex
	reasons []string // why, each once
}

// retried notes writes that are sent again, and why.
func (l *loader) retried(n int, why error) {
	l.retries.Add(int64(n))
	l.mu.Lock()
	defer l.mu.Unlock()
	if text := why.Error(); len(l.reasons) < maxFaults && !slices.Contains(l.reasons, text) {
		l.reasons = append(l.reasons, text)
	}
}

// run applies the writes, which must not name a key twice, and returns when
// all are acknowledged or one is refused for good.
func (l *loader) run(ctx context.Context, writes []write) error {
	group, ctx := errgroup.WithContext(ctx)
	lanes := len(l.doors) * connsPerNode
	for i := range lanes {
		from, to := len(writes)*i/lanes, len(writes)*(i+1)/lanes
		if from == to {
			continue
		}
		group.Go(func() error {
			lane := &loadLane{loader: l, addr: l.doors[i%len(l.doors)].resp}
			defer lane.close()
			return lane.run(ctx, writes[from:to])
		})
	}
	return group.Wait()
}

// loadLane is one connection of a loader.
type loadLane struct {
	*loader
	addr string
	conn *respConn
	buf  []byte
}

func (l *loadLane) close() {
	if l.conn != nil {
		l.conn.close()
		l.conn = nil
	}
}

func (l *loadLane) run(ctx context.Context, writes []write) error {
	for len(writes) > 0 {
		n := min(pipelineDepth, len(writes))
		if err := l.batch(ctx, writes[:n]); err != nil {
			return err
		}
		writes = writes[n:]
	}
	return nil
}

// batch sends writes until each is acknowledged. Sending one again that may
// have taken effect is harmless: it is the same value of the same writer.
func (l *loadLane) batch(ctx context.Context, writes []write) error {
	giveUp := time.Now().Add(retryLimit)
	for {
		refused, err := l.try(ctx, writes)
		if len(refused) == 0 && err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if time.Now().After(giveUp) {
			return fmt.Errorf("write %s at %s: %w", l.ledger.key(refused[0].key), l.addr, err)
		}
		l.retried(len(refused), err)
		if err := pause(ctx, retryWait); err != nil {
			return err
		}
		writes = refused
	}
}

// try sends writes once and returns those that were not acknowledged, with why
// the last of them was not.
func (l *loadLane) try(ctx context.Context, writes []write) (refused []write, why error) {
	if l.conn == nil {
		conn, err := dialRESP(ctx, l.addr)
		if err != nil {
			return writes, err
		}
		l.conn = conn
	}
	for _, w := range writes {
		l.send(w)
	}
	if err := l.conn.flush(); err != nil {
		l.close()
		return writes, err
	}
	done := 0
	for i, w := range writes {
		_, err := l.conn.receive()
		if err != nil && !replied(err) {
			l.close()
			l.step(done)
			return append(refused, writes[i:]...), err
		}
		if err != nil {
			refused, why = append(refused, w), err
			continue
		}
		l.acknowledged(w)
		done++
	}
	l.step(done)
	return refused, why
}

func (l *loadLane) send(w write) {
	key := []byte(l.ledger.key(w.key))
	if w.remove {
		l.conn.send([]byte("DEL"), key)
		return
	}
	l.buf = l.ledger.values.append(l.buf[:0], w.number)
	l.conn.send([]byte("SET"), key, l.buf)
}

func (l *loadLane) acknowledged(w write) {
	want := &l.ledger.want[w.key]
	if w.remove {
		want.gone = true
		return
	}
	*want = expectation{a: w.number}
}

// conflict writes a key twice, at two nodes, each with the token of what was
// there before: both supersede that, and neither the other.
func conflict(ctx context.Context, kv *kvClient, l *ledger, doors []door, key int) error {
	name := l.key(key)
	before, err := kv.get(ctx, doors[0].http, name)
	if err != nil {
		return err
	}
	if !before.found || before.token == "" {
		return fmt.Errorf("make conflict on %s: %w", name, errNoToken)
	}
	pair := expectation{a: l.number(), b: l.number()}
	for i, number := range []uint32{pair.a, pair.b} {
		if _, err := kv.put(ctx, doors[i%len(doors)].http, name, before.token, l.values.of(number)); err != nil {
			return err
		}
	}
	l.want[key] = pair
	return nil
}

// errNoToken is an answer without the causality token that it must have.
var errNoToken = errors.New("the answer has no value or no token")

// pause waits for d or for the context's end, which is an error.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
