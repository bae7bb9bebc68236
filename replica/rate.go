package replica

import (
	"context"
	"io"
	"sync"
	"time"
)

const (
	// paceBytes is how much of a lane is written at once under a limit, so that a
	// limit is felt evenly and not a chunk at a time.
	paceBytes = 16 << 10
	// paceWait is how long a writer sleeps at most before it looks at the limit
	// again, which may have been changed.
	paceWait = 100 * time.Millisecond
	// burst is how much of the time that passed unused may be made up for.
	burst = int64(100 * time.Millisecond)
)

// pace is the bucket that all lanes of this node draw from.
type pace struct {
	limit func() int64 // bytes a second, 0: none
	now   func() int64 // nanoseconds

	mu   sync.Mutex
	free int64 // when what was drawn so far is paid for
}

// draw waits until n bytes may be written, or ctx ends.
func (p *pace) draw(ctx context.Context, n int) error {
	for {
		wait := p.take(n)
		if wait <= 0 {
			return ctx.Err()
		}
		timer := time.NewTimer(min(wait, paceWait))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}

// take draws n bytes, or returns how long they have to wait at the present limit.
func (p *pace) take(n int) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	rate, now := p.limit(), p.now()
	if rate <= 0 {
		p.free = now
		return 0
	}
	p.free = max(p.free, now-burst)
	// A debt from before the limit was raised is paid at the present one.
	p.free = min(p.free, now+int64(time.Second)*paceBytes/rate)
	if p.free > now {
		return time.Duration(p.free - now)
	}
	p.free += int64(time.Second) * int64(n) / rate
	return 0
}

// pacedLane is a lane's stream within its window, under the node's limit, and under one
// of the partition that is being streamed.
type pacedLane struct {
	openLane
	window *window
	pace   *pace
	part   *pace
	rate   *partRate
	stats  *Stats
}

// partRate is the limit of the partition that a lane streams. It ends with its
// time: a receiver may slow repair down, and not for ever.
type partRate struct {
	now   func() int64
	until int64
	rate  int64 // bytes a second, 0: none; of the goroutine that writes the lane
}

func (p *partRate) limit() int64 {
	if p.now() >= p.until {
		return 0
	}
	return p.rate
}

// paced puts a lane under the limits, its partitions' until a time.
func (r *Replica) paced(l openLane, under *window, until int64) pacedLane {
	rate := &partRate{now: r.cfg.Boottime, until: until}
	return pacedLane{l, under, &r.pace, &pace{limit: rate.limit, now: r.cfg.Boottime}, rate, &r.stats}
}

func (w pacedLane) Write(b []byte) (int, error) {
	sent := 0
	for sent < len(b) {
		n, err := w.window.wait(w.ctx, w.Done(), min(len(b)-sent, paceBytes))
		if err != nil {
			return sent, err
		}
		if err := w.part.draw(w.ctx, n); err != nil {
			return sent, err
		}
		if err := w.pace.draw(w.ctx, n); err != nil {
			return sent, err
		}
		n, err = w.write(b[sent : sent+n])
		if sent += n; err != nil {
			return sent, err
		}
	}
	return sent, nil
}

// write writes what there is room for. A receiver may have room and not read.
func (w pacedLane) write(b []byte) (int, error) {
	defer time.AfterFunc(takeWait, w.cancel).Stop()
	n, err := w.LaneStream.Write(b)
	w.stats.LaneBytes.Add(int64(n))
	w.stats.LaneBytesOut.Add(int64(n))
	w.stats.SyncBytesOut.Add(int64(n))
	w.window.wrote(n)
	return n, err
}

// movingReader is a lane's stream at its receiver. It tells that bytes came, for a
// lane that is slow does not stall, and keeps to the node's limit.
type movingReader struct {
	io.Reader
	pace  *pace
	stats *Stats
	moved func()          // nil: nobody waits
	ctx   context.Context //nolint:containedctx // a Read has none, and must end with the connection
}

func (m *movingReader) Read(b []byte) (int, error) {
	n, err := m.Reader.Read(b[:min(len(b), paceBytes)])
	if n == 0 {
		return n, err
	}
	m.stats.LaneBytes.Add(int64(n))
	m.stats.SyncBytesIn.Add(int64(n))
	if m.moved != nil {
		m.moved()
	}
	if drawn := m.pace.draw(m.ctx, n); err == nil {
		err = drawn
	}
	return n, err
}
