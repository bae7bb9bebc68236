package replica

import (
	"context"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// guardEvery is how often the guard looks: some tens of requests of a node that is
	// busy, and few of its looks until a sync is felt.
	guardEvery = 250 * time.Millisecond
	// guardSamples is of how many requests a percentile tells anything; fewer are kept
	// for the next looks.
	guardSamples = 64
	// guardStart is what a sync may stream when it begins where clients are served, and
	// guardFloor what it may in any case, so that it ends: a gigabyte in half an hour.
	guardStart = 4 << 20
	guardFloor = 512 << 10
	// guardRate is where nothing more is held back; no processor compresses as much.
	guardRate = 256 << 20
	// guardSlackUS is what a percentile may grow in any case: so much is chance.
	guardSlackUS = 250
	// guardDelayUS is how late a timer may be before that counts as pressure, where no
	// client's request tells: two ticks of the scheduler.
	guardDelayUS = 20_000
	// guardPatience is after how many looks at the floor what clients wait is no longer
	// taken for the sync's doing: half a minute.
	guardPatience = 120
	// guardTraffic is from how many requests a look a node serves clients.
	guardTraffic = 4
	// probeEvery spaces the timers by which the delay of the scheduler is seen.
	probeEvery = 10 * time.Millisecond
)

// GuardSample is what the guard sees in one look.
type GuardSample struct {
	Syncing  bool   // a session streams here, either way
	Requests uint64 // of clients
	Timed    uint64 // of them, that P99US is of
	P99US    uint32
	DelayUS  uint32 // how late timers were, the 99th percentile; 0: not seen
	Moved    int64  // bytes that sessions moved
}

// GuardRule decides how fast a node syncs, by what its clients wait: it halves what
// hurts and adds what does not, between a floor and no limit. It has no clock: each
// look is a step.
type GuardRule struct {
	Rate    int64  // bytes a second, 0: no limit
	QuietUS uint32 // what clients wait without a sync, the 99th percentile; 0: not known
	LastUS  uint32 // what they waited last
	Slowed  int64  // looks that found it too much
	atFloor int
	syncing bool
	clients bool // were served at the last look
}

// Begin takes the beginning of a session, which may be over before the next look.
func (g *GuardRule) Begin(factor int64) {
	if factor != 0 && !g.syncing && g.clients {
		g.syncing, g.Rate = true, guardStart
	}
}

// Step takes one look. factor is what the percentile may grow to, in thousandths of
// the quiet one; 0 lets everything pass.
func (g *GuardRule) Step(factor int64, s GuardSample) {
	told := s.Timed >= guardSamples
	if told {
		g.LastUS = s.P99US
	}
	g.clients = s.Requests >= guardTraffic
	if !s.Syncing {
		g.syncing, g.Rate, g.atFloor = false, 0, 0
		if told {
			g.learn(s.P99US)
		}
		return
	}
	began := !g.syncing
	g.syncing = true
	clients := g.clients
	switch {
	case factor == 0:
		g.Rate = 0
		return
	case began && clients:
		g.Rate = guardStart
		return
	case !clients && s.DelayUS == 0:
		g.Rate = 0
		return
	}
	if g.over(factor, told, clients, s) {
		g.slow(s)
		return
	}
	g.atFloor = 0
	if g.Rate != 0 && (told || !clients) {
		g.Rate += max(g.Rate/4, guardFloor)
	}
	if g.Rate >= guardRate {
		g.Rate = 0
	}
}

// learn moves the quiet percentile, an eighth at a time: one look is of few requests.
func (g *GuardRule) learn(us uint32) {
	if g.QuietUS == 0 {
		g.QuietUS = us
		return
	}
	g.QuietUS = uint32(int64(g.QuietUS) + (int64(us)-int64(g.QuietUS))/8)
}

// over reports whether clients wait for too long, or would, if there were any.
func (g *GuardRule) over(factor int64, told, clients bool, s GuardSample) bool {
	if !clients {
		return s.DelayUS > guardDelayUS
	}
	if !told || g.QuietUS == 0 {
		return false
	}
	most := max(int64(g.QuietUS)*factor/1000, int64(g.QuietUS)+guardSlackUS)
	return int64(s.P99US) > most
}

// slow halves the rate, of what was moved if that is less: a limit that nothing
// comes near holds nothing back.
func (g *GuardRule) slow(s GuardSample) {
	g.Slowed++
	moved := s.Moved * int64(time.Second/guardEvery)
	if g.Rate == 0 || moved < g.Rate {
		g.Rate = moved
	}
	g.Rate = max(g.Rate/2, guardFloor)
	if g.Rate > guardFloor {
		g.atFloor = 0
		return
	}
	if g.atFloor++; g.atFloor >= guardPatience && s.P99US > 0 {
		g.QuietUS, g.atFloor = s.P99US, 0
	}
}

// guard is the rule with its clock, and what it looks at.
type guard struct {
	rate atomic.Int64 // in force, 0: none

	requests atomic.Uint64
	times    [guardBuckets]atomic.Uint64
	watching atomic.Bool // a sync is under way: every request is timed

	mu   sync.Mutex
	rule GuardRule
}

// guardBuckets is sixteen for each power of two of microseconds up to 2^31: a
// sixteenth tells a half more from noise.
const guardBuckets = 16 * 32

func guardBucket(us uint64) int {
	power := bits.Len64(us|1) - 1
	part := us << 4 >> power & 15
	return min(16*power+int(part), guardBuckets-1)
}

// bucketUS is the upper end of a bucket.
func bucketUS(i int) uint32 {
	return uint32(min((uint64(16+i%16+1)<<(i/16))>>4, 1<<31))
}

// took notes how long a client's request took.
func (g *guard) took(ns int64) { g.times[guardBucket(uint64(max(ns/1000, 1)))].Add(1) }

// percentile takes what was timed, if that is enough, and forgets it.
func (g *guard) percentile() (us uint32, n uint64) {
	var counts [guardBuckets]uint64
	for i := range g.times {
		counts[i] = g.times[i].Load()
		n += counts[i]
	}
	if n < guardSamples {
		return 0, n
	}
	for i := range counts {
		if counts[i] > 0 {
			g.times[i].Add(-counts[i])
		}
	}
	return percentile99(counts[:]), n
}

func percentile99(counts []uint64) uint32 {
	var total uint64
	for _, n := range counts {
		total += n
	}
	over := total / 100
	for i := len(counts) - 1; i >= 0; i-- {
		if counts[i] > over {
			return bucketUS(i)
		}
		over -= counts[i]
	}
	return 0
}

// GuardStatus is what the guard does now.
type GuardStatus struct {
	Factor     int64 // in thousandths, 0: off
	QuietP99US uint32
	P99US      uint32
	RateBytes  int64 // a second, 0: it holds nothing back
	Slowed     int64
}

// Guard returns what the guard does now.
func (r *Replica) Guard() GuardStatus {
	r.guard.mu.Lock()
	defer r.guard.mu.Unlock()
	g := &r.guard.rule
	return GuardStatus{Factor: r.guardFactor(), QuietP99US: g.QuietUS, P99US: g.LastUS, RateBytes: g.Rate, Slowed: g.Slowed}
}

func (r *Replica) guardFactor() int64 {
	if r.cfg.SyncGuard == nil {
		return 0
	}
	return r.cfg.SyncGuard()
}

// guardBegins tells the guard of a session.
func (r *Replica) guardBegins() {
	r.guard.mu.Lock()
	defer r.guard.mu.Unlock()
	r.guard.rule.Begin(r.guardFactor())
	r.guard.rate.Store(r.guard.rule.Rate)
}

// guardClients looks again and again at what clients wait, and holds sessions back.
func (r *Replica) guardClients(ctx context.Context) {
	tick := time.NewTicker(guardEvery)
	defer tick.Stop()
	var seen uint64
	var moved int64
	for {
		var delays [guardBuckets]uint64
		syncing := r.sessions.open() > 0
		r.guard.watching.Store(syncing && r.guardFactor() != 0)
		if r.guard.watching.Load() {
			if !r.probe(ctx, tick.C, &delays) {
				return
			}
		} else {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
		s := GuardSample{Syncing: syncing || r.sessions.open() > 0, DelayUS: percentile99(delays[:])}
		total, bytes := r.guard.requests.Load(), r.stats.LaneBytes.Load()
		s.Requests, s.Moved, seen, moved = total-seen, bytes-moved, total, bytes
		s.P99US, s.Timed = r.guard.percentile()
		r.guard.mu.Lock()
		r.guard.rule.Step(r.guardFactor(), s)
		r.guard.rate.Store(r.guard.rule.Rate)
		r.guard.mu.Unlock()
	}
}

// probe notes how late timers are, until the next tick.
func (r *Replica) probe(ctx context.Context, tick <-chan time.Time, delays *[guardBuckets]uint64) bool {
	for {
		due := r.cfg.Boottime() + int64(probeEvery)
		timer := time.NewTimer(probeEvery)
		select {
		case <-ctx.Done():
			timer.Stop()
			return false
		case <-tick:
			timer.Stop()
			return true
		case <-timer.C:
			delays[guardBucket(uint64(max((r.cfg.Boottime()-due)/1000, 1)))]++
		}
	}
}

// syncRate is what this node may stream, by the setting and by the guard.
func (r *Replica) syncRate() int64 {
	rate, held := int64(0), r.guard.rate.Load()
	if r.cfg.SyncRate != nil {
		rate = r.cfg.SyncRate()
	}
	if held != 0 && (rate == 0 || held < rate) {
		return held
	}
	return rate
}
