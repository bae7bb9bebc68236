package wire

import (
	"errors"
	"fmt"
)

// Breach is how a peer broke the protocol. The connection to it is closed with a
// code that names it, so that the peer's own log says what it did. The numbers are
// part of the protocol: append only.
type Breach uint8

// The breaches.
const (
	NoBreach Breach = iota
	// BreachMalformed: bytes that are no frame of the type that was due.
	BreachMalformed
	// BreachOversized: a frame, or a record of a lane, past its limit.
	BreachOversized
	// BreachBomb: compressed bytes that unpack to more than their limit, or want
	// more memory for it.
	BreachBomb
	// BreachDigest: bytes that do not fit the digest sent with them.
	BreachDigest
	// BreachMisplaced: an object in a partition that its key does not belong to.
	BreachMisplaced
	// BreachForged: dots of the receiver's own that it has not given out.
	BreachForged
	// BreachKeep: the word that the receiver has dots which it cannot know.
	BreachKeep
	// BreachEnd: an end, or a word of live dots, that what was sent before it belies.
	BreachEnd
	// BreachUnasked: an answer to nothing that was asked.
	BreachUnasked
	// BreachReplayed: something a second time that is sent once.
	BreachReplayed
	// BreachAnswer: an answer that does not fit its question.
	BreachAnswer

	// Breaches is the length of a table by breach.
	Breaches
)

var breachNames = [Breaches]string{
	"none", "malformed", "oversized", "bomb", "digest", "misplaced", "forged", "keep", "end", "unasked", "replayed", "answer",
}

// String returns the breach's name, as metrics have it.
func (b Breach) String() string {
	if b >= Breaches {
		return fmt.Sprintf("breach-%d", uint8(b))
	}
	return breachNames[b]
}

// BreachError is an error about what a peer sent, with the breach that it is.
type BreachError struct {
	Breach Breach
	Err    error
}

// Error tells the breach and what was found.
func (e *BreachError) Error() string { return e.Breach.String() + ": " + e.Err.Error() }

// Unwrap returns what was found.
func (e *BreachError) Unwrap() error { return e.Err }

// Breached returns an error that is a breach.
func Breached(b Breach, format string, args ...any) error {
	return &BreachError{b, fmt.Errorf(format, args...)}
}

// BreachOf returns which breach an error is about, NoBreach for one that is no
// peer's doing.
func BreachOf(err error) Breach {
	var e *BreachError
	switch {
	case err == nil:
		return NoBreach
	case errors.As(err, &e):
		return e.Breach
	case errors.Is(err, ErrMalformed):
		return BreachMalformed
	}
	return NoBreach
}
