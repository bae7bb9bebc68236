package resp_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
)

// TestPipelinedWritesAreInFlightTogether is what lets a batch of sixteen wait
// for one commit group. The store answers them the last first.
func TestPipelinedWritesAreInFlightTogether(t *testing.T) {
	t.Parallel()
	f := start(t)
	c := f.dial()
	f.store.Hold()
	var batch, want strings.Builder
	for i := range 16 {
		batch.WriteString(command("INCRBY", fmt.Sprint("k", i), fmt.Sprint(i)))
		fmt.Fprintf(&want, ":%d\r\n", i)
	}
	c.send(batch.String())
	require.NoError(t, f.store.WaitStarted(t.Context(), 16))
	require.Equal(t, 16, f.store.Held())
	f.store.Release()
	c.expect(want.String())
}

func TestRepliesKeepTheOrderOfTheCommands(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.store.Put("r", "read")
	c := f.dial()
	f.store.Hold()
	c.send(command("SET", "a", "1") + command("GET", "r") + command("PING") + command("SET", "b", "2", "NX") +
		command("NONSENSE") + command("ECHO", "last"))
	require.NoError(t, f.store.WaitStarted(t.Context(), 2)) // the read did not wait, and started nothing
	f.store.Release()
	c.expect("+OK\r\n" + bulk("read") + "+PONG\r\n+OK\r\n-ERR unknown command 'NONSENSE', with args beginning with: \r\n" + bulk("last"))
}

// TestKeyInFlightIsWaitedFor holds for reads from memory, for slow ones, and
// for writes.
func TestKeyInFlightIsWaitedFor(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ second, reply string }{
		"get":    {command("GET", "k"), bulk("new")},
		"ttl":    {command("TTL", "k"), ":-1\r\n"},
		"strlen": {command("STRLEN", "k"), ":3\r\n"},
		"mget":   {command("MGET", "other", "k"), "*2\r\n" + bulk("o") + bulk("new")},
		"append": {command("APPEND", "k", "er"), ":5\r\n"},
		"set":    {command("SET", "k", "newer", "GET"), bulk("new")},
		"mset":   {command("MSET", "x", "1", "k", "newer"), "+OK\r\n"},
		"exists": {command("EXISTS", "k", "none"), ":1\r\n"},
		"dbsize": {command("DBSIZE"), ":2\r\n"},
		"scan":   {command("SCAN", "0", "MATCH", "k"), "*2\r\n$1\r\n0\r\n*1\r\n" + bulk("k")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			f.store.Put("other", "o")
			c := f.dial()
			f.store.Hold()
			c.send(command("SET", "k", "new") + tc.second)
			require.NoError(t, f.store.WaitStarted(t.Context(), 1))
			require.Equal(t, 1, f.store.Held())
			f.store.Release()
			c.expect("+OK\r\n" + tc.reply)
		})
	}
}

func TestOneKeysIncrementsStayInOrder(t *testing.T) {
	t.Parallel()
	c := start(t).dial()
	var batch, want strings.Builder
	for i := range 1000 {
		batch.WriteString(command("INCR", "n"))
		fmt.Fprintf(&want, ":%d\r\n", i+1)
	}
	c.send(batch.String())
	c.expect(want.String())
}

func TestMSetTakesTheLastOfAKeyTwice(t *testing.T) {
	t.Parallel()
	c := start(t).dial()
	args := []string{"MSET"}
	for i := range 300 {
		args = append(args, fmt.Sprint("k", i%100), fmt.Sprint(i))
	}
	c.do("+OK\r\n", args...)
	c.do("*2\r\n"+bulk("200")+bulk("299"), "MGET", "k0", "k99")
	c.do(":100\r\n", "DBSIZE")
}

// TestPipelineLongerThanEveryBuffer has more commands and more reply bytes than
// are held at once, in both directions, with and without the short way.
func TestPipelineLongerThanEveryBuffer(t *testing.T) {
	t.Parallel()
	for _, slow := range []bool{false, true} {
		t.Run(fmt.Sprint("slow=", slow), func(t *testing.T) {
			t.Parallel()
			f := start(t)
			f.store.SlowReads(slow)
			value := strings.Repeat("v", 10_000)
			f.store.Put("k", value)
			c := f.dial()
			const n = 2000
			go c.send(strings.Repeat(command("GET", "k")+command("SET", "w", "1"), n))
			for range n {
				c.expect(bulk(value) + "+OK\r\n")
			}
		})
	}
}

// TestCommandsMayArriveInAnyPieces cuts a pipeline at every byte.
func TestCommandsMayArriveInAnyPieces(t *testing.T) {
	t.Parallel()
	f := start(t)
	batch := command("SET", "k", "v\r\n*1") + "PING\r\n" + command("GET", "k") + "ECHO 'a b'\n"
	want := "+OK\r\n+PONG\r\n" + bulk("v\r\n*1") + bulk("a b")
	for cut := 1; cut < len(batch); cut++ {
		c := f.dial()
		c.send(batch[:cut])
		c.send(batch[cut:])
		c.expect(want)
		c.Close()
	}
	c := f.dial()
	for i := range len(batch) {
		c.send(batch[i : i+1])
	}
	c.expect(want)
}

func TestValuesOfEveryWidth(t *testing.T) {
	t.Parallel()
	f := start(t)
	c := f.dial()
	for _, n := range []int{0, 1, 9, 10, 99, 100, 101, 999, 1000, 12345, 99_999, 100_000, 1 << 20, 5, 0, 1000} {
		v := strings.Repeat("x", n)
		f.store.Put("k", v)
		c.send(command("GET", "k") + command("STRLEN", "k") + command("GET", "none"))
		c.expect(bulk(v) + fmt.Sprintf(":%d\r\n$-1\r\n", n))
	}
}

// TestFencedWriteIsReadBack: where a write was not decided here, the
// connection's own read must not come from this node's memory unfenced.
func TestFencedWriteIsReadBack(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.store.Fence([]byte("not staler than this"))
	fences := make(chan string, 16)
	c, other := f.dial(), f.dial()
	c.do("+OK\r\n", "SET", "k", "v")
	f.store.Fail(func(r *kv.Request) error { fences <- string(r.Fence); return nil })
	c.do(bulk("v"), "GET", "k")
	require.Equal(t, "not staler than this", <-fences)
	c.do("*1\r\n"+bulk("v"), "MGET", "k")
	require.Equal(t, "not staler than this", <-fences)
	c.do(":1\r\n", "STRLEN", "k")
	require.Equal(t, "not staler than this", <-fences)
	other.do(bulk("v"), "GET", "k")
	require.Empty(t, <-fences)
}

// TestConnectionsForgetTheirOldestFence: as many are remembered as is said, and
// one more takes the place of the first.
func TestConnectionsForgetTheirOldestFence(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.store.Fence([]byte("fence"))
	c := f.dial()
	fenced := func(key string) bool {
		seen := ""
		f.store.Adorn(func(r *kv.Request, _ *kv.Response) { seen = string(r.Fence) })
		defer f.store.Adorn(nil)
		c.do(":-1\r\n", "TTL", key)
		return seen != ""
	}
	for i := range 32 {
		c.do("+OK\r\n", "SET", fmt.Sprint("k", i), "v")
	}
	c.do("+OK\r\n", "SET", "k5", "v") // is remembered once
	require.True(t, fenced("k0"))
	c.do("+OK\r\n", "SET", "k32", "v")
	require.False(t, fenced("k0"))
	require.True(t, fenced("k1"))
	require.True(t, fenced("k32"))
}

func TestWaitTellsTheCopiesOfTheWrites(t *testing.T) {
	t.Parallel()
	c := start(t).dial()
	c.do(":0\r\n", "WAIT", "1", "0")
	c.do("+OK\r\n", "SET", "k", "v")
	c.do(":2\r\n", "WAIT", "2", "100")
	c.do(":2\r\n", "WAIT", "2", "100")
}

func TestStoreErrorsAreMapped(t *testing.T) {
	t.Parallel()
	f := start(t)
	c := f.dial()
	for code, want := range map[kv.Code]string{
		kv.CodeInternal:    "-ERR internal error: why\r\n",
		kv.CodeInvalid:     "-ERR why\r\n",
		kv.CodeTooLarge:    "-ERR why\r\n",
		kv.CodeNotServing:  "-LOADING why\r\n",
		kv.CodeUnavailable: "-LOADING why\r\n",
		kv.CodeUnknown:     "-UNKNOWN why\r\n",
		kv.CodeSiblings:    "-ERR why\r\n",
		kv.CodeNotInteger:  "-ERR value is not an integer or out of range\r\n",
		kv.CodePolicy:      "-ERR why\r\n",
		kv.CodeFull:        "-OOM command not allowed: why\r\n",
		kv.CodeTimeout:     "-TRYAGAIN why\r\n",
	} {
		f.store.Fail(func(*kv.Request) error { return kv.Errorf(code, "why") })
		c.do(want, "SET", "k", "v")
		c.do(want, "MSET", "k", "v", "l", "w")
		c.do(want, "MGET", "k")
		c.do(want, "DEL", "k", "l")
		c.do(want, "SCAN", "0")
		c.do(want, "FLUSHALL")
		require.EqualValues(t, 6, f.server.Stats().Errors[code.String()])
	}
	f.store.Fail(func(*kv.Request) error { return fmt.Errorf("two\r\nlines") })
	c.do("-ERR internal error: two  lines\r\n", "GET", "k")
}

// TestDrainAnswersWhatWasRead: commands that arrived are answered though the
// server is told to stop while they are in flight.
func TestDrainAnswersWhatWasRead(t *testing.T) {
	t.Parallel()
	f := start(t)
	busy, idle := f.dial(), f.dial()
	idle.do("+PONG\r\n", "PING")
	f.store.Hold()
	busy.send(command("SET", "k", "v") + command("ECHO", "after"))
	require.NoError(t, f.store.WaitStarted(t.Context(), 1))
	f.stop()
	idle.gone()
	require.NoError(t, idle.Close())
	f.store.Release()
	busy.expect("+OK\r\n" + bulk("after"))
	busy.gone()
	require.NoError(t, busy.Close())
	select {
	case err := <-f.served:
		require.NoError(t, err)
		f.served <- nil
	case <-time.After(10 * time.Second):
		require.Fail(t, "the server did not end")
	}
	require.Zero(t, f.server.Stats().Open)
	v, _ := f.store.Value("k")
	require.Equal(t, "v", v)
}

func TestClientsThatLeaveMidwayDoNoHarm(t *testing.T) {
	t.Parallel()
	f := start(t)
	for _, raw := range []string{"", "*1\r\n", command("PING"), "*2\r\n$3\r\nGET\r\n$5\r\nab", strings.Repeat(command("SET", "k", "v"), 100)} {
		c := f.dial()
		c.send(raw)
		require.NoError(t, c.Close())
	}
	require.Eventually(t, func() bool { return f.server.Stats().Open == 0 }, 5*time.Second, time.Millisecond)
	f.dial().do("+PONG\r\n", "PING")
}
