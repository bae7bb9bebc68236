package sim

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// Event is one event of a run: which step it was, and where its random numbers come
// from. Left out, an event changes nothing of what the others draw.
type Event struct {
	Step   int
	Hi, Lo uint64
}

// state returns where the run's random numbers stand.
func (w *World) state() (hi, lo uint64) {
	b, err := w.pcg.MarshalBinary() // "pcg:" and two numbers
	if err != nil || len(b) != 20 {
		panic(fmt.Sprintf("bug: the state of a source is %q", b))
	}
	return binary.BigEndian.Uint64(b[4:]), binary.BigEndian.Uint64(b[12:])
}

func (w *World) note(step int) {
	if w.recording {
		hi, lo := w.state()
		w.recorded = append(w.recorded, Event{step, hi, lo})
	}
}

// Record runs a seed as Run does and returns its events.
func Record(o Options, events int) (*World, []Event) {
	w := New(o)
	w.recording = true
	w.Run(events)
	return w, w.recorded
}

// Play makes events, then heals and looks; it ends at the first violation. An event
// behind all steps is where healing draws from.
func Play(o Options, events []Event) *World {
	w := New(o)
	epoch := w.now
	for _, e := range events {
		if len(w.violations) > 0 {
			return w
		}
		*w.pcg = *rand.NewPCG(e.Hi, e.Lo)
		if e.Step < endStep {
			w.step, w.now = e.Step, max(w.now, epoch+10*int64(e.Step))
			w.Step()
		}
	}
	w.end()
	return w
}

// endStep is the step of what comes behind the others.
const endStep = 1 << 20

// Shrunk is a failing run with as few events as were found to do.
type Shrunk struct {
	Options   Options
	Events    []Event
	Violation Violation
	Tries     int
}

// Shrink leaves out events of a failing run for as long as the rest breaks the same
// rule: halves first, then ever smaller pieces (delta debugging). It makes tries runs at
// most, each no longer than the first. It is nil if the run does not fail.
func Shrink(o Options, events, tries int) *Shrunk {
	o.Trace = nil
	w, all := Record(o, events)
	if len(w.violations) == 0 {
		return nil
	}
	s := &Shrunk{Options: o, Events: all, Violation: w.violations[0]}
	fails := func(some []Event) bool {
		s.Tries++
		v := Play(o, some).violations
		return len(v) > 0 && v[0].Rule == s.Violation.Rule
	}
	for pieces := 2; len(s.Events) > 1 && s.Tries < tries; {
		size := (len(s.Events) + pieces - 1) / pieces
		smaller := false
		for from := 0; from < len(s.Events) && s.Tries < tries; from += size {
			rest := slices.Concat(s.Events[:from], s.Events[min(from+size, len(s.Events)):])
			if fails(rest) {
				s.Events, smaller = rest, true
				from -= size
			}
		}
		switch {
		case smaller:
			pieces = max(2, pieces-1)
		case size == 1:
			pieces = len(s.Events) + 1
		default:
			pieces = min(2*pieces, len(s.Events))
		}
		if size == 1 && !smaller {
			break
		}
	}
	if v := Play(o, s.Events).violations; len(v) > 0 {
		s.Violation = v[0]
	}
	return s
}

// Test returns the run as a Go test to paste, with what each event did beside it.
func (s *Shrunk) Test() string {
	var trace bytes.Buffer
	o := s.Options
	o.Trace = &trace
	Play(o, s.Events)
	did := map[int][]string{}
	for line := range strings.Lines(trace.String()) {
		var step int
		if _, err := fmt.Sscanf(line, "%d", &step); err == nil {
			_, text, _ := strings.Cut(strings.TrimLeft(strings.TrimSpace(line), " "), " ")
			did[step] = append(did[step], text)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "func TestShrunk%s%d(t *testing.T) {\n\tt.Parallel()\n", strings.ToUpper(o.Mix.Name[:1])+o.Mix.Name[1:], o.Seed)
	fmt.Fprintf(&b, "\t// %v\n\tw := sim.Play(sim.Options{Seed: %d, Mix: mixOf(t, %q)", s.Violation, o.Seed, o.Mix.Name)
	if o.Bug != NoBug {
		fmt.Fprintf(&b, ", Bug: %q", o.Bug)
	}
	b.WriteString("}, []sim.Event{\n")
	for _, e := range s.Events {
		fmt.Fprintf(&b, "\t\t{%d, %#x, %#x},", e.Step, e.Hi, e.Lo)
		if what := did[e.Step+1]; len(what) > 0 {
			fmt.Fprintf(&b, " // %s", strings.Join(what, "; "))
		}
		b.WriteString("\n")
	}
	b.WriteString("\t})\n\trequire.Empty(t, w.Violations())\n}\n")
	return b.String()
}

// ShrinkCluster leaves out faults of a failing run of a cluster for as long as the rest
// breaks the same rule, in tries runs at most. It returns the options of the smallest
// run found, and what it breaks; false if the run does not fail.
func ShrinkCluster(o ClusterOptions, tries int) (ClusterOptions, Violation, bool) {
	o.Trace = nil
	run := func(o ClusterOptions) *Cluster {
		c := NewCluster(o)
		c.Run()
		return c
	}
	c := run(o)
	if len(c.broken) == 0 {
		return o, Violation{}, false
	}
	broken := c.broken[0]
	for size := max(1, c.faults/2); tries > 0; size /= 2 {
		for from := 0; from < c.faults && tries > 0; from += size {
			less := o
			less.Skip = slices.Clone(o.Skip)
			for n := from; n < min(from+size, c.faults); n++ {
				if !slices.Contains(less.Skip, n) {
					less.Skip = append(less.Skip, n)
				}
			}
			if len(less.Skip) == len(o.Skip) {
				continue
			}
			tries--
			if d := run(less); len(d.broken) > 0 && d.broken[0].Rule == broken.Rule {
				o, broken = less, d.broken[0]
			}
		}
		if size == 1 {
			break
		}
	}
	slices.Sort(o.Skip)
	return o, broken, true
}
