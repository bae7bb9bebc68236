package policies

import (
	"sync/atomic"

	wasmrt "edged.dev/edged/runtime"
)

// reason is an outcome that is counted: a verdict, or why there was none.
type reason uint8

const (
	reasonPick reason = iota
	reasonValue
	reasonAbsent
	reasonKeep
	reasonError
	reasonTrap
	reasonFuel
	reasonDepth
	reasonMemory
	reasonPointer
	reasonGuest
	reasonTooLong
	reasonMalformed
	reasonTruncated
	reasonNotReady
	reasonNode
	reasonPlan
	reasonCount
)

// reasonNames are the label values in metrics.
var reasonNames = [reasonCount]string{
	reasonPick: "pick", reasonValue: "value", reasonAbsent: "absent", reasonKeep: "keep", reasonError: "error",
	reasonTrap: "trap", reasonFuel: "out_of_fuel", reasonDepth: "too_deep", reasonMemory: "out_of_memory",
	reasonPointer: "bad_pointer", reasonGuest: "guest_error", reasonTooLong: "too_long", reasonMalformed: "malformed",
	reasonTruncated: "truncated", reasonNotReady: "not_ready", reasonNode: "node",
	reasonPlan: "plan",
}

func (r reason) String() string { return reasonNames[r] }

// failed tells the outcomes that end in the fallback by the guest's fault.
func (r reason) failed() bool { return r >= reasonError && r <= reasonMalformed }

func verdictReason(k VerdictKind) reason {
	switch k {
	case VerdictPick:
		return reasonPick
	case VerdictValue:
		return reasonValue
	case VerdictAbsent:
		return reasonAbsent
	case VerdictKeep:
		return reasonKeep
	case VerdictError:
		return reasonError
	}
	return reasonMalformed
}

func faultReason(r wasmrt.Reason) reason {
	switch r {
	case wasmrt.Trap:
		return reasonTrap
	case wasmrt.OutOfFuel:
		return reasonFuel
	case wasmrt.TooDeep:
		return reasonDepth
	case wasmrt.OutOfMemory:
		return reasonMemory
	case wasmrt.BadPointer:
		return reasonPointer
	case wasmrt.GuestError:
		return reasonGuest
	case wasmrt.TooLong:
		return reasonTooLong
	}
	return reasonTrap
}

// counters counts the outcomes of one policy since the node started.
type counters [reasonCount]atomic.Uint64

func (c *counters) add(r reason) { c[r].Add(1) }

// Count is how often a policy had an outcome.
type Count struct {
	// PolicyID is the policy's id; built-ins are not counted.
	PolicyID string
	// Reason is pick, value, absent, keep: verdicts; error, trap, out_of_fuel,
	// too_deep, out_of_memory, bad_pointer, guest_error, too_long, malformed:
	// failures of the guest, answered by the fallback; truncated: older siblings
	// were left out; not_ready, node: this node could not decide; plan: a repair
	// plan.
	Reason string
	// Failure is set for the failures of the guest.
	Failure bool
	N       uint64
}

// counts returns the outcomes that occurred.
func (c *counters) counts(policyID string) (out []Count) {
	for r := range reasonCount {
		if n := c[r].Load(); n > 0 {
			out = append(out, Count{PolicyID: policyID, Reason: r.String(), Failure: r.failed(), N: n})
		}
	}
	return out
}
