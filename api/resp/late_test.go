package resp_test

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/api/resp"
	"edged.dev/edged/internal/kv"
)

const unknown = "-UNKNOWN no answer in time: the write may or may not have taken effect\r\n"

// impatient answers after a moment.
func impatient(cfg *resp.Config) { cfg.Limits.RequestTimeout = 250 * time.Millisecond }

// A store that does not answer by the deadline, such as one whose disk stands still, is
// not waited for. The replies keep their order, and the connection goes on.
func TestAWriteWithoutAnAnswerIsUnknownByTheDeadline(t *testing.T) {
	t.Parallel()
	f := start(t, impatient)
	f.store.SlowReads(true)
	f.store.Put("r", "read")
	c := f.dial()
	f.store.Hold()
	c.send(command("SET", "a", "1") + command("PING") + command("GET", "r") + command("INCR", "n"))
	c.expect(unknown + "+PONG\r\n" + "-LOADING no answer in time\r\n" + unknown)
	require.Equal(t, 3, f.store.Held(), "the store has them still")
	f.store.Release()
	c.do("+OK\r\n", "SET", "b", "2")
	c.do(bulk("1"), "GET", "a")
	c.do(":2\r\n", "INCR", "n")
}

// takes expects a command of so many bytes to be taken, once what was left behind and the
// connections that are closed are counted no more, each of which takes a moment.
func (f *fixture) takes(size int) {
	f.t.Helper()
	require.Eventually(f.t, func() bool {
		nc, err := net.Dial("tcp", f.addr)
		if err != nil {
			return false
		}
		defer nc.Close()
		c := &client{f.t, nc, bufio.NewReader(nc)}
		c.try(command("SET", "l", strings.Repeat("v", size)))
		reply, _ := c.r.ReadString('\n')
		return reply == "+OK\r\n"
	}, 20*time.Second, 10*time.Millisecond)
}

// What is late keeps its bytes: those of later commands come elsewhere.
func TestALateWriteIsTheOneThatWasAsked(t *testing.T) {
	t.Parallel()
	f := start(t, impatient)
	c := f.dial()
	f.store.Hold()
	value := strings.Repeat("v", 1000)
	c.send(command("SET", "key-1", value))
	c.expect(unknown)
	c.send(command("MSET", "key-2", value, "key-3", value))
	c.expect(unknown)
	for range 100 { // over all of a small buffer
		c.do(bulk(strings.Repeat("x", 1000)), "ECHO", strings.Repeat("x", 1000))
	}
	f.store.Release()
	for i := range 3 {
		got, found := f.store.Value(fmt.Sprint("key-", i+1))
		require.True(t, found)
		require.Equal(t, value, got)
	}
}

// A command on a key that is late is not held up by it, and what is left behind counts
// toward what connections may hold, until the store is done with it.
func TestWhatIsLateCountsAsBuffered(t *testing.T) {
	t.Parallel()
	const size = 256 << 10
	f := start(t, impatient, func(cfg *resp.Config) { cfg.Limits.BufferBytes = 3 * size })
	c := f.dial()
	f.store.Hold()
	c.send(command("SET", "k", strings.Repeat("v", size)) + command("SET", "k", "w"))
	c.expect(unknown + unknown)
	other := f.dial()
	other.send(command("SET", "l", strings.Repeat("v", size)))
	other.expect("-ERR Protocol error: the server's buffers are full; send and ask for less at once\r\n")
	require.NoError(t, other.Close())
	f.store.Release()
	f.takes(size)
	c.do("+PONG\r\n", "PING")
}

// A command that waited for one of its key that is late lies in the same buffer, which
// counts until the store is done with both.
func TestABufferCountsUntilTheLastThatLiesInIt(t *testing.T) {
	t.Parallel()
	const size = 300 << 10
	f := start(t, impatient, func(cfg *resp.Config) { cfg.Limits.BufferBytes = 3 * size })
	c := f.dial()
	f.store.Hold()
	both := command("SET", "k", strings.Repeat("v", size)) + command("SET", "k", "w")
	c.send(both[:size]) // the end of the first comes together with the second
	c.send(both[size:])
	c.expect(unknown + unknown)
	f.store.ReleaseFirst()
	full := "-ERR Protocol error: the server's buffers are full; send and ask for less at once\r\n"
	other := f.dial()
	other.send(command("SET", "l", strings.Repeat("v", size)))
	other.expect(full)
	require.NoError(t, other.Close())
	f.store.Release()
	f.takes(size)
	c.do("+PONG\r\n", "PING")
	c.do(bulk("w"), "GET", "k")
}

// Of a write whose outcome is unknown no copy is known, nor are all writes since the last
// WAIT on any other node. One that failed changes nothing.
func TestWaitKnowsOfNoCopyOfAnUnknownWrite(t *testing.T) {
	t.Parallel()
	f := start(t, impatient)
	c := f.dial()
	fail := func(code kv.Code) {
		f.store.Fail(func(q *kv.Request) error {
			if string(q.Key) == "x" {
				return kv.Errorf(code, "why")
			}
			return nil
		})
	}
	for _, write := range [][]string{{"SET", "x", "v"}, {"MSET", "a", "v", "x", "v"}, {"DEL", "x"}} {
		fail(kv.CodeFull)
		c.do("+OK\r\n", "SET", "k", "v")
		c.do("-OOM command not allowed: why\r\n", write...)
		c.do(":2\r\n", "WAIT", "2", "100")
		fail(kv.CodeUnknown)
		c.do("-UNKNOWN why\r\n", write...)
		c.do("+OK\r\n", "SET", "k", "v")
		c.do(":0\r\n", "WAIT", "2", "100")
		c.do(":0\r\n", "WAIT", "2", "100")
		c.do("+OK\r\n", "SET", "k", "v")
		c.do(":2\r\n", "WAIT", "2", "100")
	}
	f.store.Hold()
	c.do(unknown, "SET", "x", "v")
	c.do(":0\r\n", "WAIT", "2", "100")
	f.store.Release()
	c.do(":0\r\n", "WAIT", "2", "100")
}
