package resp

import (
	"crypto/subtle"
	"fmt"
	"strconv"
	"strings"
)

// The commands about the connection itself.

func cmdPing(c *conn, args [][]byte) {
	switch len(args) {
	case 1:
		c.out = append(c.out, replyPong...)
	case 2:
		c.out = appendBulk(c.out, args[1])
	default:
		c.arity("ping")
	}
}

func cmdEcho(c *conn, args [][]byte) { c.out = appendBulk(c.out, args[1]) }

func cmdQuit(c *conn, _ [][]byte) {
	c.ok()
	c.quit = true
}

func cmdReset(c *conn, _ [][]byte) {
	c.settle()
	c.proto, c.name = 2, ""
	c.setAuthed(c.srv.cfg.Password == "")
	c.out = appendSimple(c.out, "RESET")
}

func cmdSelect(c *conn, args [][]byte) {
	n, ok := parseInt(args[1])
	switch {
	case !ok:
		c.notInteger()
	case n != 0:
		c.fail("syntax", errDB)
	default:
		c.ok()
	}
}

// cmdAuth is AUTH password or AUTH user password; the one user is default.
func cmdAuth(c *conn, args [][]byte) {
	if len(args) > 3 {
		c.syntax()
		return
	}
	if len(args) == 2 && c.srv.cfg.Password == "" {
		c.fail("auth", errNoPassword)
		return
	}
	user := []byte("default")
	if len(args) == 3 {
		user = args[1]
	}
	if c.authenticate(user, args[len(args)-1]) {
		c.ok()
	}
}

func (c *conn) authenticate(user, password []byte) bool {
	want := c.srv.cfg.Password
	if string(user) != "default" || want != "" && subtle.ConstantTimeCompare(password, []byte(want)) != 1 {
		c.fail("auth", errWrongPass)
		return false
	}
	c.setAuthed(true)
	return true
}

// cmdHello is HELLO [version [AUTH user password] [SETNAME name]].
func cmdHello(c *conn, args [][]byte) {
	c.settle() // what was asked before is answered in the old protocol
	proto := int64(c.proto)
	if len(args) > 1 {
		n, ok := parseInt(args[1])
		switch {
		case !ok:
			c.fail("syntax", errProtoInt)
			return
		case n != 2 && n != 3:
			c.fail("syntax", errProto)
			return
		}
		proto = n
	}
	name, named, ok := c.helloOptions(args[min(2, len(args)):])
	if !ok {
		return
	}
	if !c.authed {
		c.fail("auth", errHelloAuth)
		return
	}
	if named {
		c.name = name
	}
	c.proto = int(proto)
	c.hello()
}

func (c *conn) helloOptions(args [][]byte) (name string, named, ok bool) {
	for len(args) > 0 {
		switch {
		case is(args[0], "auth") && len(args) > 2:
			if !c.authenticate(args[1], args[2]) {
				return "", false, false
			}
			args = args[3:]
		case is(args[0], "setname") && len(args) > 1:
			if !c.nameOK(args[1], errClientName) {
				return "", false, false
			}
			name, named = string(args[1]), true
			args = args[2:]
		default:
			c.fail("syntax", "ERR Syntax error in HELLO option '"+string(args[0])+"'")
			return "", false, false
		}
	}
	return name, named, true
}

func (c *conn) hello() {
	c.mapHead(7)
	c.bulk("server")
	c.bulk("edged")
	c.bulk("version")
	c.bulk(c.srv.cfg.Version)
	c.bulk("proto")
	c.integer(int64(c.proto))
	c.bulk("id")
	c.integer(c.id)
	c.bulk("mode")
	c.bulk("standalone") // any node answers for any key, so clients need no slots
	c.bulk("role")
	c.bulk("master")
	c.bulk("modules")
	c.array(0)
}

// nameOK replies with an error unless b is printable and has no spaces.
func (c *conn) nameOK(b []byte, text string) bool {
	if len(b) > maxNameBytes {
		c.fail("syntax", fmt.Sprintf("ERR name has %d bytes; the limit is %d", len(b), maxNameBytes))
		return false
	}
	for _, ch := range b {
		if ch < '!' || ch > '~' {
			c.fail("syntax", text)
			return false
		}
	}
	return true
}

// cmdWait tells how many copies beyond the first the writes since the last WAIT
// have. They had them when they were answered, so there is nothing to wait for.
func cmdWait(c *conn, args [][]byte) {
	c.settle()
	if _, ok := parseInt(args[1]); !ok {
		c.notInteger()
		return
	}
	timeout, ok := parseInt(args[2])
	switch {
	case !ok:
		c.fail("syntax", errTimeoutInt)
		return
	case timeout < 0:
		c.fail("syntax", errTimeoutNeg)
		return
	}
	c.acksRead = true
	c.integer(int64(c.acks))
}

// sub is a subcommand of CLIENT, CONFIG or COMMAND.
type sub struct {
	name  string
	arity int // as a command's, the container's name counted
	run   func(*conn, [][]byte)
	help  string
}

// subcommand runs the one that args[1] names.
func (c *conn) subcommand(container string, subs []sub, args [][]byte) {
	for _, s := range subs {
		if !is(args[1], s.name) {
			continue
		}
		if s.arity > 0 && len(args) != s.arity || len(args) < -s.arity {
			c.arity(container + "|" + s.name)
			return
		}
		s.run(c, args)
		return
	}
	if is(args[1], "help") && len(args) == 2 {
		c.help(container, subs)
		return
	}
	c.fail("unknown-command", unknownSubcommand(container, args[1]))
}

func (c *conn) help(container string, subs []sub) {
	c.array(2*len(subs) + 1)
	c.out = appendSimple(c.out, strings.ToUpper(container)+" <subcommand> [<arg> ...]. Subcommands are:")
	for _, s := range subs {
		c.out = appendSimple(c.out, strings.ToUpper(s.name))
		c.out = appendSimple(c.out, "    "+s.help)
	}
}

func clientCommands() []sub {
	yes := func(c *conn, _ [][]byte) { c.ok() }
	return []sub{
		{"id", 2, func(c *conn, _ [][]byte) { c.integer(c.id) }, "Return the ID of this connection."},
		{"info", 2, func(c *conn, _ [][]byte) { c.text(c.describe() + "\n") }, "Describe this connection."},
		{"getname", 2, clientGetName, "Return the name of this connection."},
		{"setname", 3, clientSetName, "Name this connection."},
		{"setinfo", 4, clientSetInfo, "Tell the client library's name and version."},
		{"no-evict", 3, yes, "Accepted; connections are never evicted."},
		{"no-touch", 3, yes, "Accepted; without effect."},
	}
}

func clientGetName(c *conn, _ [][]byte) {
	if c.name == "" {
		c.out = append(c.out, c.null()...)
		return
	}
	c.bulk(c.name)
}

func clientSetName(c *conn, args [][]byte) {
	if c.nameOK(args[2], errClientName) {
		c.name = string(args[2])
		c.ok()
	}
}

func clientSetInfo(c *conn, args [][]byte) {
	field := &c.libName
	switch {
	case is(args[2], "lib-name"):
	case is(args[2], "lib-ver"):
		field = &c.libVer
	default:
		c.fail("syntax", "ERR Unrecognized option '"+string(args[2])+"'")
		return
	}
	if c.nameOK(args[3], "ERR "+strings.ToLower(string(args[2]))+" cannot contain spaces, newlines or special characters.") {
		*field = string(args[3])
		c.ok()
	}
}

// describe is the line of CLIENT INFO.
func (c *conn) describe() string {
	pairs := []Field{
		{"id", strconv.FormatInt(c.id, 10)},
		{"addr", c.nc.RemoteAddr().String()},
		{"laddr", c.nc.LocalAddr().String()},
		{"name", c.name},
		{"db", "0"},
		{"resp", strconv.Itoa(c.proto)},
		{"lib-name", c.libName},
		{"lib-ver", c.libVer},
		{"user", "default"},
		{"qbuf", strconv.Itoa(c.w - c.r)},
	}
	words := make([]string, len(pairs))
	for i, p := range pairs {
		words[i] = p.Name + "=" + p.Value
	}
	return strings.Join(words, " ")
}
