package wasmrt

import (
	"errors"
	"fmt"
)

// Node-local failures: they say nothing about the module or the request, and
// another node may well succeed. Context errors belong to the same family.
var (
	// ErrClosed is returned once the host or the module has been closed.
	ErrClosed = errors.New("wasm host closed")
	// ErrBudget is returned when the node's memory for guests cannot hold
	// another module.
	ErrBudget = errors.New("memory budget for guests exhausted")
)

// AdmissionError says why a module is refused: a property of its bytes alone,
// the same on every node.
type AdmissionError struct {
	// Rule is a short stable name of the rule that was broken.
	Rule string
	// Where names the place: a section, function and byte offset.
	Where string
	// What says what was found there.
	What string
	// Advice says what to do about it; empty where the text above says it all.
	Advice string
}

// Error returns rule, finding, place and advice on one line.
func (e *AdmissionError) Error() string {
	s := "refuse module: " + e.What
	if e.Where != "" {
		s += " (" + e.Where + ")"
	}
	if e.Advice != "" {
		s += "; " + e.Advice
	}
	return s + " [" + e.Rule + "]"
}

// Reason tells the ways apart in which a call can fail by the guest's doing.
type Reason uint8

// The reasons of a FaultError.
const (
	// Trap: an unreachable instruction, an access out of bounds, a division by
	// zero, abort or exit.
	Trap Reason = iota + 1
	// OutOfFuel: the call did more work than its budget allows.
	OutOfFuel
	// TooDeep: calls were nested deeper than the budget allows.
	TooDeep
	// OutOfMemory: the guest failed after it was refused memory, or its
	// allocator had no room for the request.
	OutOfMemory
	// BadPointer: the guest named a place outside its memory, or an unaligned
	// buffer.
	BadPointer
	// GuestError: the guest itself answered an error code.
	GuestError
	// TooLong: the answer is longer than the caller accepts.
	TooLong
)

// String returns the reason in the snake_case form used in metrics.
func (r Reason) String() string {
	switch r {
	case Trap:
		return "trap"
	case OutOfFuel:
		return "out_of_fuel"
	case TooDeep:
		return "too_deep"
	case OutOfMemory:
		return "out_of_memory"
	case BadPointer:
		return "bad_pointer"
	case GuestError:
		return "guest_error"
	case TooLong:
		return "too_long"
	}
	return "unknown"
}

// FaultError is a failure that is a function of the module and the request: every
// node that runs the same call gets the same Reason. An error of Call that is
// no FaultError is the node's own.
type FaultError struct {
	// Reason is the class of the failure.
	Reason Reason
	// Code is the guest's own number when Reason is GuestError.
	Code uint32
	// Detail is for people; it may differ between engines.
	Detail string
}

// Error returns the reason and its detail.
func (f *FaultError) Error() string {
	if f.Reason == GuestError {
		return fmt.Sprintf("guest answered error code %d", f.Code)
	}
	if f.Detail == "" {
		return "guest failed: " + f.Reason.String()
	}
	return "guest failed: " + f.Reason.String() + ": " + f.Detail
}
