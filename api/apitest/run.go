package apitest

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"edged.dev/edged/internal/kv"
)

// run executes a request as a coordinator would.
func (s *Store) run(req *kv.Request) (*kv.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		if err := s.fail(req); err != nil {
			return nil, err
		}
	}
	if err := req.CheckSizes(); err != nil {
		return nil, err
	}
	shown := s.shownLocked(req.Key)
	resp := &kv.Response{State: kv.Live}
	if shown != nil && (req.Op == kv.OpGet || req.ReturnOld) {
		resp.Found, resp.ExpiresMS = true, shown.expiresMS
		resp.Value = slices.Clone(shown.value)
	}
	if req.Op == kv.OpDelete {
		resp.Found = shown != nil
	}
	if req.Writes() {
		resp.Copies, resp.Wanted, resp.Fence = copies, copies, slices.Clone(s.fence)
		if s.holdsLocked(req, shown) {
			if err := s.writeLocked(req, shown, resp); err != nil {
				return nil, err
			}
		}
	}
	if req.Meta {
		resp.Token, resp.ETag = s.tokenLocked(req.Key), s.etagLocked(req.Key)
	}
	if o := s.objects[string(req.Key)]; req.Siblings && o != nil {
		for _, v := range o.versions {
			resp.Siblings = append(resp.Siblings, kv.Sibling{Value: slices.Clone(v.value), Dot: kv.Dot{Seq: v.seq}, HLC: kv.HLC(v.seq), ExpiresMS: v.expiresMS})
		}
	}
	if s.adorn != nil {
		s.adorn(req, resp)
	}
	return resp, nil
}

// holdsLocked reports whether the request's conditions hold.
func (s *Store) holdsLocked(req *kv.Request, shown *version) bool {
	etag := s.etagLocked(req.Key)
	matches := func(tags []string) bool {
		return shown != nil && (slices.Contains(tags, "*") || slices.Contains(tags, etag))
	}
	if len(req.IfMatch) > 0 && !matches(req.IfMatch) || len(req.IfNoneMatch) > 0 && matches(req.IfNoneMatch) {
		return false
	}
	if req.Op == kv.OpExpire {
		return shown != nil && expireHolds(req, shown.expiresMS)
	}
	return !(req.NX && shown != nil || req.XX && shown == nil)
}

// expireHolds has Redis' rules: no expiry counts as one that never comes.
func expireHolds(req *kv.Request, old int64) bool {
	present := old
	if present == 0 {
		present = math.MaxInt64
	}
	return !(req.NX && old != 0 || req.XX && old == 0 || req.GT && req.ExpiresMS <= present || req.LT && req.ExpiresMS >= present)
}

func (s *Store) writeLocked(req *kv.Request, shown *version, resp *kv.Response) error {
	next := version{value: slices.Clone(req.Value), expiresMS: req.ExpiresMS}
	if shown != nil && (req.KeepTTL || req.Op >= kv.OpExpire) {
		next.expiresMS = shown.expiresMS
	}
	resp.Changed = true
	switch req.Op {
	case kv.OpDelete:
		delete(s.objects, string(req.Key))
		return nil
	case kv.OpExpire:
		next.value, next.expiresMS = shown.value, req.ExpiresMS
	case kv.OpPersist:
		if shown == nil || shown.expiresMS == 0 {
			resp.Changed = false
			return nil
		}
		next.value, next.expiresMS = shown.value, 0
	case kv.OpIncr:
		sum, err := add(shown, req.Delta)
		if err != nil {
			return err
		}
		resp.Int, next.value = sum, strconv.AppendInt(nil, sum, 10)
	case kv.OpAppend:
		if shown != nil {
			next.value = append(slices.Clone(shown.value), req.Value...)
		}
		if len(next.value) > kv.MaxValueBytes {
			return kv.Errorf(kv.CodeTooLarge, "value would have %d bytes; the limit is %d", len(next.value), kv.MaxValueBytes)
		}
		resp.Int = int64(len(next.value))
	}
	return s.storeLocked(req, next)
}

// storeLocked replaces what the token covers, or everything where there is none.
func (s *Store) storeLocked(req *kv.Request, next version) error {
	o := s.objects[string(req.Key)]
	if o == nil {
		o = &object{}
	}
	if len(req.Token) == 0 {
		o.versions = nil
	} else {
		number, key, ok := strings.Cut(string(req.Token), ":")
		seq, err := strconv.ParseUint(number, 10, 64)
		if !ok || err != nil || key != string(req.Key) {
			return kv.Errorf(kv.CodeToken, "token is not of this key; read the key and take its token")
		}
		o.versions = slices.DeleteFunc(o.versions, func(v version) bool { return v.seq <= seq })
		if len(o.versions) >= kv.MaxSiblings {
			return kv.Errorf(kv.CodeSiblings, "key has %d concurrent versions; read it, then write with its token", len(o.versions))
		}
	}
	s.seq++
	next.seq = s.seq
	o.versions = append(o.versions, next)
	s.objects[string(req.Key)] = o
	return nil
}

func add(shown *version, delta int64) (int64, error) {
	var old int64
	if shown != nil {
		n, err := strconv.ParseInt(string(shown.value), 10, 64)
		if err != nil {
			return 0, kv.Errorf(kv.CodeNotInteger, "value is not an integer or out of range")
		}
		old = n
	}
	if sum := old + delta; (sum > old) == (delta > 0) || delta == 0 {
		return sum, nil
	}
	return 0, kv.Errorf(kv.CodeNotInteger, "increment or decrement would overflow")
}
