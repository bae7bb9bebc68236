package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// readerCount clients read through the returning node, one key at a time.
	readerCount = 4
	// readerPause is between two reads of one client: some 1,500 a second
	// together, which leaves the machine to the rejoin.
	readerPause = 2 * time.Millisecond
	// lease is how long a node may serve without a sign of life from others.
	lease = 2 * time.Second
	// dialPause is between two tries to reach a node that is not there yet.
	dialPause = time.Millisecond
)

// readers read through the returning node from its start on and judge each
// answer.
type readers struct {
	ledger *ledger
	plan   plan
	keys   int // how many of the ledger's keys there are by now
	kv     *kvClient
	door   door
	// before has the traffic's last writes acknowledged before the start.
	before [trafficKeys]uint32
	// brief says that the node was paused for less than its lease: what it
	// answers from before is lag.
	brief bool
	// alone has the keys that were written through the node while it was cut off.
	// Those writes were answered with one copy and promise no more (I18): until the
	// others have fetched them, an answer that one of them gives lags.
	alone map[int]bool
	seed  uint64

	mu     sync.Mutex
	counts readCounts
	faults []string
}

// maxFaults is how many findings are told one by one.
const maxFaults = 10

// run reads until the context ends.
func (r *readers) run(ctx context.Context) {
	var wg sync.WaitGroup
	for i := range readerCount {
		wg.Go(func() { r.loop(ctx, rand.New(rand.NewPCG(r.seed, uint64(i)))) })
	}
	wg.Wait()
}

func (r *readers) loop(ctx context.Context, rnd *rand.Rand) {
	var counts readCounts
	for ctx.Err() == nil {
		wait := readerPause
		if !r.read(ctx, rnd, &counts) {
			wait = dialPause
		}
		if pause(ctx, wait) != nil {
			break
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts.join(counts)
}

// read reads one key, and reports whether there was an answer.
func (r *readers) read(ctx context.Context, rnd *rand.Rand, counts *readCounts) bool {
	if rnd.IntN(20) == 0 {
		return r.readTraffic(ctx, rnd.IntN(trafficKeys), counts)
	}
	i := r.pick(rnd)
	answer, err := r.kv.get(ctx, r.door.http, r.ledger.key(i))
	if err != nil {
		return r.failed(ctx, counts)
	}
	v := r.leniently(judge(r.ledger.want[i], answer))
	if r.alone[i] && v != fresh {
		v = lagging
	}
	counts.add(v, answer)
	if v != fresh && v != lagging && answer.state == "" {
		r.fault(fmt.Sprintf("read %s through %s: %s", r.ledger.key(i), r.door.name, verdictText(v, answer)))
	}
	return true
}

func (r *readers) readTraffic(ctx context.Context, i int, counts *readCounts) bool {
	since := r.ledger.traffic[i].Load()
	answer, err := r.kv.get(ctx, r.door.http, r.ledger.trafficKey(i))
	if err != nil {
		return r.failed(ctx, counts)
	}
	v := r.leniently(judgeTraffic(r.before[i], since, answer))
	counts.add(v, answer)
	if v != fresh && v != lagging && answer.state == "" {
		r.fault(fmt.Sprintf("read %s through %s: %s", r.ledger.trafficKey(i), r.door.name, verdictText(v, answer)))
	}
	return true
}

// leniently takes what a brief pause explains for lag.
func (r *readers) leniently(v verdict) verdict {
	if r.brief && v != fresh {
		return lagging
	}
	return v
}

func (*readers) failed(ctx context.Context, counts *readCounts) bool {
	if ctx.Err() == nil {
		counts.errors++
	}
	return false
}

// pick chooses a key: of those changed six times in ten, of those deleted once,
// of all the rest.
func (r *readers) pick(rnd *rand.Rand) int {
	lists := [][]int{r.plan.overwritten, r.plan.inserted, r.plan.conflicting, r.plan.deleted}
	list := lists[[]int{0, 0, 0, 1, 1, 2, 3}[rnd.IntN(7)]]
	if len(list) == 0 || rnd.IntN(10) < 3 {
		return rnd.IntN(r.keys)
	}
	return list[rnd.IntN(len(list))]
}

func (r *readers) fault(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.faults) < maxFaults {
		r.faults = append(r.faults, text)
	}
}

func verdictText(v verdict, answer kvAnswer) string {
	switch v {
	case notFound:
		return "not found"
	case resurrected:
		return "deleted, and answered all the same"
	}
	if n, ok := writeOf(answer.value); ok {
		return fmt.Sprintf("write %d, which is old", n)
	}
	return fmt.Sprintf("%.40q, which nobody wrote", answer.value)
}

// firstAnswer reads one changed key through the returning node until the
// answer is right, and returns when that was.
func firstAnswer(ctx context.Context, kv *kvClient, l *ledger, d door, key int) (time.Time, error) {
	for {
		answer, err := kv.get(ctx, d.http, l.key(key))
		if err == nil && judge(l.want[key], answer) == fresh {
			return time.Now(), nil
		}
		if err := pause(ctx, dialPause); err != nil {
			return time.Time{}, fmt.Errorf("wait for the first answer of %s: %w", d.name, err)
		}
	}
}

// snapshot returns the last acknowledged write of each of the traffic's keys.
func snapshot(from *[trafficKeys]atomic.Uint32) (out [trafficKeys]uint32) {
	for i := range from {
		out[i] = from[i].Load()
	}
	return out
}
