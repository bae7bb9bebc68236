package replica

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
	"edged.dev/edged/replica/core"
)

const (
	// scrubBytesPerSecond bounds what the background scrub reads: a tenth of what a
	// slow disk gives, and a gigabyte in two minutes.
	scrubBytesPerSecond = 8 << 20
	// firstScrub is how long a node that has begun is left alone.
	firstScrub = time.Minute
)

// Scrubbed is what a scrub of one partition found.
type Scrubbed struct {
	Partition kv.Partition
	Objects   int
	Bytes     int64
	Damaged   []string // keys whose records do not fit each other
	Fit       bool     // the copy holds what its record says
}

// Scrub reads a whole copy, computes its digest and the checksum of every value
// anew, and holds them against what is recorded. A copy that is damaged is given to
// nobody, and is healed with the other owners' (L4).
func (r *Replica) Scrub(ctx context.Context, p kv.Partition) (Scrubbed, error) {
	return r.scrub(ctx, p, func(int) error { return ctx.Err() })
}

func (r *Replica) scrub(_ context.Context, p kv.Partition, pace partition.Pace) (Scrubbed, error) {
	sh := r.cfg.Set.Shard(p)
	if sh == nil {
		return Scrubbed{}, kv.Errorf(kv.CodeInvalid, "partition %d has no copy on this node", p)
	}
	l, err := sh.Look(pace)
	if err != nil {
		return Scrubbed{}, fmt.Errorf("scrub partition %d: %w", p, err)
	}
	r.stats.Scrubs.Add(1)
	r.stats.ScrubbedBytes.Add(l.Bytes)
	out := Scrubbed{Partition: p, Objects: l.Objects, Bytes: l.Bytes, Damaged: l.Suspects, Fit: l.Fit()}
	sh.SetUnfit(!out.Fit)
	if !out.Fit {
		r.stats.ScrubsBad.Add(1)
	}
	r.step(core.Looked{Partition: p, Fit: out.Fit, Damaged: len(out.Damaged), Text: out.text(l)})
	return out, nil
}

func (s *Scrubbed) text(l *partition.Look) string {
	if s.Fit {
		return ""
	}
	if len(s.Damaged) == 0 {
		return fmt.Sprintf("the copy holds %d values, and its record says %d, or others", l.Tree.Root().Count, l.Recorded.Count)
	}
	named := s.Damaged[:min(len(s.Damaged), maxToldKeys)]
	quoted := make([]string, len(named))
	for i, k := range named {
		quoted[i] = fmt.Sprintf("%q", k)
	}
	return fmt.Sprintf("records of %d keys are damaged: %s", len(s.Damaged), strings.Join(quoted, ", "))
}

// scrubSuspects looks at once at the copies that were suspect when the process began:
// one that was damaged and not healed yet is remembered so. Under relaxed durability
// every unclean stop makes all copies suspect, and they wait for their turn.
func (r *Replica) scrubSuspects(ctx context.Context) {
	var suspects []kv.Partition
	for _, p := range r.cfg.Set.Partitions() {
		if sh := r.cfg.Set.Shard(p); !r.cfg.Relaxed && sh.Trust() == kv.Suspect {
			sh.SetUnfit(true) // until it was looked at
			suspects = append(suspects, p)
		}
	}
	slices.Sort(suspects)
	for r.Layout() == nil { // nobody could take what is found
		if !sleep(ctx, passEvery) {
			return
		}
	}
	for _, p := range suspects {
		if ctx.Err() == nil {
			_, _ = r.Scrub(ctx, p) // what cannot be read, the store itself tells of
		}
	}
}

// scrubs looks at one copy after the other, all of them in the time configured, and
// at what a look costs no faster than scrubBytesPerSecond.
func (r *Replica) scrubs(ctx context.Context) {
	if !sleep(ctx, firstScrub) {
		return
	}
	at := kv.Partition(0)
	for {
		parts := r.cfg.Set.Partitions()
		slices.Sort(parts)
		if len(parts) == 0 {
			if !sleep(ctx, firstScrub) {
				return
			}
			continue
		}
		i, _ := slices.BinarySearch(parts, at)
		p := parts[i%len(parts)]
		at = p + 1
		if part := r.part(p); part != nil && (part.Self || p == kv.System) {
			_, _ = r.scrub(ctx, p, paced(ctx, scrubBytesPerSecond)) // what cannot be read, the store itself tells of
		}
		if !sleep(ctx, r.cfg.ScrubEvery/time.Duration(len(parts))) {
			return
		}
	}
}

// paced returns a pace of so many bytes a second.
func paced(ctx context.Context, perSecond int64) partition.Pace {
	return func(n int) error {
		if !sleep(ctx, time.Duration(int64(n)*int64(time.Second)/perSecond)) {
			return ctx.Err()
		}
		return nil
	}
}

// sleep waits, and is false if the context ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
