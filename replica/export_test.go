package replica

import (
	"context"
	"time"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
	"edged.dev/edged/transport/wire"
)

// OpenSessions returns how many sessions in which this node receives are kept,
// and how many it streams.
func (r *Replica) OpenSessions() (in, out int) {
	r.sessions.mu.Lock()
	defer r.sessions.mu.Unlock()
	return len(r.sessions.pulls), r.sessions.outgoing
}

// AgeSteps is how many ages there are.
const AgeSteps = len(ages{})

// AgeOf and Untouched are how eviction chooses.
func AgeOf(w partition.Weight, nowMS int64) int { return ageOf(w, nowMS) }

func Untouched(newest kv.HLC) func(kv.Object) []kv.Dot { return untouched(newest) }

// Cut cuts a partition whose bytes by age are given.
func Cut(weights map[int]int64, bytes int64) (age int, some int64) {
	var a ages
	for age, n := range weights {
		a[age] = n
	}
	return a.cut(bytes)
}

// ClockHash is how TREE and HELD name the clock at which copies are compared.
func ClockHash(p kv.Partition, c kv.Clock) uint64 { return clockHash(p, c) }

// WorthALane sets how many bytes are worth a lane more.
func (r *Replica) WorthALane(bytes uint64) { r.laneBytes = bytes }

// Window is a lane's window by itself.
type Window struct{ w window }

// NewWindow returns the window of one of so many lanes, at a clock.
func NewWindow(rtt time.Duration, lanes int64, now func() int64) *Window {
	return &Window{window{rtt: rtt, lanes: lanes, now: now}}
}

// Begin begins a chunk.
func (w *Window) Begin() { w.w.begin() }

// Write writes as much of n bytes as there is room for.
func (w *Window) Write(n int) int {
	free, _ := w.w.room(n)
	w.w.wrote(free)
	return free
}

// Take takes the receiver's word.
func (w *Window) Take(chunks uint64) error { return w.w.take(chunks) }

// The bounds of windows.
const (
	WindowBytes    = windowBytes
	MaxWindowBytes = maxWindowBytes
	TakeRate       = takeRate
	TakeWait       = takeWait
)

// LanesFor is how many lanes a session has.
func LanesFor(dots uint64) int { return lanesFor(dots, laneBytes) }

// LevelFor is how hard a session's lanes are compressed.
func LevelFor(dots uint64, rtt time.Duration) wire.LaneLevel { return levelFor(dots, rtt) }

// AppliesHeld is how many bytes sessions brought that the store has not written, the
// most there were, and how many there may be.
func (r *Replica) AppliesHeld() (now, most, limit int64) {
	now, most = r.applies.held()
	return now, most, applyQueueBytes
}

// ApplyQueue is the bound on what sessions bring, by itself.
type ApplyQueue struct {
	q     applyQueue
	Limit int64
}

// NewApplyQueue returns an empty one.
func NewApplyQueue() *ApplyQueue { return &ApplyQueue{Limit: applyQueueBytes} }

// Admit waits for room.
func (a *ApplyQueue) Admit(ctx context.Context, n int64) error { return a.q.admit(ctx, n) }

// Wrote gives room back.
func (a *ApplyQueue) Wrote(n int64) { a.q.wrote(n) }

// MaxGivenBytes is what damaged copies give an owner between two pauses.
const MaxGivenBytes = maxGivenBytes

// MaxAsks is how often a write asks its policy ahead of the key's lock.
const MaxAsks = maxAsks

// QuietAfter is for how long a PING may be without an answer until no write is sent.
const QuietAfter = quietAfter

// Quiet reports whether a peer owes the answer to a PING.
func (r *Replica) Quiet(name string) bool { return r.quiet(name) }
