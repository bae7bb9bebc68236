package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// redisStartWait bounds the start of a redis-server that holds nothing.
const redisStartWait = 20 * time.Second

// redisServer is a redis-server on data of its own, which is started without
// any configuration but its arguments.
type redisServer struct {
	program string
	dir     string
	addr    string
	args    []string

	cmd *exec.Cmd // of its present life; nil when it has none
	log *bytes.Buffer
}

// newRedisServer makes the directory of a server and finds a port for it.
func newRedisServer(program, dir string, args ...string) (*redisServer, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	addr, err := freeAddr()
	return &redisServer{program: program, dir: dir, addr: addr, args: args}, err
}

// start executes the server and returns the moment just before that.
func (s *redisServer) start() (time.Time, error) {
	host, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		return time.Time{}, err
	}
	args := append([]string{"--bind", host, "--port", port, "--dir", s.dir, "--save", "", "--daemonize", "no"}, s.args...)
	s.log = &bytes.Buffer{}
	cmd := exec.Command(s.program, args...) //nolint:noctx // it ends by end or kill, not by a caller's deadline
	cmd.Stdout, cmd.Stderr = s.log, s.log
	at := time.Now()
	if err := cmd.Start(); err != nil {
		return at, fmt.Errorf("start %s: %w", s.program, err)
	}
	s.cmd = cmd
	return at, nil
}

// end ends the server in good order, kill at once; both wait for it. No life is
// no error.
func (s *redisServer) end() error  { return s.stop(syscall.SIGTERM) }
func (s *redisServer) kill() error { return s.stop(syscall.SIGKILL) }

func (s *redisServer) stop(how syscall.Signal) error {
	if s.cmd == nil {
		return nil
	}
	cmd := s.cmd
	s.cmd = nil
	err := cmd.Process.Signal(how)
	waited := cmd.Wait()
	if _, ended := errors.AsType[*exec.ExitError](waited); ended || waited == nil {
		return err // how it ended is of no interest
	}
	return errors.Join(err, waited)
}

// waitAnswer waits until the server answers.
func (s *redisServer) waitAnswer(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, redisStartWait)
	defer cancel()
	_, err := poll(ctx, watchEvery, func(ctx context.Context) (bool, error) {
		_, err := s.do(ctx, "PING")
		return err == nil, nil
	})
	if err != nil {
		return fmt.Errorf("start %s: %w; it said: %s", s.program, errors.Join(err, s.end()), s.log)
	}
	return nil
}

// do sends one command over a connection of its own.
func (s *redisServer) do(ctx context.Context, args ...string) (reply, error) {
	conn, err := dialRESP(ctx, s.addr)
	if err != nil {
		return reply{}, err
	}
	defer conn.close()
	return conn.do(args...)
}

// info reads a section of INFO.
func (s *redisServer) info(ctx context.Context, section string) (map[string]string, error) {
	answer, err := s.do(ctx, "INFO", section)
	if err != nil {
		return nil, fmt.Errorf("read INFO %s of %s: %w", section, s.addr, err)
	}
	out := map[string]string{}
	for line := range strings.Lines(string(answer.text)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			out[name] = value
		}
	}
	return out, nil
}

// number reads a number of a section of INFO.
func (s *redisServer) number(ctx context.Context, section, name string) (uint64, error) {
	fields, err := s.info(ctx, section)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(fields[name], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read %s of %s: %w", name, s.addr, err)
	}
	return n, nil
}

// freeAddr finds a port that was free a moment ago.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
