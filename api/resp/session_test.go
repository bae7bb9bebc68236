package resp_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/api/resp"
)

func TestHelloChoosesTheProtocol(t *testing.T) {
	t.Parallel()
	f := start(t)
	c := f.dial()
	fields := func(proto int) string {
		return bulk("server") + bulk("edged") + bulk("version") + bulk("test") + bulk("proto") + fmt.Sprintf(":%d\r\n", proto) +
			bulk("id") + ":1\r\n" + bulk("mode") + bulk("standalone") + bulk("role") + bulk("master") + bulk("modules") + "*0\r\n"
	}
	c.do("*14\r\n"+fields(2), "HELLO")
	c.send(command("GET", "none") + command("HELLO", "3", "SETNAME", "me") + command("GET", "none"))
	c.expect("$-1\r\n%7\r\n" + fields(3) + "_\r\n")
	c.do(bulk("me"), "CLIENT", "GETNAME")
	c.do("*1\r\n_\r\n", "MGET", "none")
	c.do("_\r\n", "SET", "none", "v", "XX")
	c.do("%1\r\n"+bulk("databases")+bulk("1"), "CONFIG", "GET", "data*")
	c.do("+RESET\r\n", "RESET")
	c.do("$-1\r\n", "CLIENT", "GETNAME")
	c.do("*2\r\n"+bulk("databases")+bulk("1"), "CONFIG", "GET", "DATA*")
}

func TestHelloAuthenticates(t *testing.T) {
	t.Parallel()
	f := start(t, protected)
	c := f.dial()
	c.do("-WRONGPASS invalid username-password pair or user is disabled.\r\n", "HELLO", "3", "AUTH", "default", "wrong")
	c.send(command("HELLO", "3", "AUTH", "default", "secret", "SETNAME", "me"))
	require.Equal(t, "%7", c.line())
	require.EqualValues(t, 1, f.server.Stats().Errors["auth"])
}

func TestInfoShowsTheNodesSectionsAndTheServers(t *testing.T) {
	t.Parallel()
	f := start(t, func(c *resp.Config) {
		c.Info = func() []resp.Section {
			return []resp.Section{
				{Name: "Server", Fields: []resp.Field{{Name: "node", Value: "n1"}}},
				{Name: "Keyspace", Fields: []resp.Field{{Name: "db0", Value: "keys=7"}}},
			}
		}
	})
	f.clock.move(90e9)
	c := f.dial()
	text := func(args ...string) string {
		c.send(command(append([]string{"INFO"}, args...)...))
		n := 0
		_, err := fmt.Sscanf(c.line(), "$%d", &n)
		require.NoError(t, err)
		body := make([]byte, n+2)
		_, err = c.r.Read(body)
		require.NoError(t, err)
		return string(body)
	}
	all := text()
	require.Contains(t, all, "# Server\r\nredis_version:7.0.15\r\n")
	require.Contains(t, all, "uptime_in_seconds:90\r\nnode:n1\r\n")
	require.Contains(t, all, "# Clients\r\nconnected_clients:1\r\n")
	require.Contains(t, all, "\r\n\r\n# Keyspace\r\ndb0:keys=7\r\n")
	require.Equal(t, "# Keyspace\r\ndb0:keys=7\r\n\r\n", text("KeySpace"))
	require.Contains(t, text("stats"), "total_commands_processed:3\r\n")
	c.send(command("HELLO", "3") + command("INFO", "keyspace"))
	for c.line() != "modules" {
	}
	c.expect("*0\r\n=28\r\ntxt:# Keyspace\r\ndb0:keys=7\r\n\r\n")
}

func TestClientDescribesItself(t *testing.T) {
	t.Parallel()
	c := start(t).dial()
	c.do(":1\r\n", "CLIENT", "ID")
	c.do("+OK\r\n", "CLIENT", "SETNAME", "me")
	c.do("+OK\r\n", "CLIENT", "SETINFO", "LIB-NAME", "lib")
	c.do("+OK\r\n", "CLIENT", "SETINFO", "lib-ver", "1.2")
	c.do("-ERR lib-ver cannot contain spaces, newlines or special characters.\r\n", "CLIENT", "SETINFO", "lib-ver", "1 2")
	c.do("-ERR Unrecognized option 'bogus'\r\n", "CLIENT", "SETINFO", "bogus", "1")
	c.do("-ERR name has 257 bytes; the limit is 256\r\n", "CLIENT", "SETNAME", strings.Repeat("n", 257))
	c.do("+OK\r\n", "CLIENT", "NO-TOUCH", "on")
	c.send(command("CLIENT", "INFO"))
	c.line()
	info := c.line()
	for _, want := range []string{"id=1 ", "addr=" + c.LocalAddr().String(), "name=me ", "db=0 ", "resp=2 ", "lib-name=lib ", "lib-ver=1.2 "} {
		require.Contains(t, info, want)
	}
	c.line() // the text ends with a line feed of its own
	c.send(command("CLIENT", "HELP"))
	require.Equal(t, "*15", c.line())
}

func TestCommandsDescribeThemselves(t *testing.T) {
	t.Parallel()
	f := start(t)
	c := f.dial()
	n := len(f.server.Stats().Commands)
	c.do(fmt.Sprintf(":%d\r\n", n), "COMMAND", "COUNT")
	get := "*10\r\n" + bulk("get") + ":2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n*0\r\n*0\r\n*0\r\n*0\r\n"
	c.do("*2\r\n"+get+"*-1\r\n", "COMMAND", "INFO", "GET", "nonsense")
	c.do("*2\r\n"+bulk("get")+"*4\r\n"+bulk("summary")+bulk("Returns the value of a key.")+bulk("group")+bulk("string"), "COMMAND", "DOCS", "get", "nonsense")
	c.send(command("COMMAND", "LIST"))
	require.Equal(t, fmt.Sprintf("*%d", n), c.line())
	var names []string
	for range n {
		c.line()
		names = append(names, c.line())
	}
	require.True(t, slices.IsSorted(names))
	require.Contains(t, names, "getdel")
	for _, cmd := range []string{"COMMAND", "COMMAND INFO", "COMMAND DOCS"} {
		c := f.dial()
		c.send(command(strings.Fields(cmd)...))
		require.Regexp(t, `^\*`, c.line())
	}
}

func TestScanPagesThroughAll(t *testing.T) {
	t.Parallel()
	f := start(t)
	for i := range 1000 {
		f.store.Put(fmt.Sprintf("user:%03d", i), "v")
	}
	f.store.Put("other", "v")
	c := f.dial()
	seen, cursor, pages := map[string]bool{}, "0", 0
	for {
		c.send(command("SCAN", cursor, "MATCH", "user:*[02468]", "COUNT", "100"))
		require.Equal(t, "*2", c.line())
		c.line()
		cursor = c.line()
		n := 0
		_, err := fmt.Sscanf(c.line(), "*%d", &n)
		require.NoError(t, err)
		for range n {
			c.line()
			seen[c.line()] = true
		}
		pages++
		if cursor == "0" {
			break
		}
	}
	require.Len(t, seen, 500)
	require.Equal(t, 11, pages, "pages count the keys that do not match, too")
	c.do("-ERR cursor \"9223372036854775807\" is not one of a scan\r\n", "SCAN", "9223372036854775807")
	c.do("*0\r\n", "KEYS", "user:0000")
	c.do("*1\r\n"+bulk("user:000"), "KEYS", `user:00\0`)
}

func TestFlushAllDeletesEveryKey(t *testing.T) {
	t.Parallel()
	f := start(t)
	for i := range 10_000 {
		f.store.Put(fmt.Sprint("k", i), "v")
	}
	c := f.dial()
	c.do(":10000\r\n", "DBSIZE")
	c.do("+OK\r\n", "FLUSHALL")
	c.do(":0\r\n", "DBSIZE")
}

func TestKeysHasALimit(t *testing.T) {
	t.Parallel()
	f := start(t)
	for i := range 100_001 {
		f.store.Put(fmt.Sprint("k", i), "")
	}
	c := f.dial()
	c.do("-ERR more than 100000 keys match; use SCAN\r\n", "KEYS", "*")
	c.do(":1\r\n", "DEL", "k7")
	c.send(command("KEYS", "*"))
	require.Equal(t, "*100000", c.line())
}

func TestExpiriesFollowTheClock(t *testing.T) {
	t.Parallel()
	f := start(t)
	c := f.dial()
	c.do("+OK\r\n", "SET", "k", "v", "PX", "1500")
	require.Equal(t, f.clock.now().UnixMilli()+1500, f.store.Expires("k"))
	c.do(":1500\r\n", "PTTL", "k")
	c.do(":2\r\n", "TTL", "k") // rounded, as Redis does
	f.clock.move(1499e6)
	c.do(":1\r\n", "PTTL", "k")
	c.do(":0\r\n", "TTL", "k")
	c.do(bulk("v"), "GET", "k")
	f.clock.move(1e6)
	c.do("$-1\r\n", "GET", "k")
	c.do(":-2\r\n", "PTTL", "k")
}

func TestCountersTellWhatHappened(t *testing.T) {
	t.Parallel()
	f := start(t)
	c := f.dial()
	in := command("SET", "k", "v") + strings.Repeat(command("GET", "k"), 3) + command("NONSENSE") + command("GET") + command("SET", "k", "v", "BOGUS")
	c.send(in)
	out := "+OK\r\n" + strings.Repeat(bulk("v"), 3) + "-ERR unknown command 'NONSENSE', with args beginning with: \r\n" +
		"-ERR wrong number of arguments for 'get' command\r\n-ERR syntax error\r\n"
	c.expect(out)
	c.do("+PONG\r\n", "PING") // the batch before it is counted
	st := f.server.Stats()
	require.Equal(t, 1, st.Open)
	require.EqualValues(t, 1, st.Accepted)
	require.EqualValues(t, 3, st.Commands["get"])
	require.EqualValues(t, 2, st.Commands["set"])
	require.EqualValues(t, 0, st.Commands["mget"])
	require.Equal(t, map[string]uint64{"unknown-command": 1, "arity": 1, "syntax": 1}, st.Errors)
	require.Empty(t, st.Rejected)
	require.EqualValues(t, len(in)+len(command("PING")), st.BytesIn)
	require.Eventually(t, func() bool { // the last reply is counted once it is written
		return f.server.Stats().BytesOut == uint64(len(out)+len("+PONG\r\n"))
	}, 10*time.Second, time.Millisecond)
}
