package policies

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	wasmrt "edged.dev/edged/runtime"
)

// Report is what Check found out about a module.
type Report struct {
	// Module is the SHA-256 in hexadecimal, Bytes the length.
	Module string
	Bytes  int
	// Info is what the module's bytes tell.
	Info wasmrt.Info
	// Trials are the sample merges, or plans, that were made.
	Trials []Trial
}

// Trial is one sample merge of Siblings, or one plan over Ranges.
type Trial struct {
	Siblings int
	Ranges   int
	// Outcome is a verdict or a failure, in the words of Count.
	Outcome string
	// Detail says more about a failure.
	Detail   string
	FuelUsed int64
	Log      []string
}

// Check judges a module before it is deployed: admission, compilation, and some
// merges of small values. An *wasmrt.AdmissionError says that it is refused and
// what to do; a *TrialError that it fails on ordinary input. Where it answers an
// error code or keeps the siblings, that is in the report alone, as values of its
// kind may be needed. It uses a host of its own and leaves nothing behind.
func Check(ctx context.Context, wasm []byte) (Report, error) {
	return onOwnHost(ctx, func(host *wasmrt.Host) (Report, error) { return check(ctx, host, wasm) })
}

func onOwnHost(ctx context.Context, check func(*wasmrt.Host) (Report, error)) (Report, error) {
	host, err := wasmrt.NewHost(ctx, wasmrt.Default())
	if err != nil {
		return Report{}, fmt.Errorf("check module: %w", err)
	}
	r, err := check(host)
	return r, errors.Join(err, host.Close(ctx))
}

// TrialError says that a module failed on ordinary input.
type TrialError struct{ Trial Trial }

// Error names the trial, the outcome and what the guest logged.
func (e *TrialError) Error() string {
	tried := fmt.Sprintf("merging %d siblings", e.Trial.Siblings)
	if e.Trial.Siblings == 0 {
		tried = fmt.Sprintf("planning %d ranges", e.Trial.Ranges)
	}
	s := fmt.Sprintf("refuse module: %s ended with %s: %s", tried, e.Trial.Outcome, e.Trial.Detail)
	if len(e.Trial.Log) > 0 {
		s += fmt.Sprintf("; it logged %q", strings.Join(e.Trial.Log, "\n"))
	}
	return s
}

func check(ctx context.Context, host *wasmrt.Host, wasm []byte) (Report, error) {
	m := newManifest(DeploySpec{Name: "check"}, wasm)
	r := Report{Module: m.Module, Bytes: len(wasm)}
	mod, err := compileModule(ctx, host, wasm, m)
	if err != nil {
		return r, err
	}
	r.Info = mod.Info()
	for _, n := range []int{2, 3, MaxSiblings} {
		d, err := decide(ctx, mod, Conflict{Key: []byte(smokeConflictKey), Siblings: sample(n)}, m)
		if err != nil {
			return r, fmt.Errorf("check module: %w", err)
		}
		t := Trial{Siblings: n, Outcome: d.reason.String(), FuelUsed: d.fuel, Log: d.log}
		if d.detail != nil {
			t.Detail = d.detail.Error()
		}
		r.Trials = append(r.Trials, t)
		if d.reason.failed() && d.reason != reasonError && d.reason != reasonGuest {
			return r, &TrialError{Trial: t}
		}
	}
	return r, nil
}

// sample returns n siblings, newest first, whose values are small numbers: text,
// JSON, a counter or an item of a list alike.
func sample(n int) []Sibling {
	s := make([]Sibling, n)
	for i := range s {
		s[i] = Sibling{
			Value: []byte(strconv.Itoa(n - i)), HLC: uint64(n-i) << 16, Actor: uint64(1 + i%3), Counter: uint64(n - i),
		}
	}
	return s
}

// warmup is the fixed request that a module runs before its image is taken, so
// that what it allocates lazily is in the image: 64 conflicts of 2 or 3 siblings.
// It belongs to cost model 1: another warm-up would be another image.
func warmup(needs Needs, params []byte) []byte {
	conflicts := make([]Conflict, 64)
	for i := range conflicts {
		conflicts[i] = Conflict{Key: []byte("warm/" + strconv.Itoa(i)), Siblings: sample(2 + i%2)}
	}
	return AppendRequest(nil, conflicts, needs, params)
}
