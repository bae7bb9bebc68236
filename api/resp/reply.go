package resp

import (
	"strconv"
	"strings"
)

// The encodings of RESP2 and, where they differ, RESP3.

const (
	replyOK     = "+OK\r\n"
	replyNull2  = "$-1\r\n"
	replyNull3  = "_\r\n"
	replyPong   = "+PONG\r\n"
	bulkTail    = "\r\n"
	verbatimFmt = "txt:"
)

func appendInt(dst []byte, n int64) []byte {
	dst = append(dst, ':')
	dst = strconv.AppendInt(dst, n, 10)
	return append(dst, bulkTail...)
}

func appendBulk[T string | []byte](dst []byte, b T) []byte {
	dst = appendHead(dst, '$', len(b))
	dst = append(dst, b...)
	return append(dst, bulkTail...)
}

func appendSimple(dst []byte, s string) []byte {
	dst = append(dst, '+')
	dst = append(dst, s...)
	return append(dst, bulkTail...)
}

func appendHead(dst []byte, kind byte, n int) []byte {
	dst = append(dst, kind)
	dst = strconv.AppendInt(dst, int64(n), 10)
	return append(dst, bulkTail...)
}

// appendError writes text, which begins with its kind ("ERR ..."), as one line.
func appendError(dst []byte, text string) []byte {
	dst = append(dst, '-')
	dst = append(dst, oneLine.Replace(text)...)
	return append(dst, bulkTail...)
}

var oneLine = strings.NewReplacer("\r", " ", "\n", " ")

// null is what stands for no value.
func (c *conn) null() string {
	if c.proto == 3 {
		return replyNull3
	}
	return replyNull2
}

// mapHead begins a map of n pairs, in RESP2 an array of twice as many.
func (c *conn) mapHead(n int) {
	if c.proto == 3 {
		c.out = appendHead(c.out, '%', n)
		return
	}
	c.out = appendHead(c.out, '*', 2*n)
}

// text writes what is meant for people's eyes: a verbatim string in RESP3.
func (c *conn) text(s string) {
	if c.proto != 3 {
		c.out = appendBulk(c.out, s)
		return
	}
	c.out = appendHead(c.out, '=', len(verbatimFmt)+len(s))
	c.out = append(c.out, verbatimFmt...)
	c.out = append(c.out, s...)
	c.out = append(c.out, bulkTail...)
}

func (c *conn) ok()             { c.out = append(c.out, replyOK...) }
func (c *conn) integer(n int64) { c.out = appendInt(c.out, n) }
func (c *conn) array(n int)     { c.out = appendHead(c.out, '*', n) }
func (c *conn) bulk(s string)   { c.out = appendBulk(c.out, s) }
