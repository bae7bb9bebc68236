package replica

import (
	"bytes"
	"cmp"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/internal/repair"
	"edged.dev/edged/partition"
	"edged.dev/edged/transport/wire"
)

const (
	// heatEvery is how often rates are taken.
	heatEvery = time.Second
	// sampleReads is of how many reads of a partition one has its prefix looked at,
	// and sampleTimes of how many requests one is timed: neither may cost a read
	// from memory anything that shows.
	sampleReads = 64
	sampleTimes = 16
	// heatPrefixes bounds the prefixes counted; one that is not read any more makes
	// room within seconds.
	heatPrefixes = 4 * repair.MaxHot
	// heatKeys bounds the keys counted, of all partitions, and with it what a donor
	// looks up ahead of a session: 200 ms at most. keysFade is after how many ticks
	// their counts are halved: few are sampled in a second.
	heatKeys = 8192
	keysFade = 16
	// sampleForwards is of how many reads that another node forwards one has its key
	// noted; keyWeight is what one of this node's own, which are sampled less, counts.
	sampleForwards = 8
	keyWeight      = sampleReads / sampleForwards
	// maxHotPrefixBytes is where a key is taken to have no prefix.
	maxHotPrefixBytes = 64
	// timeBuckets is four for each power of two of microseconds, up to 2^31.
	timeBuckets = 4 * 32
)

// heat is what clients do to this node: which partitions and prefixes they read,
// and how long they wait. It informs repair plans. Reads are counted where they
// arrive, also those that another node answers: a returning node learns by them
// what is asked of it.
type heat struct {
	reads []partHeat // by partition
	timed atomic.Uint64
	wrote atomic.Uint64
	times [timeBuckets]atomic.Uint64

	mu       sync.Mutex
	tickedAt int64
	rates    []uint32
	requests uint32
	p99US    uint32
	prefixes map[string]*prefixHeat
	keys     map[string]*keyHeat
	ticks    int
	seen     uint64 // requests at the last tick
}

type keyHeat struct {
	partition kv.Partition
	hits      uint32
}

// partHeat fills a cache line, so that reads of two partitions do not meet.
type partHeat struct {
	n         atomic.Uint64
	last      uint64
	forwarded atomic.Uint64
	_         [40]byte
}

type prefixHeat struct{ hits, rate uint64 }

func newHeat(partitions uint32) *heat {
	return &heat{
		reads: make([]partHeat, partitions), rates: make([]uint32, partitions),
		prefixes: map[string]*prefixHeat{}, keys: map[string]*keyHeat{},
	}
}

// read counts a read of a key.
func (h *heat) read(p kv.Partition, key []byte) {
	if int64(p) >= int64(len(h.reads)) {
		return
	}
	if h.reads[p].n.Add(1)%sampleReads == 0 {
		h.sample(p, key)
	}
}

// readElsewhere counts a read that another node's client made. Only its key is of
// interest: that node has counted the rest.
func (h *heat) readElsewhere(p kv.Partition, key []byte) {
	if int64(p) >= int64(len(h.reads)) || h.reads[p].forwarded.Add(1)%sampleForwards != 0 || !h.mu.TryLock() {
		return
	}
	defer h.mu.Unlock()
	h.keyLocked(p, key, 1)
}

// keyLocked counts a key. One that is new when there is no room waits for another
// to fade.
func (h *heat) keyLocked(p kv.Partition, key []byte, weight uint32) {
	k := h.keys[string(key)]
	if k == nil {
		if len(h.keys) >= heatKeys {
			return
		}
		k = &keyHeat{partition: p}
		h.keys[string(key)] = k
	}
	k.hits += weight
}

// hotKeys returns the keys of partitions that are read most, the most read first.
func (h *heat) hotKeys(parts []kv.Partition) map[kv.Partition][]string {
	of := map[kv.Partition][]string{}
	for _, p := range parts {
		of[p] = nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for key, k := range h.keys {
		if keys, wanted := of[k.partition]; wanted {
			of[k.partition] = append(keys, key)
		}
	}
	for p, keys := range of {
		slices.SortFunc(keys, func(a, b string) int {
			return cmp.Or(cmp.Compare(h.keys[b].hits, h.keys[a].hits), cmp.Compare(a, b))
		})
		of[p] = keys[:min(len(keys), partition.MaxFirst)]
	}
	return of
}

// rate returns how often a partition is read, a second.
func (h *heat) rate(p kv.Partition, now int64) uint32 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.rateLocked(p, now)
}

func (h *heat) rateLocked(p kv.Partition, now int64) uint32 {
	if int64(p) >= int64(len(h.rates)) {
		return 0
	}
	return max(h.rates[p], uint32(h.latelyLocked(now, h.reads[p].n.Load()-h.reads[p].last)))
}

// sample notes a key and its prefix: up to its first separator, and with it.
func (h *heat) sample(part kv.Partition, key []byte) {
	if !h.mu.TryLock() {
		return
	}
	defer h.mu.Unlock()
	h.keyLocked(part, key, keyWeight)
	i := bytes.IndexAny(key[:min(len(key), maxHotPrefixBytes)], ":/|.")
	if i < 0 {
		return
	}
	p := h.prefixes[string(key[:i+1])]
	if p == nil {
		if len(h.prefixes) >= heatPrefixes {
			return
		}
		p = &prefixHeat{}
		h.prefixes[string(key[:i+1])] = p
	}
	p.hits++
}

// sampled reports whether a request that begins is to be timed.
func (h *heat) sampled() bool { return h.timed.Add(1)%sampleTimes == 0 }

// took notes how long a request took.
func (h *heat) took(ns int64) {
	us := uint64(max(ns/1000, 1))
	power := bits.Len64(us) - 1
	quarter := 0
	if power >= 2 {
		quarter = int(us>>(power-2)) & 3
	}
	h.times[min(4*power+quarter, timeBuckets-1)].Add(1)
}

// tick takes the rates, at most once in heatEvery.
func (h *heat) tick(now int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := now - h.tickedAt
	if h.tickedAt != 0 && d < int64(heatEvery) {
		return
	}
	first := h.tickedAt == 0
	h.tickedAt = now
	perSecond := func(n uint64) uint64 { return n * uint64(time.Second) / uint64(max(d, 1)) }
	var total uint64
	for i := range h.reads {
		n := h.reads[i].n.Load()
		total += n
		if !first {
			h.rates[i] = uint32((uint64(h.rates[i]) + perSecond(n-h.reads[i].last)) / 2)
		}
		h.reads[i].last = n
	}
	seen := total + h.wrote.Load()
	if !first {
		h.requests = uint32((uint64(h.requests) + perSecond(seen-h.seen)) / 2)
	}
	h.seen = seen
	for name, p := range h.prefixes {
		if !first {
			p.rate = (p.rate + perSecond(p.hits*sampleReads)) / 2
		}
		p.hits = 0
		if p.rate == 0 && !first {
			delete(h.prefixes, name)
		}
	}
	h.fadeLocked()
	h.percentileLocked()
}

// fadeLocked halves what the keys count, now and then.
func (h *heat) fadeLocked() {
	if h.ticks++; h.ticks%keysFade != 0 {
		return
	}
	for key, k := range h.keys {
		if k.hits /= 2; k.hits == 0 {
			delete(h.keys, key)
		}
	}
}

// latelyLocked is the rate of what came since the last tick, 0 if that is too
// short a time to tell.
func (h *heat) latelyLocked(now int64, n uint64) uint64 {
	d := now - h.tickedAt
	if h.tickedAt == 0 || d < int64(heatEvery/10) {
		return 0
	}
	return n * uint64(time.Second) / uint64(d)
}

// percentileLocked takes the 99th percentile of what was timed, and forgets half
// of it, so that old times fade.
func (h *heat) percentileLocked() {
	var counts [timeBuckets]uint64
	var total uint64
	for i := range h.times {
		counts[i] = h.times[i].Load()
		total += counts[i]
		h.times[i].Add(-((counts[i] + 1) / 2))
	}
	h.p99US = 0
	over := total / 100
	for i := timeBuckets - 1; i >= 0 && total > 0; i-- {
		if counts[i] > over {
			h.p99US = uint32(min(uint64(4+i%4+1)<<(i/4)/4, 1<<31))
			return
		}
		over -= counts[i]
	}
}

// show fills in what a plan is told of clients. What came since the last tick
// counts, if that is no less: a node that returns plans before its first.
//
// A node that returns has no reads of its own, and its donors do: of what each has
// counted the most is told.
func (h *heat) show(in *repair.Input, now int64, donors []wire.Heat) {
	h.mu.Lock()
	defer h.mu.Unlock()
	in.RequestsPerS, in.ForegroundP99US = h.requests, h.p99US
	reads, prefixes := map[uint64]uint32{}, h.prefixesLocked(now)
	for _, d := range donors {
		for _, p := range d.Partitions {
			reads[uint64(p.Partition)] = max(reads[uint64(p.Partition)], p.Reads)
		}
		for _, p := range d.Prefixes {
			prefixes[p.Prefix] = max(prefixes[p.Prefix], p.Reads)
		}
	}
	for i := range in.Ranges {
		p := in.Ranges[i].Partition
		in.Ranges[i].Reads = max(h.rateLocked(kv.Partition(p), now), reads[p])
	}
	for name, rate := range prefixes {
		in.Hot = append(in.Hot, repair.Hot{Prefix: name, Reads: rate})
	}
	slices.SortFunc(in.Hot, func(a, b repair.Hot) int {
		return cmp.Or(cmp.Compare(b.Reads, a.Reads), cmp.Compare(a.Prefix, b.Prefix))
	})
	in.Hot = in.Hot[:min(len(in.Hot), repair.MaxHot)]
}

// prefixesLocked returns the prefixes that are read, and how often.
func (h *heat) prefixesLocked(now int64) map[string]uint32 {
	out := map[string]uint32{}
	for name, p := range h.prefixes {
		if rate := max(p.rate, h.latelyLocked(now, p.hits*sampleReads)); rate > 0 {
			out[name] = uint32(rate)
		}
	}
	return out
}

// tell returns the heat of the partitions that another node asks about, the hottest.
func (h *heat) tell(asked []wire.CopyClock, now int64) (out wire.Heat) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range asked {
		if rate := h.rateLocked(asked[i].Partition, now); rate > 0 {
			out.Partitions = append(out.Partitions, wire.PartHeat{Partition: asked[i].Partition, Reads: rate})
		}
	}
	for name, rate := range h.prefixesLocked(now) {
		out.Prefixes = append(out.Prefixes, wire.PrefixHeat{Prefix: name, Reads: rate})
	}
	slices.SortFunc(out.Partitions, func(a, b wire.PartHeat) int {
		return cmp.Or(cmp.Compare(b.Reads, a.Reads), cmp.Compare(a.Partition, b.Partition))
	})
	slices.SortFunc(out.Prefixes, func(a, b wire.PrefixHeat) int {
		return cmp.Or(cmp.Compare(b.Reads, a.Reads), cmp.Compare(a.Prefix, b.Prefix))
	})
	out.Partitions = out.Partitions[:min(len(out.Partitions), wire.MaxHeatParts)]
	out.Prefixes = out.Prefixes[:min(len(out.Prefixes), wire.MaxHeatPrefixes)]
	return out
}

// toldHeat returns what the connected peers told of what is read of them.
func (r *Replica) toldHeat() (out []wire.Heat) {
	for _, p := range r.remotes() {
		if told := p.heat.Load(); told != nil {
			out = append(out, *told)
		}
	}
	return out
}

// timed counts a request and, of some, notes how long it takes.
func (r *Replica) timed(p kv.Partition, req *kv.Request, done func(*kv.Response, error)) func(*kv.Response, error) {
	if req.System {
		return done
	}
	if req.Writes() {
		r.heat.wrote.Add(1)
	} else {
		r.heat.read(p, req.Key)
	}
	r.guard.requests.Add(1)
	sampled := r.heat.sampled()
	if !sampled && !r.guard.watching.Load() {
		return done
	}
	began := r.cfg.Boottime()
	return func(resp *kv.Response, err error) {
		took := r.cfg.Boottime() - began
		if sampled {
			r.heat.took(took)
		}
		r.guard.took(took)
		done(resp, err)
	}
}
