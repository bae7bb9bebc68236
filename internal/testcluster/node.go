package testcluster

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"edged.dev/edged/api/admin"
)

const (
	// pollInterval is how often a wait looks again, and so the grain of what is
	// measured by one.
	pollInterval = 5 * time.Millisecond
	// stopWait is how long a node may drain before it is killed.
	stopWait = 15 * time.Second
	// askWait bounds one question of a wait: a node that is stopped takes
	// connections and never answers.
	askWait = time.Second
	// maxTail is how much of a log an error shows.
	maxTail = 4 << 10
)

// ErrNotRunning is wrapped by errors about a node whose process is not there.
var ErrNotRunning = errors.New("node is not running")

// Node is one node: a name, a data directory, and a process that may or may not
// run.
type Node struct {
	cluster *Cluster
	name    string
	files   string // what its files are called
	route   Route  // empty where the node tells the address it listens on
	env     []string

	mu     sync.Mutex
	ports  admin.Ports // as last seen; a restart asks for the same
	proc   *process    // nil when none was started, or the last has ended
	client *admin.Client
	held   map[string]func() // by address: gives a port back
}

// process is one life of a node.
type process struct {
	cmd    *exec.Cmd
	execAt time.Time
	exited chan struct{} // closed when it has been waited for
	err    error         // how it ended; valid after exited
}

func newNode(c *Cluster, name string) *Node {
	return &Node{cluster: c, name: name, files: name, held: map[string]func(){}}
}

// Name returns the node's name in the cluster.
func (n *Node) Name() string { return n.name }

// SetEnv adds NAME=VALUE pairs to the environment of the node's next processes, in
// place of those added before.
func (n *Node) SetEnv(pairs ...string) { n.env = pairs }

// DataDir returns the data directory's path.
func (n *Node) DataDir() string { return filepath.Join(n.cluster.dir, n.files+"-data") }

// LogFile returns the path of the log, which every life of the node adds to.
func (n *Node) LogFile() string { return filepath.Join(n.cluster.dir, n.files+".log") }

func (n *Node) tlsDir() string { return filepath.Join(n.cluster.dir, n.name+"-tls") }

// Ports returns where the node listens, or did when it last ran.
func (n *Node) Ports() admin.Ports {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ports
}

// nodeAddr is where other nodes reach this one; empty before its first start.
func (n *Node) nodeAddr() string {
	addr := n.Ports().Node
	if addr != "" && n.route.Advertise != "" {
		return n.route.Advertise
	}
	return addr
}

// Start executes the node's process and returns the moment just before that.
// It takes the ports it had before, or free ones at its first start, and does
// not wait for anything.
func (n *Node) Start(ctx context.Context) (time.Time, error) {
	if n.running() != nil {
		return time.Time{}, fmt.Errorf("start %s: it runs already", n.name)
	}
	args := append(append(n.args(), n.cluster.place(n)...), n.cluster.args...)
	if err := ctx.Err(); err != nil {
		return time.Time{}, fmt.Errorf("start %s: %w", n.name, err)
	}
	// The file of its last life would be taken for that of this one.
	if err := os.Remove(n.portsFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return time.Time{}, fmt.Errorf("start %s: %w", n.name, err)
	}
	log, err := os.OpenFile(n.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return time.Time{}, fmt.Errorf("start %s: %w", n.name, err)
	}
	defer log.Close()                              // the child has its own
	cmd := exec.Command(n.cluster.binary, args...) //nolint:noctx // it ends by Stop or Kill, never by a caller's deadline
	cmd.Env, cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = append(environ(), n.env...), log, log, sysProcAttr()
	p := &process{cmd: cmd, exited: make(chan struct{}), execAt: time.Now()}
	if err := n.cluster.starter.start(cmd); err != nil {
		return time.Time{}, fmt.Errorf("start %s: %w", n.name, err)
	}
	go func() { // ends with the process, which Kill and Close wait for
		p.err = cmd.Wait()
		n.holdPorts()
		close(p.exited)
	}()
	n.mu.Lock()
	n.proc = p
	n.mu.Unlock()
	return p.execAt, nil
}

func (n *Node) args() []string {
	free := func(addr string) string {
		if addr == "" {
			return "127.0.0.1:0"
		}
		return addr
	}
	ports := n.Ports()
	args := []string{
		"serve", "--data-dir", n.DataDir(), "--tls-dir", n.tlsDir(),
		"--node-listen", free(cmp.Or(n.route.Listen, ports.Node)), "--resp-listen", free(ports.RESP),
		"--http-listen", free(ports.HTTP), "--admin-listen", free(ports.Admin),
	}
	if n.route.Advertise != "" {
		args = append(args, "--node-advertise", n.route.Advertise)
	}
	return args
}

// holdPorts keeps the TCP ports that the node had, until the cluster is closed: they are
// of those that the kernel gives to connections, and others run beside this cluster. It
// is tried at the node's end; one that is gone by then fails the next start.
func (n *Node) holdPorts() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, addr := range []string{n.ports.RESP, n.ports.HTTP, n.ports.Admin} {
		if _, held := n.held[addr]; addr == "" || held {
			continue
		}
		if release, err := hold(addr); err == nil {
			n.held[addr] = release
		}
	}
}

// releasePorts gives back what holdPorts holds.
func (n *Node) releasePorts() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for addr, release := range n.held {
		release()
		delete(n.held, addr)
	}
}

func (n *Node) portsFile() string { return filepath.Join(n.DataDir(), admin.PortsFile) }

// WaitPorts waits until the process has bound its ports.
func (n *Node) WaitPorts(ctx context.Context) error {
	return n.wait(ctx, "its ports", func(context.Context) (bool, error) {
		text, err := os.ReadFile(n.portsFile())
		if errors.Is(err, os.ErrNotExist) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		var ports admin.Ports
		if json.Unmarshal(text, &ports) != nil {
			return false, nil // half written
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.ports.Admin != ports.Admin && n.client != nil {
			n.client.Close()
			n.client = nil
		}
		n.ports = ports
		return true, nil
	})
}

// WaitReady waits until the node's partitions are live.
func (n *Node) WaitReady(ctx context.Context) error {
	return n.waitReady(ctx, "readiness", func(r admin.Ready) bool { return r.Ready })
}

// WaitVerified waits until all of the node's partitions are live and verified.
func (n *Node) WaitVerified(ctx context.Context) error {
	return n.waitReady(ctx, "verification", func(r admin.Ready) bool {
		return r.Ready && r.Partitions.Verified == r.Partitions.Owned
	})
}

func (n *Node) waitReady(ctx context.Context, what string, done func(admin.Ready) bool) error {
	return n.wait(ctx, what, func(ctx context.Context) (bool, error) {
		ready, err := n.Admin().Readyz(ctx)
		return err == nil && done(ready), nil // an error is a node that is not there yet
	})
}

// waitMembers waits until the node knows so many members.
func (n *Node) waitMembers(ctx context.Context, members int) error {
	return n.wait(ctx, fmt.Sprintf("a layout of %d members", members), func(ctx context.Context) (bool, error) {
		status, err := n.Admin().Status(ctx)
		return err == nil && len(status.Layout.Members) == members, nil
	})
}

// wait asks until the answer is yes, an error, the process' end or the
// context's.
func (n *Node) wait(ctx context.Context, what string, ask func(context.Context) (bool, error)) error {
	p := n.running()
	if p == nil {
		return fmt.Errorf("wait for %s of %s: %w", what, n.name, ErrNotRunning)
	}
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		asking, cancel := context.WithTimeout(ctx, askWait)
		yes, err := ask(asking)
		cancel()
		if yes || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-p.exited:
			return fmt.Errorf("wait for %s of %s: its process ended: %w\n%s", what, n.name, endOf(p.err), n.Tail())
		case <-ctx.Done():
			return fmt.Errorf("wait for %s of %s: %w\n%s\n%s", what, n.name, context.Cause(ctx), n.Plight(), n.Tail())
		}
	}
}

// maxPlights is how many partitions are told one by one.
const maxPlights = 8

// Plight says which partitions do not serve at a node, and why, as it sees it.
func (n *Node) Plight() string {
	ctx, cancel := context.WithTimeout(context.Background(), askWait) // the wait's own time is over
	defer cancel()
	parts, err := n.Admin().Partitions(ctx)
	if err != nil {
		return fmt.Sprintf("(no partitions of %s: %v)", n.name, err)
	}
	var b strings.Builder
	count := 0
	for _, p := range parts {
		if !p.Owned || p.State == admin.StateLive && p.Verified {
			continue
		}
		if count++; count <= maxPlights {
			fmt.Fprintf(&b, "%s: partition %d is %s, %s, verified %t, path %q, %d actors: %s\n",
				n.name, p.ID, p.State, p.Trust, p.Verified, p.Path, p.ClockActors, p.Reason)
		}
	}
	return fmt.Sprintf("%s%s: %d of %d partitions are not live and verified", b.String(), n.name, count, len(parts))
}

func endOf(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// Admin returns a client of the node's admin API. It is the cluster's to close.
func (n *Node) Admin() *admin.Client {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.client == nil {
		n.client = admin.NewClient("http://"+n.ports.Admin, "")
	}
	return n.client
}

func (n *Node) closeClient() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.client != nil {
		n.client.Close()
	}
}

// running returns the process, or nil where none runs.
func (n *Node) running() *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.proc == nil {
		return nil
	}
	select {
	case <-n.proc.exited:
		return nil
	default:
		return n.proc
	}
}

// Running reports whether the node's process is there, paused or not.
func (n *Node) Running() bool { return n.running() != nil }

// PID returns the number of the node's process, 0 where none runs.
func (n *Node) PID() int {
	if p := n.running(); p != nil {
		return p.cmd.Process.Pid
	}
	return 0
}

// Kill ends the process with SIGKILL and waits for its end. No process is no
// error.
func (n *Node) Kill() error {
	p := n.running()
	if p == nil {
		return nil
	}
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", n.name, err)
	}
	<-p.exited
	return nil
}

// Stop drains the node with SIGTERM and waits for its end, which must be
// clean. A node that does not end in time is killed, which is an error.
func (n *Node) Stop(ctx context.Context) error {
	p := n.running()
	if p == nil {
		return nil
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop %s: %w", n.name, err)
	}
	late := time.NewTimer(stopWait)
	defer late.Stop()
	select {
	case <-p.exited:
		if p.err != nil {
			return fmt.Errorf("stop %s: %w\n%s", n.name, p.err, n.Tail())
		}
		return nil
	case <-late.C:
		return errors.Join(fmt.Errorf("stop %s: not ended after %s\n%s", n.name, stopWait, n.Tail()), n.Kill())
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("stop %s: %w", n.name, context.Cause(ctx)), n.Kill())
	}
}

// Pause stops the process where it stands, with SIGSTOP, and returns once the
// kernel says that it stands: a thread on another processor goes on for a moment.
func (n *Node) Pause() error {
	if _, err := n.signal("pause", syscall.SIGSTOP); err != nil {
		return err
	}
	pid := n.PID()
	for deadline := time.Now().Add(standWait); !stopped(pid); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("pause %s: process %d does not stop", n.name, pid)
		}
	}
	return nil
}

// standWait bounds the wait for a stopped process to stand.
const standWait = 5 * time.Second

// stopped reports whether every thread of a process is stopped.
func stopped(pid int) bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(threads) == 0 {
		return false
	}
	for _, path := range threads {
		b, err := os.ReadFile(path)
		_, rest, ok := strings.Cut(string(b), ") ")
		if err != nil || !ok || !strings.HasPrefix(rest, "T") {
			return false
		}
	}
	return true
}

// Resume lets a paused process go on and returns the moment just before that.
func (n *Node) Resume() (time.Time, error) { return n.signal("resume", syscall.SIGCONT) }

func (n *Node) signal(verb string, sig syscall.Signal) (time.Time, error) {
	p := n.running()
	if p == nil {
		return time.Time{}, fmt.Errorf("%s %s: %w", verb, n.name, ErrNotRunning)
	}
	at := time.Now()
	if err := p.cmd.Process.Signal(sig); err != nil {
		return time.Time{}, fmt.Errorf("%s %s: %w", verb, n.name, err)
	}
	return at, nil
}

// Restart kills the process if it runs and executes a new one on the same
// ports at once. It returns the moment just before that.
func (n *Node) Restart(ctx context.Context) (time.Time, error) {
	if err := n.Kill(); err != nil {
		return time.Time{}, err
	}
	return n.Start(ctx)
}

// RestartElsewhere is Restart on free ports. WaitPorts waits until they are
// known.
func (n *Node) RestartElsewhere(ctx context.Context) (time.Time, error) {
	if err := n.Kill(); err != nil {
		return time.Time{}, err
	}
	n.mu.Lock()
	n.ports = admin.Ports{}
	n.mu.Unlock()
	return n.Start(ctx)
}

// Wipe removes the data directory of a node that does not run.
func (n *Node) Wipe() error {
	if n.running() != nil {
		return fmt.Errorf("wipe %s: it runs", n.name)
	}
	if err := os.RemoveAll(n.DataDir()); err != nil {
		return fmt.Errorf("wipe %s: %w", n.name, err)
	}
	return nil
}

// Tail returns the end of the node's log, for people.
func (n *Node) Tail() string {
	text, err := tail(n.LogFile(), maxTail)
	if err != nil {
		return fmt.Sprintf("(no log of %s: %v)", n.name, err)
	}
	return fmt.Sprintf("--- the end of %s's log ---\n%s", n.files, text)
}

func tail(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(max(0, info.Size()-most), io.SeekStart); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(f, most))
}
