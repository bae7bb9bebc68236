package core

import "edged.dev/edged/internal/kv"

// Steps are the steps of the ladder by which a copy becomes level, cheapest first: equal
// clocks, an interval of dots, that and the live dots below it, live dots both ways, and
// the owners' vote.
func Steps() []string { return []string{"L0", "L1", "L2", "L3", "L4"} }

// took notes the step that a copy took, from whom, if from one, and why. It tells of
// each end of a partition's session once, so that there are no more of them than
// sessions bring.
func (m *Machine) took(x *part, step, donor, why string) {
	x.Path, x.Why = step, why
	if x.State != kv.Isolated && x.State != kv.Degraded { // which say why they are marked
		x.Reason = why
	}
	if x.Partition != kv.System { // whose notes name no partition
		m.emit(Note{Kind: "repair.step", Peer: donor, Partition: x.Partition, Step: step, Text: why})
	}
}

// arrived says why a copy that is LIVE now may be: by the step that led there, where there
// was one.
func (m *Machine) arrived(x *part, reason string) {
	switch {
	case x.Path == "" && len(x.others) > 0: // by replication, or since it missed nothing
		m.took(x, "L0", "", reason)
	case x.Path == "" || x.Path == "L0":
		x.Reason = reason
	default:
		x.Reason = x.Why
	}
}
