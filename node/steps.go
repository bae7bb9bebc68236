package node

import (
	"cmp"
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"edged.dev/edged/api/admin"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/replica/core"
)

// otherReasons stands for those that Rejoin has no room for.
const otherReasons = "for other reasons"

type stepReason struct{ step, why string }

// stepsOf groups the owned partitions by the step that their last sync took, and why.
func stepsOf(parts iter.Seq[*core.Part]) []admin.RejoinStep {
	of := map[stepReason][]uint32{}
	for p := range parts {
		if p.Self && p.Path != "" && p.Partition != kv.System {
			key := stepReason{p.Path, p.Why}
			of[key] = append(of[key], uint32(p.Partition))
		}
	}
	var keys []stepReason
	for key := range of {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b stepReason) int {
		return cmp.Or(len(of[b])-len(of[a]), cmp.Compare(a.step, b.step), cmp.Compare(a.why, b.why))
	})
	for _, key := range keys[min(len(keys), admin.MaxRejoinSteps):] {
		rest := stepReason{key.step, otherReasons}
		of[rest] = append(of[rest], of[key]...)
		delete(of, key)
	}
	out := make([]admin.RejoinStep, 0, len(of))
	for key, numbers := range of {
		out = append(out, admin.RejoinStep{Step: key.step, Reason: key.why, Count: len(numbers), Partitions: ranges(numbers)})
	}
	slices.SortFunc(out, func(a, b admin.RejoinStep) int {
		return cmp.Or(cmp.Compare(a.Step, b.Step), b.Count-a.Count, cmp.Compare(a.Reason, b.Reason))
	})
	return out
}

// ranges writes distinct numbers in order, those in a row as one.
func ranges(numbers []uint32) string {
	slices.Sort(numbers)
	var out []string
	for i := 0; i < len(numbers); {
		first, last := numbers[i], numbers[i]
		for i++; i < len(numbers) && numbers[i] == last+1; i++ {
			last++
		}
		text := strconv.FormatUint(uint64(first), 10)
		if last > first {
			text += "-" + strconv.FormatUint(uint64(last), 10)
		}
		out = append(out, text)
	}
	return strings.Join(out, ",")
}

func (m metrics) collectSteps(ch chan<- prometheus.Metric) {
	steps := map[string]uint64{}
	for i, step := range core.Steps() {
		steps[step] = uint64(m.n.replica.Stats().Steps[i].Load())
	}
	byName(ch, "edged_sync_steps_total", "Partitions made level here, by the step of the ladder that it took.", "step", steps)
}
