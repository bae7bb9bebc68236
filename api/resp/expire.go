package resp

import (
	"math"

	"edged.dev/edged/internal/kv"
)

// Milliseconds of the units that clients count in.
const (
	seconds      = int64(1000)
	milliseconds = int64(1)
)

// expiry says how a number tells when a key expires.
type expiry struct {
	unit     int64
	absolute bool
	positive bool // 0 and below are refused
}

// expiryOption returns what SET's option of that name means, nil if it is none.
func expiryOption(name []byte) *expiry {
	switch {
	case is(name, "ex"):
		return &expiry{unit: seconds}
	case is(name, "px"):
		return &expiry{unit: milliseconds}
	case is(name, "exat"):
		return &expiry{unit: seconds, absolute: true}
	case is(name, "pxat"):
		return &expiry{unit: milliseconds, absolute: true}
	}
	return nil
}

// expiry makes an absolute time of a client's number, or replies with an error.
// What lies before 1970 is past like any other time, and 0 means none to the
// store: so they become 1.
func (c *conn) expiry(raw []byte, e expiry, name string) (int64, bool) {
	n, ok := parseInt(raw)
	if !ok {
		c.notInteger()
		return 0, false
	}
	now := int64(0) // of an absolute time nothing is to be added
	if !e.absolute {
		now = c.nowMS()
	}
	if e.positive && n <= 0 || n > (math.MaxInt64-now)/e.unit || n < math.MinInt64/e.unit {
		c.fail("syntax", "ERR invalid expire time in '"+name+"' command")
		return 0, false
	}
	return max(n*e.unit+now, 1), true
}

func (c *conn) nowMS() int64 { return c.srv.cfg.Now().UnixMilli() }

func cmdExpire(c *conn, args [][]byte)  { c.expire(args, expiry{unit: seconds}, "expire") }
func cmdPExpire(c *conn, args [][]byte) { c.expire(args, expiry{unit: milliseconds}, "pexpire") }

func cmdExpireAt(c *conn, args [][]byte) {
	c.expire(args, expiry{unit: seconds, absolute: true}, "expireat")
}

func cmdPExpireAt(c *conn, args [][]byte) {
	c.expire(args, expiry{unit: milliseconds, absolute: true}, "pexpireat")
}

func (c *conn) expire(args [][]byte, e expiry, name string) {
	var nx, xx, gt, lt bool
	for _, arg := range args[3:] {
		switch {
		case is(arg, "nx"):
			nx = true
		case is(arg, "xx"):
			xx = true
		case is(arg, "gt"):
			gt = true
		case is(arg, "lt"):
			lt = true
		default:
			c.fail("syntax", "ERR Unsupported option "+string(arg))
			return
		}
	}
	switch {
	case nx && (xx || gt || lt):
		c.fail("syntax", errNXAndMore)
		return
	case gt && lt:
		c.fail("syntax", errGTAndLT)
		return
	}
	ms, ok := c.expiry(args[2], e, name)
	if !ok {
		return
	}
	o := c.op(kv.OpExpire, args[1])
	if o == nil {
		return
	}
	o.req.ExpiresMS, o.req.NX, o.req.XX, o.req.GT, o.req.LT = ms, nx, xx, gt, lt
	c.start(o, asChanged)
}

func cmdPersist(c *conn, args [][]byte) {
	if o := c.op(kv.OpPersist, args[1]); o != nil {
		c.start(o, asChanged)
	}
}

// The expiry of a key is no part of what memory answers, so these take the long
// way.
func cmdTTL(c *conn, args [][]byte)         { c.value(kv.OpGet, args[1], asTTL) }
func cmdPTTL(c *conn, args [][]byte)        { c.value(kv.OpGet, args[1], asPTTL) }
func cmdExpireTime(c *conn, args [][]byte)  { c.value(kv.OpGet, args[1], asExpireTime) }
func cmdPExpireTime(c *conn, args [][]byte) { c.value(kv.OpGet, args[1], asPExpireTime) }

// noExpiry replies with -2 for no key and -1 for one that never expires.
func noExpiry(c *conn, r *kv.Response) bool {
	switch {
	case !r.Found:
		c.integer(-2)
	case r.ExpiresMS == 0:
		c.integer(-1)
	default:
		return false
	}
	return true
}

func asTTL(c *conn, r *kv.Response) {
	if !noExpiry(c, r) {
		c.integer((max(r.ExpiresMS-c.nowMS(), 0) + seconds/2) / seconds)
	}
}

func asPTTL(c *conn, r *kv.Response) {
	if !noExpiry(c, r) {
		c.integer(max(r.ExpiresMS-c.nowMS(), 0))
	}
}

func asExpireTime(c *conn, r *kv.Response) {
	if !noExpiry(c, r) {
		c.integer((r.ExpiresMS + seconds/2) / seconds)
	}
}

func asPExpireTime(c *conn, r *kv.Response) {
	if !noExpiry(c, r) {
		c.integer(r.ExpiresMS)
	}
}
