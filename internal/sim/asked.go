package sim

import (
	"context"

	"edged.dev/edged/replica"
	"edged.dev/edged/transport/wire"
)

// asked is how the owners answer the questions of one attempt to heal.
type asked struct {
	a     *apart
	names int             // keys that an answer names at most, 0: as many as a frame may have
	begun map[string]bool // owners that have answered a question
}

// ask has a copy ask owners that come and go, and which others write to meanwhile.
func (a *apart) ask(h *replica.Healer) {
	w := a.w
	q := &asked{a: a, begun: map[string]bool{}}
	switch {
	case w.bug == BugMoreForgotten && w.chance(w.bugPM(w.mix.FewNamesPM)):
		q.names = 1
	case w.bug != BugMoreForgotten && !w.directed && w.chance(w.mix.FewNamesPM):
		q.names, h.HeldKeys = 1, 1
	}
	h.Ask = func(ctx context.Context, name string, request []byte) ([]byte, error) {
		if !a.back && w.chance(w.mix.WrittenPM/2) {
			a.write()
		}
		if !a.back && w.chance(10) {
			a.comeAndGo(300, 0)
		}
		resp, err := w.ask(ctx, name, request)
		if err != nil {
			return nil, err
		}
		if q.open(name) {
			w.log("%s leaves a question open", name)
			return q.nothing(request, resp)
		}
		q.begun[name] = true
		return q.named(request, resp), nil
	}
}

// open reports whether an owner leaves the next question open.
func (q *asked) open(name string) bool {
	w := q.a.w
	if w.bug == BugOpenIsNothing {
		return q.begun[name] && w.chance(w.bugPM(w.mix.OpenPM))
	}
	return q.begun[name] && !q.a.back && w.chance(w.mix.OpenPM)
}

// nothing is what comes of a question that is left open: no answer, and in a broken run
// one that has nothing in it.
func (q *asked) nothing(request, resp []byte) ([]byte, error) {
	t, err := wire.TypeOf(resp)
	if err != nil || q.a.w.bug != BugOpenIsNothing {
		return nil, errAway
	}
	switch t {
	case wire.TypeTreeAck:
		asked, err := wire.ParseTree(request)
		if err != nil || len(asked.Ranges) == 0 {
			return nil, errAway
		}
		ack, err := wire.ParseTreeAck(resp)
		ack.Items, ack.Upto = nil, ^uint64(0)
		return ack.Append(nil), err
	case wire.TypeHeldAck:
		ack, err := wire.ParseHeldAck(resp)
		for i := range ack.Objects {
			ack.Objects[i].Versions = nil
		}
		return ack.Append(nil), err
	}
	return nil, errAway
}

// named is an answer with no more keys in it than it may name, of those that it is to find.
func (q *asked) named(request, resp []byte) []byte {
	t, err := wire.TypeOf(request)
	if err != nil || t != wire.TypeHeld || q.names == 0 {
		return resp
	}
	asked, err := wire.ParseHeld(request)
	q.a.w.must(err)
	ack, err := wire.ParseHeldAck(resp)
	q.a.w.must(err)
	if len(asked.Items) > 0 && len(ack.Objects) > q.names {
		ack.Objects = ack.Objects[:q.names]
		q.a.w.stats.Unnamed++
	}
	return ack.Append(nil)
}
