package testcluster_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"
)

// hostsEnv chooses how hosts are made: "loopback" keeps to loopback addresses
// where namespaces would be possible too.
const hostsEnv = "TESTCLUSTER_HOSTS"

// labClientEnv makes this test binary a small client: see TestLabClient.
const labClientEnv = "TESTCLUSTER_CLIENT"

// lab is a set of hosts for a test: network namespaces on one bridge, or, where
// there are none to be had, loopback addresses. Every host has a directory, the
// home of whoever works there.
type lab struct {
	t     *testing.T
	dir   string
	bin   string // in every host's PATH, in front
	root  string // of the module
	id    string // tells the namespaces of one lab from those of another
	lan   string // namespace of the bridge, "" on loopback addresses
	hosts map[string]*labHost
}

// labHost is one of them. Its address is the one that the README gives it.
type labHost struct {
	lab   *lab
	name  string
	addr  string
	dir   string
	space string // its namespace
	life  *exec.Cmd
	done  chan error // of life
}

// newLab makes hosts by name and address.
func newLab(t *testing.T, addrs map[string]string) *lab {
	t.Helper()
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	l := &lab{t: t, dir: t.TempDir(), root: root, hosts: map[string]*labHost{}}
	l.id = fmt.Sprintf("edged-%08x", uint32(xxh3.HashString(l.dir)))
	l.bin = filepath.Join(l.dir, "bin")
	require.NoError(t, os.Mkdir(l.bin, 0o700))
	if problem := l.openLAN(); problem != nil {
		t.Logf("no network namespaces, so the hosts are loopback addresses: %v", problem)
	}
	for name, addr := range addrs {
		l.addHost(name, addr)
	}
	l.addShims()
	return l
}

// openLAN makes the namespace of the bridge and says why it could not.
func (l *lab) openLAN() error {
	if os.Getenv(hostsEnv) == "loopback" {
		return errors.New(hostsEnv + " says so")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return err
	}
	lan := l.id + "-lan"
	if out, err := exec.CommandContext(l.t.Context(), "ip", "netns", "add", lan).CombinedOutput(); err != nil {
		return fmt.Errorf("ip netns add: %w: %s", err, out)
	}
	l.lan = lan
	l.t.Cleanup(func() { l.removeSpace(lan) })
	if out, err := exec.CommandContext(l.t.Context(), "ip", "-n", lan, "link", "add", "br0", "type", "bridge").CombinedOutput(); err != nil {
		l.lan = ""
		return fmt.Errorf("add bridge: %w: %s", err, out)
	}
	l.ip("-n", lan, "link", "set", "br0", "up")
	return nil
}

func (l *lab) ip(args ...string) {
	l.t.Helper()
	out, err := exec.CommandContext(l.t.Context(), "ip", args...).CombinedOutput()
	require.NoError(l.t, err, "ip %v: %s", args, out)
}

func (l *lab) removeSpace(space string) {
	out, err := exec.CommandContext(context.Background(), "ip", "netns", "del", space).CombinedOutput()
	if err != nil {
		l.t.Logf("ip netns del %s: %v: %s", space, err, out)
	}
}

func (l *lab) addHost(name, addr string) {
	l.t.Helper()
	h := &labHost{lab: l, name: name, addr: addr, dir: filepath.Join(l.dir, name)}
	require.NoError(l.t, os.Mkdir(h.dir, 0o700))
	l.hosts[name] = h
	enter := ""
	if l.lan != "" {
		h.space = l.id + "-" + name
		l.ip("netns", "add", h.space)
		l.t.Cleanup(func() { l.removeSpace(h.space) })
		l.ip("-n", l.lan, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", h.space)
		l.ip("-n", l.lan, "link", "set", name, "master", "br0", "up")
		l.ip("-n", h.space, "addr", "add", addr+"/24", "dev", "eth0")
		l.ip("-n", h.space, "link", "set", "eth0", "up")
		l.ip("-n", h.space, "link", "set", "lo", "up")
		enter = "ip netns exec " + h.space + " "
	}
	// The script by which whoever works there enters the host.
	l.script(filepath.Join(h.dir, ".enter"), "cd "+h.dir+"\n"+l.settings(h)+"exec "+enter+"sh -ec \"$1\"\n")
	l.t.Cleanup(func() {
		h.kill()
		if l.t.Failed() {
			l.t.Log(h.log())
		}
	})
}

// settings are what tells hosts apart that share one loopback interface.
func (l *lab) settings(h *labHost) string {
	if l.lan != "" {
		return ""
	}
	return "export EDGED_ADMIN_LISTEN=" + l.at(h.addr) + ":7381\n"
}

// at returns an address of the README as this lab has it.
func (l *lab) at(text string) string {
	if l.lan != "" {
		return text
	}
	return regexp.MustCompile(`\b10\.0\.0\.(\d+)\b`).ReplaceAllStringFunc(text, func(addr string) string {
		n, err := strconv.Atoi(addr[strings.LastIndex(addr, ".")+1:])
		require.NoError(l.t, err)
		return fmt.Sprintf("127.0.0.%d", n+1)
	})
}

func (l *lab) script(path, text string) {
	l.t.Helper()
	require.NoError(l.t, os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700))
}

// addShims puts the tools into the hosts' PATH that would leave the lab: a copy
// to a host, a login on it, its service manager, and Go, which works where the
// source is.
func (l *lab) addShims() {
	l.t.Helper()
	goTool, err := exec.LookPath("go")
	require.NoError(l.t, err)
	self, err := os.Executable()
	require.NoError(l.t, err)
	l.script(filepath.Join(l.bin, "go"), fmt.Sprintf(`case "$1 $2" in
"run ./loadtest") shift 2; %[1]s -C %[2]s build -o %[3]s/loadtest ./loadtest; exec %[3]s/loadtest "$@" ;;
esac
exec %[1]s -C %[2]s "$@"
`, goTool, l.root, l.bin))
	home := ""
	for _, h := range l.hosts {
		home += fmt.Sprintf("%s) home=%s ;;\n", l.at(h.addr), h.dir)
	}
	l.script(filepath.Join(l.bin, "scp"), `for to; do :; done
case "${to%%:*}" in
`+home+`*) echo "scp: no host ${to%%:*}" >&2; exit 1 ;;
esac
at="$home/${to#*:}"
flags=
[ "$1" = -r ] && { flags=-r; shift; }
while [ $# -gt 1 ]; do cp $flags "$1" "$at"; shift; done
`)
	l.script(filepath.Join(l.bin, "ssh"), `case "$1" in
`+home+`*) echo "ssh: no host $1" >&2; exit 1 ;;
esac
shift
exec sh "$home/.enter" "$*"
`)
	l.script(filepath.Join(l.bin, "systemctl"), `case "$1" in
kill) kill -KILL "$(cat .pid)"; rm .pid ;;
stop) [ ! -e .pid ] || kill -TERM "$(cat .pid)" ;;
start) sh .serve >>log 2>&1 & ;;
esac
`)
	if _, err := exec.LookPath("redis-cli"); err != nil {
		l.t.Logf("no redis-cli, so a client of this test takes its place: %v", err)
		l.script(filepath.Join(l.bin, "redis-cli"), fmt.Sprintf("%s=1 exec %s -test.run '^TestLabClient$' -- \"$@\"\n", labClientEnv, self))
	}
}

// TestLabClient is a client that a host without redis-cli runs, as a process of
// its own in the host's namespace: -h HOST -p PORT COMMAND...
func TestLabClient(t *testing.T) {
	if os.Getenv(labClientEnv) == "" {
		return // an ordinary run of the tests
	}
	args := os.Args
	for len(args) > 0 && args[0] != "--" {
		args = args[1:]
	}
	require.Greater(t, len(args), 5, "%v", os.Args)
	client := redis.NewClient(&redis.Options{Addr: args[2] + ":" + args[4], MaxRetries: -1})
	words := make([]any, 0, len(args))
	for _, word := range args[5:] {
		words = append(words, word)
	}
	answer, err := client.Do(t.Context(), words...).Result()
	var refusal redis.Error
	switch {
	case errors.Is(err, redis.Nil):
		fmt.Println()
	case errors.As(err, &refusal):
		fmt.Println(refusal)
	case err == nil:
		fmt.Println(answer)
	default:
		require.NoError(t, err)
	}
	os.Exit(0) // without the framework's own words
}

// command is a script for the host's shell.
func (h *labHost) command(ctx context.Context, script string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "sh", filepath.Join(h.dir, ".enter"), h.lab.at(script))
	cmd.Env = append(cleanEnviron(), "PATH="+h.lab.bin+":"+os.Getenv("PATH"), "GOBIN="+h.lab.bin)
	return cmd
}

// cleanEnviron is the environment without settings of a node.
func cleanEnviron() []string {
	var out []string
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "EDGED_") {
			out = append(out, pair)
		}
	}
	return out
}

// commandLimit is for a measurement of several returns that is built first, on a busy
// machine.
const commandLimit = 4 * time.Minute

// run runs a script on the host and returns its exit code and what it printed,
// stdout and stderr together.
func (h *labHost) run(script string) (code int, out string) {
	h.lab.t.Helper()
	ctx, cancel := context.WithTimeout(h.lab.t.Context(), commandLimit)
	defer cancel()
	var both bytes.Buffer
	cmd := h.command(ctx, script)
	cmd.Stdout, cmd.Stderr = &both, &both
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(h.lab.t, err, script)
	}
	return cmd.ProcessState.ExitCode(), both.String()
}

// must runs a script that has to end well, and returns what it printed.
func (h *labHost) must(script string) string {
	h.lab.t.Helper()
	code, out := h.run(script)
	require.Zero(h.lab.t, code, "on %s: %s\n%s", h.name, script, out)
	return out
}

// serve runs a command that stays, in the place of the one before, which it ends
// as Ctrl-C would.
func (h *labHost) serve(command string) {
	h.lab.t.Helper()
	h.stop()
	h.lab.script(filepath.Join(h.dir, ".serve"), "echo $$ >.pid\nexec "+h.lab.at(command)+"\n")
	log, err := os.OpenFile(filepath.Join(h.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(h.lab.t, err)
	defer log.Close()
	h.life = h.command(context.WithoutCancel(h.lab.t.Context()), "exec sh .serve")
	h.life.Stdout, h.life.Stderr = log, log
	require.NoError(h.lab.t, h.life.Start())
	h.done = make(chan error, 1)
	life, done := h.life, h.done
	go func() { done <- life.Wait() }() // ends with the process, which stop or kill end
}

// stop ends the host's node and wants a clean end.
func (h *labHost) stop() {
	h.lab.t.Helper()
	if h.life == nil {
		return
	}
	require.NoError(h.lab.t, h.life.Process.Signal(syscall.SIGINT))
	select {
	case err := <-h.done:
		require.NoError(h.lab.t, err, h.log())
	case <-time.After(15 * time.Second):
		require.Fail(h.lab.t, "the node did not end", h.log())
	}
	h.life = nil
}

// kill ends whatever runs on the host.
func (h *labHost) kill() {
	if h.life != nil {
		_ = h.life.Process.Kill() // it may have ended
		<-h.done
		h.life = nil
	}
	text, err := os.ReadFile(filepath.Join(h.dir, ".pid"))
	pid, numberErr := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || numberErr != nil {
		return
	}
	// What a number names may have changed; only what works in the host's directory
	// is the host's.
	if at, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); err == nil && at == h.dir {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

func (h *labHost) log() string {
	text, err := os.ReadFile(filepath.Join(h.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return h.name + ":\n" + string(text)
}

// waitFor runs a script until it ends well.
func (h *labHost) waitFor(script string) string {
	h.lab.t.Helper()
	var out string
	require.Eventually(h.lab.t, func() bool {
		var code int
		code, out = h.run(script)
		return code == 0
	}, 40*time.Second, 50*time.Millisecond, "on %s: %s", h.name, script)
	return out
}

// waitLog waits until the host's log says something.
func (h *labHost) waitLog(what string) {
	h.lab.t.Helper()
	require.Eventually(h.lab.t, func() bool { return strings.Contains(h.log(), what) },
		40*time.Second, 20*time.Millisecond, "%q is not in the log of %s", what, h.name)
}

// block is one sh block of a document: the host it is for, and its text.
type block struct {
	host string
	text string
}

// blocks returns the sh blocks of the README below a heading. A line that begins
// "On `n1`" or "On your own machine" says where those after it are run.
func blocks(t *testing.T, heading string) []block {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	_, section, ok := strings.Cut(string(text), "\n## "+heading+"\n")
	require.True(t, ok, "README.md has no section %q", heading)
	section, _, _ = strings.Cut(section, "\n## ")
	where := regexp.MustCompile("^On (?:`(\\w+)`|your own machine)")
	host := "me"
	var out []block
	var inside *block
	for line := range strings.SplitSeq(section, "\n") {
		match := where.FindStringSubmatch(line)
		switch {
		case line == "```sh":
			inside = &block{host: host}
		case line == "```" && inside != nil:
			out = append(out, *inside)
			inside = nil
		case inside != nil:
			inside.text += line + "\n"
		case match != nil && match[1] != "":
			host = match[1]
		case match != nil:
			host = "me"
		}
	}
	require.NotEmpty(t, out, "section %q has no commands", heading)
	return out
}
