package resp

import (
	"slices"
	"strings"
	"sync/atomic"
)

// command is one row of what the server knows.
type command struct {
	name  string // lower case
	arity int    // arguments with the name; -n is n or more
	flags string // as COMMAND tells them
	// first, last and step say where the keys are; first 0 is none.
	first, last, step int
	run               func(*conn, [][]byte)
	group             string
	summary           string
	early             bool // allowed before AUTH

	calls atomic.Uint64
}

// commandTable returns every command by name. Each server has its own, for the
// rows count their calls.
func commandTable() map[string]*command {
	table := map[string]*command{}
	for _, rows := range [][]*command{stringCommands(), keyCommands(), sessionCommands()} {
		for _, cmd := range rows {
			table[cmd.name] = cmd
		}
	}
	return table
}

func stringCommands() []*command {
	row := func(name string, arity int, flags string, run func(*conn, [][]byte), summary string) *command {
		return &command{name: name, arity: arity, flags: flags, first: 1, last: 1, step: 1, run: run, group: "string", summary: summary}
	}
	mget := row("mget", -2, "readonly fast", cmdMGet, "Returns the values of one or more keys.")
	mget.last = -1
	mset := row("mset", -3, "write denyoom", cmdMSet, "Sets one or more keys, each by itself.")
	mset.last, mset.step = -1, 2
	return []*command{
		mget, mset,
		row("get", 2, "readonly fast", cmdGet, "Returns the value of a key."),
		row("set", -3, "write denyoom", cmdSet, "Sets the value of a key, with its expiry and conditions."),
		row("setnx", 3, "write denyoom fast", cmdSetNX, "Sets the value of a key that does not exist."),
		row("setex", 4, "write denyoom", cmdSetEX, "Sets a value that expires after seconds."),
		row("psetex", 4, "write denyoom", cmdPSetEX, "Sets a value that expires after milliseconds."),
		row("getset", 3, "write denyoom fast", cmdGetSet, "Sets a value and returns the one before."),
		row("getdel", 2, "write fast", cmdGetDel, "Deletes a key and returns its value."),
		row("append", 3, "write denyoom fast", cmdAppend, "Appends to a value."),
		row("strlen", 2, "readonly fast", cmdStrlen, "Returns the length of a value."),
		row("incr", 2, "write denyoom fast", cmdIncr, "Adds one to an integer."),
		row("decr", 2, "write denyoom fast", cmdDecr, "Takes one from an integer."),
		row("incrby", 3, "write denyoom fast", cmdIncrBy, "Adds a number to an integer."),
		row("decrby", 3, "write denyoom fast", cmdDecrBy, "Takes a number from an integer."),
	}
}

func keyCommands() []*command {
	row := func(name string, arity int, flags string, run func(*conn, [][]byte), summary string) *command {
		return &command{name: name, arity: arity, flags: flags, first: 1, last: 1, step: 1, run: run, group: "generic", summary: summary}
	}
	each := func(cmd *command) *command {
		cmd.last = -1
		return cmd
	}
	keyless := func(cmd *command) *command {
		cmd.first, cmd.last, cmd.step = 0, 0, 0
		return cmd
	}
	return []*command{
		each(row("del", -2, "write", cmdDel, "Deletes one or more keys.")),
		each(row("unlink", -2, "write fast", cmdDel, "Deletes one or more keys.")),
		each(row("exists", -2, "readonly fast", cmdExists, "Counts the given keys that exist.")),
		each(row("touch", -2, "readonly fast", cmdExists, "Counts the given keys that exist.")),
		row("expire", -3, "write fast", cmdExpire, "Sets a key's expiry in seconds from now."),
		row("pexpire", -3, "write fast", cmdPExpire, "Sets a key's expiry in milliseconds from now."),
		row("expireat", -3, "write fast", cmdExpireAt, "Sets a key's expiry as a Unix time in seconds."),
		row("pexpireat", -3, "write fast", cmdPExpireAt, "Sets a key's expiry as a Unix time in milliseconds."),
		row("expiretime", 2, "readonly fast", cmdExpireTime, "Returns a key's expiry as a Unix time in seconds."),
		row("pexpiretime", 2, "readonly fast", cmdPExpireTime, "Returns a key's expiry as a Unix time in milliseconds."),
		row("ttl", 2, "readonly fast", cmdTTL, "Returns the seconds until a key expires."),
		row("pttl", 2, "readonly fast", cmdPTTL, "Returns the milliseconds until a key expires."),
		row("persist", 2, "write fast", cmdPersist, "Removes a key's expiry."),
		row("type", 2, "readonly fast", cmdType, "Returns string or none."),
		keyless(row("scan", -2, "readonly", cmdScan, "Returns a page of the cluster's keys.")),
		keyless(row("keys", 2, "readonly", cmdKeys, "Returns every key that matches a pattern.")),
		keyless(row("dbsize", 1, "readonly fast", cmdDBSize, "Returns the number of keys of the cluster.")),
		keyless(row("flushall", -1, "write", cmdFlushAll, "Deletes every key that a scan of the cluster finds.")),
		keyless(row("flushdb", -1, "write", cmdFlushAll, "Deletes every key that a scan of the cluster finds.")),
	}
}

func sessionCommands() []*command {
	row := func(name string, arity int, run func(*conn, [][]byte), summary string) *command {
		return &command{name: name, arity: arity, flags: "noscript loading stale fast", run: run, group: "connection", summary: summary}
	}
	early := func(cmd *command) *command {
		cmd.flags += " no_auth"
		cmd.early = true
		return cmd
	}
	client, config, commands := clientCommands(), configCommands(), commandCommands()
	return []*command{
		row("ping", -1, cmdPing, "Returns PONG or its argument."),
		row("echo", 2, cmdEcho, "Returns its argument."),
		early(row("quit", -1, cmdQuit, "Closes the connection.")),
		early(row("reset", 1, cmdReset, "Makes the connection as new.")),
		early(row("auth", -2, cmdAuth, "Authenticates the connection.")),
		early(row("hello", -1, cmdHello, "Chooses the protocol's version.")),
		row("select", 2, cmdSelect, "Chooses the database: 0."),
		row("wait", 3, cmdWait, "Returns how many further copies this connection's writes have."),
		row("info", -1, cmdInfo, "Describes the server."),
		row("client", -2, func(c *conn, args [][]byte) { c.subcommand("client", client, args) }, "About this connection."),
		row("config", -2, func(c *conn, args [][]byte) { c.subcommand("config", config, args) }, "About settings."),
		row("command", -1, func(c *conn, args [][]byte) {
			if len(args) == 1 {
				c.describeAll()
				return
			}
			c.subcommand("command", commands, args)
		}, "About commands."),
	}
}

func commandCommands() []sub {
	return []sub{
		{"count", 2, func(c *conn, _ [][]byte) { c.integer(int64(len(c.srv.commands))) }, "Return how many commands there are."},
		{"list", 2, commandList, "Return the names of all commands."},
		{"info", -2, commandInfo, "Describe commands for programs."},
		{"docs", -2, commandDocs, "Describe commands for people."},
	}
}

// names returns the names of all commands, sorted.
func (s *Server) names() []string {
	names := make([]string, 0, len(s.commands))
	for name := range s.commands {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (c *conn) describeAll() {
	names := c.srv.names()
	c.array(len(names))
	for _, name := range names {
		c.commandRow(c.srv.commands[name])
	}
}

func commandList(c *conn, _ [][]byte) {
	names := c.srv.names()
	c.array(len(names))
	for _, name := range names {
		c.bulk(name)
	}
}

func commandInfo(c *conn, args [][]byte) {
	if len(args) == 2 {
		c.describeAll()
		return
	}
	c.array(len(args) - 2)
	for _, name := range args[2:] {
		if cmd := c.srv.commands[string(toLower(nil, name))]; cmd != nil {
			c.commandRow(cmd)
			continue
		}
		c.out = append(c.out, c.nullArray()...)
	}
}

// commandRow is what Redis 7 tells of a command; its last four parts (tips, key
// specifications, subcommands and ACL categories) are empty.
func (c *conn) commandRow(cmd *command) {
	flags := strings.Fields(cmd.flags)
	c.array(10)
	c.bulk(cmd.name)
	c.integer(int64(cmd.arity))
	c.array(len(flags))
	for _, f := range flags {
		c.out = appendSimple(c.out, f)
	}
	c.integer(int64(cmd.first))
	c.integer(int64(cmd.last))
	c.integer(int64(cmd.step))
	for range 4 {
		c.array(0)
	}
}

func commandDocs(c *conn, args [][]byte) {
	names := c.srv.names()
	if len(args) > 2 {
		names = names[:0]
		for _, name := range args[2:] {
			if cmd := c.srv.commands[string(toLower(nil, name))]; cmd != nil {
				names = append(names, cmd.name)
			}
		}
	}
	c.mapHead(len(names))
	for _, name := range names {
		cmd := c.srv.commands[name]
		c.bulk(name)
		c.mapHead(2)
		c.bulk("summary")
		c.bulk(cmd.summary)
		c.bulk("group")
		c.bulk(cmd.group)
	}
}

// nullArray is RESP2's other null.
func (c *conn) nullArray() string {
	if c.proto == 3 {
		return replyNull3
	}
	return "*-1\r\n"
}
