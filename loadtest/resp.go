package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

const (
	// respBuffer holds some hundred commands of a pipeline.
	respBuffer = 64 << 10
	// respWait bounds a flush and each reply: a node's own deadline is 2 s.
	respWait = 5 * time.Second
	// maxBulkBytes bounds what a reply may make us hold.
	maxBulkBytes = 2 << 20
)

// respConn is a client's connection over RESP2, for one goroutine. Commands
// are buffered until flush; replies come in their order.
type respConn struct {
	nc net.Conn
	r  *bufio.Reader
	w  *bufio.Writer
}

// reply is one reply that is no array.
type reply struct {
	kind byte // + - : $
	text []byte
	null bool
}

// replyError is an error that a node replied.
type replyError string

func (e replyError) Error() string { return string(e) }

func dialRESP(ctx context.Context, addr string) (*respConn, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	return &respConn{nc: nc, r: bufio.NewReaderSize(nc, respBuffer), w: bufio.NewWriterSize(nc, respBuffer)}, nil
}

func (c *respConn) close() { c.nc.Close() } // whatever was wanted of it has been read

// send buffers a command. Its error shows at flush.
func (c *respConn) send(args ...[]byte) {
	var head [24]byte
	line := func(kind byte, n int) {
		b := append(strconv.AppendInt(append(head[:0], kind), int64(n), 10), "\r\n"...)
		c.w.Write(b) //nolint:errcheck // a bufio.Writer keeps its error for Flush
	}
	line('*', len(args))
	for _, arg := range args {
		line('$', len(arg))
		c.w.Write(arg)          //nolint:errcheck // as above
		c.w.WriteString("\r\n") //nolint:errcheck // as above
	}
}

func (c *respConn) flush() error {
	if err := c.nc.SetDeadline(time.Now().Add(respWait)); err != nil {
		return err
	}
	return c.w.Flush()
}

// receive reads the next reply. One that is an error is returned as such, and
// the connection goes on.
func (c *respConn) receive() (reply, error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return reply{}, fmt.Errorf("read reply: %w", err)
	}
	if len(line) < 3 || line[len(line)-2] != '\r' {
		return reply{}, fmt.Errorf("read reply: line %q", line)
	}
	out := reply{kind: line[0], text: append([]byte(nil), line[1:len(line)-2]...)}
	switch out.kind {
	case '+', ':':
		return out, nil
	case '-':
		return out, replyError(out.text)
	case '$':
		return c.bulk(out)
	}
	return reply{}, fmt.Errorf("read reply: kind %q is not expected here", out.kind)
}

func (c *respConn) bulk(out reply) (reply, error) {
	n, err := strconv.Atoi(string(out.text))
	if err != nil || n < -1 || n > maxBulkBytes {
		return reply{}, fmt.Errorf("read reply: length %q", out.text)
	}
	if n == -1 {
		return reply{kind: '$', null: true}, nil
	}
	body := make([]byte, n+2)
	if _, err := io.ReadFull(c.r, body); err != nil {
		return reply{}, fmt.Errorf("read reply: %w", err)
	}
	out.text = body[:n]
	return out, nil
}

// do sends one command and reads its reply.
func (c *respConn) do(args ...string) (reply, error) {
	raw := make([][]byte, len(args))
	for i, arg := range args {
		raw[i] = []byte(arg)
	}
	c.send(raw...)
	if err := c.flush(); err != nil {
		return reply{}, err
	}
	return c.receive()
}

// replied reports whether err is a node's reply rather than a lost connection.
func replied(err error) bool {
	var r replyError
	return errors.As(err, &r)
}
