package replica

import (
	"context"
	"errors"
	"slices"

	"edged.dev/edged/internal/kv"
)

// maxAsks is how often a write asks its policy ahead of the key's lock. One that was
// overtaken by another write of its key each time asks under the lock, which ends it: a
// policy that is slow, on a key that is written all the time, would starve it.
const maxAsks = 3

// errAsk says that the policy is to be asked before a write can be decided.
var errAsk = errors.New("the policy has not been asked")

// asked is what a policy made of versions, outside the key's lock: a guest may take half a
// second where policies are being taken in, and the lock holds up every key of its stripe.
type asked struct {
	times int
	live  []kv.Version // what it is asked about
	view  View         // what it answered, if it was asked
}

// show is resolve under the key's lock. It fails with errAsk where the policy must be
// asked first.
func (w *write) show(live []kv.Version) (View, error) {
	a := &w.asked
	if len(live) < 2 || w.req.System {
		return w.r.resolve(w.ctx, w.req, live)
	}
	if a.times > 0 && slices.EqualFunc(live, a.live, func(v, w kv.Version) bool { return v.Dot == w.Dot }) {
		return a.view, nil
	}
	if a.times == maxAsks {
		return w.r.resolve(w.ctx, w.req, live)
	}
	a.live = live
	return View{}, errAsk
}

// ask asks the policy, and decides anew.
func (w *write) ask() {
	started := w.r.tasks.run(func(context.Context) {
		a := &w.asked
		var err error
		if a.view, err = w.r.resolve(w.ctx, w.req, a.live); err != nil {
			w.done(nil, err)
			return
		}
		a.times++
		w.plan()
	})
	if !started {
		w.done(nil, kv.Errorf(kv.CodeUnavailable, "this node is stopping"))
	}
}

// tag answers with the entity tag of what the write left. A policy is not asked by the
// caller, who publishes writes or takes acknowledgements of others.
func (w *write) tag(live []kv.Version) {
	if w.req.System || len(live) < 2 {
		w.resp.ETag = entityTag(live, "")
		w.done(&w.resp, nil)
		return
	}
	started := w.r.tasks.run(func(context.Context) {
		if v, err := w.r.resolve(w.ctx, w.req, live); err == nil {
			w.resp.ETag = entityTag(live, v.Policy)
		}
		w.done(&w.resp, nil)
	})
	if !started { // this node is stopping; the write is done
		w.done(&w.resp, nil)
	}
}
