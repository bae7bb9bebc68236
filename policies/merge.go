package policies

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"

	wasmrt "edged.dev/edged/runtime"
)

const mergeExport = "edged_v1_merge"

// policy is one policy ready to decide, or the reason why it cannot.
type policy struct {
	id       string
	builtin  bool
	manifest Manifest
	module   *wasmrt.Module // nil for a built-in and where notReady is set
	notReady error
	counts   *counters
	memo     *memo // of the table; nil for a built-in
}

// newestFirst orders siblings by (hlc, actor, counter), newest first, so that no
// policy can depend on the order in which a replica holds them.
func newestFirst(siblings []Sibling) []Sibling {
	s := slices.Clone(siblings)
	slices.SortFunc(s, func(a, b Sibling) int {
		return cmp.Or(cmp.Compare(b.HLC, a.HLC), cmp.Compare(b.Actor, a.Actor), cmp.Compare(b.Counter, a.Counter))
	})
	return s
}

// distinct drops from siblings, newest first, those that equal a newer one in
// value and expiry. It works in place.
func distinct(siblings []Sibling) []Sibling {
	kept := siblings[:0]
	for _, s := range siblings {
		same := func(k Sibling) bool { return k.ExpiresMS == s.ExpiresMS && bytes.Equal(k.Value, s.Value) }
		if !slices.ContainsFunc(kept, same) {
			kept = append(kept, s)
		}
	}
	return kept
}

// shown returns the newest siblings that fit in one request.
func (p *policy) shown(key []byte, siblings []Sibling) []Sibling {
	c := Conflict{Key: key}
	needs := p.manifest.needs()
	size := RequestSize([]Conflict{c}, needs, p.manifest.Params)
	for i := range siblings {
		size += siblingSize(&siblings[i], needs)
		if i == MaxSiblings || size > MaxRequestBytes {
			return siblings[:i]
		}
	}
	return siblings
}

// resolve returns the view of the siblings. An error is the node's own; what the
// guest does wrong ends in the fallback, which is the same on every node.
func (p *policy) resolve(ctx context.Context, key []byte, siblings []Sibling) (View, error) {
	if len(siblings) == 0 {
		return View{PolicyID: p.id}, nil
	}
	if len(siblings) == 1 {
		return p.show(siblings[0], ""), nil
	}
	all := distinct(newestFirst(siblings))
	if len(all) == 1 || p.builtin {
		mark := ""
		if len(all) > 1 && p.id == Siblings {
			mark = MarkUnresolved
		}
		return p.show(all[0], mark), nil
	}
	if p.notReady != nil {
		p.counts.add(reasonNotReady)
		return View{}, &NotReadyError{PolicyID: p.id, Cause: p.notReady}
	}
	shown := p.shown(key, all)
	mark := ""
	if len(shown) < len(all) {
		p.counts.add(reasonTruncated)
		mark = MarkTruncated
	}
	if len(shown) <= 1 { // no request holds two such siblings
		return p.show(all[0], mark), nil
	}
	return p.call(ctx, Conflict{Key: key, Siblings: shown}, mark)
}

func (p *policy) show(s Sibling, mark string) View {
	return View{Kind: Present, Value: s.Value, ExpiresMS: s.ExpiresMS, Mark: mark, PolicyID: p.id}
}

// call asks the guest about one conflict.
func (p *policy) call(ctx context.Context, c Conflict, mark string) (View, error) {
	request := requestOf(c, p.manifest)
	k, d, known := p.memo.find(p.id, request)
	if !known {
		var err error
		if d, err = decideOn(ctx, p.module, request, len(c.Siblings)); err != nil {
			p.counts.add(reasonNode)
			return View{}, err
		}
		p.memo.keep(k, p.id, request, d, p.manifest.Limits)
	}
	p.counts.add(d.reason)
	return p.view(c.Siblings, d, mark), nil
}

// view turns a decision into what is shown.
func (p *policy) view(siblings []Sibling, d decision, mark string) View {
	switch {
	case d.reason == reasonPick:
		return p.show(siblings[d.verdict.Index], mark)
	case d.reason == reasonValue:
		v := p.show(Sibling{Value: d.verdict.Value}, mark)
		v.ExpiresMS = expiry(siblings, d.verdict.Expiry)
		return v
	case d.reason == reasonAbsent:
		return View{Kind: Absent, Mark: mark, PolicyID: p.id}
	case d.reason != reasonKeep && p.manifest.Fallback == FallbackLWW:
		return p.show(siblings[0], mark)
	}
	return p.show(siblings[0], MarkUnresolved)
}

// expiry applies a rule to the siblings that the policy was shown.
func expiry(siblings []Sibling, rule ExpiryRule) uint64 {
	var earliest, latest uint64
	for _, s := range siblings {
		if s.ExpiresMS == 0 {
			if rule == ExpireLatest {
				return 0
			}
			continue
		}
		if earliest == 0 || s.ExpiresMS < earliest {
			earliest = s.ExpiresMS
		}
		latest = max(latest, s.ExpiresMS)
	}
	switch rule {
	case ExpireEarliest:
		return earliest
	case ExpireLatest:
		return latest
	case ExpireNever:
	}
	return 0
}

// decision is the outcome of one call: a verdict, or the class of a failure.
type decision struct {
	reason  reason
	verdict Verdict // where the reason is a verdict's or reasonError
	detail  error   // for people, where the guest failed
	fuel    int64
	log     []string
}

// decide runs the guest on one conflict. Only a failure of the node is an error.
func decide(ctx context.Context, m *wasmrt.Module, c Conflict, mf Manifest) (decision, error) {
	return decideOn(ctx, m, requestOf(c, mf), len(c.Siblings))
}

// requestOf is the frame that asks about one conflict.
func requestOf(c Conflict, mf Manifest) []byte {
	conflicts := []Conflict{c}
	return AppendRequest(make([]byte, 0, RequestSize(conflicts, mf.needs(), mf.Params)), conflicts, mf.needs(), mf.Params)
}

// decideOn runs the guest on the request about one conflict of so many siblings.
func decideOn(ctx context.Context, m *wasmrt.Module, request []byte, siblings int) (decision, error) {
	res, err := m.Call(ctx, mergeExport, request, MaxResponseBytes)
	d := decision{fuel: res.FuelUsed, log: res.Log}
	var fault *wasmrt.FaultError
	if errors.As(err, &fault) {
		d.reason, d.detail = faultReason(fault.Reason), fault
		return d, nil
	}
	if err != nil {
		return d, err
	}
	verdicts, err := ParseResponse(res.Response, []int{siblings})
	if err == nil {
		err = verdicts[0].Err
	}
	if err != nil {
		d.reason, d.detail = reasonMalformed, err
		return d, nil
	}
	d.verdict, d.reason = verdicts[0], verdictReason(verdicts[0].Kind)
	return d, nil
}
