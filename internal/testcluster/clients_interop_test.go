//go:build interop

package testcluster_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/testcluster"
)

// door is a node that clients of others are pointed at.
type door struct {
	name       string
	resp, http string // HOST:PORT
	others     bool   // there are more nodes, whose copies may be behind
}

func (d door) host() string { return hostOf(d.resp) }
func (d door) port() string { return portOf(d.resp) }

func hostOf(addr string) string { host, _, _ := net.SplitHostPort(addr); return host }
func portOf(addr string) string { _, port, _ := net.SplitHostPort(addr); return port }

// Clients that others wrote work unchanged with a node by itself, and through
// every node of a cluster of three.
func TestInteropClients(t *testing.T) {
	binary, err := testcluster.Build(t.Context(), t.TempDir())
	require.NoError(t, err)
	var doors []door
	for _, nodes := range []int{1, 3} {
		c := testcluster.ForTest(t.Context(), t, testcluster.Options{Binary: binary, Nodes: nodes})
		for _, n := range c.Nodes() {
			doors = append(doors, door{fmt.Sprintf("%s of %d", n.Name(), nodes), n.Ports().RESP, n.Ports().HTTP, nodes > 1})
		}
	}
	npm := installed(t)
	real := redisServer(t)
	for _, d := range doors {
		t.Run(d.name, func(t *testing.T) {
			t.Run("redis-cli", func(t *testing.T) { testRedisCLI(t, d, real) })
			t.Run("redis-benchmark", func(t *testing.T) { testRedisBenchmark(t, d) })
			t.Run("go-redis", func(t *testing.T) { testGoRedis(t, d) })
			t.Run("npm", func(t *testing.T) { testNPM(t, d, npm) })
			t.Run("curl", func(t *testing.T) { testCurl(t, d) })
		})
	}
}

// tool runs a program and returns what it printed, stdout and stderr together.
func tool(t *testing.T, input, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s %v: %s", name, args, out)
	return string(out)
}

// redisServer starts the server whose clients these are, as the yardstick.
func redisServer(t *testing.T) door {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := listener.Addr().String()
	require.NoError(t, listener.Close())
	cmd := exec.Command("redis-server", "--port", portOf(addr), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", t.TempDir())
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	}, 10*time.Second, 10*time.Millisecond)
	return door{name: "redis-server", resp: addr}
}

// dialogue is what redis-cli is given: every line's answer has to be the same,
// byte for byte, as that of redis-server. The keys are of this test alone.
const dialogue = `ping
ping hello
echo "two words"
set cli:a 1
get cli:a
set cli:a 2 nx
set cli:a 2 xx get
set cli:none 2 xx
set cli:b v ex 100
ttl cli:b
set cli:b w keepttl
ttl cli:b
persist cli:b
ttl cli:b
expire cli:b 50
expire cli:b 60 nx
expire cli:b 70 gt
expire cli:b 10 gt
ttl cli:b
ttl cli:none
pttl cli:none
getset cli:b x
getdel cli:b
get cli:b
setnx cli:b y
setnx cli:b z
append cli:b more
strlen cli:b
type cli:b
type cli:none
incr cli:n
incrby cli:n 41
decr cli:n
decrby cli:n 2
get cli:n
mset cli:m1 1 cli:m2 2
mget cli:m1 cli:none cli:m2
exists cli:m1 cli:m2 cli:m1 cli:none
setex cli:e 100 v
psetex cli:e 100000 v
del cli:m1 cli:m2 cli:none
unlink cli:e
select 0
keys cli:[n]*
nosuchcommand some arguments
get
get a b
set cli:a
set cli:a v ex
set cli:a v ex 0
set cli:a v ex -1
set cli:a v ex x
set cli:a v nx xx
set cli:a v ex 10 px 10
set cli:a v keepttl ex 10
set cli:a v nosuchoption
incr cli:b
incrby cli:n x
expire cli:n x
expire cli:n 10 nx gt
select x
mset cli:a
setex cli:a 0 v
config get nosuchparameter
hello 4
hello x
client nosuchsubcommand
scan x
scan 0 count 0
scan 0 nosuchoption
`

func testRedisCLI(t *testing.T, d, real door) {
	for _, flags := range [][]string{{}, {"-3"}, {"-2"}} {
		at := func(d door) string {
			args := append([]string{"-h", d.host(), "-p", d.port()}, flags...)
			tool(t, "", "redis-cli", append(args, "del", "cli:a", "cli:b", "cli:n", "cli:none", "cli:e", "cli:m1", "cli:m2")...)
			// One connection, which reads its own writes; the numbers tell where answers
			// part.
			var script strings.Builder
			for i, line := range strings.Split(strings.TrimSpace(dialogue), "\n") {
				fmt.Fprintf(&script, "echo \"%d: %s\"\n%s\n", i, strings.ReplaceAll(line, `"`, "'"), line)
			}
			return tool(t, script.String(), "redis-cli", append(args, "--no-raw")...)
		}
		require.Equal(t, at(real), at(d), "redis-cli %v", flags)
	}
	cli := func(args ...string) string {
		return tool(t, "", "redis-cli", append([]string{"-h", d.host(), "-p", d.port()}, args...)...)
	}
	require.Contains(t, strings.Fields(cli("--scan", "--pattern", "cli:*")), "cli:a")
	require.Contains(t, cli("info", "server"), "redis_version:")
	require.NotContains(t, cli("command", "count"), "ERR")
	require.Contains(t, cli("select", "1"), "DB index is out of range", "there is one database")
	require.Contains(t, cli("lpush", "cli:a", "1"), "ERR unknown command 'lpush', with args beginning with: 'cli:a' '1'")
}

func testRedisBenchmark(t *testing.T, d door) {
	out := tool(t, "", "redis-benchmark", "-h", d.host(), "-p", d.port(), "-t", "get,set", "-P", "16", "-n", "20000", "-r", "1000", "-q")
	for _, verb := range []string{"SET", "GET"} {
		require.Regexp(t, verb+`: [0-9.]+ requests per second`, out)
	}
	require.NotRegexp(t, `(?i)\berr(or)?\b|warning|unknown`, out)
}

func testCurl(t *testing.T, d door) {
	// Reads ask two copies, for one alone may be a moment behind a write that another
	// connection made.
	url := "http://" + d.http + "/v1/kv/curl%2Fkey"
	read, siblings := url+"?r=2", url+"?r=2&siblings=1"
	head := func(out, name string) string {
		match := regexp.MustCompile(`(?im)^` + name + `: (.*)\r$`).FindStringSubmatch(out)
		require.NotNil(t, match, "no %s in %s", name, out)
		return match[1]
	}
	curl := func(args ...string) string {
		return tool(t, "", "curl", append([]string{"-sS", "-i", "--max-time", "10"}, args...)...)
	}
	curl("-X", "DELETE", url)
	out := curl("-X", "PUT", "--data-binary", "one", "-H", "If-None-Match: *", url)
	require.Contains(t, out, "204 No Content")
	tag := head(out, "ETag")
	require.Contains(t, curl("-X", "PUT", "--data-binary", "two", "-H", "If-None-Match: *", url), "412 ")

	out = curl(read)
	require.Contains(t, out, "200 OK")
	require.True(t, strings.HasSuffix(out, "\r\n\r\none"), out)
	require.Equal(t, tag, head(out, "ETag"))
	token := head(out, "X-Edged-Token")
	require.Contains(t, curl("-H", "If-None-Match: "+tag, read), "304 ")
	require.Contains(t, curl("-X", "PUT", "--data-binary", "two", "-H", "If-Match: "+tag, url), "204 ")
	require.Contains(t, curl("-X", "PUT", "--data-binary", "three", "-H", "If-Match: "+tag, url), "412 ")

	// A write with a token that is older than the last write leaves a sibling.
	require.Contains(t, curl("-X", "PUT", "--data-binary", "beside", "-H", "X-Edged-Token: "+token, url), "204 ")
	out = curl(siblings)
	require.Contains(t, out, "dHdv", "two, in base 64")
	require.Contains(t, out, "YmVzaWRl", "beside, in base 64")
	require.Contains(t, curl("-X", "PUT", "--data-binary", "both", "-H", "X-Edged-Token: "+head(out, "X-Edged-Token"), url), "204 ")
	require.NotContains(t, curl(siblings), "dHdv")

	// With the fence of a write, one copy is enough: one that has seen it.
	fence := "X-Edged-Unset: 1"
	if out = curl("-X", "PUT", "--data-binary", "fenced", url); d.others {
		fence = "X-Edged-Fence: " + head(out, "X-Edged-Fence")
	}
	out = curl("-H", fence, url)
	require.True(t, strings.HasSuffix(out, "\r\n\r\nfenced"), out)

	require.Contains(t, curl("-X", "PUT", "--data-binary", "short", "-H", "X-Edged-TTL: 3600s", url), "204 ")
	out = curl("-I", read)
	require.Contains(t, out, "200 OK")
	require.NotEmpty(t, head(out, "X-Edged-TTL"))
	require.Contains(t, curl("-X", "DELETE", url), "204 ")
	out = curl(read)
	require.Contains(t, out, "404 ")
	require.Contains(t, out, "application/problem+json")
	require.Contains(t, curl("-X", "PUT", "--data-binary", "x", "-H", "X-Edged-Token: nonsense", url), "400 ")
}

// npmPackages are the clients of the Node.js world, at versions that are known
// to install everywhere.
var npmPackages = []string{"ioredis@5.8.2", "redis@5.9.0"}

// installed makes a directory with the npm clients.
func installed(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "package.json"), []byte(`{"private": true}`), 0o600))
	tool(t, "", "npm", append([]string{"install", "--prefix", dir, "--no-audit", "--no-fund", "--ignore-scripts"}, npmPackages...)...)
	return dir
}

// npmProgram plays with both clients, and throws at the first surprise.
const npmProgram = `
const assert = require('node:assert')
const Redis = require('ioredis')
const { createClient } = require('redis')
const [host, port] = process.argv.slice(2)

async function withIoredis() {
  const c = new Redis({ host, port: Number(port), maxRetriesPerRequest: 1 })
  await c.del('npm:a', 'npm:n', 'npm:x')
  assert.equal(await c.set('npm:a', 'v', 'EX', 100), 'OK')
  assert.equal(await c.set('npm:a', 'w', 'NX'), null)
  assert.equal(await c.get('npm:a'), 'v')
  assert.ok(await c.ttl('npm:a') > 90)
  assert.equal(await c.incrby('npm:n', 42), 42)
  const answers = await c.pipeline().set('npm:x', '1').incr('npm:x').get('npm:x').exec()
  assert.deepEqual(answers, [[null, 'OK'], [null, 2], [null, '2']])
  assert.deepEqual(await c.mget('npm:a', 'npm:none'), ['v', null])
  await assert.rejects(c.incr('npm:a'), /not an integer/)
  await assert.rejects(c.lpush('npm:a', 'x'), /unknown command/)
  const seen = []
  for await (const keys of c.scanStream({ match: 'npm:*', count: 5 })) seen.push(...keys)
  assert.ok(seen.includes('npm:n'))
  const binary = Buffer.from([0, 255, 13, 10, 0])
  await c.set('npm:a', binary)
  assert.ok(binary.equals(await c.getBuffer('npm:a')))
  await c.quit()
}

async function withNodeRedis(RESP) {
  const c = createClient({ RESP, socket: { host, port: Number(port), reconnectStrategy: false } })
  await c.connect()
  await c.del(['npm:a', 'npm:n'])
  assert.equal(await c.set('npm:a', 'v', { expiration: { type: 'EX', value: 100 } }), 'OK')
  assert.equal(await c.set('npm:a', 'w', { condition: 'NX' }), null)
  assert.equal(await c.get('npm:a'), 'v')
  assert.equal(await c.incr('npm:n'), 1)
  const many = await Promise.all(Array.from({ length: 500 }, (_, i) => c.incr('npm:n')))
  assert.equal(many.at(-1), 501)
  assert.deepEqual(await c.mGet(['npm:a', 'npm:none']), ['v', null])
  assert.equal(await c.exists('npm:a'), 1)
  const seen = []
  for await (const keys of c.scanIterator({ MATCH: 'npm:*' })) seen.push(...keys)
  assert.ok(seen.includes('npm:n'))
  await assert.rejects(c.sendCommand(['NOSUCH']), /unknown command/)
  await c.close()
}

withIoredis().then(() => withNodeRedis(2)).then(() => withNodeRedis(3)).then(() => console.log('all of it held'))
`

func testNPM(t *testing.T, d door, dir string) {
	program := filepath.Join(dir, "clients.js")
	require.NoError(t, os.WriteFile(program, []byte(npmProgram), 0o600))
	require.Contains(t, tool(t, "", "node", program, d.host(), d.port()), "all of it held")
}
