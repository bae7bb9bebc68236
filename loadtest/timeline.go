package main

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"edged.dev/edged/api/admin"
)

// timelineEvery is the grain of the page's plots. A question costs the node a
// walk over its partitions.
const timelineEvery = 10 * time.Millisecond

// timeline is what a returning node said of itself while it came back. Times are
// milliseconds since its return.
type timeline struct {
	samples  []sample
	live     map[uint32]float64 // when each partition became live for the last time
	verified map[uint32]float64
}

// sample is one look at the node.
type sample struct {
	ms             float64
	live, verified int
	syncBytes      float64 // of the session, both directions
}

// watchTimeline looks at a node until the context ends, and once more then: what has
// come by the end is seen, however slow the looks were. before is what it said
// before the outage, which counts where the process is the same.
func watchTimeline(ctx context.Context, d door, back time.Time, before admin.Rejoin) *timeline {
	t := &timeline{live: map[uint32]float64{}, verified: map[uint32]float64{}}
	for {
		last := ctx.Err() != nil
		asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), watchAsk)
		session, err := d.admin.Rejoin(asking)
		if err == nil {
			var parts []admin.Partition
			if parts, err = d.admin.Partitions(asking); err == nil {
				t.look(since(back, time.Now()), parts, sessionBytes(before, session))
			}
		}
		cancel()
		if last {
			return t
		}
		_ = pause(ctx, timelineEvery) // one that is cut short leads to the last look
	}
}

// sessionBytes are those of the sessions since before.
func sessionBytes(before, after admin.Rejoin) float64 {
	if before.StartedMS != after.StartedMS {
		before = admin.Rejoin{}
	}
	return float64(after.SyncBytesIn + after.SyncBytesOut - before.SyncBytesIn - before.SyncBytesOut)
}

// upTo are the samples until a moment and the first one after it.
func (t *timeline) upTo(ms float64) []sample {
	for i, s := range t.samples {
		if s.ms > ms {
			return t.samples[:i+1]
		}
	}
	return t.samples
}

// look adds what the node said at one moment.
func (t *timeline) look(ms float64, parts []admin.Partition, bytes float64) {
	s := sample{ms: ms, syncBytes: bytes}
	for _, p := range parts {
		if !p.Owned {
			continue
		}
		live := p.State == admin.StateLive
		s.live += mark(t.live, p.ID, ms, live)
		s.verified += mark(t.verified, p.ID, ms, live && p.Verified)
	}
	t.samples = append(t.samples, s)
}

// mark notes when something of a partition became so, and forgets it when it is
// not so any more. It returns how many it is now: 1 or 0.
func mark(when map[uint32]float64, id uint32, ms float64, is bool) int {
	if !is {
		delete(when, id)
		return 0
	}
	if _, known := when[id]; !known {
		when[id] = ms
	}
	return 1
}

// partitionPoints are the moments of partitions, in the order of their numbers.
// The system partition, whose number is far off, is left out.
func partitionPoints(when map[uint32]float64) []point {
	var out []point
	for _, id := range slices.Sorted(maps.Keys(when)) {
		if id < 1<<31 {
			out = append(out, point{when[id], float64(id)})
		}
	}
	return out
}

// latency is how long one request of a client took.
type latency struct {
	at    time.Time // when it was answered
	ms    float64
	write bool
}

// clientPhases are the latencies of the clients of the nodes that stay.
type clientPhases struct{ before, during, after []latency }

// split sorts what was seen since the return into the time until a moment and
// the time after it.
func (c *clientPhases) split(seen []latency, until time.Time) {
	for _, l := range seen {
		if l.at.After(until) {
			c.after = append(c.after, l)
		} else {
			c.during = append(c.during, l)
		}
	}
}

// quantile returns the latency below which a part of the requests stayed.
func quantile(seen []latency, part float64) float64 {
	if len(seen) == 0 {
		return 0
	}
	sorted := slices.SortedFunc(slices.Values(seen), func(a, b latency) int { return cmp.Compare(a.ms, b.ms) })
	return sorted[min(len(sorted)-1, int(part*float64(len(sorted))))].ms
}

// latencyBins is how many steps the plot shows of each phase.
const latencyBins = 40

// binned are the median and the slowest of each step of a phase, in seconds from
// offset on. It returns where the phase ends.
func binned(seen []latency, offset float64) (medians, slowest []point, end float64) {
	if len(seen) == 0 {
		return nil, nil, offset
	}
	slices.SortFunc(seen, func(a, b latency) int { return a.at.Compare(b.at) })
	from := seen[0].at
	long := max(seen[len(seen)-1].at.Sub(from).Seconds(), 0.001)
	step := long / latencyBins
	for i, bin := 0, 0; i < len(seen); bin++ {
		var in []latency
		for i < len(seen) && (bin == latencyBins-1 || seen[i].at.Sub(from).Seconds() <= float64(bin+1)*step) {
			in = append(in, seen[i])
			i++
		}
		if len(in) > 0 {
			x := offset + (float64(bin)+0.5)*step
			medians = append(medians, point{x, quantile(in, 0.5)})
			slowest = append(slowest, point{x, quantile(in, 1)})
		}
	}
	return medians, slowest, offset + long
}
