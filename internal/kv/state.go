package kv

// Trust says how far a copy's own memory can be believed. It is persisted.
type Trust uint8

// A New copy (first boot, new owner, disk lost, quarantined) may lack anything it
// ever acked; a Suspect one was rolled back or stopped uncleanly under relaxed
// durability; a Whole one has been LIVE and has lost nothing since.
const (
	New Trust = iota
	Suspect
	Whole
)

// String returns the word shown to operators.
func (t Trust) String() string {
	return word(int(t), "new", "suspect", "whole")
}

// State is what a copy of a partition does for requests.
type State uint8

// A Cold or CatchingUp copy forwards; the other three serve. Isolated and
// Degraded answers are marked, for other owners could not be asked.
const (
	Cold State = iota
	CatchingUp
	Live
	Isolated
	Degraded
)

// Serves reports whether a copy in this state answers requests itself.
func (s State) Serves() bool { return s >= Live }

// String returns the word shown to operators.
func (s State) String() string {
	return word(int(s), "cold", "catching_up", "live", "isolated", "degraded")
}

func word(i int, words ...string) string {
	if i < 0 || i >= len(words) {
		return "unknown"
	}
	return words[i]
}
