package node

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"edged.dev/edged/api"
	"edged.dev/edged/internal/kv"
)

// readyEvery spaces the looks of WaitReady.
const readyEvery = 5 * time.Millisecond

// WaitReady returns when every partition that this node owns serves, or with
// ctx's error. Run must be running.
func (n *Node) WaitReady(ctx context.Context) error {
	tick := time.NewTicker(readyEvery)
	defer tick.Stop()
	for n.serving.Load() == nil || !(status{n}).Ready().Ready {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until ready: %w", context.Cause(ctx))
		case <-tick.C:
		}
	}
	return nil
}

// Get returns what is shown for a key, wherever in the cluster it is held. The
// value is the caller's.
func (n *Node) Get(ctx context.Context, key []byte) (value []byte, found bool, err error) {
	resp, err := api.Do(ctx, apiStore{n}, &kv.Request{Op: kv.OpGet, Key: key})
	if err != nil {
		return nil, false, fmt.Errorf("get %q: %w", key, err)
	}
	return bytes.Clone(resp.Value), resp.Found, nil
}

// Put writes a value and returns how many durable copies acknowledged it; with
// ttl above 0 it expires after that. Key and value are the caller's again when
// Put returns.
func (n *Node) Put(ctx context.Context, key, value []byte, ttl time.Duration) (copies int, err error) {
	req := &kv.Request{Op: kv.OpSet, Key: bytes.Clone(key), Value: bytes.Clone(value)}
	if ttl > 0 {
		req.ExpiresMS = n.doors.now().Add(ttl).UnixMilli()
	}
	resp, err := api.Do(ctx, apiStore{n}, req)
	if err != nil {
		return 0, fmt.Errorf("put %q: %w", key, err)
	}
	return resp.Copies, nil
}

// Delete deletes a key and reports whether anything was shown for it.
func (n *Node) Delete(ctx context.Context, key []byte) (existed bool, err error) {
	resp, err := api.Do(ctx, apiStore{n}, &kv.Request{Op: kv.OpDelete, Key: bytes.Clone(key)})
	if err != nil {
		return false, fmt.Errorf("delete %q: %w", key, err)
	}
	return resp.Found, nil
}
