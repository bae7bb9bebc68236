package resp

import (
	"context"
	"strconv"

	"edged.dev/edged/api"
	"edged.dev/edged/internal/kv"
)

func cmdDel(c *conn, args [][]byte) {
	if len(args) == 2 {
		if o := c.op(kv.OpDelete, args[1]); o != nil {
			c.start(o, asFound)
		}
		return
	}
	c.countFound(kv.OpDelete, args[1:])
}

func cmdExists(c *conn, args [][]byte) {
	if len(args) > 2 {
		c.countFound(kv.OpGet, args[1:])
		return
	}
	if !c.keyOK(args[1]) {
		return
	}
	if _, found, handled := c.probe(args[1]); handled {
		c.integer(bit(found))
		return
	}
	c.value(kv.OpGet, args[1], asFound)
}

func (c *conn) countFound(kind kv.Op, keys [][]byte) {
	found := int64(0)
	if c.many(kind, keys, 1, func(r *kv.Response) error { found += bit(r.Found); return nil }) {
		c.integer(found)
	}
}

func cmdType(c *conn, args [][]byte) {
	if !c.keyOK(args[1]) {
		return
	}
	if _, found, handled := c.probe(args[1]); handled {
		asType(c, &kv.Response{Found: found})
		return
	}
	c.value(kv.OpGet, args[1], asType)
}

func asType(c *conn, r *kv.Response) {
	if r.Found {
		c.out = appendSimple(c.out, "string")
		return
	}
	c.out = appendSimple(c.out, "none")
}

func cmdDBSize(c *conn, _ [][]byte) {
	c.settle() // this connection's writes count
	ctx, cancel := c.deadline()
	defer cancel()
	n, err := c.srv.cfg.Store.Count(ctx)
	if err != nil {
		c.storeError(err)
		return
	}
	c.integer(n)
}

// deadline is the context of a request that is not one of the batch's.
func (c *conn) deadline() (context.Context, context.CancelFunc) {
	return context.WithTimeout(c.base, c.srv.cfg.Limits.RequestTimeout)
}

// scan returns one page of the cluster's keys.
func (c *conn) scan(cursor string, limit int, prefix []byte) ([]api.ScannedKey, string, error) {
	ctx, cancel := c.deadline()
	defer cancel()
	return c.srv.cfg.Store.Scan(ctx, cursor, limit, prefix)
}

// cmdScan answers one page. Redis clients hold a cursor to be a number, with 0
// at both ends; the store has "" there.
func cmdScan(c *conn, args [][]byte) {
	cursor, err := strconv.ParseUint(string(args[1]), 10, 64)
	if err != nil {
		c.fail("syntax", errCursor)
		return
	}
	opts := scanOptions{count: 10, strings: true}
	if !opts.parse(c, args[2:]) {
		return
	}
	c.settle()
	from := ""
	if cursor != 0 {
		from = strconv.FormatUint(cursor, 10)
	}
	var keys []api.ScannedKey
	next := ""
	if opts.strings { // there is no other type
		keys, next, err = c.scan(from, opts.count, literalPrefix(opts.match))
		if err != nil {
			c.storeError(err)
			return
		}
	}
	if next == "" {
		next = "0"
	}
	c.array(2)
	c.bulk(next)
	c.keys(matching(keys, opts.match))
}

type scanOptions struct {
	match   []byte // nil: every key
	count   int
	strings bool // strings are asked for
}

func (s *scanOptions) parse(c *conn, args [][]byte) bool {
	for ; len(args) > 1; args = args[2:] {
		switch {
		case is(args[0], "match"):
			s.match = args[1]
		case is(args[0], "type"):
			s.strings = is(args[1], "string")
		case is(args[0], "count"):
			n, ok := parseInt(args[1])
			switch {
			case !ok:
				c.notInteger()
				return false
			case n < 1:
				c.syntax()
				return false
			}
			s.count = int(min(n, maxScanCount))
		default:
			c.syntax()
			return false
		}
	}
	if len(args) > 0 {
		c.syntax()
	}
	return len(args) == 0
}

func matching(keys []api.ScannedKey, pattern []byte) [][]byte {
	out := make([][]byte, 0, len(keys))
	for _, k := range keys {
		if pattern == nil || glob(pattern, k.Key) {
			out = append(out, k.Key)
		}
	}
	return out
}

func (c *conn) keys(keys [][]byte) {
	c.array(len(keys))
	for _, k := range keys {
		c.out = appendBulk(c.out, k)
	}
}

// cmdKeys gathers every key that matches, up to its limit.
func cmdKeys(c *conn, args [][]byte) {
	c.settle()
	defer func() { c.gathered = 0 }()
	var found [][]byte
	err := c.pages(literalPrefix(args[1]), func(page []api.ScannedKey) error {
		for _, k := range matching(page, args[1]) {
			found = append(found, k)
			c.gathered += int64(len(k))
		}
		if len(found) > maxListedKeys {
			c.srv.stats.reject("keys")
			return kv.Errorf(kv.CodeTooLarge, "more than %d keys match; use SCAN", maxListedKeys)
		}
		return c.replyRoom()
	})
	if err != nil {
		c.storeError(err)
		return
	}
	c.keys(found)
}

// pages calls fn for every page of the cluster's keys, until it returns an
// error or the server drains.
func (c *conn) pages(prefix []byte, fn func([]api.ScannedKey) error) error {
	cursor := ""
	for {
		page, next, err := c.scan(cursor, maxScanCount, prefix)
		if err != nil {
			return err
		}
		if err := fn(page); err != nil {
			return err
		}
		if next == "" {
			return nil
		}
		if c.srv.draining.Load() {
			return kv.Errorf(kv.CodeUnknown, "%s before it was through", errDraining[len("ERR "):])
		}
		cursor = next
	}
}

// cmdFlushAll deletes every key that one scan of the cluster finds, each by a
// tombstone: a key written meanwhile may stay. Where it fails some are deleted.
func cmdFlushAll(c *conn, args [][]byte) {
	if len(args) > 2 || len(args) == 2 && !is(args[1], "sync") && !is(args[1], "async") {
		c.syntax()
		return
	}
	c.settle()
	failed := false
	err := c.pages(nil, func(page []api.ScannedKey) error {
		if len(page) == 0 {
			return nil
		}
		keys := make([][]byte, len(page))
		for i, k := range page {
			keys[i] = k.Key
		}
		failed = !c.many(kv.OpDelete, keys, 1, func(*kv.Response) error { return nil })
		if failed {
			return kv.Errorf(kv.CodeUnknown, "interrupted") // many has replied
		}
		return nil
	})
	switch {
	case failed:
	case err != nil:
		c.storeError(err)
	default:
		c.ok()
	}
}
