package testcluster

import (
	"os/exec"
	"runtime"
)

// starter starts processes from one thread that lives as long as the cluster:
// a child's death signal is tied to the thread that made it, and Go may end any
// other thread at any time (golang.org/issue/27505).
type starter struct {
	work chan startRequest
	done chan struct{}
}

type startRequest struct {
	cmd    *exec.Cmd
	answer chan error
}

func newStarter() *starter {
	s := &starter{work: make(chan startRequest), done: make(chan struct{})}
	go s.run()
	return s
}

func (s *starter) run() {
	defer close(s.done)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for req := range s.work {
		req.answer <- req.cmd.Start()
	}
}

// start starts cmd. It must not be called after close.
func (s *starter) start(cmd *exec.Cmd) error {
	req := startRequest{cmd, make(chan error, 1)}
	s.work <- req
	return <-req.answer
}

// close ends the thread. All processes must have ended.
func (s *starter) close() {
	close(s.work)
	<-s.done
}
