package kv

import (
	"errors"
	"fmt"
)

// Op is what a request asks for. The numbers travel in FORWARD frames: append only.
type Op uint8

// The operations every door is made of.
const (
	OpGet     Op = iota + 1
	OpSet        // Value, ExpiresMS, NX, XX, KeepTTL, ReturnOld, Match
	OpDelete     // Match; Response.Found tells whether something was shown before
	OpExpire     // ExpiresMS (in the past: delete), NX, XX, GT, LT
	OpPersist    // Response.Changed tells whether there was an expiry
	OpIncr       // Delta; Response.Int is the sum
	OpAppend     // Value; Response.Int is the new length
)

// Request is one operation on one key, as every door hands it to the
// coordinator and as it is forwarded between nodes. Slices are the caller's and
// must not change until the answer is there.
type Request struct {
	Op        Op
	Key       []byte
	Value     []byte
	ExpiresMS int64 // absolute Unix milliseconds, 0 = none
	NX, XX    bool  // only if nothing / something is shown (OpExpire: no / some expiry)
	GT, LT    bool  // OpExpire: only if later / earlier than the present expiry
	KeepTTL   bool
	ReturnOld bool // Response.Value, Found and ExpiresMS tell what was shown before
	Delta     int64

	IfMatch     []string // entity tags or "*"; empty: no condition
	IfNoneMatch []string

	Token    []byte // causality token of an earlier answer, nil: none
	Fence    []byte // read fence of an earlier answer: not staler than
	R, W     int    // copies to ask, copies to acknowledge; 0 = the configured number
	Siblings bool   // also return the versions side by side
	Meta     bool   // the answer's Token, ETag are wanted (RESP has no use for them)
	System   bool   // the key is in the system partition; no door lets a client say so
}

// Writes reports whether the operation may change the key.
func (r *Request) Writes() bool { return r.Op != OpGet }

// Sibling is one of several concurrent versions, as shown to a client.
type Sibling struct {
	Value     []byte
	Dot       Dot
	HLC       HLC
	ExpiresMS int64
}

// Response answers a Request.
type Response struct {
	Found     bool   // a value is shown (of the old object for ReturnOld and OpDelete)
	Changed   bool   // the operation took effect (conditions held)
	Value     []byte // the receiver owns it
	ExpiresMS int64
	Int       int64

	Token    []byte
	Fence    []byte
	ETag     string
	Siblings []Sibling
	Copies   int // durable copies acknowledged
	Wanted   int // copies the key has owners for
	StandIns int // durable copies of nodes that stand in for owners; not among Copies
	Partial  bool
	State    State  // of the copy that answered
	View     string // "", or policy@epoch, unresolved, truncated
}

// Code classifies an Error. The numbers travel in RESULT frames: append only.
type Code uint8

// What can become of a request that is not answered.
const (
	CodeInternal    Code = iota + 1 // a bug or a failing disk here
	CodeInvalid                     // the request itself is wrong
	CodeTooLarge                    // key, value, token over its limit
	CodeNotServing                  // refused before start: this copy does not serve; another may
	CodeUnavailable                 // nobody serves the key at present; nothing was done
	CodeUnknown                     // sent, not answered: it may or may not have taken effect
	CodeSiblings                    // too many siblings: read, then write with the token
	CodeToken                       // the token is not of this cluster, partition or key
	CodeNotInteger                  // OpIncr on a value that is not a 64-bit integer, or an overflow
	CodePolicy                      // the bound policy cannot run on any serving node
	CodeFull                        // the disk is at its watermark; reads go on
	CodeTimeout                     // the deadline passed before anything was started
)

// String returns the code's name.
func (c Code) String() string {
	return word(int(c), "ok", "internal", "invalid", "too-large", "not-serving", "unavailable",
		"outcome-unknown", "too-many-siblings", "bad-token", "not-an-integer", "policy-unavailable", "disk-full", "timeout")
}

// Error is a request's failure: a code for programs, a text for people that
// says what was wrong, where, and what to do.
type Error struct {
	Code Code
	Text string
}

// Error returns the text.
func (e *Error) Error() string { return e.Text }

// Errorf makes an Error.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{code, fmt.Sprintf(format, args...)}
}

// CodeOf returns the code of err: 0 for nil, CodeInternal where it has none.
func CodeOf(err error) Code {
	if err == nil {
		return 0
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return CodeInternal
}

// CheckSizes refuses keys and values over their limits, and empty keys.
func (r *Request) CheckSizes() error {
	switch {
	case len(r.Key) == 0:
		return Errorf(CodeInvalid, "key is empty; a key has 1 to %d bytes", MaxKeyBytes)
	case len(r.Key) > MaxKeyBytes:
		return Errorf(CodeTooLarge, "key has %d bytes; the limit is %d", len(r.Key), MaxKeyBytes)
	case len(r.Value) > MaxValueBytes:
		return Errorf(CodeTooLarge, "value has %d bytes; the limit is %d", len(r.Value), MaxValueBytes)
	}
	return nil
}
