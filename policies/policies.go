// Package policies holds the named, versioned guest policies bound to key
// prefixes, their gate, and the typed decisions they return; it has the built-ins
// and is the only importer of the WebAssembly host but the node.
//
// A policy is a view over stored siblings: it says what a read shows where
// concurrent writes left more than one version, and stores nothing. The view is a
// function of the policy and the siblings alone, the same on every node.
//
// A policy of the other kind, repair, plans what a node fetches first, from whom
// and how fast. One of these is in force for the whole cluster.
package policies

// The policies that need no module. Their names stand where the id of another
// policy, 64 hexadecimal digits, would.
const (
	// LWW shows the newest sibling by (hlc, actor, counter). It is in force where
	// no binding matches.
	LWW = "lww"
	// Siblings decides nothing: it shows the newest, marked unresolved, so that
	// a client asks for all of them.
	Siblings = "siblings"
	// BuiltinPlan is the repair plan of those who have no policy: everything at
	// once, in the order of partitions, from whoever has it.
	BuiltinPlan = "built-in"
)

// Sibling is one live, unexpired version of an object. No two siblings of an
// object have the same (HLC, Actor, Counter).
type Sibling struct {
	// Value belongs to the caller and is not changed.
	Value []byte
	// HLC is the hybrid time of the write, Actor the 64-bit hash of the full
	// actor, Counter its sequence number there: equal on every replica.
	HLC, Actor, Counter uint64
	// ExpiresMS is the absolute expiry in Unix milliseconds, 0 for none.
	ExpiresMS uint64
}

// Kind tells what a view shows.
type Kind uint8

// The kinds of a view.
const (
	// Absent shows the object as not found.
	Absent Kind = iota
	// Present shows a value.
	Present
)

// Marks of a view. The empty mark is a decision over all siblings.
const (
	// MarkUnresolved says that nothing decided: the newest sibling is shown.
	MarkUnresolved = "unresolved"
	// MarkTruncated says that the decision was made without the oldest siblings,
	// as there were more than a policy is shown.
	MarkTruncated = "truncated"
)

// View is what a read shows of an object.
type View struct {
	Kind Kind
	// Value is set when Kind is Present. It is the Value of one of the siblings,
	// or a new slice; either way it must not be changed.
	Value []byte
	// ExpiresMS is the view's absolute expiry in Unix milliseconds, 0 for none.
	ExpiresMS uint64
	// Mark is empty, MarkUnresolved or MarkTruncated.
	Mark string
	// PolicyID and Epoch name the binding that was in force: the built-in's name
	// or the policy's id, and 0 for the default without a binding.
	PolicyID string
	Epoch    uint64
}
