package main

import (
	"context"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	// trafficClients speak to the nodes that stay, each one request every
	// trafficEvery, one in trafficSetShare a write: some 400 requests a second,
	// far from what would fill the machine.
	trafficClients  = 4
	trafficEvery    = 10 * time.Millisecond
	trafficSetShare = 20
	// maxLatency is the longest that is told from longer ones.
	maxLatency = time.Minute
)

// traffic is what clients do meanwhile, through the nodes that stay. Client i
// alone writes the keys i, i+trafficClients, ...
type traffic struct {
	ledger *ledger
	doors  []door
	keys   int // how many of the ledger's keys may be read

	mu     sync.Mutex
	hist   *hdrhistogram.Histogram // in microseconds
	trace  []latency
	errors int
}

func newTraffic(l *ledger, doors []door, keys int) *traffic {
	return &traffic{ledger: l, doors: doors, keys: keys, hist: hdrhistogram.New(1, maxLatency.Microseconds(), 3)}
}

// run sends requests until the context ends. A write that was begun is waited
// for.
func (t *traffic) run(ctx context.Context) {
	var wg sync.WaitGroup
	for i := range trafficClients {
		wg.Go(func() { t.client(ctx, i) })
	}
	wg.Wait()
}

func (t *traffic) client(ctx context.Context, id int) {
	var conn *respConn
	defer func() {
		if conn != nil {
			conn.close()
		}
	}()
	due := time.Now()
	for n := id; ; n++ {
		due = due.Add(trafficEvery)
		wait := time.Until(due)
		if wait > 0 && pause(ctx, wait) != nil || ctx.Err() != nil {
			return
		}
		// A request that comes late because the one before took long has waited
		// since it was due.
		begun := time.Now()
		if wait <= 0 {
			begun = due
		}
		if conn == nil {
			var err error
			if conn, err = dialRESP(ctx, t.doors[id%len(t.doors)].resp); err != nil {
				t.done(0, false, err)
				continue
			}
		}
		err := t.request(conn, id, n)
		t.done(time.Since(begun), n%trafficSetShare == 0, err)
		if err != nil && !replied(err) {
			conn.close()
			conn = nil
		}
	}
}

func (t *traffic) request(conn *respConn, id, n int) error {
	if n%trafficSetShare != 0 {
		_, err := conn.do("GET", t.ledger.key(n*7919%t.keys))
		return err
	}
	i := (id + n/trafficSetShare*trafficClients) % trafficKeys
	number := t.ledger.nextTraffic.Add(1)
	t.ledger.begun[i].Store(number)
	_, err := conn.do("SET", t.ledger.trafficKey(i), string(t.ledger.values.of(number)))
	if err == nil {
		t.ledger.traffic[i].Store(number)
	}
	return err
}

func (t *traffic) done(took time.Duration, write bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.errors++
		return
	}
	t.trace = append(t.trace, latency{time.Now(), msOf(took), write})
	if t.hist.RecordValue(max(1, took.Microseconds())) != nil {
		t.hist.RecordValue(maxLatency.Microseconds()) //nolint:errcheck // this one is in range
	}
}

// quantileMS returns the latency below which so many percent of the requests
// stayed, in milliseconds.
func (t *traffic) quantileMS(percent float64) float64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return float64(t.hist.ValueAtQuantile(percent)) / 1000
}
