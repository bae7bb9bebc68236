package replica

import (
	"encoding/hex"
	"math"
	"slices"
	"strconv"

	"github.com/zeebo/xxh3"

	"edged.dev/edged/internal/kv"
)

// decision is what a request makes of what it is shown.
type decision struct {
	write     bool
	value     []byte
	tombstone bool
	expiresMS int64
	resp      kv.Response
}

// decide is every operation's meaning, as a function of the view, the entity tag
// and the time. live tells whether versions lie behind the view.
func decide(req *kv.Request, v View, tag string, live bool, now int64) (decision, error) {
	d := decision{}
	if !matches(req.IfMatch, tag, v.Found) || len(req.IfNoneMatch) > 0 && matches(req.IfNoneMatch, tag, v.Found) {
		return d.refuse(req, v), nil
	}
	switch req.Op {
	case kv.OpSet:
		return decideSet(req, v, now), nil
	case kv.OpDelete:
		d.write, d.tombstone = live, true
		d.resp = kv.Response{Found: v.Found, Changed: v.Found, Value: v.Value, ExpiresMS: v.ExpiresMS}
		return d, nil
	case kv.OpExpire:
		return decideExpire(req, v, now), nil
	case kv.OpPersist:
		if !v.Found || v.ExpiresMS == 0 {
			return d.refuse(req, v), nil
		}
		return d.put(v.Value, 0), nil
	case kv.OpIncr:
		return decideIncr(req, v)
	case kv.OpAppend:
		if len(v.Value)+len(req.Value) > kv.MaxValueBytes {
			return d, kv.Errorf(kv.CodeTooLarge, "value would have %d bytes; the limit is %d", len(v.Value)+len(req.Value), kv.MaxValueBytes)
		}
		d = d.put(slices.Concat(v.Value, req.Value), v.ExpiresMS)
		d.resp.Int = int64(len(d.value))
		return d, nil
	}
	return d, kv.Errorf(kv.CodeInvalid, "operation %d is not known here; is the asking node of a newer version?", req.Op)
}

func (d decision) refuse(req *kv.Request, v View) decision {
	d.resp = kv.Response{Found: v.Found, ExpiresMS: v.ExpiresMS}
	if req.ReturnOld {
		d.resp.Value = v.Value
	}
	return d
}

func (d decision) put(value []byte, expiresMS int64) decision {
	d.write, d.value, d.expiresMS = true, value, expiresMS
	d.resp = kv.Response{Found: true, Changed: true, ExpiresMS: expiresMS}
	return d
}

// matches reports whether an entity tag list fits: "*" fits whatever is shown.
func matches(tags []string, tag string, found bool) bool {
	if len(tags) == 0 {
		return true
	}
	return found && (slices.Contains(tags, "*") || slices.Contains(tags, tag))
}

func decideSet(req *kv.Request, v View, now int64) decision {
	d := decision{}
	if req.NX && v.Found || req.XX && !v.Found {
		return d.refuse(req, v)
	}
	expires := req.ExpiresMS
	if req.KeepTTL && v.Found {
		expires = v.ExpiresMS
	}
	d = d.put(req.Value, expires)
	if expires != 0 && expires <= now { // set and gone at once
		d.tombstone, d.value, d.expiresMS = true, nil, 0
	}
	if req.ReturnOld {
		d.resp.Found, d.resp.Value = v.Found, v.Value
	}
	return d
}

func decideExpire(req *kv.Request, v View, now int64) decision {
	d := decision{}
	old := v.ExpiresMS
	if old == 0 {
		old = math.MaxInt64
	}
	switch {
	case !v.Found,
		req.NX && v.ExpiresMS != 0,
		req.XX && v.ExpiresMS == 0,
		req.GT && req.ExpiresMS <= old,
		req.LT && req.ExpiresMS >= old:
		return d.refuse(req, v)
	}
	d = d.put(v.Value, req.ExpiresMS)
	if req.ExpiresMS <= now {
		d.tombstone, d.value, d.expiresMS = true, nil, 0
	}
	return d
}

func decideIncr(req *kv.Request, v View) (decision, error) {
	d := decision{}
	n := int64(0)
	if v.Found {
		var err error
		if n, err = strconv.ParseInt(string(v.Value), 10, 64); err != nil || strconv.FormatInt(n, 10) != string(v.Value) {
			return d, kv.Errorf(kv.CodeNotInteger, "value is not an integer or out of range")
		}
	}
	if req.Delta > 0 && n > math.MaxInt64-req.Delta || req.Delta < 0 && n < math.MinInt64-req.Delta {
		return d, kv.Errorf(kv.CodeNotInteger, "increment or decrement would overflow")
	}
	d = d.put(strconv.AppendInt(nil, n+req.Delta, 10), v.ExpiresMS)
	d.resp.Int = n + req.Delta
	return d, nil
}

// entityTag is the strong tag of what is shown: a hash over the sorted dots of
// the live versions and the policy that decided among them.
func entityTag(live []kv.Version, policy string) string {
	if len(live) == 0 {
		return ""
	}
	dots := make([]kv.Dot, len(live))
	for i, v := range live {
		dots[i] = v.Dot
	}
	slices.SortFunc(dots, kv.Dot.Compare)
	b := make([]byte, 0, len(dots)*24+len(policy))
	for _, d := range dots {
		b = d.Actor.Append(b)
		var n [8]byte
		putU64(n[:], d.Seq)
		b = append(b, n[:]...)
	}
	if len(live) > 1 {
		b = append(b, policy...)
	}
	sum := xxh3.Hash128(b).Bytes()
	return hex.EncodeToString(sum[:])
}
