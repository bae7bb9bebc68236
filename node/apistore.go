package node

import (
	"context"
	"hash/fnv"

	"edged.dev/edged/api"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/policies"
	"edged.dev/edged/replica"
)

// apiStore is the replica as the front doors see it. Before there is one, since
// the node is still joining its cluster, every request is answered at once: that
// it serves nothing yet.
type apiStore struct{ n *Node }

func (s apiStore) to() (*replica.Replica, error) {
	if r := s.n.serving.Load(); r != nil {
		return r, nil
	}
	_, text := s.n.whyNot()
	return nil, kv.Errorf(kv.CodeUnavailable, "%s", text)
}

var _ api.Store = apiStore{}

// Start implements api.Store.
func (s apiStore) Start(ctx context.Context, req *kv.Request, done func(*kv.Response, error)) {
	r, err := s.to()
	if err != nil {
		done(nil, err)
		return
	}
	r.Start(ctx, req, done)
}

// GetFast implements api.Store.
func (s apiStore) GetFast(dst, key []byte) (value []byte, found, handled bool) {
	r := s.n.serving.Load()
	if r == nil {
		return dst, false, false
	}
	return r.GetFast(dst, key)
}

// Scan implements api.Store.
func (s apiStore) Scan(ctx context.Context, cursor string, limit int, prefix []byte) ([]api.ScannedKey, string, error) {
	r, err := s.to()
	if err != nil {
		return nil, "", err
	}
	found, next, err := r.Scan(ctx, cursor, limit, prefix)
	keys := make([]api.ScannedKey, len(found))
	for i, k := range found {
		keys[i] = api.ScannedKey{Key: k.Key, ExpiresMS: k.ExpiresMS}
	}
	return keys, next, err
}

// Count implements api.Store.
func (s apiStore) Count(ctx context.Context) (int64, error) {
	r, err := s.to()
	if err != nil {
		return 0, err
	}
	return r.Count(ctx)
}

// merger shows the policies to the replica.
type merger struct{ n *Node }

var _ replica.Merger = merger{}

// View implements replica.Merger.
func (m merger) View(ctx context.Context, key []byte, live []kv.Version) (replica.View, error) {
	if err := m.n.system.current(ctx); err != nil {
		return replica.View{}, err
	}
	siblings := make([]policies.Sibling, len(live))
	for i, v := range live {
		siblings[i] = policies.Sibling{
			Value: v.Value, HLC: uint64(v.HLC), Actor: actorHash(v.Dot.Actor), Counter: v.Dot.Seq, ExpiresMS: uint64(v.ExpiresMS),
		}
	}
	v, err := m.n.policies.Resolve(ctx, key, siblings)
	if err != nil {
		return replica.View{}, err
	}
	out := replica.View{
		Found: v.Kind == policies.Present, Value: v.Value, ExpiresMS: int64(v.ExpiresMS), Mark: v.Mark, Policy: v.PolicyID,
	}
	if out.Mark == "" && v.Epoch > 0 {
		out.Mark = viewName(v.PolicyID, v.Epoch)
	}
	return out, nil
}

// actorHash is the 64-bit name that a policy is shown for a full actor, the same
// on every node.
func actorHash(a kv.Actor) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(a.Append(nil)) // a hash does not fail
	return h.Sum64()
}
