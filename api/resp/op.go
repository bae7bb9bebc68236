package resp

import (
	"context"
	"hash/maphash"
	"slices"
	"sync/atomic"

	"edged.dev/edged/internal/kv"
)

// op is a request in flight and the place of its reply. Ops are used again.
type op struct {
	req  kv.Request
	hash uint64 // of the key
	// as writes the reply; at is where in conn.out it belongs.
	as func(*conn, *kv.Response)
	at int
	// heavy ones answer with a value.
	heavy bool

	done  chan struct{} // one token when resp and err are there
	fin   func(*kv.Response, error)
	state atomic.Int32 // running, answered or left
	late  *leftover    // once left
	lent  *leftover    // whose buffer its bytes lie in, nil: in the connection's
	resp  *kv.Response
	err   error
}

// The states of an op. Of the store that answers and the connection that leaves it,
// whoever is first decides.
const (
	running = iota
	answered
	left
)

func newOp() *op {
	o := &op{done: make(chan struct{}, 1)}
	o.fin = func(r *kv.Response, err error) {
		o.resp, o.err = r, err
		if !o.state.CompareAndSwap(running, answered) {
			o.late.done()
			return
		}
		o.done <- struct{}{} // never blocks: the one token of this request
	}
	return o
}

// op returns an op with an empty request on key, after whatever is in flight on
// that key is done. nil means that the key was refused and the reply is written.
func (c *conn) op(kind kv.Op, key []byte) *op {
	if !c.keyOK(key) {
		return nil
	}
	hash := c.hash(key)
	if c.inFlight(hash) {
		c.settle()
	}
	var o *op
	if n := len(c.free); n > 0 {
		o, c.free = c.free[n-1], c.free[:n-1]
	} else {
		o = newOp()
	}
	o.req = kv.Request{Op: kind, Key: key}
	o.state.Store(running)
	c.borrow(o)
	o.hash, o.heavy = hash, false
	return o
}

// start begins the request; its reply is written by as, in its place.
func (c *conn) start(o *op, as func(*conn, *kv.Response)) {
	if c.ctx == nil {
		c.ctx, c.cancel = context.WithTimeout(c.base, c.srv.cfg.Limits.RequestTimeout)
	}
	if o.req.Op == kv.OpGet {
		o.req.Fence = c.fences.of(o.hash)
	}
	o.as, o.at = as, len(c.out)
	c.pending = append(c.pending, o)
	if o.heavy {
		c.heavy++
	}
	c.srv.cfg.Store.Start(c.ctx, &o.req, o.fin)
}

func (c *conn) hash(key []byte) uint64 { return maphash.Bytes(c.srv.seed, key) }

// inFlight reports whether a request on a key of that hash is in flight. Two
// keys of one hash only make one wait for the other.
func (c *conn) inFlight(hash uint64) bool {
	for _, o := range c.pending {
		if o.hash == hash {
			return true
		}
	}
	return false
}

// settle waits for everything in flight and puts the replies in their places.
func (c *conn) settle() {
	if len(c.pending) == 0 {
		return
	}
	early := c.out
	c.out = c.spare[:0]
	from := 0
	c.await(c.ctx, c.pending)
	for _, o := range c.pending {
		c.out = append(c.out, early[from:o.at]...)
		from = o.at
		if resp := c.finish(o); resp != nil {
			o.as(c, resp)
		}
		if o.late != nil { // the store's still
			continue
		}
		o.giveBack()
		o.resp, o.err, o.req = nil, nil, kv.Request{}
		c.free = append(c.free, o)
	}
	c.out = append(c.out, early[from:]...)
	c.spare = early[:0]
	clear(c.pending) // one that is late keeps its bytes no longer than the store does
	c.pending, c.heavy = c.pending[:0], 0
	c.cancel()
	c.ctx, c.cancel = nil, nil
}

// finish looks at an op that is done: it writes the reply of one that failed
// and returns nil, or remembers what the connection must know of a write.
func (c *conn) finish(o *op) *kv.Response {
	if err := c.outcome(o); err != nil {
		c.storeError(err)
		return nil
	}
	return o.resp
}

// outcome returns why an op failed, nil if it did not, and notes what became of a write.
func (c *conn) outcome(o *op) error {
	err := o.failed()
	switch {
	case !o.req.Writes():
	case err == nil:
		c.noteWrite(o.hash, o.resp)
	case kv.CodeOf(err) == kv.CodeUnknown:
		c.noteCopies(0) // that anybody knows of
	}
	return err
}

func (c *conn) noteWrite(hash uint64, r *kv.Response) {
	if len(r.Fence) > 0 {
		c.fences.put(hash, r.Fence)
	}
	if r.Copies > 0 { // else nothing was written
		c.noteCopies(r.Copies - 1)
	}
}

// noteCopies notes how many copies beyond the first a write is known to have.
func (c *conn) noteCopies(n int) {
	if !c.acksRead {
		n = min(n, c.acks)
	}
	c.acks, c.acksRead = n, false
}

// many runs one request for each stride of items, whose first is the key, and
// calls fn with the answers in order. It is no part of the batch: what is in
// flight is settled first. Where it returns false an error was replied.
func (c *conn) many(kind kv.Op, items [][]byte, stride int, fn func(*kv.Response) error) bool {
	for i := 0; i < len(items); i += stride {
		if !c.keyOK(items[i]) {
			return false
		}
	}
	c.settle()
	for len(items) > 0 {
		n, err := c.round(kind, items, stride, fn)
		if err != nil {
			c.storeError(err)
			return false
		}
		items = items[n:]
	}
	return true
}

// round starts as many requests as may be in flight together, up to a key that
// comes again, and waits for them. It returns how many items it took.
func (c *conn) round(kind kv.Op, items [][]byte, stride int, fn func(*kv.Response) error) (int, error) {
	ctx, cancel := context.WithTimeout(c.base, c.srv.cfg.Limits.RequestTimeout)
	defer cancel()
	var ops [maxHeavy]*op
	n := 0
	for ; n < maxHeavy && n*stride < len(items); n++ {
		key := items[n*stride]
		hash := c.hash(key)
		if slices.ContainsFunc(ops[:n], func(o *op) bool { return o.hash == hash }) {
			break
		}
		o := newOp()
		o.hash, o.req = hash, kv.Request{Op: kind, Key: key}
		c.borrow(o)
		if stride > 1 {
			o.req.Value = items[n*stride+1]
		}
		if kind == kv.OpGet {
			o.req.Fence = c.fences.of(hash)
		}
		ops[n] = o
		c.srv.cfg.Store.Start(ctx, &o.req, o.fin)
	}
	var first error
	c.await(ctx, ops[:n])
	for _, o := range ops[:n] {
		err := c.outcome(o)
		if err == nil {
			err = fn(o.resp)
		}
		if o.late == nil {
			o.giveBack()
		}
		if first == nil {
			first = err
		}
	}
	return n * stride, first
}

// fences are the read fences of a connection's last writes, so that it reads
// them back whichever copy answers. The oldest is forgotten for the next.
type fences struct {
	ring [maxFences]fence
	n    int
	next int
}

type fence struct {
	hash  uint64
	bytes []byte
}

func (f *fences) put(hash uint64, b []byte) {
	for i := range f.ring[:f.n] {
		if f.ring[i].hash == hash {
			f.ring[i].bytes = b
			return
		}
	}
	f.ring[f.next] = fence{hash, b}
	f.next = (f.next + 1) % maxFences
	f.n = min(f.n+1, maxFences)
}

func (f *fences) of(hash uint64) []byte {
	for i := range f.ring[:f.n] {
		if f.ring[i].hash == hash {
			return f.ring[i].bytes
		}
	}
	return nil
}
