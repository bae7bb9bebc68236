package resp

import (
	"bytes"
	"math"
	"strconv"

	"edged.dev/edged/internal/kv"
)

// The ways to write a reply.

func asOK(c *conn, _ *kv.Response) { c.ok() }

// asSet is SET's with a condition.
func asSet(c *conn, r *kv.Response) {
	if r.Changed {
		c.ok()
		return
	}
	c.out = append(c.out, c.null()...)
}

// asValue is what is shown, or what was before.
func asValue(c *conn, r *kv.Response) {
	if !r.Found {
		c.out = append(c.out, c.null()...)
		return
	}
	c.out = appendBulk(c.out, r.Value)
}

func asInt(c *conn, r *kv.Response)     { c.integer(r.Int) }
func asLen(c *conn, r *kv.Response)     { c.integer(int64(len(r.Value))) }
func asFound(c *conn, r *kv.Response)   { c.integer(bit(r.Found)) }
func asChanged(c *conn, r *kv.Response) { c.integer(bit(r.Changed)) }

func bit(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func cmdGet(c *conn, args [][]byte) {
	if !c.keyOK(args[1]) || c.fastGet(args[1]) {
		return
	}
	c.value(kv.OpGet, args[1], asValue)
}

// value starts a request that answers with a value.
func (c *conn) value(kind kv.Op, key []byte, as func(*conn, *kv.Response)) {
	o := c.op(kind, key)
	if o == nil {
		return
	}
	o.heavy = true
	o.req.ReturnOld = kind != kv.OpGet
	c.start(o, as)
}

// fastGet replies from memory, without allocating, where the store can.
//
// The value's length is known only after it stands in the buffer, behind room
// for its head. Lengths are mostly of one width, the last one's: only where it
// changes must the value move.
func (c *conn) fastGet(key []byte) bool {
	if !c.mayRead(key) {
		return false
	}
	at := len(c.out)
	body := at + headBytes(c.digits)
	c.out = append(c.out, "$0000000\r\n"[:body-at]...)
	out, found, handled := c.srv.cfg.Store.GetFast(c.out, key)
	switch {
	case !handled:
		c.out = c.out[:at]
		return false
	case !found:
		c.out = append(c.out[:at], c.null()...)
		return true
	}
	n := len(out) - body
	if d := width(n); d != c.digits {
		c.digits = d
		out = append(out, "       "...) // a wider head moves the value up
		copy(out[at+headBytes(d):], out[body:body+n])
		out = out[:at+headBytes(d)+n]
	}
	appendHead(out[:at], '$', n)
	c.out = append(out, bulkTail...)
	return true
}

// mayRead makes sure that a read of key from memory sees this connection's
// writes: it waits for one in flight, and refuses where one is fenced.
func (c *conn) mayRead(key []byte) bool {
	if len(c.pending) == 0 && c.fences.n == 0 {
		return true
	}
	hash := c.hash(key)
	if c.inFlight(hash) {
		c.settle()
	}
	return c.fences.of(hash) == nil
}

// headBytes is the length of "$<n>\r\n" with n of that many digits.
func headBytes(digits int) int { return digits + 3 }

func width(n int) int {
	d := 1
	for ; n >= 10; n /= 10 {
		d++
	}
	return d
}

// probe looks a key up in memory and tells its value's length.
func (c *conn) probe(key []byte) (n int, found, handled bool) {
	if !c.mayRead(key) {
		return 0, false, false
	}
	at := len(c.out)
	out, found, handled := c.srv.cfg.Store.GetFast(c.out, key)
	if !handled || !found {
		return 0, found, handled
	}
	c.out = out[:at] // keeps what the value made it grow
	return len(out) - at, true, true
}

func cmdStrlen(c *conn, args [][]byte) {
	if !c.keyOK(args[1]) {
		return
	}
	if n, _, handled := c.probe(args[1]); handled {
		c.integer(int64(n))
		return
	}
	c.value(kv.OpGet, args[1], asLen)
}

func cmdSet(c *conn, args [][]byte) {
	opts := setOptions{}
	if !opts.parse(c, args[3:]) {
		return
	}
	o := c.op(kv.OpSet, args[1])
	if o == nil {
		return
	}
	o.req.Value, o.req.ExpiresMS = args[2], opts.expiresMS
	o.req.NX, o.req.XX, o.req.KeepTTL, o.req.ReturnOld = opts.nx, opts.xx, opts.keep, opts.get
	o.heavy = opts.get
	switch {
	case opts.get:
		c.start(o, asValue)
	case opts.nx || opts.xx:
		c.start(o, asSet)
	default:
		c.start(o, asOK)
	}
}

type setOptions struct {
	nx, xx, keep, get, timed bool
	expiresMS                int64
}

// parse reads what follows the value, and replies where it is wrong.
func (s *setOptions) parse(c *conn, args [][]byte) bool {
	for ; len(args) > 0; args = args[1:] {
		switch name := args[0]; {
		case is(name, "nx") && !s.xx:
			s.nx = true
		case is(name, "xx") && !s.nx:
			s.xx = true
		case is(name, "get"):
			s.get = true
		case is(name, "keepttl") && !s.timed:
			s.keep = true
		case len(args) > 1 && !s.keep && !s.timed && expiryOption(name) != nil:
			e := *expiryOption(name)
			e.positive = true
			ms, ok := c.expiry(args[1], e, "set")
			if !ok {
				return false
			}
			s.expiresMS, s.timed = ms, true
			args = args[1:]
		default:
			c.syntax()
			return false
		}
	}
	return true
}

func cmdSetNX(c *conn, args [][]byte) {
	o := c.op(kv.OpSet, args[1])
	if o == nil {
		return
	}
	o.req.Value, o.req.NX = args[2], true
	c.start(o, asChanged)
}

func cmdSetEX(c *conn, args [][]byte)  { c.setFor(args, seconds, "setex") }
func cmdPSetEX(c *conn, args [][]byte) { c.setFor(args, milliseconds, "psetex") }

func (c *conn) setFor(args [][]byte, unit int64, name string) {
	ms, ok := c.expiry(args[2], expiry{unit: unit, positive: true}, name)
	if !ok {
		return
	}
	o := c.op(kv.OpSet, args[1])
	if o == nil {
		return
	}
	o.req.Value, o.req.ExpiresMS = args[3], ms
	c.start(o, asOK)
}

func cmdGetSet(c *conn, args [][]byte) {
	o := c.op(kv.OpSet, args[1])
	if o == nil {
		return
	}
	o.req.Value, o.req.ReturnOld, o.heavy = args[2], true, true
	c.start(o, asValue)
}

func cmdGetDel(c *conn, args [][]byte) { c.value(kv.OpDelete, args[1], asValue) }

func cmdAppend(c *conn, args [][]byte) {
	o := c.op(kv.OpAppend, args[1])
	if o == nil {
		return
	}
	o.req.Value = args[2]
	c.start(o, asInt)
}

func cmdIncr(c *conn, args [][]byte) { c.incr(args[1], 1) }
func cmdDecr(c *conn, args [][]byte) { c.incr(args[1], -1) }

func cmdIncrBy(c *conn, args [][]byte) {
	n, ok := parseInt(args[2])
	if !ok {
		c.notInteger()
		return
	}
	c.incr(args[1], n)
}

func cmdDecrBy(c *conn, args [][]byte) {
	n, ok := parseInt(args[2])
	switch {
	case !ok:
		c.notInteger()
	case n == math.MinInt64:
		c.fail("syntax", "ERR decrement would overflow")
	default:
		c.incr(args[1], -n)
	}
}

func (c *conn) incr(key []byte, delta int64) {
	o := c.op(kv.OpIncr, key)
	if o == nil {
		return
	}
	o.req.Delta = delta
	c.start(o, asInt)
}

func cmdMGet(c *conn, args [][]byte) {
	keys := args[1:]
	for _, key := range keys {
		if !c.keyOK(key) {
			return
		}
	}
	if c.fastMGet(keys) {
		return
	}
	var values []byte // apart from out, for an error may take their place
	defer func() { c.gathered = 0 }()
	if !c.many(kv.OpGet, keys, 1, func(r *kv.Response) error {
		if r.Found {
			values = appendBulk(values, r.Value)
		} else {
			values = append(values, c.null()...)
		}
		c.gathered = int64(cap(values))
		return c.replyRoom()
	}) {
		return
	}
	c.array(len(keys))
	c.out = append(c.out, values...)
}

// replyRoom refuses a reply that is over its limit or finds no room left.
func (c *conn) replyRoom() error {
	if c.gathered > maxReplyBytes {
		c.srv.stats.reject("reply")
		return kv.Errorf(kv.CodeTooLarge, "reply is over its limit of %d bytes; ask for fewer keys at once", maxReplyBytes)
	}
	if !c.account() {
		return kv.Errorf(kv.CodeTooLarge, "%s", errBuffers[len("ERR "):])
	}
	return nil
}

// fastMGet replies from memory if that has all of the keys and they are small.
func (c *conn) fastMGet(keys [][]byte) bool {
	for _, key := range keys {
		if len(c.pending) > 0 && c.inFlight(c.hash(key)) {
			c.settle()
		}
	}
	at := len(c.out) // stays true: no key is in flight any more
	c.array(len(keys))
	for _, key := range keys {
		if len(c.out)-at > maxUnsentBytes || !c.fastGet(key) {
			c.out = c.out[:at]
			return false
		}
	}
	return true
}

func cmdMSet(c *conn, args [][]byte) {
	if len(args)%2 == 0 {
		c.arity("mset")
		return
	}
	if len(args) == 3 {
		cmdSet(c, args)
		return
	}
	if c.many(kv.OpSet, args[1:], 2, func(*kv.Response) error { return nil }) {
		c.ok()
	}
}

// is compares a word with a lower-case one.
func is(word []byte, lower string) bool {
	if len(word) != len(lower) {
		return false
	}
	for i, ch := range word {
		if ch >= 'A' && ch <= 'Z' {
			ch += 'a' - 'A'
		}
		if ch != lower[i] {
			return false
		}
	}
	return true
}

// parseInt reads a decimal number as strictly as Redis does.
func parseInt(b []byte) (int64, bool) {
	digits := bytes.TrimPrefix(b, []byte("-"))
	if len(digits) == 0 || digits[0] == '+' || digits[0] == '0' && (len(b) > 1) {
		return 0, false
	}
	n, err := strconv.ParseInt(string(b), 10, 64)
	return n, err == nil
}
