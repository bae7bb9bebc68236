// Package api is what the front doors share: the store they stand before. A
// door decodes, checks limits, calls the store, and encodes.
package api

import (
	"context"

	"edged.dev/edged/internal/kv"
)

// Store answers for every key of the cluster, whichever node holds it. It is
// safe for concurrent use.
type Store interface {
	// Start begins a request and returns; done is called once, maybe before
	// Start returns, from any goroutine, and must not block. The request and the
	// bytes it points at are the store's until then, and no longer. Two requests
	// started one after the other on the same key may be answered in either
	// order unless the first is done: a door that promises order waits.
	Start(ctx context.Context, req *kv.Request, done func(*kv.Response, error))

	// GetFast answers a plain read from this node's memory without allocating:
	// it appends the value to dst. handled is false where the long way through
	// Start must be taken (not in memory, not served here, siblings).
	GetFast(dst, key []byte) (value []byte, found, handled bool)

	// Scan returns up to limit shown keys at the cursor ("" begins), with their
	// expiries, that have the prefix, and the next cursor, "" at the end. A key
	// that exists throughout is returned at least once. Any other cursor is a
	// decimal number from 1 to 2^64-1, for that is what Redis clients can hold.
	Scan(ctx context.Context, cursor string, limit int, prefix []byte) (keys []ScannedKey, next string, err error)

	// Count returns the number of live keys of the whole cluster, as its
	// partitions' owners count them.
	Count(ctx context.Context) (int64, error)
}

// ScannedKey is a key a scan found, with its absolute expiry (0 = none).
type ScannedKey struct {
	Key       []byte
	ExpiresMS int64
}

// Do runs one request and waits for its answer or the context's end.
func Do(ctx context.Context, s Store, req *kv.Request) (*kv.Response, error) {
	type answer struct {
		resp *kv.Response
		err  error
	}
	ch := make(chan answer, 1)
	s.Start(ctx, req, func(r *kv.Response, err error) { ch <- answer{r, err} })
	select {
	case a := <-ch:
		return a.resp, a.err
	case <-ctx.Done():
		if !req.Writes() {
			return nil, kv.Errorf(kv.CodeUnavailable, "read ended before its answer: %v", context.Cause(ctx))
		}
		return nil, kv.Errorf(kv.CodeUnknown, "request ended before its answer: %v", context.Cause(ctx))
	}
}
