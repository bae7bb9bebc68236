package resp

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"time"
)

// conn is one client. Its goroutine owns every field but nc.
type conn struct {
	srv *Server
	nc  net.Conn
	id  int64
	// base is the parent of every request's context; it never ends by itself,
	// so that what was started before a drain is answered.
	base context.Context

	parser parser
	in     []byte // in[r:w] is read and not yet taken
	r, w   int
	out    []byte // replies in order, without those of pending
	spare  []byte // settle's other buffer

	pending []*op
	heavy   int // those of pending that answer with a value
	free    []*op
	ctx     context.Context // of the requests in pending, nil without any
	cancel  context.CancelFunc
	within  bool      // a command is under way
	lent    *leftover // whose buffer it lies in, nil: in c.in
	fences  fences
	digits  int // width of the last value's length, the next one's guess

	charged       int64 // bytes of the server's buffer budget
	gathered      int64 // bytes of a reply that is not in out yet
	readDeadline  time.Time
	writeDeadline time.Time
	begun         time.Time // when the command that is not whole began

	proto    int // 2 or 3
	authed   bool
	quit     bool // close once the replies are sent
	name     string
	libName  string
	libVer   string
	acks     int  // copies beyond the first of the writes since the last WAIT
	acksRead bool // WAIT told acks: the next write begins anew

	last      *command // calls not counted yet
	lastCalls uint64
}

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{srv: s, nc: nc, id: s.lastID.Add(1), proto: 2, in: make([]byte, baseBufferBytes), digits: 1, acksRead: true}
	c.setAuthed(s.cfg.Password == "")
	return c
}

func (c *conn) setAuthed(on bool) {
	c.authed, c.parser.early = on, !on
}

// serve answers commands until the client leaves, breaks the protocol or the
// server drains.
func (c *conn) serve(base context.Context) {
	c.base = base
	defer c.count(nil)
	defer c.settle() // whoever started a request waits for it
	for {
		n, err := c.parser.next(c.in[c.r:c.w])
		if err != nil {
			c.refuse(err)
			return
		}
		if n == 0 {
			if c.flush() != nil || c.fill() != nil {
				return
			}
			continue
		}
		c.r += n
		c.begun = time.Time{}
		if len(c.parser.args) == 0 {
			continue
		}
		c.within = true
		c.dispatch(c.parser.args)
		c.over()
		if c.quit {
			c.leave()
			return
		}
		if len(c.out) >= maxUnsentBytes || len(c.pending) >= maxPending || c.heavy >= maxHeavy {
			if c.flush() != nil {
				return
			}
		}
	}
}

// dispatch runs one command, or answers why it does not.
func (c *conn) dispatch(args [][]byte) {
	var lower [32]byte
	var cmd *command
	if len(args[0]) <= len(lower) {
		cmd = c.srv.commands[string(toLower(lower[:0], args[0]))]
	}
	switch {
	case cmd == nil:
		c.fail("unknown-command", unknownCommand(args))
	case cmd.arity > 0 && len(args) != cmd.arity || len(args) < -cmd.arity:
		c.arity(cmd.name)
	case !c.authed && !cmd.early:
		c.fail("auth", errNoAuth)
	default:
		c.count(cmd)
		cmd.run(c, args)
	}
}

// count adds up calls of the same command, so that a pipeline of one kind costs
// one atomic addition.
func (c *conn) count(cmd *command) {
	if cmd == c.last && cmd != nil {
		c.lastCalls++
		return
	}
	if c.last != nil {
		c.last.calls.Add(c.lastCalls)
	}
	c.last, c.lastCalls = cmd, 1
}

// flush waits for what is in flight and sends every reply.
func (c *conn) flush() error {
	c.settle()
	c.count(nil)
	if len(c.out) == 0 {
		return nil
	}
	if !c.account() {
		c.out = append(c.out[:0], "-"+errBuffers+"\r\n"...)
		c.quit = true
	}
	now, timeout := time.Now(), c.srv.cfg.Limits.WriteTimeout
	if c.writeDeadline.Sub(now) < timeout/2 {
		c.writeDeadline = now.Add(timeout)
		if err := c.nc.SetWriteDeadline(c.writeDeadline); err != nil {
			return err
		}
	}
	n, err := c.nc.Write(c.out)
	c.srv.stats.bytesOut.Add(uint64(n))
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.srv.stats.reject("write-deadline")
		}
		return err
	}
	c.out = trim(c.out)
	c.spare = trim(c.spare)
	if c.quit {
		return io.EOF
	}
	return nil
}

// fill reads more of the client's bytes. Nothing is in flight, so the buffer
// may move.
func (c *conn) fill() error {
	if c.r > 0 {
		c.w = copy(c.in, c.in[c.r:c.w])
		c.r = 0
	}
	if c.w == 0 && len(c.in) > keepBufferBytes {
		c.in = make([]byte, baseBufferBytes)
	}
	if c.w == len(c.in) {
		// Twice what has arrived, whatever length was announced.
		grown := make([]byte, 2*len(c.in))
		copy(grown, c.in)
		c.in = grown
	}
	if !c.account() {
		c.refuse(overLimit("buffers", "%s", errBuffers[len("ERR "):]))
		return io.EOF
	}
	if err := c.renewDeadline(); err != nil {
		return err
	}
	if c.srv.draining.Load() { // after the deadline was set: see drain
		c.leave()
		return io.EOF
	}
	n, err := c.nc.Read(c.in[c.w:])
	c.w += n
	c.srv.stats.bytesIn.Add(uint64(n))
	if n > 0 {
		return nil
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && !c.srv.draining.Load() {
		c.srv.stats.reject("deadline")
	}
	if c.srv.draining.Load() {
		c.leave()
	}
	return err
}

// renewDeadline gives a command that began its remaining time, and an idle
// connection its long one, which is set anew only when half of it has passed.
func (c *conn) renewDeadline() error {
	now := time.Now()
	l := &c.srv.cfg.Limits
	if c.w > 0 {
		if !c.begun.IsZero() {
			return nil
		}
		c.begun = now
		c.readDeadline = now.Add(l.CommandTimeout)
		return c.nc.SetReadDeadline(c.readDeadline)
	}
	idle := l.IdleTimeout
	if !c.authed {
		idle = l.EarlyTimeout
	}
	if left := c.readDeadline.Sub(now); left > idle/2 && left <= idle {
		return nil
	}
	c.readDeadline = now.Add(idle)
	return c.nc.SetReadDeadline(c.readDeadline)
}

// account charges the buffers' growth to the server's budget and reports
// whether that allows it.
func (c *conn) account() bool {
	over := func(b []byte) int64 { return int64(max(cap(b)-keepBufferBytes, 0)) }
	want := over(c.in) + over(c.out) + over(c.spare) + c.gathered
	if want == c.charged {
		return true
	}
	total := c.srv.buffered.Add(want - c.charged)
	grew := want > c.charged
	c.charged = want
	if grew && total > c.srv.cfg.Limits.BufferBytes {
		c.srv.stats.reject("buffers")
		return false
	}
	return true
}

// refuse tells the client how it broke the protocol, and closes.
func (c *conn) refuse(err error) {
	var pe *protocolError
	if errors.As(err, &pe) && pe.limit != "" && pe.limit != "buffers" {
		c.srv.stats.reject(pe.limit)
	}
	c.fail("protocol", "ERR "+err.Error())
	c.leave()
}

// leave sends what is left and closes the connection's sending side, then reads
// on for a moment: closing with unread bytes would reset the connection, and the
// reset may overtake the last replies.
func (c *conn) leave() {
	c.quit = false
	if c.flush() != nil {
		return
	}
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	if c.nc.SetReadDeadline(time.Now().Add(lingerTimeout)) != nil {
		return
	}
	// How this ends is of no interest: the client is gone, or has had its time.
	_, _ = io.CopyN(io.Discard, c.nc, lingerBytes)
}

func trim(b []byte) []byte {
	if cap(b) > keepBufferBytes {
		return nil
	}
	return b[:0]
}

func toLower(dst, b []byte) []byte {
	for _, ch := range b {
		if ch >= 'A' && ch <= 'Z' {
			ch += 'a' - 'A'
		}
		dst = append(dst, ch)
	}
	return dst
}
