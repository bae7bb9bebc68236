package resp

import (
	"context"
	"sync/atomic"
	"time"

	"edged.dev/edged/internal/kv"
)

// answerGrace is for how long past their deadline requests are waited for: the store
// answers by it itself where it can, and says more than that it did not.
const answerGrace = 100 * time.Millisecond

// leftover is what a connection leaves to the store when that does not answer in time,
// such as while a sync of its disk takes seconds: requests, and the buffer that their
// bytes lie in. It counts as buffered until the last of them is done.
type leftover struct {
	srv     *Server
	bytes   int64
	running atomic.Int64
}

// done notes that one of the requests is done.
func (l *leftover) done() {
	if l.running.Add(-1) == 0 {
		l.srv.buffered.Add(-l.bytes)
	}
}

// await waits until ops are done, or have had their time. Those that are not done then
// are left to the store.
func (c *conn) await(ctx context.Context, ops []*op) {
	for i, o := range ops {
		select {
		case <-o.done:
			continue
		default:
		}
		if !o.inTime(ctx) {
			c.leaveTo(ops[i:])
			return
		}
	}
}

// inTime waits for an op, and reports whether it is done.
func (o *op) inTime(ctx context.Context) bool {
	select {
	case <-o.done:
		return true
	case <-ctx.Done():
	}
	timer := time.NewTimer(answerGrace)
	defer timer.Stop()
	select {
	case <-o.done:
		return true
	case <-timer.C:
		return false
	}
}

// leaveTo leaves what is not done to the store, with the buffer of the commands, into
// which nothing more is read.
func (c *conn) leaveTo(ops []*op) {
	l := &leftover{srv: c.srv, bytes: int64(cap(c.in))}
	l.running.Store(1) // until the command under way, whose bytes lie there too, is over
	c.srv.buffered.Add(l.bytes)
	for _, o := range ops {
		if o.lent == nil {
			l.running.Add(1)
			o.lent = l
		}
		o.late = o.lent
		if !o.state.CompareAndSwap(running, left) {
			o.late = nil
			<-o.done // it is there, or is being put there
		}
	}
	rest := c.in[c.r:c.w]
	c.in = make([]byte, max(baseBufferBytes, len(rest)))
	c.r, c.w = 0, copy(c.in, rest)
	if !c.within || c.lent != nil { // no command lies there, or in one that was left before
		l.done()
		return
	}
	c.lent = l
}

// borrow notes in which buffer the bytes of an op lie that is to begin.
func (c *conn) borrow(o *op) {
	if o.lent = c.lent; o.lent != nil {
		o.lent.running.Add(1)
	}
}

// giveBack is for an op that is done in time.
func (o *op) giveBack() {
	if o.lent != nil {
		o.lent.done()
		o.lent = nil
	}
}

// over is for a command that was carried out, but for what is pending of it.
func (c *conn) over() {
	c.within = false
	if c.lent != nil {
		c.lent.done()
		c.lent = nil
	}
}

// failed is why an op that was waited for has no answer, nil if it has one.
func (o *op) failed() error {
	switch {
	case o.late == nil:
		return o.err
	case o.req.Writes():
		return kv.Errorf(kv.CodeUnknown, "no answer in time: the write may or may not have taken effect")
	}
	return kv.Errorf(kv.CodeUnavailable, "no answer in time")
}
